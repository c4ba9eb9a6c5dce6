"""Update rules around update rules: Lookahead, SAM."""

from __future__ import annotations

from fastconv.engine.updating import Recipe, Update
from fastconv.graph.parameter import changing
from fastconv.kernels.threads import threads_for
from fastconv.optim import _check
from fastconv.optim.optimizer import Optimizer, listed_steps

__all__ = ["SAM", "Lookahead"]


class _Part:
    """The rule of one group of a rule around another one."""

    def __init__(self, whole, base):
        self.whole, self.base, self.options = whole, base, base.options

    def recipe(self, shape):
        return self.whole._around(self.base.recipe(shape))

    def hyper(self, step):
        return {**self.base.hyper(step), **self.whole._more(step)}

    def scale(self, shape):
        return self.base.scale(shape)

    def _with(self, options):
        return _Part(self.whole, self.base._with(options))

    def _check(self):
        self.base._check()


class _Around(Optimizer):
    """A rule that another one is a part of: its parameters, groups and options are that one's."""

    _names: tuple[str, ...] = ()  # of its own options

    def __init__(self, base):
        owner = type(self).__name__
        if not isinstance(base, Optimizer) or isinstance(base, _Around):
            raise TypeError(f"{owner}: base is a {type(base).__name__}: expected an update rule, such as SGD(lr=0.1)")
        self._learnt, self._last = {}, None
        self.base = base

    # Options of the rule inside are options of this one: schedules and trainers ask for lr, momentum, betas.
    def __getattr__(self, name):
        base = self.__dict__.get("base")
        if base is None or name.startswith("__"):
            raise AttributeError(name)
        return getattr(base, name)

    def __setattr__(self, name, value):
        base = self.__dict__.get("base")
        if base is not None and name in base._known and name not in self._names:
            setattr(base, name, value)
        else:
            object.__setattr__(self, name, value)

    lr = property(lambda self: self.base.lr)  # type: ignore[assignment]
    weight_decay = property(lambda self: self.base.weight_decay)  # type: ignore[assignment]
    maximize = property(lambda self: self.base.maximize)  # type: ignore[assignment]
    options = property(lambda self: self.base.options)  # type: ignore[assignment]
    buffer_names = property(lambda self: self.base.buffer_names)  # type: ignore[assignment]

    @property
    def name(self):  # type: ignore[override]
        """The names of both rules in a state."""
        return f"{type(self).__name__.lower()}({self.base.name})"

    @property
    def rules(self):  # type: ignore[override]
        """The rule of each group."""
        return [_Part(self, rule) for rule in self.base.rules]

    def add_param_group(self, param_group):
        """Adds a group to the rule inside."""
        self.base.add_param_group(param_group)

    def assign(self, named):
        """The rule of each of these parameters, None for those in no group."""
        found = self.base.assign(named)
        parts = {id(rule): _Part(self, rule) for rule in found if rule is not None}
        return [None if rule is None else parts[id(rule)] for rule in found]

    def _around(self, inner):
        """How the recipe of the rule inside becomes one of this rule."""
        raise NotImplementedError

    def _more(self, step):
        """The scalars that it adds."""
        raise NotImplementedError

    def recipe(self, shape):
        return self._around(self.base.recipe(shape))

    def hyper(self, step):
        """Return the scalars of both rules at step number `step`."""
        return {**self.base.hyper(step), **self._more(step)}

    def options_dict(self):
        """Return the names and options of both rules."""
        return {"name": self.name, **self._own_options(), "base": self.base.options_dict()}

    def _own_options(self):
        return {name: getattr(self, name) for name in self._names}

    def load_options(self, state):
        """Take over an `options_dict`."""
        owner = type(self).__name__
        if not isinstance(state, dict):
            raise TypeError(f"{owner}: state is a {type(state).__name__}: expected a dict of state_dict()")
        _check.keys(owner, state, ("name", "base", *self._names))
        if state["name"] != self.name:
            raise ValueError(f"{owner}: state is of {state['name']!r}, not of {self.name!r}")
        made = type(self)(self.base, **{name: state[name] for name in self._names})
        self.base.load_options(state["base"])
        for name in self._names:
            setattr(self, name, getattr(made, name))

    def state_dict(self):
        """Return the state as that of the rule inside, the options of this one in each group."""
        state = super().state_dict()
        for group in state.get("param_groups", []):
            group[type(self).__name__.lower()] = self._own_options()
        return state

    def load_state_dict(self, state_dict):
        """Take over a `state_dict`; see :meth:`Optimizer.load_state_dict`."""
        super().load_state_dict(state_dict)
        if self.bound:
            own = state_dict["param_groups"][0].get(type(self).__name__.lower(), self._own_options())
            _check.keys(type(self).__name__, own, self._names)
            made = type(self)(self.base, **own)
            for name in self._names:
                setattr(self, name, getattr(made, name))

    def __getstate__(self):
        return {**self.__dict__, "_last": None, "_learnt": {
            p: (known.hyper.steps, known.hyper.begun, known.buffers) for p, known in self._learnt.items()}}

    def __setstate__(self, state):
        self.__dict__["base"] = state["base"]
        super().__setstate__(state)

    def __repr__(self):
        own = "".join(f", {name}={value!r}" for name, value in self._own_options().items())
        return f"{type(self).__name__}({self.base!r}{own})"


class Lookahead(_Around):
    """Lookahead: slow weights that go a part of the way of every `k` steps of another rule, and take it back there.

    Parameters
    ----------
    base : Optimizer
        The rule of the fast weights, such as ``Adam(lr=1e-3)``.
    k : int, default 5
        At least 1.
    alpha : float, default 0.5
        The part, 0 to 1.

    References
    ----------
    M. Zhang et al., "Lookahead optimizer: k steps forward, 1 step back", NeurIPS 2019, algorithm 1.
    """

    _names = ("k", "alpha")

    def __init__(self, base, k=5, alpha=0.5):
        self.k = _check.whole("Lookahead", "k", k, 1)
        self.alpha = _check.number("Lookahead", "alpha", alpha, 0.0, 1.0)
        super().__init__(base)

    @property
    def buffer_names(self):  # type: ignore[override]
        """All buffers that it may keep."""
        return (*self.base.buffer_names, "slow_buffer")

    def _around(self, inner):
        return _ahead(inner)

    def _more(self, step):
        return {"_sync": float(step % self.k == 0), "_part": self.alpha, "_one": 1.0}


_AHEAD: dict[Recipe, Recipe] = {}


def _ahead(inner: Recipe) -> Recipe:
    if inner not in _AHEAD:
        begin = ("program", (("when", "first", (("scale", "slow_buffer", "p", "_one"),)),))
        end = ("program", (("when", "_sync", (("lerp", "slow_buffer", "slow_buffer", "p", "_part"),
                                              ("scale", "p", "slow_buffer", "_one"))),))
        _AHEAD[inner] = Recipe((begin, *inner.phases, end), (*inner.states, "slow_buffer"),
                               ("_sync", "_part", "_one", *inner.scalars))
    return _AHEAD[inner]


class SAM(_Around):
    """Sharpness-aware minimisation: the gradient where the loss nearby is highest, then the step of another rule.

    A :class:`fastconv.Trainer` takes each gradient twice, at ``w`` and at ``w + rho * g / |g|`` (the norm over all
    parameters; adaptive: ``w + rho * w * w * g / |abs(w) * g|``), where running statistics stay as the first forward left
    them. In a loop of one's own, :meth:`first_step` goes there, and :meth:`second_step`, with the gradients there, comes
    back and updates.

    Parameters
    ----------
    base : Optimizer
        The rule of the update, such as ``SGD(lr=0.1, momentum=0.9)``.
    rho : float, default 0.05
        How far, at least 0.
    adaptive : bool, default False
        In proportion to each weight.

    References
    ----------
    P. Foret et al., "Sharpness-aware minimization for efficiently improving generalization", ICLR 2021, algorithm 1; J. Kwon
    et al., "ASAM: adaptive sharpness-aware minimization for scale-invariant learning", ICML 2021 (adaptive).
    """

    _names = ("rho", "adaptive")
    perturbs = True
    aside_scalars = ("_rho", "_tiny", "_none", "_one")
    weighted = (("abs", "aside", "p"), ("mul", "aside", "aside", "g"))

    def __init__(self, base, rho=0.05, adaptive=False):
        self.rho = _check.number("SAM", "rho", rho, 0.0)
        self.adaptive = _check.flag("SAM", "adaptive", adaptive)
        self._away = None  # what has gone there
        super().__init__(base)

    @property
    def perturbed(self):
        """The program that goes there, and keeps the parameter aside."""
        step: tuple = (("gradient", "t", "g"), ("scale", "t", "t", "ratio"))
        if self.adaptive:
            step = (*step, ("mul", "t", "t", "p"), ("mul", "t", "t", "p"))
        return (*step, ("scale", "aside", "p", "_one"), ("axpy", "p", "p", "t", "_one"))

    def _around(self, inner):
        if inner not in _SHARP:
            _SHARP[inner] = Recipe(inner.phases, inner.states, (*self.aside_scalars, *inner.scalars))
        return _SHARP[inner]

    def _more(self, step):
        return {"_rho": self.rho, "_tiny": 1e-12, "_none": 0.0, "_one": 1.0}

    def first_step(self, zero_grad=False):
        """Go where the loss is highest, by the gradients that there are.

        Parameters
        ----------
        zero_grad : bool, default False
            Drop the gradients then.
        """
        if self._away is not None:
            raise RuntimeError("SAM.first_step: called twice without second_step() in between")
        found = self._gradients()
        away = Update([(p, g.ctypes.data, self._recall(p), rule) for p, g, rule in found], private=False)
        away.arm()
        steps = listed_steps(lambda step, shared: away.perturb(step, shared, self))
        with changing(away.parameters):
            self._away = away
            steps.run(threads_for(0))
        if zero_grad:
            self.zero_grad()

    def second_step(self, zero_grad=False):
        """Come back, and update by the gradients that there are.

        Raises
        ------
        RuntimeError
            :meth:`first_step` has not been called since.
        """
        away = self._away
        if away is None:
            raise RuntimeError("SAM.second_step: first_step() has not been called since the last one")
        steps = listed_steps(lambda step, shared: away.put_back(step, self))
        with changing(away.parameters):
            steps.run(threads_for(0))
            self._away = None
        super().step()
        if zero_grad:
            self.zero_grad()

    def step(self, closure=None):
        """Update every parameter that has a gradient.

        Parameters
        ----------
        closure : callable
            Computes the gradients anew and returns the loss; it is called once for the gradients at the parameters and once
            for those nearby.
        """
        if closure is None:
            raise TypeError("SAM.step: closure is None: it takes gradients twice: give it a function that computes them, "
                            "or use first_step() and second_step()")
        self.zero_grad()
        loss = closure()
        self.first_step(zero_grad=True)
        closure()
        self.second_step()
        return loss


_SHARP: dict[Recipe, Recipe] = {}
