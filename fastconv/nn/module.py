"""Module: a tree of parameters, buffers and submodules with a symbolic ``forward``."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastconv._arrays import refuse_masked
from fastconv._values import shown
from fastconv.engine.losses import find_output, leaves, loss_of
from fastconv.functional.arrays import values as with_methods
from fastconv.graph.ir import Tensor, current_graph, scope, showing
from fastconv.graph.parameter import Parameter
from fastconv.graph.traced import restructured
from fastconv.nn import state


class _Trace(threading.local):
    """What the trace of this thread needs to know about modules."""

    def __init__(self):
        self.names: dict[int, str] | None = None  # path of each module of the tree being traced
        self.calls: list[str] = []  # paths of the modules whose forward is running
        self.evaluating = False  # inference: every module counts as being in evaluation mode
        self.watch: Callable[[Module, Any], None] | None = None  # is told of each module whose forward has ended


_trace = _Trace()
_ABSENT = object()


def _announced(method: str):
    change = getattr(dict, method)

    def changed(self, *values, **keywords):
        try:
            return change(self, *values, **keywords)
        finally:
            restructured()

    changed.__name__ = method
    return changed


class _Table(dict):
    """A dict whose changes plans hear of: parameters, buffers, submodules or computed weights of one module."""

    __setitem__, __delitem__, __ior__ = map(_announced, ("__setitem__", "__delitem__", "__ior__"))
    pop, popitem, clear, update, setdefault = map(_announced, ("pop", "popitem", "clear", "update", "setdefault"))


class Module:
    """Base of all layers and networks, as PyTorch's: attributes that are parameters or modules are registered.

    Subclasses call ``super().__init__()`` first, assign parameters and submodules, and define ``forward``, which sees
    symbolic tensors: it runs once per plan, when :func:`fastconv.compile` traces it, not once per call. It may branch
    on shapes and on ``self.training``, not on values.
    """

    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]  # Module or None
    _computed: dict[str, Any]
    _is_loss = False  # whether a call with arrays gives the value of a loss

    def __init__(self):
        for name in ("_parameters", "_buffers", "_modules", "_computed"):  # _computed: see nn/utils/weights.py
            object.__setattr__(self, name, _Table())
        self._transient: set[str] = set()  # buffers that state_dict leaves out
        self._training = True

    # ---- attributes -----------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value) -> None:
        tables = self.__dict__
        if "_modules" not in tables:
            if isinstance(value, (Parameter, Module)):
                raise AttributeError(f"{type(self).__name__}.{name}: call super().__init__() before assigning to it")
            object.__setattr__(self, name, value)
        elif name in tables.get("_computed", ()):
            raise TypeError(f"{type(self).__name__}.{name} is computed of parameters: a {type(value).__name__} cannot be "
                            "assigned to it")
        elif isinstance(value, Parameter) and name not in self._buffers:
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self.add_module(name, value)
        elif name in self._parameters:
            if value is not None:
                raise TypeError(f"{type(self).__name__}.{name}: a {type(value).__name__} assigned to a parameter: "
                                f"assign values to {name}.data, or a Parameter")
            self._parameters[name] = None
        elif name in self._modules:
            if value is not None:
                raise TypeError(f"{type(self).__name__}.{name}: a {type(value).__name__} assigned to a module: "
                                "expected a Module or None")
            self._modules[name] = None
        elif name in self._buffers:
            self.register_buffer(name, value, name not in self._transient)
        else:
            before = tables.get(name, _ABSENT)
            object.__setattr__(self, name, value)
            if tables.get(name, _ABSENT) is not before:
                restructured()

    def __getattr__(self, name: str):
        for table in ("_parameters", "_buffers", "_modules"):
            values = self.__dict__.get(table)
            if values is not None and name in values:
                return values[name]
        rule = self.__dict__.get("_computed", {}).get(name)
        if rule is not None:
            return rule.value(self, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        for values in (self._parameters, self._buffers, self._modules):
            if name in values:
                del values[name]
                self._transient.discard(name)
                return
        object.__delattr__(self, name)
        restructured()

    def __dir__(self):
        return [*super().__dir__(), *self._parameters, *self._buffers, *self._modules]

    def _claim(self, name: str, table: str) -> None:
        """Checks a name and takes it from the other tables."""
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"{type(self).__name__}: name {name!r}: expected a non-empty string without a dot")
        if name == "__metadata__" or not name.isprintable():
            raise ValueError(f"{type(self).__name__}: name {name!r}: a model file cannot hold it")
        if name not in getattr(self, table) and hasattr(type(self), name):
            raise ValueError(f"{type(self).__name__}: name {name!r} is an attribute of the class already")
        self.__dict__.pop(name, None)
        for other in {"_parameters", "_buffers", "_modules"} - {table}:
            getattr(self, other).pop(name, None)

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Adds a parameter; None keeps the name for one that is not there (``bias=False``)."""
        if parameter is not None and not isinstance(parameter, Parameter):
            raise TypeError(f"{type(self).__name__}.{name}: a {type(parameter).__name__}: expected a Parameter or None")
        self._claim(name, "_parameters")
        self._parameters[name] = parameter

    def register_buffer(self, name: str, value, persistent: bool = True) -> None:
        """Adds state that no gradient reaches.

        Parameters
        ----------
        name : str
        value : array_like, Parameter or None
            Floating point becomes a float32 ``Parameter(requires_grad=False)``, which ``forward`` may use like any
            tensor; integers stay a NumPy array.
        persistent : bool, default True
            Whether ``state_dict`` holds it.
        """
        if value is not None and not isinstance(value, Parameter):
            refuse_masked(type(self).__name__, name, value)
            value = np.array(value)
            if value.dtype.kind == "f":
                value = Parameter(value, requires_grad=False)
            elif value.dtype.kind not in "iub":
                raise TypeError(f"{type(self).__name__}.{name}: a buffer of dtype {value.dtype}: expected numbers")
            else:
                value = with_methods(value)
        self._claim(name, "_buffers")
        self._buffers[name] = value
        (self._transient.discard if persistent else self._transient.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Adds a submodule."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}.{name}: a {type(module).__name__}: expected a Module or None")
        self._claim(name, "_modules")
        self._modules[name] = module

    # ---- the tree -------------------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the direct submodules, each module once."""
        seen: set[int] = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct submodules."""
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True,
                      _seen: set[int] | None = None) -> Iterator[tuple[str, Module]]:
        """(path, module) of this module and all below it; a module met twice is yielded once."""
        seen = set() if _seen is None else _seen
        if remove_duplicate and id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(join(prefix, name), remove_duplicate, seen)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        return (module for _, module in self.named_modules())

    def get_submodule(self, path: str) -> Module:
        """The module at a path such as ``"layer1.0.conv2"``.

        Raises
        ------
        AttributeError
            Where the path leads to no module.
        """
        module: Any = self
        for part in path.split(".") if path else []:
            module = module._modules.get(part)
            if module is None:
                raise AttributeError(f"{type(self).__name__} has no submodule {path!r}: {part!r} is not there")
        return module

    def replace(self, path: str, module: Module) -> Module:
        """Puts a module in the place of the one at a path such as ``"fc"`` or ``"classifier.6"``: a new head, say.

        Returns
        -------
        Module
            The one that was there.

        Raises
        ------
        AttributeError
            Where the path leads to no module.
        TypeError, ValueError
            Where ``module`` is no module, or the path is empty.
        """
        if not isinstance(module, Module):
            raise TypeError(f"replace: module is a {type(module).__name__}: expected a Module")
        if not path:
            raise ValueError("replace: path is empty: a module has no place in itself")
        before = self.get_submodule(path)
        parent, _, name = path.rpartition(".")
        self.get_submodule(parent)._modules[name] = module
        return before

    def _members(self, table: str) -> Iterator[tuple[str, Any, bool]]:
        """(name, value, persistent) of every entry of a table in the tree, shared ones under each of their names."""
        for prefix, module in self.named_modules(remove_duplicate=False):
            for name, value in getattr(module, table).items():
                if value is not None:
                    yield join(prefix, name), value, name not in module._transient

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter) of the whole tree, each parameter once."""
        return once((name, value) for name, value, _ in self._members("_parameters"))

    def parameters(self) -> Iterator[Parameter]:
        """The parameters of the whole tree, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Any]]:
        """(name, buffer) of the whole tree, each buffer once."""
        return once((name, value) for name, value, _ in self._members("_buffers"))

    def buffers(self) -> Iterator[Any]:
        """The buffers of the whole tree: running statistics and the like."""
        return (buffer for _, buffer in self.named_buffers())

    def num_parameters(self, trainable: bool = False) -> int:
        """How many numbers the parameters hold; optionally only those that get a gradient."""
        return sum(p.size for p in self.parameters() if p.requires_grad or not trainable)

    # ---- state ----------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for prefix, module in self.named_modules(remove_duplicate=False):
            for name, value in {**module._parameters, **module._buffers}.items():
                if value is not None and name not in module._transient:
                    entries[join(prefix, name)] = value
        return entries

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers under PyTorch's names and in its layouts (OIHW)."""
        return {name: value.numpy() if isinstance(value, Parameter) else value.copy()
                for name, value in self._state().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> state.IncompatibleKeys:
        """Takes over values; everything is checked before the first is written.

        Parameters
        ----------
        state_dict : mapping
            Name to array, or to anything with ``__array__`` or ``__dlpack__`` (PyTorch's tensors).
        strict : bool, default True
            Whether missing and unexpected names are errors. ``num_batches_tracked`` may always be missing: files of old
            PyTorch versions lack it.

        Returns
        -------
        IncompatibleKeys
            ``missing_keys`` and ``unexpected_keys``.

        Raises
        ------
        ValueError
            For names and shapes that do not agree, all of them listed.
        TypeError
            For values that are not float32, float16 or bfloat16, or not integers where integers are kept.
        """
        return state.load(type(self).__name__, self._state(), state_dict, strict)

    # ---- modes ----------------------------------------------------------------------------------------------------

    @property
    def training(self) -> bool:
        """Whether BatchNorm and Dropout behave as in training. False while an inference engine is traced."""
        return self._training and not _trace.evaluating

    @training.setter
    def training(self, mode: bool) -> None:
        self._training = bool(mode)

    def train(self, mode: bool = True):
        """Sets training mode for the whole tree. Trainers and engines with ``training=True`` follow; inference engines
        always compute as in evaluation mode."""
        if not isinstance(mode, (bool, np.bool_)):
            raise TypeError(f"{type(self).__name__}.train: mode={shown(mode)}: expected True or False")
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self):
        """Sets evaluation mode for the whole tree."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True):
        """Says whether the parameters are trained, and get gradients from engines with a backward, from now on."""
        for parameter in self.parameters():
            parameter.requires_grad = bool(requires_grad)
        return self

    def zero_grad(self) -> None:
        """Drops the gradients."""
        for parameter in self.parameters():
            parameter.grad = None

    def apply(self, fn: Callable[[Module], Any]):
        """Calls ``fn`` with every module of the tree, children first."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # ---- tracing --------------------------------------------------------------------------------------------------

    def _traits(self, modes: bool) -> Iterator[tuple[str, Any]]:
        """What makes this another module for a plan, besides its plain attributes: (name, object) of the class, of all that
        is registered, and of the training mode where ``modes`` count."""
        yield "class", type(self)
        for table in ("_parameters", "_buffers", "_modules", "_computed"):
            yield from getattr(self, table).items()
        if modes:
            yield "training", self._training

    def forward(self, *inputs):
        """What the module computes, from symbolic tensors to symbolic tensors. Subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} has no forward()")

    def __call__(self, *inputs, **keywords):
        arrays = [not isinstance(value, (Tensor, Parameter)) and hasattr(value, "__array__") for value in inputs]
        if any(arrays) and not keywords and current_graph() is None and \
                (self._is_loss or any(map(find_output, leaves(inputs)))):
            return loss_of(self, inputs)
        for value, is_array in zip(inputs, arrays, strict=True):
            if is_array:
                raise TypeError(f"{type(self).__name__}: called with a {type(value).__name__}: a module is called with "
                                "symbolic tensors, while fastconv.compile() traces it: "
                                "engine = fastconv.compile(module, x.shape), then engine(x)")
        with _call(self):
            result = self.forward(*inputs, **keywords)
        if _trace.watch is not None:
            _trace.watch(self, result)
        return result

    def symbolic(self, training: bool = False) -> Symbolic:
        """The function over symbolic tensors that engines trace."""
        return Symbolic(self, training)

    # ---- text -----------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What ``repr`` says about this module besides its class and its children."""
        return ""

    def __repr__(self) -> str:
        extra, name = self.extra_repr(), type(self).__name__
        lines = [f"({key}): " + repr(module).replace("\n", "\n  ") for key, module in self._modules.items()]
        if not lines:
            return f"{name}({extra})"
        return "\n  ".join([f"{name}(", *([extra] if extra else []), *lines]) + "\n)"


class Symbolic:
    """A module as a function over symbolic tensors.

    Parameters
    ----------
    module : Module
    training : bool
        True: each submodule's own ``training`` counts. False: all are traced in evaluation mode.
    """

    def __init__(self, module: Module, training: bool):
        self.module, self.training = module, bool(training)

    def __call__(self, *inputs: Tensor):
        for names in (self.module.named_parameters(), self.module.named_buffers()):
            for name, value in names:
                if isinstance(value, Parameter):
                    inputs[0].graph.parameter(value, name)
        before = _trace.evaluating
        _trace.evaluating = before or not self.training
        try:
            return self.module(*inputs)
        finally:
            _trace.evaluating = before

    def snapshot(self) -> Symbolic:
        """The same over a copy of the module as it is now."""
        return Symbolic(copy.deepcopy(self.module), self.training)


class Enough(BaseException):
    """Ends a forward of which nothing more is wanted."""


@contextmanager
def watching(seen: Callable[[Module, Any], None]):
    """``seen(module, result)`` is called with each module whose forward ends inside."""
    before, _trace.watch = _trace.watch, seen
    try:
        yield
    finally:
        _trace.watch = before


@contextmanager
def _call(module: Module):
    """Puts the module's path into messages while its forward runs, and a layer's class in place of the operator.

    The outermost module that is called is the root of the paths.
    """
    graph = current_graph()
    if graph is not None:
        graph.traced.note(module, not _trace.evaluating)
    root = _trace.names is None
    if _trace.names is None:
        _trace.names = {id(m): name for name, m in module.named_modules()}
    path = _trace.names.get(id(module), "")
    caller = _trace.calls[-1] if _trace.calls else ""
    _trace.calls.append(path)
    layer = type(module).__module__.startswith("fastconv.nn.") and not module._modules
    try:
        with scope(path[len(caller) + 1:] if caller and path.startswith(caller + ".") else path), \
                showing(type(module).__name__ if layer else ""):
            yield
    finally:
        _trace.calls.pop()
        if root:
            _trace.names = None


def join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def once(pairs: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Each value under the first of its names."""
    seen: set[int] = set()
    for name, value in pairs:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value
