"""Options of update rules: attributes of a rule that are kept, checked, in the dict of its parameter group."""

from fastconv._values import shown

from . import _check

# What PyTorch's optimisers take and what changes nothing here: kernels are always fused, all parameters go in one step.
IGNORED = {"foreach": (None, True, False), "fused": (None, True, False), "capturable": (False,), "differentiable": (False,)}


class Option:
    """An attribute whose rule is checked whenever it is set, there or in the group's dict."""

    name: str

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, rule, owner=None):
        return self if rule is None else rule.options[self.name]

    def __set__(self, rule, value):
        rule.options[self.name] = value

    def check(self, owner, value):
        """The value as it is kept; TypeError or ValueError otherwise."""
        raise NotImplementedError


class Number(Option):
    """A float."""

    def __init__(self, low=0.0, below=None, above=None):
        self.low, self.below, self.above = low, below, above

    def check(self, owner, value):
        return _check.number(owner, self.name, value, self.low, below=self.below, above=self.above)


class Whole(Option):
    """An int."""

    def __init__(self, low=1):
        self.low = low

    def check(self, owner, value):
        return _check.whole(owner, self.name, value, self.low)


class Flag(Option):
    """True or False."""

    def check(self, owner, value):
        return _check.flag(owner, self.name, value)


class OneOf(Option):
    """One of some words, or None."""

    def __init__(self, *words):
        self.words = words

    def check(self, owner, value):
        return None if value is None else _check.one_of(owner, self.name, value, self.words)


class Numbers(Option):
    """A tuple of floats, each with its own limits ``{"low": ..., "below": ...}``."""

    def __init__(self, *limits):
        self.limits = limits

    def check(self, owner, value):
        words = {2: "two", 3: "three"}[len(self.limits)]
        if not isinstance(value, (tuple, list)) or len(value) != len(self.limits):
            raise ValueError(f"{owner}: {self.name}={shown(value)} must be {words} numbers")
        return tuple(_check.number(owner, f"{self.name}[{i}]", value[i], **limits)
                     for i, limits in enumerate(self.limits))


BETAS = {"low": 0.0, "below": 1.0}


class Group(dict):
    """The options of one parameter group, checked when they are set; PyTorch's dict."""

    def __init__(self, owner, known):
        super().__init__()
        self.owner, self.known = owner, known

    def __setitem__(self, name, value):
        if name in self.known:
            value = self.known[name].check(self.owner, value)
        super().__setitem__(name, value)

    def update(self, *others, **values):
        for name, value in dict(*others, **values).items():
            self[name] = value

    def __reduce__(self):
        return _group, (self.owner, self.known, dict(self))


def _group(owner, known, values):
    group = Group(owner, known)
    dict.update(group, values)
    return group


def refuse_ignored(owner, keywords):
    """TypeError or ValueError for keywords that would change something, or that nobody knows."""
    for name, value in keywords.items():
        if name not in IGNORED:
            raise TypeError(f"{owner}: got an unexpected keyword argument {name!r}")
        if not any(value is allowed for allowed in IGNORED[name]):
            raise ValueError(f"{owner}: {name}={shown(value)}: expected one of {', '.join(map(str, IGNORED[name]))}")
