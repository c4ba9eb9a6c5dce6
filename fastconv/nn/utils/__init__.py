"""Helpers around networks, under PyTorch's names."""

from fastconv.nn.utils import fusion, parametrizations, parametrize
from fastconv.nn.utils.clip import clip_grad_norm_, clip_grad_value_, get_total_norm
from fastconv.nn.utils.dense import to_convolutional
from fastconv.nn.utils.fusion import (
    fuse,
    fuse_conv_bn_eval,
    fuse_conv_bn_weights,
    fuse_linear_bn_eval,
    fuse_linear_bn_weights,
)
from fastconv.nn.utils.structure import features, freeze, unfreeze
from fastconv.nn.utils.weights import (
    remove_spectral_norm,
    remove_weight_norm,
    spectral_norm,
    standardize_weight,
    unstandardize_weight,
    weight_norm,
)

__all__ = ["clip_grad_norm_", "clip_grad_value_", "features", "freeze", "fuse", "fuse_conv_bn_eval", "fuse_conv_bn_weights",
           "fuse_linear_bn_eval", "fuse_linear_bn_weights", "fusion", "get_total_norm", "parametrizations", "parametrize",
           "remove_spectral_norm", "remove_weight_norm", "spectral_norm", "standardize_weight", "to_convolutional",
           "unfreeze", "unstandardize_weight", "weight_norm"]
