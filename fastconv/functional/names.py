"""Names of ``torch`` that are no functions over tensors: dtypes, numbers, whether gradients are taken."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv._values import shown
from fastconv.functional.constants import check_device
from fastconv.graph.ir import Tensor, enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from fastconv.graph.parameter import Parameter


class Device(str):
    """The name of a device, of which there is "cpu"."""

    type = "cpu"


def device(type: Any = "cpu", index: int | None = None) -> Device:
    """The CPU, whatever its index."""
    check_device("device", type)
    return Device("cpu")


def is_tensor(obj) -> bool:
    """Whether it is a symbolic tensor, a parameter or an array."""
    return isinstance(obj, (Tensor, Parameter, np.ndarray))


def is_floating_point(input) -> bool:
    """Whether it has floating point."""
    if not is_tensor(input):
        raise TypeError(f"is_floating_point: input={shown(input)}: expected a tensor or an array")
    return np.dtype(getattr(input, "dtype", "float32")).kind == "f"


def numel(input) -> int:
    """How many elements."""
    if not is_tensor(input):
        raise TypeError(f"numel: input={shown(input)}: expected a tensor or an array")
    return math.prod(input.shape)


NAMES: dict[str, Any] = {
    "Size": tuple, "Tensor": Tensor, "device": device, "dtype": np.dtype, "e": math.e, "enable_grad": enable_grad,
    "finfo": np.finfo, "get_default_dtype": lambda: np.dtype("float32"), "iinfo": np.iinfo, "inf": math.inf,
    "inference_mode": inference_mode, "is_floating_point": is_floating_point, "is_grad_enabled": is_grad_enabled,
    "is_tensor": is_tensor, "nan": math.nan, "no_grad": no_grad, "numel": numel, "pi": math.pi,
    "set_grad_enabled": set_grad_enabled,
    **{name: np.dtype(name) for name in ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8")},
    "bool": np.dtype("bool"),
    "float": np.dtype("float32"), "double": np.dtype("float64"), "half": np.dtype("float16"), "long": np.dtype("int64"),
    "int": np.dtype("int32"), "short": np.dtype("int16"),
}
