"""Modules of PyTorch as modules of fastconv, and a backend for ``torch.compile``. Both go through PyTorch's own graphs of
ATen operators; needs torch.

>>> net = from_torch(model, torch.zeros(1, 3, 224, 224))
>>> fast = torch.compile(model, backend="fastconv")
"""

from fastconv.interop.torch.backend import compile_fx, register_backend
from fastconv.interop.torch.layer import to_torch
from fastconv.interop.torch.module import TorchModule, from_torch

__all__ = ["TorchModule", "compile_fx", "from_torch", "register_backend", "to_torch"]
