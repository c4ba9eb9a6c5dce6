"""Weights that are computed of other parameters: weight normalisation, spectral normalisation, weight standardisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from fastconv._values import shown
from fastconv.functional.record import once
from fastconv.functional.weights import directed, lengths, spectral, weight_standardization
from fastconv.graph.ir import Tensor, current_graph
from fastconv.graph.parameter import Parameter
from fastconv.nn import init
from fastconv.nn._check import LARGEST, integer, number
from fastconv.nn.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from fastconv.nn.module import Module

Layer = TypeVar("Layer", bound=Module)

__all__ = ["remove_spectral_norm", "remove_weight_norm", "spectral_norm", "standardize_weight", "unstandardize_weight",
           "weight_norm"]


class _Rule:
    """How an attribute of a module is computed of its parameters."""

    suffixes: tuple[str, ...]
    buffers: tuple[str, ...] = ()

    def made(self, module: Module, training: bool, **tensors: Tensor) -> Tensor:
        """The value, of tensors by the suffixes of their names."""
        raise NotImplementedError

    def value(self, module: Module, name: str) -> Any:
        """A tensor in a trace; elsewhere an array, of the parameters as they are now."""
        given = {suffix: getattr(module, f"{name}_{suffix}") for suffix in (*self.suffixes, *self.buffers)}
        graph = current_graph()
        if graph is None:
            def function(*tensors: Tensor) -> Tensor:
                return self.made(module, False, **dict(zip(given, tensors, strict=True)))

            return once(type(self).__name__, function, {key: p.numpy() for key, p in given.items()})
        return self.made(module, module.training, **{key: graph.parameter(p) for key, p in given.items()})


def _weight(op: str, module: Module, name: str) -> Parameter:
    """The parameter that is to be computed."""
    if not isinstance(module, Module):
        raise TypeError(f"{op}: module is a {type(module).__name__}: expected a Module")
    if name in module._computed:
        raise RuntimeError(f"{op}: {type(module).__name__}.{name} is computed already")
    weight = module._parameters.get(name) if isinstance(name, str) else None
    if weight is None:
        raise ValueError(f"{op}: name={shown(name)}: {type(module).__name__} has no parameter of this name; it has "
                         f"{', '.join(map(repr, module._parameters)) or 'none'}")
    return weight


def _compute(module: Module, name: str, rule: _Rule, parameters: dict[str, Any], buffers: dict[str, Any]) -> None:
    """Puts parameters and buffers, by their suffixes, in the place of one."""
    trained = module._parameters[name].requires_grad  # type: ignore[union-attr]
    delattr(module, name)
    for suffix, value in parameters.items():
        module.register_parameter(f"{name}_{suffix}", value if isinstance(value, Parameter) else Parameter(value, trained))
    for suffix, value in buffers.items():
        module.register_buffer(f"{name}_{suffix}", value)
    module._computed[name] = rule


def _remove(op: str, module: Module, name: str, kind: type[_Rule]) -> None:
    if not isinstance(module, Module):
        raise TypeError(f"{op}: module is a {type(module).__name__}: expected a Module")
    rule = module._computed.get(name)
    if not isinstance(rule, kind):
        raise ValueError(f"{op}: name={shown(name)}: {type(module).__name__} computes no such weight")
    value = rule.value(module, name)
    trained = any(getattr(module, f"{name}_{suffix}").requires_grad for suffix in rule.suffixes)
    del module._computed[name]
    for suffix in (*rule.suffixes, *rule.buffers):
        delattr(module, f"{name}_{suffix}")
    module.register_parameter(name, Parameter(value, trained))


# ---- weight normalisation -----------------------------------------------------------------------------------------------


@dataclass
class _WeightNorm(_Rule):
    dim: int | None
    suffixes = ("g", "v")

    def made(self, module: Module, training: bool, *, g: Tensor, v: Tensor) -> Tensor:  # type: ignore[override]
        return directed(g, v, self.dim)


def weight_norm(module: Layer, name: str = "weight", dim: int | None = 0) -> Layer:
    """Has a module's weight computed as ``g * v / |v|``, as ``torch.nn.utils.weight_norm`` (Salimans and Kingma, 2016).

    The parameter is replaced with ``weight_g``, the lengths, and ``weight_v``, the directions, which are trained; inference
    computes it once per change of them.

    Parameters
    ----------
    module : Module
    name : str, default "weight"
        Of the parameter.
    dim : int or None, default 0
        There is a length per index of this dimension; None (PyTorch's -1 as well): a single one.

    Returns
    -------
    Module
        The module.

    Raises
    ------
    ValueError, IndexError, RuntimeError
        For a name or a dimension that is not there, and a weight that is computed already.
    """
    weight = _weight("weight_norm", module, name)
    if dim is not None:
        dim = integer("weight_norm", "dim", dim, -1)
        if dim >= len(weight.shape):
            raise IndexError(f"weight_norm: dim={dim}: the weight of shape {weight.shape} has {len(weight.shape)} "
                             "dimensions")
        dim = None if dim == -1 else dim
    long = once("weight_norm", lambda v: lengths(v, dim), {"weight": weight.numpy()})
    _compute(module, name, _WeightNorm(dim), {"g": long, "v": weight}, {})
    return module


def remove_weight_norm(module: Layer, name: str = "weight") -> Layer:
    """Makes the weight a parameter again, of its present values; the inverse of :func:`weight_norm`."""
    _remove("remove_weight_norm", module, name, _WeightNorm)
    return module


# ---- spectral normalisation ---------------------------------------------------------------------------------------------


@dataclass
class _SpectralNorm(_Rule):
    dim: int
    n_power_iterations: int
    eps: float
    suffixes = ("orig",)
    buffers = ("u", "v")

    def made(self, module: Module, training: bool, *, orig: Tensor, u: Tensor,  # type: ignore[override]
             v: Tensor) -> Tensor:
        return spectral(orig, u, v, self.dim, self.n_power_iterations if training else 0, self.eps)


def spectral_norm(module: Layer, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12,
                  dim: int | None = None) -> Layer:
    """Has a module's weight divided by its largest singular value, as ``torch.nn.utils.spectral_norm`` (Miyato, 2018).

    The parameter becomes ``weight_orig``, which is trained; the singular vectors, buffers ``weight_u`` and ``weight_v``, are
    improved by power iterations in each forward in training mode, and stay in evaluation.

    Parameters
    ----------
    module : Module
    name : str, default "weight"
        Of the parameter.
    n_power_iterations : int, default 1
        Per forward.
    eps : float, default 1e-12
        The least norm that is divided by.
    dim : int, optional
        The weight is a matrix of this dimension by the others; default 0, and 1 for transposed convolutions.

    Returns
    -------
    Module
        The module.

    Raises
    ------
    ValueError, IndexError, RuntimeError
        For a name or a dimension that is not there, and a weight that is computed already.
    """
    weight, op = _weight("spectral_norm", module, name), "spectral_norm"
    rank = len(weight.shape)
    if dim is None:
        dim = 1 if isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)) else 0
    dim = integer(op, "dim", dim, -rank)
    if dim >= rank:
        raise IndexError(f"{op}: dim={dim}: the weight of shape {weight.shape} has {rank} dimensions")
    rule = _SpectralNorm(dim % rank, integer(op, "n_power_iterations", n_power_iterations, 1),
                         number(op, "eps", eps, 0, LARGEST))
    height = weight.shape[rule.dim]
    vectors = {"u": Parameter(np.zeros(height), False), "v": Parameter(np.zeros(weight.size // height), False)}
    for vector in vectors.values():
        init.normal_(vector)
        vector.data = vector.data / max(float(np.linalg.norm(vector.data)), rule.eps)
    _compute(module, name, rule, {"orig": weight}, vectors)
    return module


def remove_spectral_norm(module: Layer, name: str = "weight") -> Layer:
    """Makes the weight a parameter again, of its present values; the inverse of :func:`spectral_norm`."""
    _remove("remove_spectral_norm", module, name, _SpectralNorm)
    return module


# ---- weight standardisation ---------------------------------------------------------------------------------------------


@dataclass
class _Standardization(_Rule):
    eps: float
    suffixes = ("raw",)

    def made(self, module: Module, training: bool, *, raw: Tensor) -> Tensor:  # type: ignore[override]
        return weight_standardization(raw, self.eps)


def standardize_weight(module: Layer, name: str = "weight", eps: float = 1e-5) -> Layer:
    """Has the filters of a module standardised, :func:`fastconv.functional.weight_standardization`; the parameter becomes
    ``weight_raw``, which is trained.

    Parameters
    ----------
    module : Module
        A convolution, say.
    name : str, default "weight"
        Of the parameter.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    Module
        The module.
    """
    weight = _weight("standardize_weight", module, name)
    if len(weight.shape) < 2:
        raise ValueError(f"standardize_weight: the weight of shape {weight.shape}: expected at least 2 dimensions")
    _compute(module, name, _Standardization(number("standardize_weight", "eps", eps, 0, LARGEST)), {"raw": weight}, {})
    return module


def unstandardize_weight(module: Layer, name: str = "weight") -> Layer:
    """Makes the weight a parameter again, of its present values; the inverse of :func:`standardize_weight`."""
    _remove("unstandardize_weight", module, name, _Standardization)
    return module
