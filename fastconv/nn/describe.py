"""Networks as plain data from which they can be built again: layers by their names and arguments, what was replaced in a
network that a function of :mod:`fastconv.zoo` made.

A description is ``{"name": "resnet18", "arguments": {...}, "changes": {"fc": part, "layer4.1": None}}``, with what differs
from how the network was made; None for what was taken out. A part is another such, or

- ``{"layer": "Linear", "arguments": {...}}``, a layer of :mod:`fastconv.nn`;
- ``{"layer": "Sequential", "modules": [["0", part], ...]}``, a container.

Nothing but these names is ever called, so that a description may come from anywhere.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv.graph.parameter import Parameter, unallocated
from fastconv.graph.traced import About
from fastconv.nn.module import Module, join

CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")
OF_PARTS = ("ParameterDict", "ParameterList", "TransformerDecoder", "TransformerEncoder")  # which no argument describes
MOST_MODULES = 100_000  # of a description from a file: more take more memory than any network's file is worth
DEEPEST = 100  # containers within containers


class Undescribable(ValueError):
    """A network that no description builds: it has parts of the user's own, and loads into what the user builds."""


def plain(value: Any) -> Any:
    """NumPy's scalars and vectors, tuples and mappings as what JSON has; a TypeError where there is no such thing."""
    if value is None or isinstance(value, (bool, str)) or type(value) in (int, float):
        return value
    if isinstance(value, np.generic) or isinstance(value, np.ndarray) and value.ndim < 2:  # a table would be a mistake
        value = value.tolist()
        return plain(value) if isinstance(value, list) or type(value) in (int, float, bool, str) else _refuse(value)
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, (int, float)):  # a subclass, as of enumerations
        return plain(int(value) if isinstance(value, int) else float(value))
    return _refuse(value)


def _refuse(value):
    raise TypeError(f"a {type(value).__name__} is not JSON")


def made(module: Module, name: str, arguments: dict) -> None:
    """Notes that a function of this name has just made a module of these (plain) arguments."""
    module.__dict__["_made"] = About(name=name, arguments=arguments, tree=_tree(module))


def describe(module: Module) -> dict:
    """The description of a made network; :class:`Undescribable`, saying why, where it has none."""
    if "_made" not in vars(module):
        raise Undescribable(f"it is a {type(module).__name__}, not made by a function of fastconv.zoo")
    parameters = [id(p) for _, p, _ in module._members("_parameters")]
    if len(set(parameters)) < len(parameters):
        raise Undescribable("parameters are shared")
    return _describe("", module)


def build(description: Any, create: Callable[..., Module]) -> Module:
    """The network of a description; ``create(name, **arguments)`` makes the made ones.

    Raises
    ------
    ValueError, TypeError
        A description that is none, or arguments that the layers refuse.
    """
    if not isinstance(description, dict) or not isinstance(description.get("name"), str):
        raise ValueError("network: expected an object with a name and arguments")
    return _Builder(create).build(description, 0)


# ---- describing --------------------------------------------------------------------------------------------------------


@functools.cache
def _layers() -> dict[str, type]:
    import fastconv.nn as nn

    return {name: value for name in nn.__all__
            if isinstance(value := getattr(nn, name), type) and issubclass(value, Module) and value is not Module}


@functools.cache
def _argument_names(layer: Any) -> tuple[str, ...]:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return tuple(p.name for p in list(inspect.signature(layer.__init__).parameters.values())[1:]
                 if p.kind not in kinds and p.name not in ("device", "dtype"))  # which nothing depends on


def _arguments(module: Module) -> dict:
    """Those that a layer's constructor was given, as its attributes have them now."""
    if type(module).__name__ in OF_PARTS:
        raise TypeError(f"the arguments of a {type(module).__name__} are parts")
    found = {name: getattr(module, name) for name in _argument_names(type(module))}  # type: ignore[arg-type]
    if "bias" in found:  # the parameter of this name
        found["bias"] = found["bias"] is not None and found["bias"] is not False
    if isinstance(found.get("dropout"), Module):  # the layer of this name, of transformers
        found["dropout"] = found["dropout"].p
    if callable(found.get("num_parameters")):  # of PReLU: every module has a method of this name
        found["num_parameters"] = module.weight.size
    return plain({name: value.data if isinstance(value, Parameter) else value for name, value in found.items()})


def _shapes(module: Module) -> dict:
    """Shapes of a module's own parameters and buffers, those of its parts left out."""
    return {name: tuple(value.shape) for table in (module._parameters, module._buffers) for name, value in table.items()
            if value is not None}


def _own(module: Module) -> tuple:
    """What a module is, without its parts: class, arguments or plain attributes, shapes."""
    name = type(module).__name__
    try:
        if _layers().get(name) is type(module):
            values = {} if name in CONTAINERS + OF_PARTS else _arguments(module)
        else:
            values = {key: value for key, value in vars(module).items()
                      if not key.startswith("_") and isinstance(value, (bool, int, float, str, tuple))}
    except TypeError:  # an argument that is no plain value
        values = {"?": id(module)}
    if "forward" in vars(module):
        values = {**values, "forward": id(module)}
    return f"{type(module).__module__}.{type(module).__qualname__}", values, _shapes(module)


def _tree(module: Module) -> dict:
    """What each part is, by its path, and the names of its parts in their order."""
    return {path: (_own(part), list(part._modules)) for path, part in module.named_modules(remove_duplicate=False)}


def _describe(path: str, module: Module) -> dict:
    record = vars(module).get("_made")
    if record is not None:
        changes: dict[str, Any] = {}
        _compare(path, "", module, record["tree"], changes)
        return {"name": record["name"], "arguments": record["arguments"], **({"changes": changes} if changes else {})}
    name = type(module).__name__
    where = f"its {path} is" if path else "it is"
    if _layers().get(name) is not type(module) or "forward" in vars(module):
        raise Undescribable(f"{where} a {name} of your own")
    if name in CONTAINERS:
        if _shapes(module):
            raise Undescribable(f"{where} a {name} with parameters of its own")
        return {"layer": name, "modules": [[key, None if part is None else _describe(join(path, key), part)]
                                           for key, part in module._modules.items()]}
    try:
        arguments = _arguments(module)
        with unallocated():
            again = type(module)(**{key: _tuples(value) for key, value in arguments.items()})
    except (TypeError, ValueError) as error:
        raise Undescribable(f"{where} a {name} whose arguments make no layer ({error})") from error
    if (module._modules or again._modules) and _tree(again) != _tree(module):
        raise Undescribable(f"{where} a {name} with modules added to it")
    if _shapes(again) != _shapes(module):
        raise Undescribable(f"{where} a {name} with other parameters than its arguments make")
    return {"layer": name, "arguments": arguments}


def _compare(path: str, inner: str, module: Module, tree: dict, changes: dict) -> None:
    """Adds to ``changes`` what differs from the tree at and below ``inner``; ``path`` is that of the whole."""
    own, names = tree[inner]
    now, now_names = _own(module), list(module._modules)
    known = {key: value for key, value in now[1].items() if key in own[1] or key == "forward"}  # later notes do not count
    kept, added = [n for n in now_names if n in names], [n for n in now_names if n not in names]
    shuffled = type(module).__name__ in CONTAINERS and [n for n in names if n in kept] + added != now_names
    if (now[0], known, now[2]) != own or shuffled:
        if not inner:
            where = f"its {path}" if path else "it"
            raise Undescribable(f"{where} has other attributes, parameters or an other order than it was made with")
        changes[inner] = _describe(join(path, inner), module)
        return
    for name in names:
        part, below = module._modules.get(name), join(inner, name)
        if below not in tree:  # there was None
            if part is not None:
                changes[below] = _describe(join(path, below), part)
        elif part is None:
            changes[below] = None
        else:
            _compare(path, below, part, tree, changes)
    for name in added:
        part = module._modules[name]
        if part is not None:
            changes[join(inner, name)] = _describe(join(path, join(inner, name)), part)


# ---- building ----------------------------------------------------------------------------------------------------------


def _tuples(value):
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


class _Builder:
    def __init__(self, create: Callable[..., Module]):
        self.create, self.count = create, 0

    def build(self, description: Any, depth: int) -> Module:
        if not isinstance(description, dict):
            raise ValueError(f"network: a {type(description).__name__}: expected an object with a name or a layer, and "
                             "arguments")
        self.count += 1
        if self.count > MOST_MODULES or depth > DEEPEST:
            raise ValueError(f"network: more than {MOST_MODULES} modules, or {DEEPEST} within each other")
        arguments = description.get("arguments", {})
        if not isinstance(arguments, dict):
            raise ValueError(f"network: arguments are a {type(arguments).__name__}: expected an object")
        arguments = {key: _tuples(value) for key, value in arguments.items()}
        if isinstance(description.get("name"), str):
            module = self.create(description["name"], **arguments)
            self._change(module, description.get("changes", {}), depth)
            return module
        name = description.get("layer")
        layer = _layers().get(name) if isinstance(name, str) else None
        if layer is None:
            raise ValueError(f"network: {name!r} is no layer of fastconv.nn")
        return self._container(layer, description.get("modules"), depth) if name in CONTAINERS else layer(**arguments)

    def _container(self, layer: type, modules: Any, depth: int) -> Module:
        if not isinstance(modules, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in modules):
            raise ValueError(f"network: the modules of a {layer.__name__} must be pairs of a name and a description")
        module = layer()
        for name, description in modules:
            module.add_module(name, None if description is None else self.build(description, depth + 1))
        return module

    def _change(self, module: Module, changes: Any, depth: int) -> None:
        if not isinstance(changes, dict):
            raise ValueError(f"network: changes are a {type(changes).__name__}: expected an object")
        for path, description in changes.items():
            above, _, name = path.rpartition(".")
            try:
                parent = module.get_submodule(above)
            except AttributeError as error:
                raise ValueError(f"network: changes at {path!r}: {error}") from None
            if description is not None:
                part = self.build(description, depth + 1)
                if name in parent._modules:
                    parent._modules[name] = part  # at its place in the order
                else:
                    parent.add_module(name, part)
            elif name not in parent._modules:
                raise ValueError(f"network: changes at {path!r}: there is nothing to take out")
            elif type(parent).__name__ in CONTAINERS:
                del parent._modules[name]
            else:
                parent._modules[name] = None
