"""What update rules have in common: parameter groups, and the steps of a loop of one's own."""

from __future__ import annotations

import functools
import inspect
import numbers
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from fastconv._values import shown
from fastconv.engine.updating import Learnt, Recipe, Update
from fastconv.graph.parameter import Parameter, changing
from fastconv.kernels import update as kernels
from fastconv.kernels._runtime import StepList
from fastconv.kernels.threads import threads_for
from fastconv.optim import _check
from fastconv.optim._options import Group, Number, Option, refuse_ignored


def number_first(init: Callable) -> Callable:
    """Lets ``Rule(0.1, 0.9)`` be ``Rule(lr=0.1, momentum=0.9)``: a number in the place of the parameters is the rate."""

    @functools.wraps(init)
    def initialise(self, *arguments, **keywords):
        if arguments and isinstance(arguments[0], numbers.Real) and not isinstance(arguments[0], bool):
            if "lr" in keywords or "params" in keywords:
                raise TypeError(f"{type(self).__name__}: got two values for lr, {shown(arguments[0])} and "
                                f"{shown(keywords.get('lr', keywords.get('params')))}")
            arguments = (None, *arguments)
        return init(self, *arguments, **keywords)

    return initialise


class Optimizer:
    """Base of the update rules, which are PyTorch's, and are used in two ways.

    With a :class:`fastconv.Trainer` a rule is made without parameters, ``SGD(lr=0.1)``, and updates those of the trainer's
    network. Or with parameters, as in PyTorch: ``SGD(net.parameters(), lr=0.1)``; then :meth:`step` updates them by their
    ``grad``. Options may differ by groups: ``params`` is then a sequence of dicts, each with "params" and options; "params"
    are parameters or, for a trainer, patterns of their names (``{"params": "*.bias", "weight_decay": 0}``), of which the
    first that fits counts. A parameter in no group is not updated. The attributes of a rule (``rule.lr``) are the options of
    the first group.
    """

    name: str
    buffer_names: tuple[str, ...] = ()
    lr = Number()
    weight_decay = Number()
    options: Group
    _known: dict[str, Option]
    maximize: Any = False
    perturbs = False

    def __init_subclass__(cls, **keywords):
        super().__init_subclass__(**keywords)
        if "__init__" in cls.__dict__ and "params" in inspect.signature(cls.__init__).parameters:
            cls.__init__ = number_first(cls.__init__)  # type: ignore[method-assign]

    def _begin(self, params, options: Mapping[str, Any], ignored: Mapping[str, Any] | None = None) -> None:
        """Takes the parameters, and the options of all groups that do not name others, in the order of the arguments."""
        owner = type(self).__name__
        refuse_ignored(owner, ignored or {})
        self._known = {name: getattr(type(self), name) for name in options}
        self._defaults = Group(owner, self._known)
        for name, value in options.items():
            self._defaults[name] = value
        self._others: list[Optimizer] = []
        self._first: bool | None = None  # whether this is the rule of the first group; None as long as there is none
        self._learnt: dict[Parameter, Learnt] = {}
        self._last: tuple | None = None
        self.changed = 0  # grows with the groups
        if params is None:
            self._add({})
            return
        if isinstance(params, (str, bytes, Parameter, Mapping)) or not isinstance(params, Iterable) or \
                hasattr(params, "shape"):
            raise TypeError(f"{owner}: params is {_kind(params)}: expected an iterable of parameters, as net.parameters(), "
                            f"or of dicts of groups; or none, for a Trainer: {owner}(lr=0.05)")
        if isinstance(params, (set, frozenset)):
            raise TypeError(f"{owner}: params is a {type(params).__name__}, which has no order: expected a list")
        groups = list(params)
        if not groups:
            raise ValueError(f"{owner}: params: got an empty parameter list")
        if not isinstance(groups[0], Mapping):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    # ---- groups ---------------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Adds a group: a dict with "params" and the options that are its own.

        Raises
        ------
        TypeError, ValueError
            No parameters, one that is in another group already, or an option that is unknown or breaks its rule.
        """
        owner = type(self).__name__
        if not isinstance(param_group, Mapping):
            raise TypeError(f"{owner}: param_group is {_kind(param_group)}: expected a dict with 'params'")
        if "params" not in param_group:
            raise ValueError(f"{owner}: param_group={shown(dict(param_group))} lacks 'params'")
        if self.rules and "params" not in self.options:
            raise ValueError(f"{owner}: param_group: made without parameters, it updates all: give the groups when it is "
                             "made, the last one {'params': '*'}")
        group = dict(param_group)
        group["params"], names = self._listed(group["params"])
        if names is not None:
            group["param_names"] = names
        self._add(group)

    def _add(self, group: dict) -> None:
        owner = type(self).__name__
        unknown = [name for name in group if name not in {*self._known, "params", "param_names", "initial_lr", "name"}]
        if unknown:
            raise TypeError(f"{owner}: param_group has the unknown option {unknown[0]!r}: it has {', '.join(self._known)}")
        options = Group(owner, self._known)
        for name, value in {**self._defaults, **group}.items():
            options[name] = value
        rule = self._with(options)
        rule._check()
        if self._first is None:
            self.options, self._first = options, True
        else:
            self._others.append(rule)
        self.changed += 1

    @property
    def rules(self) -> list[Optimizer]:
        """The rule of each group: of the first one this object itself."""
        return [] if self._first is None else [self, *self._others]

    def _with(self, options: Group) -> Optimizer:
        """The same rule with other options."""
        rule = object.__new__(type(self))
        rule.__dict__.update(self.__dict__)
        rule.options, rule._others, rule._first = options, [], False
        return rule

    def _check(self) -> None:
        """Raises where options do not go together."""

    def _listed(self, params) -> tuple[list, list | None]:
        """Parameters, or patterns, of a group, and the parameters' names where they have some."""
        owner = type(self).__name__
        if isinstance(params, (str, Parameter)):
            params = [params]
        if isinstance(params, (set, frozenset)):
            raise TypeError(f"{owner}: params is a {type(params).__name__}, which has no order: expected a list")
        if not isinstance(params, Iterable) or hasattr(params, "shape") or isinstance(params, (bytes, Mapping)):
            raise TypeError(f"{owner}: params is {_kind(params)}: expected parameters, or patterns of their names")
        params, names = list(params), None
        if params and all(isinstance(p, tuple) and len(p) == 2 for p in params):
            names, params = [p[0] for p in params], [p[1] for p in params]
        if not params:
            raise ValueError(f"{owner}: params: got an empty parameter list")
        if not all(isinstance(p, str) for p in params):
            for i, p in enumerate(params):
                if not isinstance(p, Parameter):
                    raise TypeError(f"{owner}: params[{i}] is {_kind(p)}: expected a Parameter; a rule for a Trainer is "
                                    f"handed none: {owner}(lr=0.05)")
        taken = {id(p) for rule in self.rules for p in rule.options.get("params", []) if not isinstance(p, str)}
        for i, p in enumerate(params):
            if id(p) in taken and not isinstance(p, str):
                raise ValueError(f"{owner}: params[{i}] of shape {p.shape} is in a parameter group already")
            taken.add(id(p))
        return params, names

    @property
    def param_groups(self) -> list[dict]:
        """A dict per group: its options, "params" among them; they may be set at any time."""
        return [rule.options for rule in self.rules]

    @property
    def bound(self) -> bool:
        """Whether it was given parameters, and not names of them or none."""
        return any(not isinstance(p, str) for rule in self.rules for p in rule.options.get("params", []))

    def assign(self, named: Iterable[tuple[str, Parameter]]) -> list:
        """The rule of each of these parameters, None for those in no group.

        Raises
        ------
        ValueError
            A pattern that no parameter's name fits.
        """
        named = list(named)
        if "params" not in self.rules[0].options:
            return [self.rules[0]] * len(named)
        by_id = {id(p): rule for rule in self.rules for p in rule.options["params"] if not isinstance(p, str)}
        patterns = [(p, rule) for rule in self.rules for p in rule.options["params"] if isinstance(p, str)]
        for pattern, _ in patterns:
            if not any(fnmatchcase(name, pattern) for name, _ in named):
                raise ValueError(f"{type(self).__name__}: params={pattern!r}: no parameter has such a name; there are "
                                 f"{shown([name for name, _ in named])}")
        found = []
        for name, parameter in named:
            fits = (rule for pattern, rule in patterns if fnmatchcase(name, pattern))
            found.append(by_id.get(id(parameter)) or next(fits, None))
        return found

    # ---- what it computes -----------------------------------------------------------------------------------------

    def hyper(self, step: int) -> dict[str, float]:
        """Return the scalars of step number `step`, an int from 1, for the group whose rule this is."""
        raise NotImplementedError

    def recipe(self, shape: tuple[int, ...]) -> Recipe:
        """Return how a parameter of this shape is updated."""
        raise NotImplementedError

    def scale(self, shape: tuple[int, ...]) -> float:
        """Return a factor of the step for parameters of this shape."""
        return 1.0

    @property
    def state_names(self) -> tuple[str, ...]:
        """tuple of str: the buffers that it keeps of a parameter of the first group, of its shape."""
        return self.recipe((2, 2)).states

    @property
    def key(self) -> tuple:
        """What a plan depends on."""
        return self.changed, *[rule.recipe((2, 2)) for rule in self.rules]

    @property
    def _sign(self) -> float:
        return -1.0 if self.maximize else 1.0

    # ---- a loop of one's own --------------------------------------------------------------------------------------

    def _own(self, what: str) -> list[tuple[Parameter, Any]]:
        if not self.bound:
            owner = type(self).__name__
            raise RuntimeError(f"{owner}.{what}: it was made without parameters, for a Trainer: write "
                               f"{owner}(net.parameters(), lr={self.lr})")
        return [(p, rule) for rule in self.rules for p in rule.options["params"] if not isinstance(p, str)]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops the gradients of its parameters; with ``set_to_none=False`` sets them to 0."""
        set_to_none = _check.flag(type(self).__name__, "set_to_none", set_to_none)
        for p, _ in self._own("zero_grad"):
            if set_to_none or p.grad is None:
                p.grad = None
            else:
                p.grad[...] = 0

    def step(self, closure: Callable | None = None):
        """Update every parameter that has a gradient.

        Parameters
        ----------
        closure : callable, optional
            Called first; computes the gradients and returns the loss, which is returned.

        Raises
        ------
        RuntimeError
            It was made without parameters.
        TypeError, ValueError
            A ``grad`` that is no float32 array of the parameter's shape; nothing has been updated then.
        """
        self._own("step")
        loss = closure() if closure is not None else None
        update, steps, held = self._bind(self._gradients())
        if update is not None:
            update.arm()
            with changing(update.parameters):
                kernels.run_counted([(steps, update.hypers, update.begun, [])], threads_for(0))
        del held
        return loss

    def _gradients(self) -> list[tuple[Parameter, np.ndarray, Any]]:
        """(parameter, gradient, rule) of those that have one, as the kernels take them."""
        owner, found = type(self).__name__, []
        for i, (p, rule) in enumerate(self._own("step")):
            g = p.grad
            if g is None:
                continue
            if not isinstance(g, np.ndarray) or g.dtype != np.float32 or not g.flags.c_contiguous or not g.flags.aligned:
                try:
                    g = np.array(g, np.float32, order="C")
                except (TypeError, ValueError) as error:
                    raise TypeError(f"{owner}.step: grad of parameter {i} is {_kind(p.grad)}: expected a float32 array") \
                        from error
            if g.shape != p.shape:
                raise ValueError(f"{owner}.step: grad of parameter {i} has shape {g.shape}: expected the parameter's, "
                                 f"{p.shape}")
            found.append((p, g, rule))
        return found

    def _bind(self, found: list) -> tuple:
        """The update for these gradients, its steps, and what must live until they have run."""
        held = [g for _, g, _ in found]
        key = (self.key, [(id(p), g.ctypes.data) for p, g, _ in found])
        if self._last is None or self._last[0] != key:
            self._last = None
            if not found:
                return None, None, held
            rows = [(p, g.ctypes.data, self._recall(p), rule) for p, g, rule in found]
            update = Update(rows, private=False)
            self._last = key, update, listed_steps(update.emit)
        return *self._last[1:], held

    def _recall(self, parameter: Parameter) -> Learnt:
        if parameter not in self._learnt:
            self._learnt[parameter] = Learnt(parameter)
        return self._learnt[parameter]

    @property
    def state(self) -> dict:
        """What is known of each parameter: "step", and the rule's buffers, views of them."""
        return {p: {"step": known.hyper.steps, **known.buffers} for p, known in self._learnt.items() if known.hyper.steps}

    # ---- state ----------------------------------------------------------------------------------------------------

    def options_dict(self) -> dict:
        """Return the rule's name and options as a dict of plain values; those of further groups under "groups"."""
        first, *others = [{name: rule.options[name] for name in self._known} for rule in self.rules]
        return {"name": self.name, **first, **({"groups": others} if others else {})}

    def load_options(self, state: Mapping[str, Any]) -> None:
        """Take over an `options_dict`; what :meth:`load_state_dict` raises."""
        owner = type(self).__name__
        if not isinstance(state, Mapping):
            raise TypeError(f"{owner}: state is {_kind(state)}: expected a dict of state_dict()")
        groups = state.get("groups", [])
        _check.keys(owner, {k: v for k, v in state.items() if k != "groups"}, ("name", *self._known))
        if state["name"] != self.name:
            raise ValueError(f"{owner}: state is of {state['name']!r}, not of {self.name!r}")
        if not isinstance(groups, (list, tuple)) or not all(isinstance(g, Mapping) for g in groups):
            raise TypeError(f"{owner}: state's groups={shown(groups)}: expected a list of dicts")
        if len(groups) + 1 != len(self.rules):
            raise ValueError(f"{owner}: state has {len(groups) + 1} parameter groups, this rule {len(self.rules)}")
        made = self._made([{name: state[name] for name in self._known}, *groups])
        for rule, options in zip(self.rules, made, strict=True):
            rule.options.update(options)

    def _made(self, groups: list) -> list[Group]:
        """The options of all groups, checked."""
        owner, made = type(self).__name__, []
        for rule, values in zip(self.rules, groups, strict=True):
            _check.keys(owner, values, self._known)
            options = Group(owner, self._known)
            for name in self._known:
                options[name] = values[name]
            rule._with(options)._check()
            made.append(options)
        return made

    def state_dict(self) -> dict:
        """Return the state as plain values and copies of arrays.

        Made without parameters: name and options; what has been learnt is the trainer's. With parameters, as PyTorch's:
        ``{"state": {index: {"step": ..., buffers...}}, "param_groups": [{options..., "params": [index, ...]}]}``.
        """
        if not self.bound:
            return self.options_dict()
        numbers = {id(p): i for i, (p, _) in enumerate(self._own("state_dict"))}
        state = {numbers[id(p)]: {"step": known.hyper.steps, **{name: array.copy() for name, array in known.buffers.items()}}
                 for p, known in self._learnt.items() if id(p) in numbers and known.hyper.steps}
        groups = [{**{name: value for name, value in rule.options.items() if name != "params"},
                   "params": [numbers[id(p)] for p in rule.options["params"]]} for rule in self.rules]
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a `state_dict`; PyTorch's own, of the same rule, with arrays for its tensors, is taken too.

        Raises
        ------
        ValueError, TypeError
            The state is of another rule or other groups, has other keys, or a value breaks its rule. Nothing has been
            changed then.
        """
        owner = type(self).__name__
        if not self.bound:
            self.load_options(state_dict)
            return
        if not isinstance(state_dict, Mapping) or set(state_dict) != {"state", "param_groups"}:
            raise ValueError(f"{owner}: state={shown(state_dict)}: expected a dict of 'state' and 'param_groups'")
        groups, state = state_dict["param_groups"], state_dict["state"]
        if not isinstance(groups, (list, tuple)) or not isinstance(state, Mapping):
            raise TypeError(f"{owner}: state: expected a list of param_groups, and state as a dict by number")
        if [len(g["params"]) for g in groups] != [len(rule.options["params"]) for rule in self.rules]:
            raise ValueError(f"{owner}: state has groups of {[len(g['params']) for g in groups]} parameters, this rule of "
                             f"{[len(rule.options['params']) for rule in self.rules]}")
        made = self._made([{name: group.get(name, rule.options[name]) for name in self._known}
                           for group, rule in zip(groups, self.rules, strict=True)])
        parameters = {}
        for group, rule, options in zip(groups, self.rules, made, strict=True):
            parameters.update({number: (p, rule._with(options))
                               for number, p in zip(group["params"], rule.options["params"], strict=True)})
        found = {}
        for number, values in state.items():
            if number not in parameters:
                raise ValueError(f"{owner}: state has {number!r}, which is the number of no parameter")
            p, rule = parameters[number]
            found[p] = self._checked(owner, number, p, rule.recipe(p.shape).states, values)
        for rule, options, group in zip(self.rules, made, groups, strict=True):
            rule.options.update(options, **{k: group[k] for k in ("initial_lr",) if k in group})
        for known in self._learnt.values():
            known.reset()
        for p, (steps, buffers) in found.items():
            known = self._recall(p)
            known.hyper.steps, known.hyper.begun = steps, bool(buffers)
            for name, array in buffers.items():
                known.buffer(name)[...] = array

    @staticmethod
    def _checked(owner: str, number, p: Parameter, names: tuple, values) -> tuple[int, dict]:
        """The number of updates and the buffers of one parameter's state."""
        if not isinstance(values, Mapping):
            raise TypeError(f"{owner}: state[{number!r}] is {_kind(values)}: expected a dict")
        step = np.asarray(values.get("step", 1))
        if step.size != 1 or step.dtype.kind not in "fiu" or not step.item() >= 0:
            raise ValueError(f"{owner}: state[{number!r}] has step={shown(values.get('step'))}: expected a number of "
                             "updates")
        missing = [name for name in names if name not in values or values[name] is None]
        if missing and len(missing) < len(names):
            raise ValueError(f"{owner}: state[{number!r}] lacks {', '.join(missing)}")
        buffers = {} if missing else {name: np.asarray(values[name]) for name in names}
        for name, array in buffers.items():
            if array.shape != p.shape or array.dtype.kind not in "fiu":
                raise ValueError(f"{owner}: state[{number!r}] has {name} of shape {array.shape} and dtype {array.dtype}: "
                                 f"expected numbers of shape {p.shape}")
        return int(step.item()), buffers

    # ---- the object -----------------------------------------------------------------------------------------------

    def __getstate__(self):
        learnt = self._learnt if self._first else {}
        return {**self.__dict__, "_last": None, "_learnt": {
            p: (known.hyper.steps, known.hyper.begun, known.buffers) for p, known in learnt.items()}}

    def __setstate__(self, state):
        self.__dict__.update({**state, "_learnt": {}})
        for p, (steps, begun, buffers) in state["_learnt"].items():
            learnt = self._recall(p)
            learnt.hyper.steps, learnt.hyper.begun = steps, begun
            for name, array in buffers.items():
                learnt.buffer(name)[...] = array

    def __repr__(self) -> str:
        values = [f"{name}={self.options[name]!r}" for name in self._known]
        if len(self.rules) > 1:
            values.append(f"groups={len(self.rules)}")
        return f"{type(self).__name__}({', '.join(values)})"


def _kind(value) -> str:
    if value is None or isinstance(value, (bool, str, bytes, numbers.Number)):
        return shown(value)
    return f"a {type(value).__name__}"


def listed_steps(emit: Callable) -> StepList:
    """What an update emits, bound."""
    steps: list = []
    emit(lambda factory, *arguments, op="", **keywords: steps.append(factory(*arguments, **keywords)), {})
    return StepList(steps, 1)
