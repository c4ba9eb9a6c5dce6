"""Muon: momentum, orthogonalised."""

import math

from fastconv.engine.updating import Recipe
from fastconv.optim._options import BETAS, Flag, Number, Numbers, OneOf, Whole
from fastconv.optim.adaptive import GRADIENT, _Programmed

__all__ = ["Muon"]


class Muon(_Programmed):
    """Muon: the momentum of each matrix, made nearly orthogonal by Newton-Schulz iterations, is its step.

    With the momentum's average m and, for nesterov, ``u = (1 - momentum) * g + momentum * m``:
    ``w = (1 - lr * weight_decay) * w - lr * f * orthogonal(u)``. A parameter of more than two dimensions, the filters of a
    convolution, is the matrix of its first dimension and all others; one of fewer is updated by AdamW, with the same rate.

    Parameters
    ----------
    params, lr, maximize, **ignored
        As for :class:`SGD`.
    weight_decay : float, default 0.1
        At least 0, decoupled.
    momentum : float, default 0.95
        0 to below 1.
    nesterov : bool, default True
    ns_coefficients : (float, float, float), default (3.4445, -4.775, 2.0315)
        a, b, c of an iteration ``X = a X + (b A + c A A) X``, where A is ``X X^T``.
    eps : float, default 1e-7
        Added to the norm that a matrix is divided by first.
    ns_steps : int, default 5
        1 to 99.
    adjust_lr_fn : {None, "original", "match_rms_adamw"}, optional
        The factor f: ``sqrt(max(1, rows / columns))``, the default too, or ``0.2 * sqrt(max(rows, columns))``.
    betas : (float, float), default (0.9, 0.95)
        Of AdamW.

    References
    ----------
    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; PyTorch's, which iterates in bfloat16,
    here float32.
    """

    name = "muon"
    buffer_names = ("momentum_buffer", "exp_avg", "exp_avg_sq")
    momentum, nesterov, eps, ns_steps = Number(below=1.0), Flag(), Number(), Whole(1)
    ns_coefficients = Numbers({"low": None}, {"low": None}, {"low": None})
    adjust_lr_fn, betas = OneOf("original", "match_rms_adamw"), Numbers(BETAS, BETAS)
    decoupled_weight_decay = True

    def __init__(self, params=None, lr=1e-3, weight_decay=0.1, momentum=0.95, nesterov=True,
                 ns_coefficients=(3.4445, -4.775, 2.0315), eps=1e-7, ns_steps=5, adjust_lr_fn=None, *, betas=(0.9, 0.95),
                 maximize=False, **ignored):
        self._begin(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
                             "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps,
                             "adjust_lr_fn": adjust_lr_fn, "betas": betas, "maximize": maximize}, ignored)

    def _check(self):
        if self.ns_steps > 99:
            raise ValueError(f"Muon: ns_steps={self.ns_steps} must be at most 99")

    def recipe(self, shape):
        if len(shape) < 2:
            return _VECTOR
        rows, columns = shape[0], math.prod(shape[1:])
        factor = 0.2 * math.sqrt(max(rows, columns)) if self.adjust_lr_fn == "match_rms_adamw" else \
            math.sqrt(max(1.0, rows / max(1, columns)))
        end = ("lerp", "g", "t", "momentum_buffer", "momentum") if self.nesterov else \
            ("scale", "g", "momentum_buffer", "one")
        begin = (GRADIENT, ("lerp", "momentum_buffer", "momentum_buffer", "t", "fresh"), end)
        return Recipe((("program", begin), ("orthogonal", self.ns_coefficients, self.ns_steps, factor, _APPLY)),
                      ("momentum_buffer",), _SCALARS)

    def _scalars(self, step):
        beta1, beta2 = self.betas
        return {"fresh": 1.0 - self.momentum, "momentum": self.momentum, "eps": self.eps, "zero": 0.0, "rate": -self.lr,
                "fresh1": 1.0 - beta1, "fresh2": 1.0 - beta2, "beta2": beta2, "adam_eps": 1e-8,
                "correction": math.sqrt(1.0 - beta2**step), "adam_rate": -self.lr / (1.0 - beta1**step)}


_SCALARS = ("fresh", "momentum", "eps", "zero", "one", "rate", "decoupled", "keep")
_APPLY = (("when", "decoupled", (("scale", "p", "p", "keep"),)), ("axpy", "p", "p", "g", "rate"))
_VECTOR = Recipe((("program", (
    GRADIENT, ("when", "decoupled", (("scale", "p", "p", "keep"),)),
    ("lerp", "exp_avg", "exp_avg", "t", "fresh1"),
    ("addcmul", "exp_avg_sq", "t", "t", "fresh2", "beta2"),
    ("root", "u", "exp_avg_sq", "adam_eps", "correction"),
    ("addcdiv", "p", "exp_avg", "u", "adam_rate"),
)),), ("exp_avg", "exp_avg_sq"), ("decoupled", "keep", "fresh1", "fresh2", "beta2", "adam_eps", "correction", "adam_rate"))
