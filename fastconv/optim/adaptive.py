"""Update rules that scale each value by what its gradients were: RMSprop, Adagrad, Adadelta, Adamax, NAdam, RAdam."""

import math

from fastconv.engine.updating import Recipe
from fastconv.optim import _check
from fastconv.optim._options import BETAS, Flag, Number, Numbers
from fastconv.optim.optimizer import Optimizer

__all__ = ["Adadelta", "Adagrad", "Adamax", "NAdam", "RAdam", "RMSprop"]

GRADIENT = ("gradient", "t", "g")
L2 = ("when", "weight_decay", (("axpy", "t", "t", "p", "weight_decay"),))
DECAY = ("when", "decoupled", (("scale", "p", "p", "keep"),))  # of the weights themselves
CONSTANTS = {"one": 1.0, "minus_one": -1.0}


class _Programmed(Optimizer):
    """A rule that is a program."""

    maximize = Flag()
    decoupled_weight_decay = False

    def recipe(self, shape):
        return self._recipes[0]

    _recipes: tuple

    def hyper(self, step):
        """Return the scalars of step number `step` (an int from 1) as a dict of floats."""
        step = _check.whole(type(self).__name__, "step", step, 1)
        decoupled = bool(self.decoupled_weight_decay) and self.weight_decay != 0
        return {"sign": self._sign, "lr": self.lr, "weight_decay": 0.0 if decoupled else self.weight_decay,
                "decoupled": float(decoupled), "keep": 1.0 - self.lr * self.weight_decay, **CONSTANTS, **self._scalars(step)}

    def _scalars(self, step):
        """The scalars of its own."""
        raise NotImplementedError


class RMSprop(_Programmed):
    """RMSprop, as PyTorch's: the gradient over the root of an average of its squares.

    ``v = alpha * v + (1 - alpha) * g * g; d = g / (sqrt(v) + eps)``, with ``centered`` ``sqrt(v - a * a)`` where a is the
    average of g; ``w -= lr * d``, or with momentum ``b = momentum * b + d; w -= lr * b``.

    Parameters
    ----------
    params, lr, weight_decay, momentum, maximize, **ignored
        As for :class:`SGD`; lr 1e-2 by default.
    alpha : float, default 0.99
        At least 0.
    eps : float, default 1e-8
        At least 0.
    centered : bool, default False

    References
    ----------
    G. Hinton, "Neural networks for machine learning", lecture 6; A. Graves, arXiv:1308.0850 (centered).
    """

    name = "rmsprop"
    buffer_names = ("square_avg", "momentum_buffer", "grad_avg")
    alpha, eps, momentum, centered = Number(), Number(), Number(), Flag()

    def __init__(self, params=None, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False, *,
                 maximize=False, **ignored):
        self._begin(params, {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum,
                             "centered": centered, "maximize": maximize}, ignored)

    @staticmethod
    def _program(momentum, centered):
        root: tuple = (("root", "u", "square_avg", "eps", "one"),)
        if centered:
            root = (("lerp", "grad_avg", "grad_avg", "t", "fresh"), ("scale", "u", "square_avg", "one"),
                    ("addcmul", "u", "grad_avg", "grad_avg", "minus_one", "one"), ("root", "u", "u", "eps", "one"))
        step: tuple = (("addcdiv", "p", "t", "u", "rate"),)
        if momentum:
            step = (("scale", "momentum_buffer", "momentum_buffer", "momentum"),
                    ("addcdiv", "momentum_buffer", "t", "u", "one"), ("axpy", "p", "p", "momentum_buffer", "rate"))
        names = ("square_avg", *["momentum_buffer"] * momentum, *["grad_avg"] * centered)
        program = (GRADIENT, L2, ("addcmul", "square_avg", "t", "t", "fresh", "alpha"), *root, *step)
        return Recipe((("program", program),), names,
                      ("weight_decay", "fresh", "alpha", "eps", "one", "minus_one", "momentum", "rate"))

    def recipe(self, shape):
        return _RMSPROP[self.momentum != 0, bool(self.centered)]

    def _scalars(self, step):
        return {"alpha": self.alpha, "fresh": 1.0 - self.alpha, "eps": self.eps, "momentum": self.momentum, "rate": -self.lr}


_RMSPROP = {(m, c): RMSprop._program(m, c) for m in (False, True) for c in (False, True)}


class Adagrad(_Programmed):
    """Adagrad, as PyTorch's: the gradient over the root of the sum of its squares.

    ``s += g * g; w -= lr / (1 + (step - 1) * lr_decay) * g / (sqrt(s) + eps)``.

    Parameters
    ----------
    params, lr, weight_decay, maximize, **ignored
        As for :class:`SGD`; lr 1e-2 by default.
    lr_decay : float, default 0
        At least 0.
    initial_accumulator_value : float, default 0
        What sums begin with, at least 0.
    eps : float, default 1e-10
        At least 0.

    References
    ----------
    J. Duchi, E. Hazan, Y. Singer, "Adaptive subgradient methods for online learning and stochastic optimization", JMLR 2011.
    """

    name = "adagrad"
    buffer_names = ("sum",)
    lr_decay, initial_accumulator_value, eps = Number(), Number(), Number()

    def __init__(self, params=None, lr=1e-2, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10, *,
                 maximize=False, **ignored):
        self._begin(params, {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay,
                             "initial_accumulator_value": initial_accumulator_value, "eps": eps, "maximize": maximize},
                    ignored)

    _recipes = (Recipe((("program", (
        GRADIENT, L2,
        ("when", "first", (("fill", "sum", "start"),)),
        ("addcmul", "sum", "t", "t", "one", "one"),
        ("root", "u", "sum", "eps", "one"),
        ("addcdiv", "p", "t", "u", "rate"),
    )),), buffer_names, ("weight_decay", "start", "one", "eps", "rate")),)

    def _scalars(self, step):
        return {"start": self.initial_accumulator_value, "eps": self.eps,
                "rate": -self.lr / (1.0 + (step - 1) * self.lr_decay)}


class Adadelta(_Programmed):
    """Adadelta, as PyTorch's: steps in the units of the weights, by averages of squares of gradients and of steps.

    ``v = rho * v + (1 - rho) * g * g; d = sqrt(a + eps) / sqrt(v + eps) * g; a = rho * a + (1 - rho) * d * d; w -= lr * d``.

    Parameters
    ----------
    params, lr, weight_decay, maximize, **ignored
        As for :class:`SGD`; lr 1 by default.
    rho : float, default 0.9
        0 to below 1.
    eps : float, default 1e-6
        At least 0.

    References
    ----------
    M. Zeiler, "Adadelta: an adaptive learning rate method", arXiv:1212.5701.
    """

    name = "adadelta"
    buffer_names = ("square_avg", "acc_delta")
    rho, eps = Number(below=1.0), Number()

    def __init__(self, params=None, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0, *, maximize=False, **ignored):
        self._begin(params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}, ignored)

    _recipes = (Recipe((("program", (
        GRADIENT, L2,
        ("addcmul", "square_avg", "t", "t", "fresh", "rho"),
        ("shift", "u", "square_avg", "eps"), ("root", "u", "u", "zero", "one"),
        ("shift", "v", "acc_delta", "eps"), ("root", "v", "v", "zero", "one"),
        ("div", "v", "v", "u"), ("mul", "v", "v", "t"),
        ("addcmul", "acc_delta", "v", "v", "fresh", "rho"),
        ("axpy", "p", "p", "v", "rate"),
    )),), buffer_names, ("weight_decay", "fresh", "rho", "eps", "zero", "one", "rate")),)

    def _scalars(self, step):
        return {"rho": self.rho, "fresh": 1.0 - self.rho, "eps": self.eps, "zero": 0.0, "rate": -self.lr}


class Adamax(_Programmed):
    """Adamax, as PyTorch's: Adam with the largest gradient in place of an average of squares.

    ``m = beta1 * m + (1 - beta1) * g; u = max(beta2 * u, abs(g) + eps); w -= lr / (1 - beta1**step) * m / u``.

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, maximize, **ignored
        As for :class:`Adam`; lr 2e-3 by default.

    References
    ----------
    D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 2.
    """

    name = "adamax"
    buffer_names = ("exp_avg", "exp_inf")
    eps, betas = Number(), Numbers(BETAS, BETAS)

    def __init__(self, params=None, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, *, maximize=False, **ignored):
        self._begin(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize},
                    ignored)

    _recipes = (Recipe((("program", (
        GRADIENT, L2,
        ("lerp", "exp_avg", "exp_avg", "t", "fresh1"),
        ("scale", "exp_inf", "exp_inf", "beta2"),
        ("abs", "u", "t"), ("shift", "u", "u", "eps"),
        ("max", "exp_inf", "exp_inf", "u"),
        ("addcdiv", "p", "exp_avg", "exp_inf", "rate"),
    )),), buffer_names, ("weight_decay", "fresh1", "beta2", "eps", "rate")),)

    def _scalars(self, step):
        beta1, beta2 = self.betas
        return {"fresh1": 1.0 - beta1, "beta2": beta2, "eps": self.eps, "rate": -self.lr / (1.0 - beta1**step)}


class NAdam(_Programmed):
    """NAdam, as PyTorch's: Adam with Nesterov's momentum, which warms up.

    ``mu(n) = beta1 * (1 - 0.5 * 0.96**(n * momentum_decay))``, M(n) the product of mu up to n; with Adam's m, v and
    ``d = sqrt(v / (1 - beta2**n)) + eps``, it is
    ``w -= lr * ((1 - mu(n)) / (1 - M(n)) * g + mu(n + 1) / (1 - M(n + 1)) * m) / d``.

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, maximize, **ignored
        As for :class:`Adam`; lr 2e-3 by default. Where betas change during a training, M is that of the latest.
    momentum_decay : float, default 4e-3
        At least 0.
    decoupled_weight_decay : bool, default False
        Decay as :class:`AdamW`.

    References
    ----------
    T. Dozat, "Incorporating Nesterov momentum into Adam", ICLR 2016 workshop.
    """

    name = "nadam"
    buffer_names = ("exp_avg", "exp_avg_sq")
    eps, betas, momentum_decay, decoupled_weight_decay = Number(), Numbers(BETAS, BETAS), Number(), Flag()

    def __init__(self, params=None, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, momentum_decay=4e-3,
                 decoupled_weight_decay=False, *, maximize=False, **ignored):
        self._begin(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
                             "momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay,
                             "maximize": maximize}, ignored)

    _recipes = (Recipe((("program", (
        GRADIENT, L2, DECAY,
        ("lerp", "exp_avg", "exp_avg", "t", "fresh1"),
        ("addcmul", "exp_avg_sq", "t", "t", "fresh2", "beta2"),
        ("root", "u", "exp_avg_sq", "eps", "correction"),
        ("addcdiv", "p", "t", "u", "rate"),
        ("addcdiv", "p", "exp_avg", "u", "rate_next"),
    )),), buffer_names, ("weight_decay", "decoupled", "keep", "fresh1", "fresh2", "beta2", "eps", "correction", "rate",
                         "rate_next")),)

    _products: tuple = (None, 0, 1.0)  # (beta1, momentum_decay), n, M(n)

    def _mu(self, n):
        return self.betas[0] * (1.0 - 0.5 * 0.96 ** (n * self.momentum_decay))

    def _product(self, n):
        """M(n), from the last one that was asked for where that is near."""
        key, at, product = self._products
        if key != (self.betas[0], self.momentum_decay) or at > n:
            key, at, product = (self.betas[0], self.momentum_decay), 0, 1.0
        while at < n and product > 0.0:
            at += 1
            product *= self._mu(at)
        self._products = key, n, product
        return product

    def _scalars(self, step):
        beta1, beta2 = self.betas
        product, mu, after = self._product(step), self._mu(step), self._mu(step + 1)
        return {"fresh1": 1.0 - beta1, "fresh2": 1.0 - beta2, "beta2": beta2, "eps": self.eps,
                "correction": math.sqrt(1.0 - beta2**step), "rate": -self.lr * (1.0 - mu) / (1.0 - product),
                "rate_next": -self.lr * after / (1.0 - product * after)}


class RAdam(_Programmed):
    """RAdam, as PyTorch's: Adam that begins as SGD with momentum, until its average of squares can be trusted.

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, maximize, **ignored
        As for :class:`Adam`.
    decoupled_weight_decay : bool, default False
        Decay as :class:`AdamW`.

    References
    ----------
    L. Liu et al., "On the variance of the adaptive learning rate and beyond", ICLR 2020, algorithm 2.
    """

    name = "radam"
    buffer_names = ("exp_avg", "exp_avg_sq")
    eps, betas, decoupled_weight_decay = Number(), Numbers(BETAS, BETAS), Flag()

    def __init__(self, params=None, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled_weight_decay=False, *,
                 maximize=False, **ignored):
        self._begin(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
                             "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize}, ignored)

    _recipes = (Recipe((("program", (
        GRADIENT, L2, DECAY,
        ("lerp", "exp_avg", "exp_avg", "t", "fresh1"),
        ("addcmul", "exp_avg_sq", "t", "t", "fresh2", "beta2"),
        ("when", "rectified", (("root", "u", "exp_avg_sq", "eps", "one"), ("addcdiv", "p", "exp_avg", "u", "rectified"))),
        ("unless", "rectified", (("axpy", "p", "p", "exp_avg", "rate"),)),
    )),), buffer_names, ("weight_decay", "decoupled", "keep", "fresh1", "fresh2", "beta2", "eps", "one", "rectified",
                         "rate")),)

    def _scalars(self, step):
        beta1, beta2 = self.betas
        rate, correction2 = -self.lr / (1.0 - beta1**step), 1.0 - beta2**step
        longest = 2.0 / (1.0 - beta2) - 1.0
        length = longest - 2.0 * step * beta2**step / correction2
        rectified = 0.0
        if length > 5.0:
            share = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            rectified = rate * math.sqrt(share) * math.sqrt(correction2)
        return {"fresh1": 1.0 - beta1, "fresh2": 1.0 - beta2, "beta2": beta2, "eps": self.eps, "rectified": rectified,
                "rate": rate}
