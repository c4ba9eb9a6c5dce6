"""Clipping of gradients, for a loop of one's own; the Trainer has ``clip_grad_norm`` and ``clip_grad_value``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real

import numpy as np

from fastconv._values import shown
from fastconv.engine.updating import norm_of
from fastconv.graph.parameter import Parameter


def get_total_norm(tensors, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach=None) -> float:
    """The norm of several arrays together, as of one.

    Parameters
    ----------
    tensors : array, or iterable of arrays
    norm_type : float, default 2
        The order; ``inf`` for the largest absolute value.
    error_if_nonfinite : bool, default False
        RuntimeError where the norm is infinite or not a number.
    foreach
        Changes nothing.
    """
    arrays = [np.asarray(a, np.float32) for a in ([tensors] if isinstance(tensors, np.ndarray) else tensors)]
    return _norm("get_total_norm", arrays, norm_type, error_if_nonfinite)


def clip_grad_norm_(parameters, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False,
                    foreach=None) -> float:
    """Scales the gradients so that their norm, over all of them together, is at most ``max_norm``.

    Parameters
    ----------
    parameters : Parameter, or iterable of Parameter
        Those without a gradient are left out.
    max_norm : float
    norm_type : float, default 2
        The order; ``inf`` for the largest absolute value.
    error_if_nonfinite : bool, default False
        RuntimeError where the norm is infinite or not a number; nothing has been changed then.
    foreach
        Changes nothing.

    Returns
    -------
    float
        The norm before.

    Raises
    ------
    TypeError, ValueError
        Wrong arguments.
    """
    found, limit = _gradients("clip_grad_norm_", parameters), _real("clip_grad_norm_", "max_norm", max_norm)
    norm = _norm("clip_grad_norm_", found, norm_type, error_if_nonfinite)
    factor = limit / (norm + 1e-6)
    for grad in found if not factor >= 1 else []:
        np.multiply(grad, np.float32(factor), out=grad)
    return norm


def clip_grad_value_(parameters, clip_value: float, foreach=None) -> None:
    """Clips each element of the gradients to ``[-clip_value, clip_value]``.

    Parameters
    ----------
    parameters : Parameter, or iterable of Parameter
    clip_value : float
    foreach
        Changes nothing.
    """
    limit = _real("clip_grad_value_", "clip_value", clip_value)
    for grad in _gradients("clip_grad_value_", parameters):
        np.clip(grad, -limit, limit, out=grad)


def _norm(op: str, arrays: list[np.ndarray], norm_type, error_if_nonfinite) -> float:
    order = _real(op, "norm_type", norm_type, infinite=True)
    if order == 2.0:
        norm = norm_of(arrays)
    elif math.isinf(order):
        ends = np.max if order > 0 else np.min
        norm = float(ends([ends(np.abs(a)) for a in arrays if a.size])) if any(a.size for a in arrays) else 0.0
    else:
        sums = [(np.abs(a.astype(np.float64)) ** order).sum() if order else np.count_nonzero(a) for a in arrays]
        norm = float(sum(sums)) ** (1.0 / order) if order else float(sum(sums))
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(f"{op}: the norm of order {order} of the gradients is {norm}: nothing was clipped")
    return float(norm)


def _gradients(op: str, parameters) -> list[np.ndarray]:
    if isinstance(parameters, Parameter):
        parameters = [parameters]
    if isinstance(parameters, (str, bytes)) or not isinstance(parameters, Iterable):
        raise TypeError(f"{op}: parameters is a {type(parameters).__name__}: expected a Parameter, or an iterable of them")
    found = []
    for i, p in enumerate(parameters):
        if not isinstance(p, Parameter):
            raise TypeError(f"{op}: parameters[{i}] is a {type(p).__name__}: expected a Parameter")
        if p.grad is not None:
            if not isinstance(p.grad, np.ndarray) or p.grad.dtype != np.float32 or not p.grad.flags.writeable:
                raise TypeError(f"{op}: grad of parameter {i}: expected a float32 array that can be written")
            found.append(p.grad)
    return found


def _real(op: str, name: str, value, infinite: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{op}: {name}={shown(value)}: expected a number")
    number = float(value)
    if math.isnan(number) or (math.isinf(number) and not infinite):
        raise ValueError(f"{op}: {name}={number}: expected a finite number")
    if not infinite and number < 0:
        raise ValueError(f"{op}: {name}={number}: expected at least 0")
    return number
