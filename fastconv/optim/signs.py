"""Update rules by signs, and averaged descent: Lion, Rprop, ASGD."""

from fastconv._values import shown
from fastconv.engine.updating import Recipe
from fastconv.optim._options import BETAS, Number, Numbers
from fastconv.optim.adaptive import DECAY, GRADIENT, L2, _Programmed

__all__ = ["ASGD", "Lion", "Rprop"]


class Lion(_Programmed):
    """Lion: the sign of an interpolation between momentum and gradient.

    ``w *= 1 - lr * weight_decay; w -= lr * sign(beta1 * m + (1 - beta1) * g); m = beta2 * m + (1 - beta2) * g``.

    Parameters
    ----------
    params, maximize, **ignored
        As for :class:`SGD`.
    lr : float, default 1e-4
        At least 0; a tenth to a third of AdamW's.
    betas : (float, float), default (0.9, 0.99)
        Each from 0 to below 1.
    weight_decay : float, default 0
        At least 0, decoupled.

    References
    ----------
    X. Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023, algorithm 2.
    """

    name = "lion"
    buffer_names = ("exp_avg",)
    betas = Numbers(BETAS, BETAS)
    decoupled_weight_decay = True

    def __init__(self, params=None, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0, *, maximize=False, **ignored):
        self._begin(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}, ignored)

    _recipes = (Recipe((("program", (
        GRADIENT, DECAY,
        ("lerp", "u", "exp_avg", "t", "fresh1"), ("sign", "u", "u"),
        ("axpy", "p", "p", "u", "rate"),
        ("lerp", "exp_avg", "exp_avg", "t", "fresh2"),
    )),), buffer_names, ("decoupled", "keep", "fresh1", "fresh2", "rate")),)

    def _scalars(self, step):
        return {"fresh1": 1.0 - self.betas[0], "fresh2": 1.0 - self.betas[1], "rate": -self.lr}


class Rprop(_Programmed):
    """Resilient backpropagation, as PyTorch's: steps that grow while the gradient keeps its sign, and shrink where it turns.

    Parameters
    ----------
    params, maximize, **ignored
        As for :class:`SGD`.
    lr : float, default 1e-2
        The first step.
    etas : (float, float), default (0.5, 1.2)
        Factors of a step where the sign turns, above 0 and below 1, and where it stays, above 1.
    step_sizes : (float, float), default (1e-6, 50)
        The smallest and the largest step.

    References
    ----------
    M. Riedmiller, H. Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm", ICNN 1993.
    """

    name = "rprop"
    buffer_names = ("prev", "step_size")
    etas = Numbers({"above": 0.0, "below": 1.0}, {"above": 1.0})
    step_sizes = Numbers({"low": 0.0}, {"low": 0.0})
    weight_decay = 0.0

    def __init__(self, params=None, lr=1e-2, etas=(0.5, 1.2), step_sizes=(1e-6, 50.0), *, maximize=False, **ignored):
        self._begin(params, {"lr": lr, "etas": etas, "step_sizes": step_sizes, "maximize": maximize}, ignored)

    def _check(self):
        if self.step_sizes[0] > self.step_sizes[1]:
            raise ValueError(f"Rprop: step_sizes={shown(self.step_sizes)} must ascend")

    _recipes = (Recipe((("program", (
        GRADIENT,
        ("when", "first", (("fill", "step_size", "lr"), ("fill", "prev", "zero"))),
        ("mul", "u", "t", "prev"), ("choose", "v", "u", "up", "down"),
        ("mul", "step_size", "step_size", "v"), ("clamp", "step_size", "step_size", "least", "most"),
        ("keep", "prev", "u", "t"),  # a gradient that has turned counts as 0
        ("sign", "u", "prev"), ("addcmul", "p", "u", "step_size", "minus_one", "one"),
    )),), buffer_names, ("lr", "zero", "up", "down", "least", "most", "one", "minus_one")),)

    def _scalars(self, step):
        (down, up), (least, most) = self.etas, self.step_sizes
        return {"zero": 0.0, "up": up, "down": down, "least": least, "most": most}


class ASGD(_Programmed):
    """Averaged stochastic gradient descent, as PyTorch's: the average of the weights is the buffer "ax". (Where the rate
    changes, PyTorch follows it one step late.)

    ``eta = lr / (1 + lambd * lr * (step - 1))**alpha; w = (1 - lambd * eta) * w - eta * g;
    a += (w - a) / max(1, step - 1 - t0)``.

    Parameters
    ----------
    params, lr, weight_decay, maximize, **ignored
        As for :class:`SGD`; lr 1e-2 by default.
    lambd : float, default 1e-4
        Decay, at least 0.
    alpha : float, default 0.75
        Power of the rate, at least 0.
    t0 : float, default 1e6
        The step after which weights are averaged, at least 0.

    References
    ----------
    B. Polyak, A. Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 1992.
    """

    name = "asgd"
    buffer_names = ("ax",)
    lambd, alpha, t0 = Number(), Number(), Number()

    def __init__(self, params=None, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0.0, *, maximize=False, **ignored):
        self._begin(params, {"lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay,
                             "maximize": maximize}, ignored)

    _recipes = (Recipe((("program", (
        GRADIENT, L2,
        ("scale", "p", "p", "shrink"), ("axpy", "p", "p", "t", "rate"),
        ("when", "share", (("lerp", "ax", "ax", "p", "share"),)),
        ("unless", "share", (("scale", "ax", "p", "one"),)),
    )),), buffer_names, ("weight_decay", "shrink", "rate", "share", "one")),)

    def _scalars(self, step):
        eta = self.lr / (1.0 + self.lambd * self.lr * (step - 1)) ** self.alpha
        share = 1.0 / max(1.0, step - 1 - self.t0)
        return {"shrink": 1.0 - self.lambd * eta, "rate": -eta, "share": 0.0 if share == 1.0 else share}
