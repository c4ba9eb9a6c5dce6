"""Helpers around networks, under PyTorch's names."""

from fastconv.nn.utils.clip import clip_grad_norm_, clip_grad_value_, get_total_norm
from fastconv.nn.utils.dense import to_convolutional
from fastconv.nn.utils.structure import features, freeze, unfreeze

__all__ = ["clip_grad_norm_", "clip_grad_value_", "features", "freeze", "get_total_norm", "to_convolutional", "unfreeze"]
