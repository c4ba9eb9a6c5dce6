"""Parameters: float32 arrays in PyTorch's layouts, with a version that engines watch."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from math import prod
from typing import Any

import numpy as np

from fastconv._arrays import lent, refuse_masked
from fastconv.graph.limits import memory_limit
from fastconv.graph.traced import restructured

_epoch = object()


class _Local(threading.local):
    unallocated = False


_local = _Local()


@contextmanager
def unallocated() -> Iterator[None]:
    """The parameters that layers make within, in this thread, have a shape and take no memory until they get values."""
    before, _local.unallocated = _local.unallocated, True
    try:
        yield
    finally:
        _local.unallocated = before


_watches: list[Callable[[], None]] = []


def watch(look: Callable[[], None]) -> None:
    """From now on :func:`epoch` calls this first, which is to :func:`touch` the parameters that have changed without a word,
    because they lie in another library's memory."""
    _watches.append(look)


def unwatch(look: Callable[[], None]) -> None:
    """Calls it no more."""
    with suppress(ValueError):
        _watches.remove(look)


def epoch() -> object:
    """Another object whenever any parameter has changed; a cheap first question for engines.

    Not a count: without the GIL, two threads that add to one may leave a number that an engine has seen before.
    """
    if _watches:
        for look in tuple(_watches):
            look()
    return _epoch


def touch(changed) -> None:
    """Says that the values of these parameters have changed."""
    global _epoch
    _epoch = object()  # first and last: an interrupt in between leaves no engine that has seen all there is
    for parameter in changed:
        parameter.version += 1
    _epoch = object()


class changing:
    """Says so before and after a change: an interrupt may come between the change and the word that it is over."""

    def __init__(self, changed):
        self.changed = changed

    def __enter__(self) -> None:
        touch(self.changed)

    def __exit__(self, *exc) -> None:
        touch(self.changed)


READ_ONLY = ("parameter: its data is read-only, so that no change goes unnoticed: write 'with p.edit() as values: "
             "values[...] = ...', or assign a whole array, p.data = ...")


class Size(int):
    """How many elements; called, as PyTorch's method, the shape or an extent of it."""

    shape: tuple[int, ...]

    def __new__(cls, shape: tuple[int, ...]) -> Size:
        size = super().__new__(cls, prod(shape))
        size.shape = tuple(shape)
        return size

    def __call__(self, dim: int | None = None):
        return self.shape if dim is None else self.shape[dim]

    def __reduce__(self):
        return int, (int(self),)


class Data(np.ndarray):
    """A parameter's values, and views of them; what is computed of them is a plain array.

    The memory is read-only. What NumPy writes through this class (``p.data[0] = 1``, ``p.data *= 2``, ``out=``), and what
    PyTorch's methods do (``p.data.zero_()``: `functional/values.py`), goes through :func:`written`, so that no change goes
    unnoticed.
    """

    owner: Callable[[], Parameter | None] | None = None

    def __array_finalize__(self, of) -> None:
        self.owner = getattr(of, "owner", None)

    @property
    def size(self) -> Size:  # type: ignore[override]
        """How many values; ``x.size()`` is the shape, ``x.size(dim)`` an extent."""
        return Size(self.shape)

    def __setitem__(self, key, value) -> None:
        with written(self) as values:
            values[key] = _bare(value)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **keywords):
        keywords = {name: _bare(value) for name, value in keywords.items()}
        with ExitStack() as stack:
            if out is not None:
                keywords["out"] = tuple(stack.enter_context(written(a)) if isinstance(a, Data) else a for a in out)
            result = getattr(ufunc, method)(*map(_bare, inputs), **keywords)
        return result if out is None else out[0] if len(out) == 1 else out

    def __array_function__(self, function, types, arguments, keywords):
        first = arguments[0] if arguments else None
        with ExitStack() as stack:
            if function in (np.copyto, np.put, np.place, np.putmask) and isinstance(first, Data):
                arguments = (stack.enter_context(written(first)), *arguments[1:])
            return function(*map(_bare, arguments), **{name: _bare(value) for name, value in keywords.items()})

    def fill(self, value) -> None:
        self[...] = value

    def copy(self, order="C") -> np.ndarray:  # type: ignore[override]
        return _bare(self).copy(order)

    def astype(self, *arguments, **keywords) -> np.ndarray:  # type: ignore[override]
        return _bare(self).astype(*arguments, **keywords)

    def __deepcopy__(self, memo) -> np.ndarray:
        return self.copy()

    def __reduce_ex__(self, protocol):
        return _bare(self).__reduce_ex__(protocol)

    def __repr__(self) -> str:
        return repr(_bare(self))


def _bare(value):
    """Plain arrays for these views, in sequences too, as ``np.concatenate`` takes them."""
    if type(value) in (list, tuple):
        return type(value)(map(_bare, value))
    return np.ndarray.view(value, np.ndarray) if isinstance(value, Data) else value


@contextmanager
def written(data: Data) -> Iterator[np.ndarray]:
    """A writable view of a parameter's data, or of a part; the parameter has changed when it ends."""
    view, owner = np.ndarray.view(data, np.ndarray), None if data.owner is None else data.owner()
    if view.flags.writeable:  # a copy
        yield view
    elif owner is None or not np.shares_memory(view, owner._data):
        raise ValueError(READ_ONLY)
    elif not allocated(owner):  # its values come from elsewhere
        yield view.copy()
    else:
        view.flags.writeable = True
        with changing((owner,)):
            yield view


class Parameter:
    """A float32 array that a module owns: the truth that engines pack copies of.

    Parameters
    ----------
    data : array_like
        Initial values; copied into a dense float32 array whose address never changes.
    requires_grad : bool, default True
        False for running statistics and other state that no gradient reaches. May be set at any time: the next step of
        a training obeys, with the optimiser's state of this parameter as it was.

    Attributes
    ----------
    grad : ndarray or None
        The sum of the gradients of the ``backward`` calls since it was None.
    version : int
        Grows with each change.
    """

    def __init__(self, data, requires_grad: bool = True):
        self._hold(np.array(_numbers(data), dtype=np.float32, order="C"))
        self._requires_grad = bool(requires_grad)
        self.grad: np.ndarray | None = None
        self.version = 0

    def _hold(self, array: np.ndarray) -> None:
        self._data, self._view = array, array.view(Data)
        self._view.owner = weakref.ref(self)
        self._view.flags.writeable = False

    def _allocate(self) -> None:
        if not allocated(self):
            self._hold(np.array(self._data, order="C"))

    @property
    def data(self) -> np.ndarray:
        """The values: an ndarray, read-only, so that no change goes unnoticed.

        Assign to it (``p.data = array``, same shape) or use :meth:`edit` to change them.
        """
        return self._view

    @data.setter
    def data(self, value) -> None:
        value = _numbers(value)
        if value.shape != self._data.shape:
            raise ValueError(f"parameter: value of shape {value.shape} assigned to a parameter of shape {self.shape}")
        with changing((self,)):
            self._allocate()
            self._data[...] = value

    @property
    def requires_grad(self) -> bool:
        """Whether trainings and engines with a backward compute its gradient."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        value = bool(value)
        if value != self._requires_grad:
            self._requires_grad = value
            restructured()

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents, as of the array."""
        return self._data.shape

    @property
    def size(self) -> Size:
        """How many values; called, ``p.size()``, the shape, and ``p.size(dim)`` an extent."""
        return Size(self._data.shape)

    @property
    def address(self) -> int:
        """Address of the first element; constant for the life of the parameter."""
        self._allocate()
        return self._data.ctypes.data

    @staticmethod
    def outside(parameter: Parameter, name: str) -> Any:
        """An attribute of PyTorch's, where no forward is traced; `functional/values.py` puts its own in this place."""
        raise AttributeError(f"'Parameter' object has no attribute {name!r}")

    def numpy(self) -> np.ndarray:
        """A copy of the values."""
        return self._data.copy()

    def edit(self) -> _Edit:
        """A context manager giving a writable view; the version grows when it ends."""
        self._allocate()
        return _Edit(self)

    def touch(self) -> None:
        """Says that the values have changed."""
        touch((self,))

    def __array__(self, dtype=None, copy=None):
        """The values: a copy, which is the caller's; with ``copy=False`` the read-only memory itself."""
        if copy is False:
            return np.array(np.ndarray.view(self._view, np.ndarray), dtype=dtype, copy=False)
        return np.array(self._data, dtype=dtype)

    def __dlpack__(self, **keywords):
        """The values for another library: the memory itself, read-only, or what it asks for (``copy=True``)."""
        self._allocate()
        return np.ndarray.view(self._view, np.ndarray).__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple:
        return self._view.__dlpack_device__()

    def __repr__(self) -> str:
        return f"Parameter(shape={self.shape}, requires_grad={self.requires_grad})"

    def __reduce__(self):
        return (Parameter, (self._data, self.requires_grad))


def allocated(parameter: Parameter) -> bool:
    """Whether there is memory for the values; without, they are all the same one."""
    return parameter._data.flags.writeable


def filled(layer: str, name: str, shape: tuple[int, ...], value: float = 0.0, requires_grad: bool = True) -> Parameter:
    """A parameter full of a value; MemoryError, naming it and its shape, where the machine could never hold it.

    Within :func:`unallocated` it has this value everywhere without the memory.
    """
    nbytes, limit = 4 * prod(shape), memory_limit()
    if nbytes > limit:
        raise MemoryError(f"{layer}: {name} of shape {shape} takes {nbytes // 2**20:,} MiB, more than the "
                          f"{limit / 2**20:,.0f} MiB that there are")
    values = np.broadcast_to(np.float32(value), shape)
    if not _local.unallocated:
        return Parameter(values, requires_grad)
    parameter = Parameter(value, requires_grad)
    parameter._hold(values)
    return parameter


def adopted(array: np.ndarray, requires_grad: bool = True) -> Parameter:
    """A parameter whose values are this array, which nobody else may have; copied where it is no dense float32."""
    fits = array.dtype == np.float32 and array.dtype.isnative and array.flags.writeable and array.flags.c_contiguous
    if not fits or not array.flags.aligned:
        return Parameter(array, requires_grad)
    parameter = Parameter(0.0, requires_grad)
    parameter._hold(array)
    return parameter


def _numbers(value) -> np.ndarray:
    """An array of real numbers; what is none is refused before anything is written."""
    refuse_masked("parameter", "a value", value)
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        try:
            value = lent(value)
        except BufferError as error:
            raise TypeError(f"parameter: a value is a {type(value).__name__} that NumPy cannot take ({error})") from error
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"parameter: a value of dtype {array.dtype}: expected real numbers")
    return array


class _Edit:
    def __init__(self, parameter: Parameter):
        self.parameter, self.view = parameter, parameter._data.view()

    def __enter__(self) -> np.ndarray:
        self.parameter.touch()
        return self.view

    def __exit__(self, *exc) -> None:
        self.view.flags.writeable = False  # a change after this would go unnoticed
        self.parameter.touch()
