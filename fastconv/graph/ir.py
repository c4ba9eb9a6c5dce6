"""The graph: operators, nodes and tensors with shapes; every shape error is raised while it is built."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import ContextDecorator, contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from operator import index as operator_index
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv._values import plain
from fastconv.graph.batch import Batch, settle
from fastconv.graph.parameter import Parameter
from fastconv.graph.traced import Symbolic, Traced

PIXELS = "pixels"  # activations: logical (N, C, spatial...), channels-last in memory, batch known at run time
DENSE = "dense"  # activations of any rank, row-major, batch known at run time
FLAT = "flat"  # parameters, their gradients, scalars, whatever does not begin with the batch: row-major, shape as it is
RANK = 8  # dimensions that a tensor may have
ITEMSIZE = {"float32": 4, "int64": 8, "int32": 4, "uint8": 1, "int8": 1, "bool": 1}


@dataclass(frozen=True)
class Type:
    """Shape, layout and dtype of a tensor. ``fixed``: of pixels whose first extent is not the batch, but what it says."""

    shape: tuple[int, ...]
    layout: str = PIXELS
    dtype: str = "float32"
    fixed: bool = False

    @property
    def batched(self) -> bool:
        """Whether the first extent is the batch of the run."""
        return self.layout != FLAT and not self.fixed

    @property
    def nbytes(self) -> int:
        return ITEMSIZE[self.dtype] * prod(self.shape)


class _Kind(type):
    """``torch.Tensor(2, 3)`` and ``torch.Tensor([1.0])`` give arrays, as :func:`fastconv.functional.tensor` does."""

    made: Callable | None = None

    def __call__(cls, *args, **kwargs):
        if args and isinstance(args[0], Graph) or _Kind.made is None:
            return super().__call__(*args, **kwargs)
        return _Kind.made(*args, **kwargs)


class Tensor(Symbolic, metaclass=_Kind):
    """A symbolic tensor: what ``forward`` of a module sees while it is traced. ``shape`` is logical (NCHW).

    For ``forward``, the first extent of an activation's shape is a :class:`~fastconv.graph.batch.Batch`.
    """

    __slots__ = ("graph", "index", "name", "node", "parameter", "type", "value")
    __array_ufunc__ = None  # NumPy must not take `array + tensor` apart element by element

    def __init__(self, graph: Graph, type_: Type, node: Node | None = None, index: int = 0, name: str = ""):
        self.graph, self.type, self.node, self.index, self.name = graph, type_, node, index, name
        self.parameter: Any = None  # a Parameter, where the tensor is one
        self.value: Any = None  # an array, where the tensor is a constant

    if TYPE_CHECKING:  # methods that the functions of fastconv.functional add
        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, key: Any) -> Any: ...

    @property
    def shape(self) -> tuple[int, ...]:
        shape, batch = self.type.shape, self.graph.batch
        return shape if batch is None or not shape or not self.type.batched else (batch, *shape[1:])  # type: ignore

    @property
    def ndim(self) -> int:
        return len(self.type.shape)

    @property
    def layout(self) -> str:
        return self.type.layout

    @property
    def dtype(self) -> str:
        return self.type.dtype

    @property
    def batched(self) -> bool:
        """Whether the first extent is the batch of the run."""
        return self.type.batched

    @property
    def requires_grad(self) -> bool:
        """Of a parameter whether it is trained; there is no tape that others could ask for."""
        return bool(getattr(self.parameter, "requires_grad", False))

    def size(self, dim: int | None = None):
        return self.shape if dim is None else self.shape[dim]

    def __add__(self, other):
        return apply("add", [self, other])

    __radd__ = __add__

    def __sub__(self, other):
        return apply("sub", [self, other])

    def __rsub__(self, other):
        return apply("sub", [other, self])

    def __neg__(self):
        return apply("mul", [self, -1.0])

    def __mul__(self, other):
        return apply("mul", [self, other])

    __rmul__ = __mul__

    def flatten(self, start_dim: int = 0, end_dim: int = -1):
        return apply("flatten", [self], start_dim=start_dim, end_dim=end_dim)

    def __len__(self) -> int:
        if not self.type.shape:
            raise TypeError("len() of a symbolic tensor without dimensions")
        return operator_index(self.shape[0])

    def __repr__(self) -> str:
        return f"Tensor({self.name or (self.node and self.node.op.name)}, shape={self.shape})"

    def __bool__(self):
        raise TypeError("a symbolic tensor has no truth value: forward() may not branch on values, only on shapes")

    def __iter__(self):
        if not self.type.shape:
            raise TypeError("a symbolic tensor without dimensions cannot be iterated over")
        return iter(self[i] for i in range(len(self)))


@dataclass
class Operator:
    """One operator: its shape rule, its gradient rule and how it becomes steps.

    infer(inputs, attrs) -> list of Type; may normalise ``attrs`` in place; raises through :func:`fail`.
    gradient(node, grads) -> one Tensor or None per input, made with :func:`apply`. The gradient of an output that is the
    scalar to differentiate is None for an operator that ``starts`` a backward, which takes it as the constant 1.
    lower(node, cx) emits steps into the lowering context.
    ``pointwise``: of inputs of one shape, it and its gradient work element by element, in whatever order these lie.
    ``general``: takes tensors of any layout, as they lie; for the others :func:`apply` makes pixels of what is dense, and of
    the inputs at the positions ``activations`` also of what is flat and no parameter.
    ``program``: of a node that works element by element, the same as a program of `map`: its lines and its result, or None.
    """

    name: str
    infer: Callable[[list, dict], list[Type]]
    lower: Callable[[Node, Any], None]
    gradient: Callable[[Node, list], list] | None = None
    starts: bool = False
    pointwise: bool = False
    general: bool = False
    activations: tuple[int, ...] = ()
    program: Callable[[Node], Any] | None = None


_operators: dict[str, Operator] = {}


def register(op: Operator) -> Operator:
    """Adds an operator to the one table."""
    if op.name in _operators:
        raise KeyError(f"operator {op.name!r} is registered twice")
    _operators[op.name] = op
    return op


def operator(name: str) -> Operator:
    """The operator of this name."""
    return _operators[name]


@dataclass(eq=False)
class Node:
    """One application of an operator. ``path`` is the module's path, ``segment`` forward, backward or update."""

    op: Operator
    inputs: list[Any]  # Tensor, or None where an optional one was left out
    attrs: dict
    path: str
    segment: str
    outputs: list[Tensor] = field(default_factory=list)
    frozen: bool = False  # made within no_grad(): no gradient passes it

    @property
    def output(self) -> Tensor:
        return self.outputs[0]


class Held:
    """Whoever plans a graph keeps one of these. With the last of them the graph lets go of modules, parameters and
    constants: nodes and tensors refer to one another in circles, in which those would stay until Python looks for such."""

    def __init__(self, graph: Graph):
        self._graph = graph

    def __del__(self):
        graph = self._graph
        for tensor in (*graph._parameters.values(), *(t for n in graph.nodes for t in n.inputs if t is not None)):
            tensor.parameter = tensor.value = None
        graph.traced = Traced()
        graph._parameters.clear()


class Graph:
    """Nodes in execution order, inputs, outputs and the parameters they read."""

    def __init__(self):
        self.nodes: list[Node] = []
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.late_inputs: set[Tensor] = set()  # gradients of outputs: given to backward, not to forward
        self.undecided: set[Tensor] = set()  # inputs that become activations or flat by their first use (gradcheck)
        self._parameters: dict[int, Tensor] = {}
        self.segment = "forward"
        self.batch: Batch | None = None  # what the function being traced sees of the batch; None outside of it
        self.exact: int | None = None  # the only batch that it is right for, where the function has read it
        self.traced = Traced()  # what it was made of, and whether that is still so
        self.roots: set[Tensor] = set()  # gradients that are wanted, whoever reads them
        self.draws = 0  # of random numbers, by `map`
        self.views: dict[Tensor, tuple[Tensor, str, dict]] = {}  # of what was written: of which tensor, by which operator
        self.tracing = False  # whether a user's function runs: ``==`` of tensors compares their elements, not which they are
        self.fused = False  # whether the passes behind differentiation have run
        self._held: Callable[[], Held | None] = lambda: None

    def held(self) -> Held:
        """Of all that plan this graph."""
        found = self._held()
        if found is None:
            found = Held(self)
            self._held = weakref.ref(found)
        return found

    def input(self, shape: Sequence[int], name: str, layout: str = PIXELS, dtype: str = "float32") -> Tensor:
        tensor = Tensor(self, Type(tuple(int(s) for s in shape), layout, dtype), name=name)
        self.inputs.append(tensor)
        return tensor

    def parameter(self, parameter: Parameter, name: str = "") -> Tensor:
        """The tensor of a parameter: one per parameter."""
        tensor = self._parameters.get(id(parameter))
        if tensor is None:
            tensor = Tensor(self, Type(parameter.shape, FLAT), name=name)
            tensor.parameter = parameter
            self._parameters[id(parameter)] = tensor
        return tensor

    def constant(self, array: np.ndarray) -> Tensor:
        """A tensor of these numbers, as they are now."""
        array = np.array(array, np.float32 if array.dtype.kind == "f" else array.dtype, order="C")
        if array.dtype.name not in ITEMSIZE:
            fail("constant", f"dtype {array.dtype}: expected one of {', '.join(ITEMSIZE)}", TypeError)
        if array.ndim > RANK:
            fail("constant", f"shape {array.shape} has {array.ndim} dimensions: expected at most {RANK}")
        tensor = Tensor(self, Type(array.shape, FLAT, array.dtype.name), name="constant")
        tensor.value = array
        return tensor

    @property
    def parameters(self) -> list[Tensor]:
        return list(self._parameters.values())

    def users(self) -> dict[Tensor, list[Node]]:
        """Who reads each tensor; graph outputs are not users."""
        users: dict[Tensor, list[Node]] = {}
        for node in self.nodes:
            for tensor in node.inputs:
                if tensor is not None:
                    users.setdefault(tensor, []).append(node)
        return users


class _Scope(threading.local):
    def __init__(self):
        self.path: list[str] = []
        self.graph: Graph | None = None
        self.shown = ""
        self.frozen = False


tracing = _Scope()


@contextmanager
def scope(name: str):
    """Nodes made inside carry ``name`` as a further part of their path."""
    tracing.path.append(name)
    try:
        yield
    finally:
        tracing.path.pop()


@contextmanager
def building(graph: Graph, path: str | None = None):
    """``apply`` without a symbolic input adds to this graph; optionally with a given path."""
    old_graph, old_path = tracing.graph, tracing.path
    tracing.graph = graph
    if path is not None:
        tracing.path = [path] if path else []
    try:
        yield graph
    finally:
        tracing.graph, tracing.path = old_graph, old_path


@contextmanager
def running(graph: Graph):
    """:func:`building`, by a function of users'."""
    graph.tracing = True
    try:
        with building(graph, ""):
            yield graph
    finally:
        graph.tracing = False


class set_grad_enabled(ContextDecorator):
    """Whether gradients pass what is computed within: a context, a decorator, or from now on in this thread."""

    def __init__(self, mode: bool = True):
        self.before, tracing.frozen = tracing.frozen, not mode
        self.mode = mode

    def __enter__(self) -> None:
        tracing.frozen = not self.mode

    def __exit__(self, *exc) -> None:
        tracing.frozen = self.before


class _Grad(ContextDecorator):
    frozen = False

    def __init__(self, mode: bool = True):
        self.wanted = self.frozen if mode else False
        self.before: list[bool] = []

    def __enter__(self) -> None:
        self.before.append(tracing.frozen)
        tracing.frozen = self.wanted

    def __exit__(self, *exc) -> None:
        tracing.frozen = self.before.pop()


class no_grad(_Grad):
    """No gradient passes what ``forward`` computes within; a context, or a decorator of a function."""

    frozen = True

    def __init__(self):
        super().__init__()


class inference_mode(_Grad):
    """:class:`no_grad`, unless ``mode`` is False."""

    frozen = True


class enable_grad(_Grad):
    """Gradients pass again, within :class:`no_grad`."""

    def __init__(self):
        super().__init__()


def is_grad_enabled() -> bool:
    """Whether gradients pass what is computed here."""
    return not tracing.frozen


@contextmanager
def showing(name: str):
    """Errors raised inside name this function, the one that the user called, instead of the operator."""
    old, tracing.shown = tracing.shown, name
    try:
        yield
    finally:
        tracing.shown = old


def shown_name(op: str) -> str:
    """What errors of this operator are said to come from: the function that the user called, else the operator."""
    return tracing.shown or op


def current_graph() -> Graph | None:
    """The graph that is being traced in this thread."""
    return tracing.graph


def current_path() -> str:
    return ".".join(part for part in tracing.path if part)


def fail(op: str, message: str, error: type[Exception] = ValueError) -> None:
    """Raises the house's error: the operator, its path in the model, then argument, value and rule.

    Values may be as long as callers like; the middle of a message that would fill a screen is left out.
    """
    if len(message) > 500:
        message = f"{message[:200]} ... {message[-200:]}"
    path, op = current_path(), tracing.shown or op
    raise error(f"{op} '{path}': {message}" if path else f"{op}: {message}")


def apply(name: str, inputs: Sequence, **attrs) -> Any:
    """Adds a node; returns its output, or a tuple of outputs. Parameters become tensors; None stays None."""
    op = _operators[name]
    graph = next((t.graph for t in inputs if isinstance(t, Tensor)), tracing.graph)
    if graph is None:
        raise TypeError(f"{name}: needs a symbolic tensor: modules are called while they are traced by fc.compile(); "
                        "for NumPy arrays use fastconv.functional")
    tensors = []
    attrs = plain(settle(attrs))
    for value in plain(settle(list(inputs))):
        if isinstance(value, Parameter):
            value = graph.parameter(value)
        elif isinstance(value, (np.ndarray, np.generic)):
            value = graph.constant(np.asarray(value))
        elif value is not None and not isinstance(value, (Tensor, int, float)):
            fail(name, f"input of type {type(value).__name__}: expected a symbolic tensor or a parameter", TypeError)
        elif isinstance(value, Tensor) and value.graph is not graph:
            fail(name, "inputs come from two different traces")
        tensors.append(value)
    numbers = [t for t in tensors if isinstance(t, (int, float))]
    if numbers:  # the operator's infer takes them as attributes, by position
        attrs["scalars"] = [t if isinstance(t, (int, float)) else None for t in tensors]
        tensors = [t for t in tensors if not isinstance(t, (int, float))]
    watching, graph.batch = graph.batch, None  # a shape rule does not read it for the user
    try:
        if not op.general:
            given = tensors[0] if 0 in op.activations and tensors else None  # others have names, which the shape rules know
            if given is not None and given.dtype != "float32":
                fail(name, f"input has dtype {given.dtype}: expected float32", TypeError)
            tensors = [as_pixels(name, t, i in op.activations) for i, t in enumerate(tensors)]
        types = op.infer(tensors, attrs)
        if not op.general and any(t is not None and t.type.fixed for t in tensors):
            types = [replace(t, fixed=True) if t.layout == PIXELS else t for t in types]
    finally:
        graph.batch = watching
    node = Node(op, tensors, attrs, current_path(), graph.segment, frozen=tracing.frozen)
    node.outputs = [Tensor(graph, t, node, i) for i, t in enumerate(types)]
    graph.nodes.append(node)
    return node.outputs[0] if len(types) == 1 else tuple(node.outputs)


def as_pixels(name: str, tensor: Tensor | None, activation: bool = False) -> Any:
    """What an operator over pixels reads: dense activations are copied, and flat ones where it expects activations."""
    if tensor is None or tensor.layout == PIXELS or tensor.dtype != "float32" or \
            tensor.layout == FLAT and (not activation or tensor.parameter is not None):
        return tensor
    if not 2 <= tensor.ndim <= 5:
        fail(name, f"input of shape {tensor.shape} has {tensor.ndim} dimensions: expected 2 (N, C) to 5 (N, C, D, H, W)")
    return apply("layout", [tensor], layout=PIXELS)


def _through(name: str) -> Callable:
    def method(self, *args, **kwargs):
        graph = tracing.graph
        return getattr(self.outside(self, "clone")() if graph is None else graph.parameter(self), name)(*args, **kwargs)

    method.__name__ = name
    return method


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):  # in forward, a parameter is a tensor
    setattr(Parameter, f"__{_name}__", _through(f"__{_name}__"))
    setattr(Parameter, f"__r{_name}__", _through(f"__r{_name}__"))
for _name in ("neg", "abs", "getitem", "lt", "le", "gt", "ge"):
    setattr(Parameter, f"__{_name}__", _through(f"__{_name}__"))


def _method(self: Parameter, name: str) -> Any:
    graph = tracing.graph
    if name.startswith("_") or graph is not None and not hasattr(Tensor, name):
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
    return self.outside(self, name) if graph is None else getattr(graph.parameter(self), name)  # `functional/values.py`


Parameter.__getattr__ = _method  # type: ignore[attr-defined]
