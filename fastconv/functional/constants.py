"""Casts, and tensors of given numbers: constants of the graph inside ``forward``, arrays outside."""

from __future__ import annotations

import math
import operator

import numpy as np

from fastconv._values import plain, shown
from fastconv.engine.general import as_array
from fastconv.functional.arrays import values
from fastconv.functional.record import Array, fail, function, sample, wrong
from fastconv.functional.structure import several, size_of
from fastconv.graph.ir import ITEMSIZE, Tensor, apply, current_graph
from fastconv.graph.parameter import Parameter
from fastconv.graph.traced import Symbolic
from fastconv.ops import copy
from fastconv.ops.arguments import integer, number
from fastconv.ops.copy import Map
from fastconv.ops.views import tensor as as_symbolic

__all__ = ["arange", "as_tensor", "asarray", "cast", "empty", "empty_like", "eye", "from_numpy", "full", "full_like",
           "linspace", "logspace", "ones", "ones_like", "tensor", "zeros", "zeros_like"]

_KINDS = {float: "float32", int: "int64", bool: "bool"}


def dtype_name(op: str, dtype) -> str:
    """The name of a dtype that tensors may have: given as that, as NumPy's, or as float, int or bool."""
    name = _KINDS.get(dtype) if isinstance(dtype, type) else None
    if name is None:
        name = str(dtype).rpartition(".")[2] if isinstance(dtype, str) or "dtype" in type(dtype).__name__ else \
            getattr(dtype, "__name__", str(dtype))
    name = {"float": "float32", "long": "int64", "int": "int32", "bool_": "bool"}.get(name, name)
    if name not in ITEMSIZE:
        fail(op, f"dtype={shown(dtype)}: expected one of {', '.join(ITEMSIZE)}", TypeError)
    return name


def cast_to(op: str, input, dtype) -> Tensor:
    return copy.cast(as_symbolic(op, "input", input), dtype_name(op, dtype))


@function(samples=lambda: [sample((2, 3), "float32"), sample((2, 3), "int64"), sample((4, 5), "bool")],
          wrong=lambda: [wrong(TypeError, "dtype='float16'", (2, 3), "float16")],
          reference=lambda x, dtype: x if dtype == "float32" else x.astype(dtype))
def cast(input: Array, dtype) -> Array:
    """In another dtype: towards zero into integers, modulo 2^8 into bytes, whether it is not 0 into bool.

    What does not fit a wider integer (NaN and infinity neither) becomes the smallest one.

    Parameters
    ----------
    input : array
    dtype : str, numpy.dtype or type
        float32, int64, int32, uint8, int8 or bool.
    """
    return cast_to("cast", input, dtype)


# ---- constants ----------------------------------------------------------------------------------------------------------


def made(op: str, array: np.ndarray, device=None, requires_grad: bool = False):
    """An array, or where a graph is traced a constant of it."""
    if requires_grad:
        fail(op, "requires_grad=True: a constant has no gradient; fc.Parameter has")
    check_device(op, device)
    graph = current_graph()
    return values(array) if graph is None else graph.constant(array)


def check_device(op: str, device) -> None:
    """Refuses devices that there are not."""
    if device is not None and str(device).partition(":")[0] != "cpu":
        fail(op, f"device={shown(device)}: there is only the CPU")


def _shape(op: str, size: tuple) -> tuple[int, ...]:
    try:
        shape = tuple(operator.index(s) for s in several(size))
    except TypeError:
        fail(op, f"size={shown(size)}: expected integers", TypeError)
        raise
    if min(shape, default=0) < 0:
        fail(op, f"size={shape}: expected extents of at least 0")
    return shape


def named_size(op: str, size: tuple, named: dict) -> tuple:
    """The extents, where they are given as ``size=``."""
    if set(named) - {"size"} or named and size:
        fail(op, f"got {', '.join(map(repr, named))}: expected size, dtype, device, requires_grad", TypeError)
    return (named["size"],) if named else size


def _filled(op: str, size: tuple, value, dtype, device, requires_grad):
    value = plain(value)
    if not isinstance(value, (bool, int, float)):
        fail(op, f"fill_value={shown(value)}: expected a number", TypeError)
    name = dtype_name(op, type(value) if dtype is None else dtype)
    return made(op, np.full(_shape(op, size), value, name), device, requires_grad)


def tensor(data, *, dtype=None, device=None, requires_grad=False):
    """Numbers, in lists or not, as an array with PyTorch's methods; in ``forward`` a constant.

    Parameters
    ----------
    data : float, int, bool, array, or nested sequences of these
        Copied. A symbolic tensor or a parameter stays itself.
    dtype : str, numpy.dtype or type, optional
        Default float32 for floating point, int64 for integers, bool.
    device, requires_grad
        Taken as "cpu" and False.
    """
    if isinstance(data, Symbolic) or isinstance(data, Parameter) and current_graph() is not None:
        return data if dtype is None else cast_to("tensor", data, dtype)
    array = np.array(_bare(data))
    if array.dtype.kind not in "fiub":
        fail("tensor", f"data of dtype {array.dtype}: expected numbers, in sequences of equal lengths", TypeError)
    if dtype is None:
        dtype = array.dtype if isinstance(data, (np.ndarray, np.generic)) and array.dtype.kind != "f" else \
            {"f": "float32", "b": "bool"}.get(array.dtype.kind, "int64")
    return made("tensor", array.astype(dtype_name("tensor", dtype)), device, requires_grad)


def _bare(data):
    if isinstance(data, (list, tuple)):
        return [_bare(v) for v in data]
    return np.asarray(data) if hasattr(data, "__array__") else data


def as_tensor(data, dtype=None, device=None):
    """:func:`tensor`; of an array of that dtype, its memory."""
    wanted = ITEMSIZE if dtype is None else (dtype_name("as_tensor", dtype),)
    if isinstance(data, np.ndarray) and current_graph() is None and data.dtype.name in wanted:
        return made("as_tensor", np.asarray(data), device)
    return tensor(data, dtype=dtype, device=device)


def asarray(obj, *, dtype=None, device=None, copy=None):
    """:func:`as_tensor`, or with ``copy=True`` :func:`tensor`."""
    return tensor(obj, dtype=dtype, device=device) if copy else as_tensor(obj, dtype, device)


def from_numpy(ndarray):
    """An array's memory under PyTorch's methods; of float32, int64, int32, uint8, int8 or bool."""
    if not isinstance(ndarray, np.ndarray):
        fail("from_numpy", f"ndarray is a {type(ndarray).__name__}: expected an array of NumPy's", TypeError)
    return made("from_numpy", np.asarray(as_array("from_numpy", "ndarray", ndarray)))


def full(size, fill_value, *, dtype=None, device=None, requires_grad=False):
    """An array of this shape, all of whose elements are ``fill_value``.

    Parameters
    ----------
    size : sequence of int
    fill_value : float, int or bool
    dtype : str, numpy.dtype or type, optional
        Default that of the value: float32, int64 or bool.
    device, requires_grad
        Taken as "cpu" and False.
    """
    return _filled("full", (size,) if isinstance(size, (tuple, list)) else ((size,),), fill_value, dtype, device,
                   requires_grad)


def zeros(*size, dtype="float32", device=None, requires_grad=False, **named):
    """An array of zeros; ``size`` as integers or as one sequence, the rest as for :func:`full`."""
    size = named_size("zeros", size, named)
    return _filled("zeros", size, 0, "float32" if dtype is None else dtype, device, requires_grad)


def ones(*size, dtype="float32", device=None, requires_grad=False, **named):
    """An array of ones; ``size`` as integers or as one sequence, the rest as for :func:`full`."""
    size = named_size("ones", size, named)
    return _filled("ones", size, 1, "float32" if dtype is None else dtype, device, requires_grad)


def empty(*size, dtype="float32", device=None, requires_grad=False, **named):
    """An array whose contents nobody has asked for: zeros."""
    size = named_size("empty", size, named)
    return _filled("empty", size, 0, "float32" if dtype is None else dtype, device, requires_grad)


def arange(start, end=None, step=1, *, dtype=None, device=None, requires_grad=False):
    """Numbers from ``start`` (0, where one number is given) to before ``end``, ``step`` apart; int64 where all are integers,
    else float32."""
    first, last = (0, start) if end is None else (start, end)
    values = [_number("arange", name, v) for name, v in (("start", first), ("end", last), ("step", step))]
    name = dtype_name("arange", dtype if dtype is not None else int if all(isinstance(v, int) for v in values) else float)
    values = values if name == "float32" or not all(map(math.isfinite, values)) else list(map(int, values))
    first, last, step = values
    if step == 0 or not all(map(math.isfinite, values)) or (last - first) * step < 0:
        fail("arange", f"start={first}, end={last}, step={step}: expected a step that is not 0 and leads from start to end")
    count = max(0, math.ceil((last - first) / step)) if any(isinstance(v, float) for v in values) else \
        len(range(int(first), int(last), int(step)))
    return made("arange", (first + np.arange(count) * step).astype(name), device, requires_grad)


def linspace(start, end, steps, *, dtype=None, device=None, requires_grad=False):
    """``steps`` numbers from ``start`` to ``end``, both included, evenly apart; float32."""
    first, last, count = _number("linspace", "start",
                                 start), _number("linspace", "end", end), integer("linspace", "steps", steps)
    if count < 0:
        fail("linspace", f"steps={count}: expected at least 0")
    name = dtype_name("linspace", dtype or "float32")
    if name != "float32":
        first, last = int(first), int(last)
    return made("linspace", np.linspace(first, last, count).astype(name), device, requires_grad)


def _number(op: str, name: str, value) -> float | int:
    """A number, or an array that is one."""
    value = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else plain(value)
    return number(op, name, int(value) if isinstance(value, bool) else value)


def logspace(start, end, steps, base=10.0, *, dtype=None, device=None, requires_grad=False):
    """``base`` to the powers from ``start`` to ``end``, both included, evenly apart; float32."""
    first, last, root = (_number("logspace", name, v) for name, v in (("start", start), ("end", end), ("base", base)))
    count, name = integer("logspace", "steps", steps), dtype_name("logspace", dtype or "float32")
    if count < 0:
        fail("logspace", f"steps={count}: expected at least 0")
    return made("logspace", np.power(float(root), np.linspace(first, last, count)).astype(name), device, requires_grad)


def eye(n, m=None, *, dtype=None, device=None, requires_grad=False):
    """A matrix of ``n`` rows and ``m`` (default n) columns with ones on its diagonal."""
    shape = _shape("eye", (n, n if m is None else m))
    return made("eye", np.eye(shape[0], shape[1], dtype=dtype_name("eye", dtype or "float32")), device, requires_grad)


def _like(op: str, input, value, dtype, device, requires_grad):
    if current_graph() is None and not isinstance(input, Tensor):
        array = as_array(op, "input", input)
        return made(op, np.full(array.shape, value, array.dtype if dtype is None else dtype_name(op, dtype)), device,
                    requires_grad)
    x = as_symbolic(op, "input", input)
    one = made(op, np.array(value, x.dtype if dtype is None else dtype_name(op, dtype)), device, requires_grad)
    shape = size_of(x)
    return apply("view", [one], map=tuple(Map(shape, (), ((),) * len(shape))), batch=x.batched)


def full_like(input, fill_value, *, dtype=None, device=None, requires_grad=False):
    """:func:`full` in the shape and dtype of an array or a tensor; of a batch of any size, where that has one."""
    return _like("full_like", input, fill_value, dtype, device, requires_grad)


def zeros_like(input, *, dtype=None, device=None, requires_grad=False):
    """Zeros in the shape and dtype of an array or a tensor."""
    return _like("zeros_like", input, 0, dtype, device, requires_grad)


def ones_like(input, *, dtype=None, device=None, requires_grad=False):
    """Ones in the shape and dtype of an array or a tensor."""
    return _like("ones_like", input, 1, dtype, device, requires_grad)


def empty_like(input, *, dtype=None, device=None, requires_grad=False):
    """An array of that shape whose contents nobody has asked for: zeros."""
    return _like("empty_like", input, 0, dtype, device, requires_grad)
