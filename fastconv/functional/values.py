"""PyTorch's methods on arrays outside of ``forward``, so that the ``__init__`` of a network written for PyTorch runs as it
stands: on what ``zeros()``, ``tensor()``, ``arange()`` give, on parameters, and (where NumPy has none of that name) on their
``data``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from fastconv._values import shown
from fastconv.engine.general import as_array
from fastconv.functional import methods as _methods  # noqa: F401  (the methods of tensors, which are these)
from fastconv.functional.arrays import Values, bare, method, methods, values
from fastconv.functional.constants import check_device, dtype_name, tensor, zeros
from fastconv.functional.record import once
from fastconv.functional.structure import several
from fastconv.graph.ir import Tensor, current_graph, fail
from fastconv.graph.parameter import Data, Parameter, written
from fastconv.graph.random import default_generator

__all__: list[str] = []


# ---- what NumPy does as well: views of the same memory, casts, numbers ----------------------------------------------------


def _flattened(x: np.ndarray, start_dim: int = 0, end_dim: int = -1) -> np.ndarray:
    shape = x.shape or (1,)
    first, last = (_place("flatten", x.reshape(shape), d) for d in (start_dim, end_dim))
    return x.reshape(*shape[:first], -1, *shape[last + 1:]) if x.size else \
        x.reshape(*shape[:first], int(np.prod(shape[first:last + 1])), *shape[last + 1:])


def _place(op: str, x: np.ndarray, dim: int) -> int:
    if not -x.ndim <= dim < x.ndim:
        fail(op, f"dim={dim}: expected {-x.ndim} to {x.ndim - 1}, for input of shape {x.shape}", IndexError)
    return dim % x.ndim


def _split(x: np.ndarray, split_size, dim: int = 0) -> tuple:
    extent, parts = x.shape[_place("split", x, dim)], split_size
    if not isinstance(parts, (tuple, list)):
        parts = [min(parts, extent - at) for at in range(0, extent, parts)]
    if sum(parts) != extent:
        fail("split", f"split_size={shown(split_size)}: expected extents that add up to {extent}")
    return tuple(np.split(x, np.cumsum(parts)[:-1], dim))


def _of(x: np.ndarray, dim: int, key) -> np.ndarray:
    index: list = [slice(None)] * x.ndim
    index[_place("select", x, dim)] = key
    return x[tuple(index)]


def _to(x: np.ndarray, *args, dtype=None, device=None, copy=False, non_blocking=False, memory_format=None) -> np.ndarray:
    for value in (*args, dtype):
        if isinstance(value, (np.ndarray, Tensor, Parameter)):
            value = getattr(value, "dtype", "float32")
        if value is None or isinstance(value, bool) or isinstance(value, str) and value.partition(":")[0] == "cpu":
            continue
        if isinstance(value, str) and value.partition(":")[0] in ("cuda", "mps", "xpu", "meta"):
            check_device("to", value)
        x = x.astype(dtype_name("to", value), copy=False)
    check_device("to", device)
    return x.copy() if copy else x


def _expanded(x: np.ndarray, *sizes) -> np.ndarray:
    shape = several(sizes)
    missing = len(shape) - x.ndim
    return np.broadcast_to(x, tuple(x.shape[i - missing] if s == -1 and i >= missing else s for i, s in enumerate(shape)))


def _squeezed(x: np.ndarray, dim=None) -> np.ndarray:
    return x.squeeze() if dim is None else x.squeeze(tuple(d for d in several((dim,)) if x.shape[d] == 1))


def _made(make: Callable) -> Callable:
    def new(x: np.ndarray, *args, dtype=None, device=None, requires_grad=False, **kwargs) -> np.ndarray:
        check_device("new", device)
        return make(*args, x.dtype if dtype is None else dtype_name("new", dtype), **kwargs)

    return new


def _as(name: str) -> Callable:
    return lambda x: x.astype(name, copy=False)


PLAIN: dict[str, Callable] = {
    "permute": lambda x, *dims: x.transpose(several(dims)), "view": lambda x, *shape: x.reshape(several(shape)),
    "reshape": lambda x, *shape: x.reshape(several(shape)), "view_as": lambda x, other: x.reshape(other.shape),
    "reshape_as": lambda x, other: x.reshape(other.shape), "unsqueeze": np.expand_dims, "squeeze": _squeezed,
    "expand": _expanded, "expand_as": lambda x, other: np.broadcast_to(x, other.shape),
    "transpose": lambda x, dim0, dim1: x.swapaxes(dim0, dim1), "t": lambda x: x.T, "flatten": _flattened,
    "contiguous": lambda x, memory_format=None: x if x.flags.c_contiguous else x.copy(), "detach": lambda x: x,
    "cpu": lambda x, memory_format=None: x, "clone": lambda x, *, memory_format=None: x.copy(),
    "select": lambda x, dim, index: _of(x, dim, index),
    "narrow": lambda x, dim, start, length: _of(x, dim, slice(start, start + length)),
    "unbind": lambda x, dim=0: tuple(_of(x, dim, i) for i in range(x.shape[dim])), "split": _split,
    "chunk": lambda x, chunks, dim=0: _split(x, max(1, -(-x.shape[dim] // chunks)), dim), "to": _to,
    "type": lambda x, dtype=None: x.dtype.name if dtype is None else _to(x, dtype), "type_as": _to,
    "float": _as("float32"), "long": _as("int64"), "int": _as("int32"), "bool": _as("bool"), "byte": _as("uint8"),
    "char": _as("int8"), "new_zeros": _made(lambda *a: np.zeros(several(a[:-1]), a[-1])),
    "new_ones": _made(lambda *a: np.ones(several(a[:-1]), a[-1])),
    "new_empty": _made(lambda *a: np.zeros(several(a[:-1]), a[-1])),
    "new_full": _made(lambda size, fill_value, dtype: np.full(size, fill_value, dtype)),
    "new_tensor": _made(lambda data, dtype: np.array(data, dtype)),
}
NUMBERS: dict[str, Callable] = {
    "numpy": lambda x: x, "dim": lambda x: x.ndim, "ndimension": lambda x: x.ndim, "numel": lambda x: int(x.size),
    "nelement": lambda x: int(x.size), "is_contiguous": lambda x, memory_format=None: x.flags.c_contiguous,
    "is_floating_point": lambda x: x.dtype.kind == "f", "element_size": lambda x: x.itemsize, "get_device": lambda x: -1,
}


# ---- in place ------------------------------------------------------------------------------------------------------------


def _normal(out: np.ndarray, mean: float = 0.0, std: float = 1.0, *, generator=None) -> np.ndarray:
    if not std >= 0:
        fail("normal_", f"std={std}: expected at least 0")
    return (generator or default_generator()).normal(mean, std, out.shape)


def _uniform(out: np.ndarray, low: float = 0.0, high: float = 1.0, *, generator=None) -> np.ndarray:
    if not low <= high:
        fail("uniform_", f"from={low}, to={high}: expected from to be at most to")
    return (generator or default_generator()).uniform(low, high, out.shape)


def _bernoulli(out: np.ndarray, p=0.5, *, generator=None) -> np.ndarray:
    return (generator or default_generator()).random(out.shape) < bare(p)


WRITTEN: dict[str, Callable] = {
    "zero_": lambda out: 0, "fill_": lambda out, value: value, "copy_": lambda out, src, non_blocking=False: np.asarray(src),
    "normal_": _normal, "uniform_": _uniform, "bernoulli_": _bernoulli,
}


def _writing(array: np.ndarray) -> AbstractContextManager[np.ndarray]:
    return written(array) if isinstance(array, Data) else nullcontext(bare(array))


def _write(name: str, make: Callable) -> Callable:
    def call(array, *args, **kwargs):
        with _writing(array) as out:
            made = np.asarray(bare(make(out, *args, **kwargs)))
            if made.dtype.kind in "fc" and out.dtype.kind not in "fc" and name not in WRITTEN:
                fail(name, f"a result of dtype {made.dtype} does not go into {out.dtype}", TypeError)
            if np.broadcast_shapes(made.shape, out.shape) != out.shape:
                fail(name, f"a result of shape {made.shape} does not go into shape {out.shape}")
            out[...] = made
        return array

    return call


# ---- all else: what tensors do, on the array ------------------------------------------------------------------------------


def _computed(name: str) -> Callable:
    function = getattr(Tensor, name)
    record = getattr(function, "record", None)

    def call(array, *args, **kwargs):
        given, keywords = [bare(a) for a in args], {key: bare(value) for key, value in kwargs.items()}
        array = as_array(name, "input", np.asarray(array))
        if record is not None:
            return values(record(array, *given, **keywords))
        graph = current_graph()
        if graph is not None:
            return function(graph.constant(array), *given, **keywords)
        return values(once(name, lambda input: function(input, *given, **keywords), {"input": array}))

    return call


def _wrapped(function: Callable) -> Callable:
    return lambda array, *args, **kwargs: values(function(np.ndarray.view(array, np.ndarray), *args, **kwargs))


NUMPYS = {"axis", "axes", "axis1", "out", "keepdims", "ddof", "order", "kind", "initial", "where", "casting", "a_min"}


def _shared(name: str) -> Callable:
    """A method that NumPy's arrays have too: PyTorch's, but for NumPy's own forms."""
    numpys = getattr(np.ndarray, name)

    def call(array, *args, **kwargs):
        first = args[0] if args else None
        if NUMPYS & kwargs.keys() or name == "view" and (kwargs or isinstance(first, (str, type, np.dtype)) or not args) or \
                name == "transpose" and not (len(args) == 2 or {"dim0", "dim1"} & kwargs.keys()) or \
                name == "flatten" and isinstance(first, str):
            return values(numpys(array, *args, **kwargs))
        return methods[name](array, *args, **kwargs)

    call.__name__ = name
    call.__doc__ = f"PyTorch's ``{name}``; NumPy's, where its keywords are given."
    return call


def _fill() -> None:
    methods.update({name: _wrapped(function) for name, function in PLAIN.items()})
    methods.update({name: (lambda array, *a, f=function, **k: f(np.ndarray.view(array, np.ndarray), *a, **k))
                    for name, function in NUMBERS.items()})
    computed = [name for name in dir(Tensor) if not name.startswith("_") and name not in methods and
                callable(getattr(Tensor, name)) and name not in ("graph", "size")]
    methods.update({name: _computed(name) for name in computed if not name.endswith("_")})
    for name in [n for n in (*PLAIN, *methods) if not n.endswith("_")]:
        methods.setdefault(f"{name}_", _write(f"{name}_", lambda out, *a, f=methods[name], **k: f(values(out), *a, **k)))
    methods.update({name: _write(name, make) for name, make in WRITTEN.items()})
    for name in methods.keys() & set(dir(np.ndarray)):
        if name not in ("item", "tolist", "fill", "copy", "nonzero", "data", "T"):
            setattr(Values, name, _shared(name))
    for name in ("view", "transpose", "flatten"):  # where NumPy's own are another thing, or fail
        setattr(Data, name, _shared(name))


_fill()


def _outside(parameter: Parameter, name: str) -> Any:
    """An attribute of a parameter outside of ``forward``: what its values have."""
    if name == "dtype":
        return parameter.data.dtype
    if name == "device":
        return "cpu"
    if name in ("ndim", "T", "mT", "H", "mH"):
        return getattr(values(parameter.numpy()), name)
    if not name.endswith("_") or name.startswith("__"):
        return getattr(values(np.ndarray.view(parameter.data, np.ndarray)), name)

    def call(*args, **kwargs):
        methods[name](parameter.data, *args, **kwargs)
        return parameter

    if name not in methods:
        raise AttributeError(f"'Parameter' object has no attribute {name!r}")
    return call


def _constructed(*data: Any, device: Any = None) -> Any:
    """``Tensor(2, 3)``: zeros of this shape; ``Tensor([1, 2])``: these numbers, as float32."""
    check_device("Tensor", device)
    if data and not isinstance(data[0], (int, np.integer)):
        return tensor(*data, dtype="float32")
    return zeros(*data) if data else zeros(0)


type(Tensor).made = staticmethod(_constructed)  # type: ignore[attr-defined]
Parameter.outside = staticmethod(_outside)  # type: ignore[method-assign]
Data.__getattr__ = method  # type: ignore[attr-defined, assignment]
