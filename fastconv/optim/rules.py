"""The update rules with kernels of their own: SGD, Adam, AdamW."""

import math

from fastconv.engine.updating import Recipe
from fastconv.optim import _check
from fastconv.optim._options import BETAS, Flag, Number, Numbers
from fastconv.optim.optimizer import Optimizer

__all__ = ["SGD", "Adam", "AdamW"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and weight decay as PyTorch does them.

    ``g = grad + weight_decay * w; b = momentum * b + (1 - dampening) * g; w -= lr * (g + momentum * b if nesterov else
    b)``, and ``w -= lr * g`` without momentum.

    Parameters
    ----------
    params : iterable of Parameter or dict, optional
        What :meth:`step` updates, or groups: see :class:`Optimizer`. None for a Trainer; ``SGD(0.1)`` is ``SGD(lr=0.1)``.
    lr : float, default 1e-3
        Learning rate, at least 0. May be set at any time, as may the others.
    momentum : float, default 0
        At least 0.
    dampening : float, default 0
        At least 0; not used at the first step, where PyTorch begins the buffer with the gradient itself.
    weight_decay : float, default 0
        At least 0 (an L2 penalty).
    nesterov : bool, default False
        Needs momentum above 0 and dampening 0.
    maximize : bool, default False
        Climb instead.
    **ignored
        ``foreach``, ``fused``, ``capturable=False``, ``differentiable=False``: taken as of PyTorch's, and change nothing.

    Raises
    ------
    TypeError
        An argument that is no number.
    ValueError
        An argument outside its rule.

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and momentum in deep learning",
    ICML 2013 (nesterov).
    """

    name = "sgd"
    buffer_names = ("momentum_buffer",)
    momentum = Number()
    dampening = Number()
    nesterov = Flag()
    maximize = Flag()

    def __init__(self, params=None, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, *,
                 maximize=False, **ignored):
        self._begin(params, {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
                             "nesterov": nesterov, "maximize": maximize}, ignored)

    def _check(self):
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                f"SGD: nesterov=True needs momentum above 0 and dampening 0, "
                f"got momentum={self.momentum} and dampening={self.dampening}"
            )

    def recipe(self, shape):
        return _MOMENTUM if self.momentum != 0 else _PLAIN

    def hyper(self, step):
        """Return the scalars of step number `step` (an int from 1) as a dict of floats.

        ``lr, momentum, dampening, weight_decay, nesterov`` (0.0 or 1.0), ``sign`` (-1.0 maximises). At step 1 dampening is
        0, so that a buffer of zeros becomes the gradient.
        """
        step = _check.whole("SGD", "step", step, 1)
        return {
            "lr": self.lr,
            "momentum": self.momentum,
            "dampening": self.dampening if step > 1 else 0.0,
            "weight_decay": self.weight_decay,
            "nesterov": float(self.nesterov),
            "sign": self._sign,
        }


_PLAIN, _MOMENTUM = Recipe((("kernel", "sgd", 0),)), Recipe((("kernel", "sgd", 1),), SGD.buffer_names)


class Adam(Optimizer):
    """Adam, with the weight decay added to the gradient (an L2 penalty).

    ``m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g * g;
    w -= lr / bias_correction1 * m / (sqrt(v) / bias_correction2_sqrt + eps)``.

    Parameters
    ----------
    params
        As for :class:`SGD`.
    lr : float, default 1e-3
        Learning rate, at least 0. May be set at any time, as may the others.
    betas : (float, float), default (0.9, 0.999)
        Decay of the two averages, each from 0 to below 1.
    eps : float, default 1e-8
        At least 0.
    weight_decay : float, default 0
        At least 0.
    amsgrad : bool, default False
        Divide by the largest average of squares so far.
    maximize : bool, default False
        Climb instead.
    decoupled_weight_decay : bool, default False
        Decay as :class:`AdamW`.
    **ignored
        As for :class:`SGD`.

    Raises
    ------
    TypeError
        An argument that is no number.
    ValueError
        An argument outside its rule.

    References
    ----------
    D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1. S. Reddi, S. Kale, S. Kumar, "On
    the convergence of Adam and beyond", ICLR 2018 (amsgrad).
    """

    name = "adam"
    buffer_names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    eps = Number()
    betas = Numbers(BETAS, BETAS)
    amsgrad = Flag()
    maximize = Flag()
    decoupled_weight_decay = Flag()

    def __init__(self, params=None, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, *,
                 maximize=False, decoupled_weight_decay=False, **ignored):
        self._begin(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
                             "maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay}, ignored)

    def recipe(self, shape):
        return _ADAM[bool(self.amsgrad), bool(self._decoupled)]

    @property
    def _decoupled(self):
        return self.decoupled_weight_decay

    def hyper(self, step):
        """Return the scalars of step number `step` (an int from 1) as a dict of floats.

        ``lr, beta1, beta2, eps, weight_decay, bias_correction1`` (``1 - beta1**step``), ``bias_correction2_sqrt``
        (``sqrt(1 - beta2**step)``), ``sign`` (-1.0 maximises); with amsgrad also those of its program.
        """
        step = _check.whole(type(self).__name__, "step", step, 1)
        beta1, beta2 = self.betas
        values = {
            "lr": self.lr,
            "beta1": beta1,
            "beta2": beta2,
            "eps": self.eps,
            "weight_decay": self.weight_decay,
            "bias_correction1": 1.0 - beta1**step,
            "bias_correction2_sqrt": math.sqrt(1.0 - beta2**step),
            "sign": self._sign,
        }
        if self.amsgrad:
            values.update(fresh1=1.0 - beta1, fresh2=1.0 - beta2, keep=1.0 - self.lr * self.weight_decay,
                          rate=-self.lr / values["bias_correction1"])
        return values


class AdamW(Adam):
    """Adam with decoupled weight decay: ``w *= 1 - lr * weight_decay`` before Adam's step, which sees no decay.

    Parameters
    ----------
    params, lr, betas, eps, amsgrad, maximize, **ignored
        As for `Adam`.
    weight_decay : float, default 1e-2
        At least 0.

    References
    ----------
    I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2.
    """

    name = "adamw"

    def __init__(self, params=None, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, *,
                 maximize=False, **ignored):
        self._begin(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
                             "maximize": maximize}, ignored)

    @property
    def _decoupled(self):
        return True


def _amsgrad(decoupled):
    decay = ("scale", "p", "p", "keep") if decoupled else ("axpy", "t", "t", "p", "weight_decay")
    return Recipe((("program", (
        ("gradient", "t", "g"),
        ("when", "weight_decay", (decay,)),
        ("lerp", "exp_avg", "exp_avg", "t", "fresh1"),
        ("addcmul", "exp_avg_sq", "t", "t", "fresh2", "beta2"),
        ("max", "max_exp_avg_sq", "max_exp_avg_sq", "exp_avg_sq"),
        ("root", "u", "max_exp_avg_sq", "eps", "bias_correction2_sqrt"),
        ("addcdiv", "p", "exp_avg", "u", "rate"),
    )),), Adam.buffer_names, ("weight_decay", "keep", "fresh1", "fresh2", "beta2", "eps", "bias_correction2_sqrt", "rate"))


_ADAM = {(amsgrad, decoupled): _amsgrad(decoupled) if amsgrad else
         Recipe((("kernel", "adamw" if decoupled else "adam", 2),), Adam.buffer_names[:2])
         for amsgrad in (False, True) for decoupled in (False, True)}
