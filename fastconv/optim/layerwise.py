"""Update rules whose step follows the norm of each parameter: LARS, LAMB."""

from fastconv.engine.updating import Recipe
from fastconv.optim._options import BETAS, Flag, Number, Numbers
from fastconv.optim.adaptive import GRADIENT, L2, _Programmed

__all__ = ["LAMB", "LARS"]


class LARS(_Programmed):
    """Layer-wise adaptive rate scaling: SGD with momentum, each parameter's gradient scaled to a share of the parameter's
    norm.

    ``g = trust_coefficient * |w| / (|g| + weight_decay * |w| + eps) * (g + weight_decay * w)``, norms over a whole
    parameter, the factor 1 where one is 0; then SGD's momentum.

    Parameters
    ----------
    params, lr, momentum, dampening, weight_decay, nesterov, maximize, **ignored
        As for :class:`SGD`.
    trust_coefficient : float, default 1e-3
        At least 0.
    eps : float, default 1e-8
        At least 0.

    References
    ----------
    Y. You, I. Gitman, B. Ginsburg, "Large batch training of convolutional networks", arXiv:1708.03888, algorithm 1.
    """

    name = "lars"
    buffer_names = ("momentum_buffer",)
    momentum, dampening, nesterov, trust_coefficient, eps = Number(), Number(), Flag(), Number(), Number()

    def __init__(self, params=None, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False,
                 trust_coefficient=1e-3, eps=1e-8, *, maximize=False, **ignored):
        self._begin(params, {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
                             "nesterov": nesterov, "trust_coefficient": trust_coefficient, "eps": eps, "maximize": maximize},
                    ignored)

    def _check(self):
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(f"LARS: nesterov=True needs momentum above 0 and dampening 0, got momentum={self.momentum} and "
                             f"dampening={self.dampening}")

    _recipes = tuple(Recipe((("ratio", "trust", "weight_decay", "eps", True), ("program", (
        GRADIENT, L2, ("scale", "t", "t", "ratio"), *momentum, ("axpy", "p", "p", "t", "rate"),
    ))), names, ("weight_decay", "trust", "eps", "momentum", "kept", "fresh", "nesterov", "one", "rate"))
        for names, momentum in (((), ()), (buffer_names, (
            ("when", "first", (("scale", "momentum_buffer", "t", "one"),)),
            ("unless", "first", (("scale", "momentum_buffer", "momentum_buffer", "momentum"),
                                 ("axpy", "momentum_buffer", "momentum_buffer", "t", "fresh"))),
            ("when", "nesterov", (("axpy", "t", "t", "momentum_buffer", "momentum"),)),
            ("unless", "nesterov", (("scale", "t", "momentum_buffer", "one"),)),
        ))))

    def recipe(self, shape):
        return self._recipes[self.momentum != 0]

    def _scalars(self, step):
        return {"trust": self.trust_coefficient, "eps": self.eps, "momentum": self.momentum, "kept": 0.0,
                "fresh": 1.0 - self.dampening, "nesterov": float(self.nesterov), "rate": -self.lr}


class LAMB(_Programmed):
    """Layer-wise adaptive moments: AdamW, each parameter's step scaled to the parameter's norm.

    With Adam's averages, corrected, ``u = m / (sqrt(v) + eps) + weight_decay * w; w -= lr * |w| / |u| * u``, norms over a
    whole parameter, their ratio 1 where one is 0.

    Parameters
    ----------
    params, lr, betas, maximize, **ignored
        As for :class:`Adam`.
    eps : float, default 1e-6
        At least 0.
    weight_decay : float, default 1e-2
        At least 0.
    bias_correction : bool, default True
        Correct the averages for beginning with 0.

    References
    ----------
    Y. You et al., "Large batch optimization for deep learning: training BERT in 76 minutes", ICLR 2020, algorithm 2.
    """

    name = "lamb"
    buffer_names = ("exp_avg", "exp_avg_sq")
    betas, eps, bias_correction = Numbers(BETAS, BETAS), Number(), Flag()

    def __init__(self, params=None, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=1e-2, bias_correction=True, *,
                 maximize=False, **ignored):
        self._begin(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
                             "bias_correction": bias_correction, "maximize": maximize}, ignored)

    _recipes = (Recipe((("program", (
        GRADIENT,
        ("lerp", "exp_avg", "exp_avg", "t", "fresh1"),
        ("addcmul", "exp_avg_sq", "t", "t", "fresh2", "beta2"),
        ("root", "u", "exp_avg_sq", "eps", "correction2"),
        ("scale", "g", "p", "weight_decay"), ("addcdiv", "g", "exp_avg", "u", "correction1"),
    )), ("ratio", "one", "zero", "zero", False), ("program", (
        ("scale", "t", "g", "ratio"), ("axpy", "p", "p", "t", "rate"),
    ))), buffer_names, ("weight_decay", "fresh1", "fresh2", "beta2", "eps", "correction1", "correction2", "one", "zero",
                         "rate")),)

    def _scalars(self, step):
        beta1, beta2 = self.betas
        corrected = bool(self.bias_correction)
        return {"fresh1": 1.0 - beta1, "fresh2": 1.0 - beta2, "beta2": beta2, "eps": self.eps, "zero": 0.0,
                "correction1": 1.0 / (1.0 - beta1**step) if corrected else 1.0,
                "correction2": (1.0 - beta2**step) ** 0.5 if corrected else 1.0, "rate": -self.lr}
