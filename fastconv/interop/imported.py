"""What modules read from other libraries' graphs share: a tree of parts that hold the weights, parts replaced by layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.nn import Module


class Part(Module):
    """A node of the tree that the dots in parameters' names make: it holds parameters, and the mode of its nodes.

    Attributes
    ----------
    kind : str
        What it was where it was read: ``"BatchNorm2d"`` of PyTorch, ``"BatchNormalization"`` of ONNX; may be empty.
    """

    kind = ""

    def extra_repr(self) -> str:
        return self.kind

    def forward(self, *inputs):
        raise TypeError(f"{type(self).__name__}: this part of an imported model holds parameters; the model's own forward "
                        "says what is done with them")


class Graft:
    """A layer in the place of nodes: the module at ``path`` of ``owner``."""

    op = ""

    def __init__(self, owner: Module, path: str, reads: str, writes: str):
        self.owner, self.path, self.reads, self.writes = owner, path, reads, writes
        self.name, self.inputs, self.outputs, self.attributes = path, [reads], [writes], {}  # type: ignore[var-annotated]

    def __call__(self, x):
        return self.owner.get_submodule(self.path)(x)


class Followed:
    """What a model's forward follows: as one object, so that no run of an engine has to look through it (see
    :mod:`fastconv.graph.traced`); where parts have been replaced, modules say so themselves.

    Attributes
    ----------
    nodes : list
        In the order in which they are run; :class:`Graft` among them.
    constants : dict from name to ndarray
    places : dict from a weight's name in the graph to (part, name there)
    parts : dict from path to Module
        The tree as it was read.
    """

    def __init__(self):
        self.nodes: list = []
        self.constants: dict[str, np.ndarray] = {}
        self.places: dict[str, tuple[Any, str]] = {}
        self.parts: dict[str, Module] = {}


class Imported(Module):
    """A module whose ``forward`` follows the nodes of a graph.

    A part may be replaced by any module (:meth:`replace`, or an assignment): the nodes that belong to it, and those between
    them, are then that module's call.
    """

    _part: type[Part] = Part
    _followed: Any

    # ---- the graph, as subclasses know it ---------------------------------------------------------------------------

    def _node(self, node) -> tuple[Sequence[str], Sequence[str], str]:
        """Names that a node reads and writes, and where it belongs, with dots or slashes."""
        raise NotImplementedError

    def _results(self) -> Sequence[str]:
        """Names of the outputs."""
        raise NotImplementedError

    def _known(self) -> dict[str, Any]:
        """Constants and weights, by name, with what has come into the places of parts where it belongs."""
        self._mend()
        known: dict[str, Any] = dict(self._followed.constants)
        for name, (home, key) in self._followed.places.items():
            known[name] = getattr(home, key)
        return known

    def _names(self) -> dict[int, str]:
        """By their ids, names that weights had where they were read, for files that are written."""
        return {}

    # ---- the tree ---------------------------------------------------------------------------------------------------

    def _home(self, name: str) -> tuple[Module, str]:
        """The part that a weight of this name belongs to, made where it is not there, and the weight's name in it."""
        *path, last = [word or "_" for word in "".join(c if c.isprintable() else "_" for c in name).split(".")]
        home = self._branch(path)
        while hasattr(type(home), last) or last in home._parameters or last in home._buffers or last in home._modules or \
                last in home.__dict__:
            last += "_"
        return home, last

    def _branch(self, path: Sequence[str]) -> Module:
        """The part at a path, made where it is not there."""
        home: Module = self
        so_far: list[str] = []
        for word in path:
            child = home._modules.get(word)
            if child is None:
                if hasattr(type(home), word) or word in home._parameters or word in home._buffers or word in home.__dict__:
                    word += "_"
                child = home._modules.get(word) or self._part()
                home.add_module(word, child)
            so_far.append(word)
            self._followed.parts[".".join(so_far)] = child
            home = child
        return home

    # ---- parts that are replaced --------------------------------------------------------------------------------------

    def replace(self, path: str, module: Module) -> Module:
        """Puts a module in the place of a part: ``net.replace("classifier.1", nn.Linear(1280, 10))``.

        Parameters
        ----------
        path : str
            A part of the tree of parameters, or the name of a node of the graph, or of a scope of such (``"/fc/Gemm"``,
            ``"/fc"``).
        module : Module
            It gets the one tensor that the part's nodes read from outside and gives the one that others read.

        Returns
        -------
        Module
            The part that was there, with its parameters.

        Raises
        ------
        AttributeError
            Where the path leads to nothing.
        TypeError, ValueError
            Where ``module`` is no module; where the part takes or gives several tensors, or none.
        """
        if not isinstance(module, Module):
            raise TypeError(f"replace: module is a {type(module).__name__}: expected a Module")
        there = path.strip("/").replace("/", ".") if isinstance(path, str) else path
        try:
            before = self.get_submodule(path)
        except AttributeError:
            if not there or not self._belonging(path):
                names = [name for _, _, name in map(self._ends, self._followed.nodes) if name]
                raise AttributeError(f"{type(self).__name__} has no part, node or scope {path!r}; the last nodes are "
                                     f"{', '.join(dict.fromkeys(names[-6:]))}") from None
            before, path = self._branch(there.split(".")), there
        super().replace(path, module)
        try:
            self._mend()
        except ValueError:
            super().replace(path, before)
            raise
        return before

    def _mend(self) -> None:
        """Grafts the modules that have come into the places of parts since the graph was looked at."""
        for path, part in list(self._followed.parts.items()):
            if path not in self._followed.parts:
                continue
            try:
                now = self.get_submodule(path)
            except AttributeError:
                raise ValueError(f"{type(self).__name__}: the part {path!r} is no longer there: put a module in its place, "
                                 "nn.Identity() if nothing is to happen") from None
            if now is not part:
                self._graft(path)
                for below in [p for p in self._followed.parts if p == path or p.startswith(path + ".")]:
                    del self._followed.parts[below]

    def _belonging(self, path: str) -> set[int]:
        """Positions of the nodes that belong to a part: that read its weights, or are named after it."""
        dotted = path.strip("/").replace("/", ".")
        part = self._followed.parts.get(path)
        mine = {id(m) for m in part.modules()} if part is not None else set()
        weights = {name for name, (home, _) in self._followed.places.items() if id(home) in mine}
        found = set()
        for i, node in enumerate(self._followed.nodes):
            if isinstance(node, Graft):
                if f"{node.path}.".startswith(f"{path}."):
                    found.add(i)
                continue
            reads, _, name = self._node(node)
            words = [name.strip("/").replace("/", "."), *name.split("/")]
            if weights.intersection(reads) or any(f"{word}.".startswith(f"{dotted}.") for word in words):
                found.add(i)
        return found

    def _graft(self, path: str) -> None:
        """Puts a call of the module at ``path`` in the place of the nodes that belong to it."""
        followed = self._followed
        nodes = [self._ends(node) for node in followed.nodes]
        makes = {name: i for i, (_, writes, _) in enumerate(nodes) for name in writes if name}
        chosen = self._belonging(path)
        if not chosen:
            raise ValueError(f"replace: no node of the graph belongs to {path!r}")
        below, above = set(chosen), set(chosen)  # those between them belong to it as well
        for i, (reads, _, _) in enumerate(nodes):
            if any(makes.get(name) in below for name in reads):
                below.add(i)
        for i in reversed(range(len(nodes))):
            if i in above:
                above.update(makes[name] for name in nodes[i][0] if name in makes)
        chosen |= below & above
        inside = {name for i in chosen for name in nodes[i][1] if name}
        fixed = {*followed.places, *followed.constants}
        todo = {name for i in chosen for name in nodes[i][0] if name and name not in inside and name not in fixed}
        outside = {name for i, (reads, _, _) in enumerate(nodes) if i not in chosen for name in reads} | set(self._results())
        made = [name for name in inside if name in outside]
        if len(todo) != 1 or len(made) != 1:
            raise ValueError(f"replace: the part {path!r} takes {', '.join(sorted(todo)) or 'nothing'} and gives "
                             f"{', '.join(sorted(made)) or 'nothing'}: expected one tensor each")
        place = makes[made[0]]
        graft = Graft(self, path, todo.pop(), made[0])
        followed.nodes = [graft if i == place else node for i, node in enumerate(followed.nodes)
                          if i == place or i not in chosen]
        read = {name for node in followed.nodes for name in self._ends(node)[0]} | set(self._results())
        rest = {id(module) for module in self.modules()}
        for name in [n for n in followed.places if n not in read]:
            home, key = followed.places.pop(name)
            if id(home) in rest:  # the part that was taken out keeps what it had
                home._parameters.pop(key, None)
                home._buffers.pop(key, None)

    def _ends(self, node) -> tuple[Sequence[str], Sequence[str], str]:
        """As :meth:`_node`, of grafts too."""
        return ((node.reads,), (node.writes,), node.path) if isinstance(node, Graft) else self._node(node)
