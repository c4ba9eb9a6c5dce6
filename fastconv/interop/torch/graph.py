"""FX graphs of ATen operators as lists of calls without side effects: what PyTorch changes in place becomes a new value
here, seen by all that shares its memory there."""

from __future__ import annotations

import logging
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fastconv.interop.torch.rules import BACK, DRAWS, DTYPES, MODES, PUT_BACK, known_operator

log = logging.getLogger("fastconv")


class Ref(str):
    """The name of a node, among arguments."""


class Call(NamedTuple):
    """One node: an ATen operator by its name, or ``"python"`` and a function of Python's.

    ``path`` is the submodule that it comes from; ``fixed`` its training mode, where it does not follow its part's.
    """

    name: str
    op: str
    target: Any
    args: Any
    kwargs: dict
    path: str
    fixed: bool | None = None

    def reads(self) -> list[str]:
        return list(refs((self.args, self.kwargs)))


class Graph(NamedTuple):
    """Calls in order, the outputs in order (a :class:`Ref`, or None), and of each input its extents (None where any; None
    instead of them for what is no tensor)."""

    nodes: list[Call]
    outputs: list
    inputs: dict[str, tuple | None]


def refs(value) -> Iterator[Ref]:
    """The names among arguments."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, (tuple, list)):
        for v in value:
            yield from refs(v)
    elif isinstance(value, dict):
        for v in value.values():
            yield from refs(v)
    elif isinstance(value, slice):
        yield from refs((value.start, value.stop, value.step))


def filled(value, known: Mapping[str, Any]):
    """Arguments with values in the places of names."""
    if isinstance(value, Ref):
        return known[value]
    if type(value) in (tuple, list):
        return type(value)(filled(v, known) for v in value)
    if isinstance(value, dict):
        return {k: filled(v, known) for k, v in value.items()}
    if isinstance(value, (tuple, list)):  # of a class of the user's
        return type(value)(*(filled(v, known) for v in value))
    return value


def missing_operators(graph, torch, drawn: bool = True) -> list[str]:
    """The operators of an FX graph that are not there; ``drawn`` says whether those that draw random numbers are."""
    missing: dict[str, None] = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            missing[f"the subgraph {node.target}"] = None
        elif node.op == "call_function" and not supported(node, torch, drawn):
            target = node.target
            missing[str(target._schema.name).replace("::", ".") if isinstance(target, torch._ops.OpOverload)
                    else str(target)] = None
    return list(missing)


def supported(node, torch, drawn: bool = True) -> bool:
    """Whether there is something to call for a node."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        name = target._schema.name.split("::")[1]
        return target.namespace == "aten" and known_operator(name) and (drawn or name not in DRAWS)
    return target is operator.getitem or getattr(target, "__module__", "") in ("_operator", "math")


def read_graph(graph, torch, kept: Sequence[bool] | None = None, modes: Mapping[str, bool] | None = None,
               buffers: Mapping[str, str] | None = None) -> Graph:
    """Reads an FX graph of ATen operators.

    Parameters
    ----------
    kept : sequence of bool, optional
        Which outputs are wanted; what only others need (counters, statistics) is left out.
    modes : mapping, optional
        The training mode of each submodule when the graph was made.
    buffers : mapping, optional
        Inputs that are buffers, and their names: changes of them are left out, which is logged.

    Raises
    ------
    NotImplementedError
        For operators that are not there, naming them all; for changes in place that cannot be followed.
    """
    missing = missing_operators(graph, torch)
    if missing:
        raise NotImplementedError(f"operators that fastconv does not have: {', '.join(missing)}")
    reader = Reader(torch, modes, buffers or {})
    inputs: dict[str, tuple | None] = {}
    outputs: list = []
    for node in graph.nodes:
        if node.op == "placeholder":
            value = node.meta.get("val")
            inputs[node.name] = tuple(int(e) if isinstance(e, int) else None for e in value.shape) \
                if isinstance(value, torch.Tensor) else None
            reader.members[node.name] = Member(node.name)
        elif node.op == "call_function":
            reader.add(node)
        elif node.op == "output":
            results = [r for i, r in enumerate(node.args[0]) if kept is None or kept[i]]
            outputs = [reader.named(r) for r in results]
    needed, nodes = {*refs(outputs)}, []
    for call in reversed(reader.nodes):
        if call.name in needed:
            needed.update(call.reads())
            nodes.append(call)
    return Graph(nodes[::-1], outputs, inputs)


class Member:
    """A value of PyTorch's that may share memory: its name by now; the member that it is a view of, and how."""

    def __init__(self, name: str, base: Member | None = None, call: Call | None = None):
        self.name, self.base, self.call = name, base, call
        self.root: Member = base.root if base is not None else self
        self.version = 0  # of the root's memory, of which ``name`` is the value
        self.lost = ""  # why its value is not known any more


class Reader:
    """Turns nodes into calls, following what changes in place."""

    def __init__(self, torch, modes: Mapping[str, bool] | None, buffers: Mapping[str, str]):
        self.torch, self.modes, self.buffers = torch, modes, buffers
        self.members: dict[str, Member] = {}
        self.nodes: list[Call] = []
        self.versions: dict[int, int] = {}  # by root: how often its memory has changed
        self.count = 0

    def add(self, node) -> None:
        target, torch = node.target, self.torch
        overload = isinstance(target, torch._ops.OpOverload)
        op = target._schema.name.split("::")[1] if overload else "python"
        args, kwargs = self.named(node.args), self.named(dict(node.kwargs))
        call = Call(node.name, op, None if overload else target, args, kwargs, _path(node), self.mode(node, op))
        self.nodes.append(call)
        schema = target._schema.arguments if overload else ()
        changed = [i for i, a in enumerate(schema) if a.alias_info is not None and a.alias_info.is_write]
        first: Any = node.args[0] if node.args else None
        inside = isinstance(first, torch.fx.Node)
        if changed and (op not in MODES or op.endswith("_")):  # the statistics of a normalisation are its own affair
            if changed != [0] or not inside:
                raise NotImplementedError(f"aten.{op} changes something else than its first argument")
            self.members[node.name] = self.change(self.members[first.name], call)
        elif inside and (overload and any(r.alias_info is not None for r in target._schema.returns) or
                         target is operator.getitem and op == "python"):
            self.members[node.name] = Member(node.name, self.members[first.name], call)
            self.members[node.name].version = self.versions.get(id(self.members[node.name].root), 0)
        else:
            self.members[node.name] = Member(node.name)

    def mode(self, node, op: str) -> bool | None:
        """The fixed training mode of a node, None where it follows its part's."""
        if op not in MODES:
            return None
        at = MODES[op]
        was = bool(node.args[at]) if len(node.args) > at else bool(node.kwargs.get("dropout_p", False))
        return None if self.modes is not None and was == self.modes.get(_path(node), self.modes.get("")) else was

    def emit(self, op: str, target, args, path: str) -> str:
        self.count += 1
        name = f"changed {self.count}"
        self.nodes.append(Call(name, op, target, args, {}, path))
        return name

    def change(self, member: Member, call: Call) -> Member:
        """Notes that a call has changed a member; its value, and that of all it is a view of, is another now."""
        root = member.root
        if root.name in self.buffers and not self.buffers[root.name].endswith("num_batches_tracked"):
            log.warning("from_torch: the forward changes the buffer %s: that is left out", self.buffers[root.name])
        before = {}
        step = member
        while step.base is not None:
            before[id(step)] = self.current(step.base)
            step = step.base
        version = self.versions[id(root)] = self.versions.get(id(root), 0) + 1
        member.name, member.version, member.lost = call.name, version, ""
        step = member
        while step.base is not None:
            how, parent = step.call, step.base
            assert how is not None
            if step.lost or how.op not in BACK:
                parent.lost = step.lost or f"a part of it, made by aten.{how.op}, was changed in place by aten.{call.op}"
            else:
                parent.name = self.emit(PUT_BACK, None, (Ref(before[id(step)]), Ref(step.name), how.op, how.args[1:],
                                                         how.kwargs), call.path)
                parent.lost = ""
            parent.version = version
            step = parent
        return member

    def current(self, member: Member) -> str:
        """The name under which a member's value is known now; a view is made anew where its memory has changed."""
        version = self.versions.get(id(member.root), 0)
        if member.version != version and member.base is not None:
            base, how = self.current(member.base), member.call
            assert how is not None
            member.name = self.emit(how.op, how.target, (Ref(base), *how.args[1:]), how.path)
            member.version, member.lost = version, ""
        if member.lost:
            raise NotImplementedError(f"{member.name}: {member.lost}, which cannot be followed")
        return member.name

    def named(self, value) -> Any:
        """Arguments with names in the places of nodes, and without what says where tensors lie."""
        torch = self.torch
        if isinstance(value, torch.fx.Node):
            return Ref(self.current(self.members[value.name]))
        if isinstance(value, (tuple, list)):
            return type(value)(self.named(v) for v in value) if type(value) in (tuple, list) else \
                [self.named(v) for v in value]
        if isinstance(value, dict):
            return {k: self.named(v) for k, v in value.items()}
        if isinstance(value, torch.dtype):
            return DTYPES.get(str(value), str(value))
        if isinstance(value, (torch.device, torch.layout, torch.memory_format)):
            return None
        return value


def _path(node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    last = list(stack.values())[-1] if stack else None
    path = last[0] if isinstance(last, tuple) else ""
    return path.replace("L['self'].", "").replace("L['self']", "")
