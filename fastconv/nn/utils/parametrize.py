"""Weights that are computed of others by a module, as ``torch.nn.utils.parametrize``; the same state dicts.

The parameter moves to ``module.parametrizations.NAME.original`` (``original0``, ``original1``, ... where it is made of
several), and the modules that compute it are ``parametrizations.NAME.0`` and so on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastconv._values import shown
from fastconv.functional.record import once
from fastconv.graph.ir import Tensor, current_graph
from fastconv.graph.parameter import Parameter
from fastconv.nn.containers import ModuleDict
from fastconv.nn.module import Module

__all__ = ["ParametrizationList", "cached", "is_parametrized", "register_parametrization", "remove_parametrizations"]


class ParametrizationList(Module):
    """The originals of a parameter, and the modules that compute it of them, one after the other."""

    def __init__(self, module: Module, originals: list[Parameter], single: bool):
        super().__init__()
        self.single, self.count = single, len(originals)
        for i, original in enumerate(originals):
            self.register_parameter("original" if single else f"original{i}", original)
        self.add_module("0", module)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def __getitem__(self, index: int) -> Any:
        return list(self._modules.values())[index]

    @property
    def originals(self) -> list[Parameter]:
        return [self.original] if self.single else [getattr(self, f"original{i}") for i in range(self.count)]

    def forward(self):
        """The value."""
        graph = current_graph()
        if graph is not None:
            return self._of(*(graph.parameter(p) for p in self.originals))
        return once("parametrization", self._of, {f"original{i}": p.numpy() for i, p in enumerate(self.originals)})

    def _of(self, *tensors: Tensor) -> Any:
        value, *rest = self._modules.values()
        made = value(*tensors)
        for module in rest:
            made = module(made)
        return made


class _Rule:
    """What a module's ``_computed`` asks: see nn/utils/weights.py."""

    suffixes: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()

    def value(self, module: Module, name: str) -> Any:
        found = module.parametrizations[name]
        return found.forward() if current_graph() is None else found()


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a parameter of this name, or any, is computed so."""
    table = module._modules.get("parametrizations") if isinstance(module, Module) else None
    return table is not None and (len(table) > 0 if tensor_name is None else tensor_name in table)


@contextmanager
def cached():
    """Does nothing: a forward computes a weight once for as many times as a trace asks for it, inference once per change."""
    yield


def register_parametrization(module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False) -> Module:
    """Has a parameter computed by a module, as ``torch.nn.utils.parametrize.register_parametrization``.

    Parameters
    ----------
    module : Module
    tensor_name : str
        Of a parameter; registered once more, the next module computes of what the first one gives.
    parametrization : Module
        Its ``forward`` takes the original (or the originals, where its ``right_inverse`` returns several) and gives the
        value. With a ``right_inverse`` of arrays the value stays what it is.
    unsafe : bool, default False
        Shapes are not compared.

    Returns
    -------
    Module
        The module. Inference computes the value once per change; its gradient goes to the originals.

    Raises
    ------
    TypeError, ValueError
        For what is no module or no parameter, and a value of another shape.
    """
    op = "register_parametrization"
    for given, value in (("module", module), ("parametrization", parametrization)):
        if not isinstance(value, Module):
            raise TypeError(f"{op}: {given} is a {type(value).__name__}: expected a Module")
    if is_parametrized(module, tensor_name):
        found = module.parametrizations[tensor_name]
        if hasattr(parametrization, "right_inverse"):
            raise ValueError(f"{op}: {tensor_name} is computed already: a right_inverse is for the first alone")
        found.add_module(str(len(found)), parametrization)
        try:
            _check(op, found, found.shape, unsafe)
        except Exception:
            del found._modules[str(len(found) - 1)]
            raise
        return module
    parameter = module._parameters.get(tensor_name) if isinstance(tensor_name, str) else None
    if parameter is None:
        raise ValueError(f"{op}: tensor_name={shown(tensor_name)}: {type(module).__name__} has no parameter of this name; "
                         f"it has {', '.join(map(repr, module._parameters)) or 'none'}")
    originals, single = [parameter], True
    if hasattr(parametrization, "right_inverse"):
        given = parametrization.right_inverse(parameter.numpy())
        single = not isinstance(given, (tuple, list))
        arrays = [np.asarray(a) for a in ([given] if single else given)]
        if not single or arrays[0].shape != parameter.shape:
            originals = [Parameter(a, parameter.requires_grad) for a in arrays]
        else:
            parameter.data = arrays[0]
    found = ParametrizationList(parametrization, originals, single)
    found.shape = parameter.shape
    found.train(module.training)
    _check(op, found, parameter.shape, unsafe)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        module.add_module("parametrizations", ModuleDict())
    module.parametrizations[tensor_name] = found
    module._computed[tensor_name] = _Rule()
    return module


def _check(op: str, found: ParametrizationList, shape: tuple[int, ...], unsafe: bool) -> None:
    training = found.training
    found.eval()
    try:
        made = found.forward()
    finally:
        found.train(training)
    if not unsafe and tuple(made.shape) != tuple(shape):
        raise ValueError(f"{op}: the parametrization gives a value of shape {tuple(made.shape)}: expected {tuple(shape)}, "
                         "or unsafe=True")


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Makes a parameter of its own again of one that is computed.

    Parameters
    ----------
    module : Module
    tensor_name : str
    leave_parametrized : bool, default True
        With its present value; else with that of the original, where there is one.

    Returns
    -------
    Module
        The module.

    Raises
    ------
    ValueError
        For a parameter that is not computed, or several originals.
    """
    op = "remove_parametrizations"
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"{op}: tensor_name={shown(tensor_name)}: {type(module).__name__} computes no parameter of this "
                         "name so")
    found = module.parametrizations[tensor_name]
    if not leave_parametrized and not found.single:
        raise ValueError(f"{op}: leave_parametrized=False: {tensor_name} is made of {found.count} originals")
    training = found.training
    found.eval()
    value = np.asarray(found.forward()) if leave_parametrized else found.original.numpy()
    found.train(training)
    trained = any(p.requires_grad for p in found.originals)
    del module._computed[tensor_name]
    del module.parametrizations[tensor_name]
    if len(module.parametrizations) == 0:
        del module.parametrizations
    module.register_parameter(tensor_name, Parameter(value, trained))
    return module
