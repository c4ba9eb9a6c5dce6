"""Methods and operators of symbolic tensors that are not functions of their own: PyTorch's names."""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import prod

import numpy as np

from fastconv._values import plain, shown
from fastconv.functional import constants, repeating, slicing, structure
from fastconv.functional.constants import cast_to, dtype_name
from fastconv.functional.structure import expanded, permuted, reshaped, several, size_of
from fastconv.graph.ir import Tensor, fail
from fastconv.ops.copy import Map, view

__all__: list[str] = []


def index(self: Tensor, key) -> Tensor:
    """``x[key]``: integers, slices with steps, None and Ellipsis give views; integer arrays and masks gather."""
    keys = key if isinstance(key, tuple) else (key,)
    keys = tuple(plain(k) for k in keys)
    if any(isinstance(k, bool) for k in keys):
        fail("getitem", f"index {shown(key)}: masks without dimensions are not supported", TypeError)
    if any(isinstance(k, (list, np.ndarray, Tensor, tuple, range)) for k in keys):
        from fastconv.functional import advanced  # which takes the rest apart with this

        return advanced.indexed(self, key)
    shape, rank = size_of(self), self.ndim
    if sum(k is Ellipsis for k in keys) > 1:
        fail("getitem", f"index {shown(key)}: an ellipsis may stand once")
    used = sum(k is not None and k is not Ellipsis for k in keys)
    if used > rank:
        fail("getitem", f"index {shown(key)}: {used} indices for input of shape {shape}", IndexError)
    if Ellipsis not in [k for k in keys if k is Ellipsis]:
        keys = (*keys, Ellipsis)
    out: list[int] = []
    terms: list[tuple] = []
    start, d = [0] * rank, 0
    for k in keys:
        if k is None:
            out.append(1)
            terms.append(())
        elif k is Ellipsis:
            for _ in range(rank - used):
                out.append(shape[d])
                terms.append(((d, 1),))
                d += 1
        elif isinstance(k, slice):
            step = 1 if k.step is None else operator.index(k.step)
            if step < 1:
                fail("getitem", f"index {shown(k)}: expected a step of at least 1; flip() reverses")
            first, last, _ = slice(k.start, k.stop, step).indices(shape[d])
            count = max(0, -(-(last - first) // step))
            out.append(count)
            terms.append(((d, step),))
            start[d] = first if count else 0
            d += 1
        else:
            try:
                at = operator.index(k)
            except TypeError:
                fail("getitem", f"index {shown(k)}: expected an integer, a slice, None, an ellipsis or an array", TypeError)
                raise
            start[d] = slicing.index_of("getitem", "index", at, shape, d)
            d += 1
    mapped = Map(tuple(out), tuple(start), tuple(terms))
    if mapped == Map(shape, (0,) * rank, tuple(((k, 1),) for k in range(rank))):
        return self
    return view(self, mapped)


def to(self: Tensor, *args, dtype=None, device=None, copy=False, non_blocking=False, memory_format=None) -> Tensor:
    """In another dtype; a device, and what else changes nothing here, is taken."""
    for value in (*args, dtype):
        if isinstance(value, Tensor):
            self = cast_to("to", self, value.dtype)
        elif isinstance(value, bool) or value is None or isinstance(value, str) and value.partition(":")[0] in ("cpu",):
            continue
        elif isinstance(value, str) and value.partition(":")[0] in ("cuda", "mps", "xpu", "meta"):
            fail("to", f"device={value!r}: there is only the CPU")
        else:
            self = cast_to("to", self, dtype_name("to", value))
    if device is not None and str(device).partition(":")[0] != "cpu":
        fail("to", f"device={shown(device)}: there is only the CPU")
    return self


def _view(self: Tensor, *shape) -> Tensor:
    """Under another shape; or, given one dtype, its bits: refused but for its own."""
    wanted = several(shape)
    if len(shape) == 1 and isinstance(shape[0], (str, type, np.dtype)):
        name = dtype_name("view", shape[0])
        if name != self.dtype:
            fail("view", f"dtype={name}: bits of {self.dtype} are not seen as another dtype's; to() converts")
        return self
    return reshaped("view", self, wanted)


def _size(self: Tensor, dim: int | None = None):
    if dim is None:
        return self.shape
    return self.shape[structure.dimension("size", dim, self.ndim)]


def _split(self: Tensor, split_size, dim: int = 0):
    return slicing.split(self, split_size, dim)


METHODS: dict[str, Callable] = {
    "permute": lambda self, *dims: structure.permute(self, several(dims)),
    "expand": lambda self, *sizes: expanded("expand", self, several(sizes), "sizes"),
    "expand_as": lambda self, other: expanded("expand_as", self, other.shape, "other"),
    "view": _view,
    "reshape": lambda self, *shape: reshaped("reshape", self, several(shape)),
    "view_as": lambda self, other: reshaped("view_as", self, other.shape),
    "reshape_as": lambda self, other: reshaped("reshape_as", self, other.shape),
    "repeat": lambda self, *sizes: repeating.repeated("repeat", self, several(sizes), "sizes", True),
    "tile": lambda self, *dims: repeating.repeated("tile", self, several(dims), "dims", False),
    "flip": lambda self, *dims: slicing.flip(self, several(dims)),
    "unfold": lambda self, dimension, size, step: slicing.windows("unfold", self, dimension, size, step),
    "split": _split,
    "size": _size,
    "dim": lambda self: self.ndim,
    "ndimension": lambda self: self.ndim,
    "numel": lambda self: prod(self.shape),
    "nelement": lambda self: prod(self.shape),
    "contiguous": lambda self, memory_format=None: self,
    "is_contiguous": lambda self, memory_format=None: True,
    "is_floating_point": lambda self: self.dtype == "float32",
    "cpu": lambda self: self,
    "to": to,
    "type_as": lambda self, other: cast_to("type_as", self, other.dtype),
    "float": lambda self: cast_to("float", self, "float32"),
    "long": lambda self: cast_to("long", self, "int64"),
    "int": lambda self: cast_to("int", self, "int32"),
    "bool": lambda self: cast_to("bool", self, "bool"),
    "byte": lambda self: cast_to("byte", self, "uint8"),
    "char": lambda self: cast_to("char", self, "int8"),
    "__getitem__": index,
}
MADE: dict[str, Callable] = {  # of a tensor's dtype, where no other is said
    "new_zeros": lambda *size, **more: constants.zeros(*size, **more),
    "new_empty": lambda *size, **more: constants.zeros(*size, **more),
    "new_ones": lambda *size, **more: constants.ones(*size, **more),
    "new_full": lambda size, fill_value, **more: constants.full(size, fill_value, **more),
    "new_tensor": lambda data, **more: constants.tensor(data, **more),
}
PROPERTIES = {
    "T": lambda self: permuted(self, range(self.ndim)[::-1]),
    "mT": lambda self: structure.matrices(self, "mT"),
    "H": lambda self: structure.t(self),
    "mH": lambda self: structure.matrices(self, "mH"),
    "is_cuda": lambda self: False,
    "device": lambda self: "cpu",
}

def _made(make: Callable) -> Callable:
    def method(self: Tensor, *args, dtype=None, **kwargs) -> Tensor:
        return make(*args, dtype=self.dtype if dtype is None else dtype, **kwargs)

    return method


METHODS.update({name: _made(make) for name, make in MADE.items()})
for _name, _method in METHODS.items():
    if _method.__name__ == "<lambda>":
        _method.__name__ = _name
    setattr(Tensor, _name, _method)
for _name, _getter in PROPERTIES.items():
    setattr(Tensor, _name, property(_getter))
