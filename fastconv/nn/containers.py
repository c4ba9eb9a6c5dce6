"""Containers of modules: Sequential, ModuleList, ModuleDict."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping

from fastconv.nn.module import Module


class _Numbered(Module):
    """Children under names that have an order: what Sequential and ModuleList share."""

    def _key(self, index) -> str:
        try:
            number = operator.index(index)
        except TypeError:
            raise TypeError(f"{type(self).__name__}: index {index!r}: expected an integer or a slice") from None
        if not -len(self) <= number < len(self):
            raise IndexError(f"{type(self).__name__}: index {number} is out of range for {len(self)} modules")
        return list(self._modules)[number]

    def _renumber(self, modules: Iterable[Module]) -> None:
        modules = list(modules)
        for module in modules:
            self._check(module)
        self._modules.clear()
        for i, module in enumerate(modules):
            self.add_module(str(i), module)

    def _check(self, module) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: got a {type(module).__name__}: expected modules")

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __setitem__(self, index, module: Module) -> None:
        self._check(module)
        self._modules[self._key(index)] = module

    def __delitem__(self, index) -> None:
        for key in list(self._modules)[index] if isinstance(index, slice) else [self._key(index)]:
            del self._modules[key]
        if all(key.isdigit() for key in self._modules):
            self._renumber(self._modules.values())

    def append(self, module: Module):
        """Adds a module at the end."""
        return self.extend([module])

    def extend(self, modules: Iterable[Module]):
        """Adds modules at the end."""
        modules = list(modules)
        for module in modules:
            self._check(module)
        number = len(self)
        for module in modules:
            while str(number) in self._modules:  # a slice keeps its names
                number += 1
            self.add_module(str(number), module)
        return self

    def insert(self, index: int, module: Module):
        """Puts a module in front of the one at ``index``; all are renumbered."""
        modules = list(self)
        modules.insert(operator.index(index), module)
        self._renumber(modules)
        return self


class Sequential(_Numbered):
    """Modules one behind the other; from modules, or from one ordered dict of names to modules."""

    def __init__(self, *modules):
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self._check(module)
                self.add_module(name, module)
        else:
            self.extend(modules)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(OrderedDict(list(self._modules.items())[index]))
        return self._modules[self._key(index)]

    def forward(self, x):
        for module in self._modules.values():
            x = module(x)
        return x


class ModuleList(_Numbered):
    """A list whose modules are registered; it has no ``forward``."""

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__()
        self.extend(modules)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._modules[self._key(index)]

    def __iadd__(self, modules: Iterable[Module]):
        return self.extend(modules)


class ModuleDict(Module):
    """A dict whose modules are registered; it has no ``forward``."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()):
        super().__init__()
        self.update(modules)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Adds or replaces modules."""
        for name, module in dict(modules).items():
            self[name] = module

    def __setitem__(self, name: str, module: Module) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"ModuleDict: {name!r} is a {type(module).__name__}: expected a module")
        self.add_module(name, module)

    def __getitem__(self, name: str) -> Module:
        return self._modules[name]

    def __delitem__(self, name: str) -> None:
        del self._modules[name]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, name) -> bool:
        return name in self._modules

    def keys(self):
        """The names, in order."""
        return self._modules.keys()

    def values(self):
        """The modules, in order."""
        return self._modules.values()

    def items(self):
        """Pairs of name and module, in order."""
        return self._modules.items()

    def pop(self, name: str) -> Module:
        """Removes a module and returns it."""
        return self._modules.pop(name)
