"""Descriptions of update rules: which hyper-parameters, which state per parameter, which scalars at step n.

A description owns no parameters and computes no update: whoever runs a step asks `hyper` for the scalars and hands them
to the kernel called `name`, with one zero-initialised float32 buffer per parameter for each of `state_names`.
"""

import math
import numbers

from fastconv._values import shown

from . import _check


class _Number:
    """A float attribute whose rule is checked whenever it is set."""

    def __init__(self, low=0.0, below=None):
        self.low, self.below = low, below

    def __set_name__(self, owner, name):
        self.name, self.slot = name, "_" + name

    def __get__(self, rule, owner=None):
        return self if rule is None else getattr(rule, self.slot)

    def __set__(self, rule, value):
        setattr(rule, self.slot, _check.number(type(rule).__name__, self.name, value, self.low, below=self.below))


class _Rule:
    """What the update rules have in common."""

    lr = _Number()
    weight_decay = _Number()
    name: str
    _names: tuple[str, ...] = ()

    def __new__(cls, *arguments, **keywords):
        # before __init__, where Python would say that it got two values for lr
        if arguments and (isinstance(arguments[0], (bool, str)) or not isinstance(arguments[0], numbers.Real)):
            raise TypeError(
                f"{cls.__name__}: lr must be a number, got {type(arguments[0]).__name__}; a rule is not handed parameters, "
                f"the Trainer has them: write fastconv.optim.{cls.__name__}(lr={keywords.get('lr', 0.05)})"
            )
        return super().__new__(cls)

    def __init__(self, lr, **hyper_parameters):
        if isinstance(lr, bool) or not isinstance(lr, numbers.Real):
            raise TypeError(f"{type(self).__name__}: lr must be a number, got {type(lr).__name__}")
        for name, value in {"lr": lr, **hyper_parameters}.items():
            setattr(self, name, value)

    def state_dict(self):
        """Return the rule's name and hyper-parameters as a dict of str, float, bool and tuple."""
        return {"name": self.name, **{name: getattr(self, name) for name in self._names}}

    def load_state_dict(self, state):
        """Take over a `state_dict`.

        Raises
        ------
        ValueError, TypeError
            The state is of another rule, has other keys, or a value breaks its rule. Nothing has been changed then.
        """
        owner = type(self).__name__
        _check.keys(owner, state, ("name", *self._names))
        if state["name"] != self.name:
            raise ValueError(f"{owner}: state is of {state['name']!r}, not of {self.name!r}")
        values = {name: state[name] for name in self._names}
        type(self)(**values)  # raises before anything has changed
        for name, value in values.items():
            setattr(self, name, value)

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._names)})"


class SGD(_Rule):
    """Stochastic gradient descent, with momentum and weight decay as PyTorch does them.

    ``g = grad + weight_decay * w; b = momentum * b + (1 - dampening) * g; w -= lr * (g + momentum * b if nesterov else
    b)``, and ``w -= lr * g`` without momentum.

    Parameters
    ----------
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

    Raises
    ------
    TypeError
        An argument that is no number; parameters given as `lr`.
    ValueError
        An argument outside its rule.

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and momentum in deep learning",
    ICML 2013 (nesterov).
    """

    name = "sgd"
    buffer_names = ("momentum_buffer",)
    momentum = _Number()
    dampening = _Number()
    _names = ("lr", "momentum", "dampening", "weight_decay", "nesterov")

    def __init__(self, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
        super().__init__(lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay)
        self.nesterov = _check.flag("SGD", "nesterov", nesterov)
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                f"SGD: nesterov=True needs momentum above 0 and dampening 0, "
                f"got momentum={self.momentum} and dampening={self.dampening}"
            )

    @property
    def state_names(self):
        """tuple of str: ``("momentum_buffer",)``, or empty while momentum is 0."""
        return self.buffer_names if self.momentum != 0 else ()

    def hyper(self, step):
        """Return the scalars of step number `step` (an int from 1) as a dict of floats.

        ``lr, momentum, dampening, weight_decay, nesterov`` (0.0 or 1.0). At step 1 dampening is 0, so that a buffer of
        zeros becomes the gradient.
        """
        step = _check.whole("SGD", "step", step, 1)
        return {
            "lr": self.lr,
            "momentum": self.momentum,
            "dampening": self.dampening if step > 1 else 0.0,
            "weight_decay": self.weight_decay,
            "nesterov": float(self.nesterov),
        }


class Adam(_Rule):
    """Adam, with the weight decay added to the gradient (an L2 penalty).

    ``m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g * g;
    w -= lr / bias_correction1 * m / (sqrt(v) / bias_correction2_sqrt + eps)``.

    Parameters
    ----------
    lr : float, default 1e-3
        Learning rate, at least 0. May be set at any time, as may the others.
    betas : (float, float), default (0.9, 0.999)
        Decay of the two averages, each from 0 to below 1.
    eps : float, default 1e-8
        At least 0.
    weight_decay : float, default 0
        At least 0.

    Raises
    ------
    TypeError
        An argument that is no number; parameters given as `lr`.
    ValueError
        An argument outside its rule.

    References
    ----------
    D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    """

    name = "adam"
    state_names = buffer_names = ("exp_avg", "exp_avg_sq")
    eps = _Number()
    _names = ("lr", "betas", "eps", "weight_decay")

    def __init__(self, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(lr, betas=betas, eps=eps, weight_decay=weight_decay)

    @property
    def betas(self):
        """tuple of two floats: decay of the average of the gradient and of its square."""
        return self._betas

    @betas.setter
    def betas(self, value):
        owner = type(self).__name__
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise ValueError(f"{owner}: betas={shown(value)} must be two numbers")
        self._betas = tuple(_check.number(owner, f"betas[{i}]", value[i], 0.0, below=1.0) for i in (0, 1))

    def hyper(self, step):
        """Return the scalars of step number `step` (an int from 1) as a dict of floats.

        ``lr, beta1, beta2, eps, weight_decay, bias_correction1`` (``1 - beta1**step``) and ``bias_correction2_sqrt``
        (``sqrt(1 - beta2**step)``).
        """
        step = _check.whole(type(self).__name__, "step", step, 1)
        beta1, beta2 = self.betas
        return {
            "lr": self.lr,
            "beta1": beta1,
            "beta2": beta2,
            "eps": self.eps,
            "weight_decay": self.weight_decay,
            "bias_correction1": 1.0 - beta1**step,
            "bias_correction2_sqrt": math.sqrt(1.0 - beta2**step),
        }


class AdamW(Adam):
    """Adam with decoupled weight decay: ``w *= 1 - lr * weight_decay`` before Adam's step, which sees no decay.

    Parameters
    ----------
    lr, betas, eps
        As for `Adam`.
    weight_decay : float, default 1e-2
        At least 0.

    References
    ----------
    I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2.
    """

    name = "adamw"

    def __init__(self, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(lr, betas, eps, weight_decay)
