"""Weight and spectral normalisation under the names of ``torch.nn.utils.parametrizations``, with its state dicts."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from fastconv.functional.record import once
from fastconv.functional.weights import directed, improved, lengths, over_largest
from fastconv.nn import init
from fastconv.nn._check import LARGEST, integer, number
from fastconv.nn.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from fastconv.nn.module import Module
from fastconv.nn.utils.parametrize import register_parametrization

Layer = TypeVar("Layer", bound=Module)

__all__ = ["spectral_norm", "weight_norm"]


class _WeightNorm(Module):
    def __init__(self, dim: int | None):
        super().__init__()
        self.dim = dim

    def forward(self, g, v):
        return directed(g, v, self.dim)

    def right_inverse(self, weight: np.ndarray) -> tuple[Any, np.ndarray]:
        return once("weight_norm", lambda v: lengths(v, self.dim), {"weight": weight}), weight


def _dimension(op: str, module: Any, name: str, dim: Any) -> tuple[Any, int]:
    """The shape of a parameter, and one of its dimensions."""
    parameter = module._parameters.get(name) if isinstance(module, Module) and isinstance(name, str) else None
    shape = parameter.shape if parameter is not None else (1,)  # what is wrong about it is said where it is registered
    found = integer(op, "dim", dim, -len(shape))
    if parameter is not None and found >= len(shape):
        raise IndexError(f"{op}: dim={dim}: the parameter of shape {shape} has {len(shape)} dimensions")
    return shape, found


def weight_norm(module: Layer, name: str = "weight", dim: int | None = 0) -> Layer:
    """Has a parameter computed as ``g * v / |v|`` (Salimans and Kingma, 2016).

    ``parametrizations.NAME.original0`` holds the lengths, ``original1`` the directions.

    Parameters
    ----------
    module : Module
    name : str, default "weight"
    dim : int or None, default 0
        There is a length per index of this dimension; None (PyTorch's -1 as well): a single one.

    Returns
    -------
    Module
        The module; ``nn.utils.parametrize.remove_parametrizations(module, name)`` is the way back.

    Raises
    ------
    TypeError, ValueError, IndexError
        For what is no module, a name or a dimension that is not there.
    """
    _, at = (None, -1) if dim is None else _dimension("weight_norm", module, name, dim)
    return register_parametrization(module, name, _WeightNorm(None if at == -1 else at), unsafe=True)  # type: ignore


class _SpectralNorm(Module):
    def __init__(self, shape: tuple[int, ...], dim: int, iterations: int, eps: float):
        super().__init__()
        self.dim, self.iterations, self.eps, self.rank = dim, iterations, eps, len(shape)
        if self.rank > 1:
            for name, size in (("_u", shape[dim]), ("_v", int(np.prod(shape)) // shape[dim])):
                self.register_buffer(name, np.zeros(size, np.float32))
                vector = self._buffers[name]
                init.normal_(vector)
                vector.data = vector.data / max(float(np.linalg.norm(vector.data)), eps)

    def forward(self, weight):
        if self.rank == 1:
            return weight / weight.norm().clamp(min=self.eps)
        u, v = improved(weight, self._u, self._v, self.dim, self.iterations if self.training else 0, self.eps)
        return over_largest(weight, u, v, self.dim)


def spectral_norm(module: Layer, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12,
                  dim: int | None = None) -> Layer:
    """Has a parameter divided by its largest singular value (Miyato, 2018).

    ``parametrizations.NAME.original`` is trained; the buffers ``parametrizations.NAME.0._u`` and ``_v`` are improved by
    power iterations in each forward in training mode, 15 of them to begin with.

    Parameters
    ----------
    module : Module
    name : str, default "weight"
    n_power_iterations : int, default 1
        Per forward.
    eps : float, default 1e-12
        The least norm that is divided by.
    dim : int, optional
        The parameter is a matrix of this dimension by the others; default 0, and 1 for transposed convolutions.

    Returns
    -------
    Module
        The module; ``nn.utils.parametrize.remove_parametrizations(module, name)`` is the way back.

    Raises
    ------
    TypeError, ValueError, IndexError
        For what is no module, a name or a dimension that is not there, and numbers out of range.
    """
    op = "spectral_norm"
    if dim is None:
        dim = 1 if isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)) else 0
    shape, at = _dimension(op, module, name, dim)
    made = _SpectralNorm(shape, at % len(shape), integer(op, "n_power_iterations", n_power_iterations, 1),
                         number(op, "eps", eps, 0, LARGEST))
    register_parametrization(module, name, made)
    if made.rank > 1:
        matrix = np.moveaxis(module.parametrizations[name].original.numpy(), made.dim, 0).reshape(shape[made.dim], -1)
        u, v = np.array(made._u.data), np.array(made._v.data)
        for _ in range(15):
            u, v = ((w / max(float(np.linalg.norm(w)), made.eps)).astype(np.float32) for w in _powers(matrix, v))
        made._u.data, made._v.data = u, v
    return module


def _powers(matrix: np.ndarray, v: np.ndarray):
    u = matrix @ v
    yield u
    yield matrix.T @ (u / max(float(np.linalg.norm(u)), 1e-38))
