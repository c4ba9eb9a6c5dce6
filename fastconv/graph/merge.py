"""Chains of elementwise nodes become one program, which goes over memory once.

A node with a program (``Operator.program``) takes over that of the node that makes one of its inputs, where nobody else
reads that and both have the same shape: an instruction gives the same bits wherever it stands. Before differentiation this
is done with `map` and sums and products with numbers: the gradient of a merged program is a program over its inputs, and
nothing in between is kept. Behind it, and behind what fuses activations into their producers, also with activations and
gradients; a chain without a `map` keeps its own kernels, unless it has three nodes and more (``x * clip(x + 3, 0, 6) / 6``).

What is made only to be reduced is not written: behind differentiation, a `reduce` takes over such a program in the same way
(`reduce_map`).
"""

from __future__ import annotations

from typing import Any

from fastconv.graph.ir import Graph, Node, Tensor, operator
from fastconv.graph.programs import Builder, Program

OPERANDS, LINES = 16, 96  # of a program, at most
LONG = 3  # nodes of a chain that one program takes less time for than their own kernels
_TRUTH = {"eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not", "isnan", "isinf",
          "isfinite", "signbit"}
_EARLY = {"map", "add", "sub", "mul", "scale"}


def merge(graph: Graph, early: bool = False) -> None:
    """Merges what can be. ``early``: before differentiation."""
    if early and not any(node.op.name in ("map", "reduce") for node in graph.nodes):
        return
    users, outputs = graph.users(), {*graph.outputs, *graph.roots}
    order = {id(node): i for i, node in enumerate(graph.nodes)}
    long = set() if early else _long(graph, users, outputs)
    for node in graph.nodes:
        while True:
            fits, join = (_folds, _fold) if node.op.name == "reduce" else (_fits, _join)
            made = next((t.node for t in node.inputs if t is not None and t.node is not None and t not in outputs and
                         _reader(users, t) is node and fits(t.node, node, early, long)), None)
            if made is None or not join(made, node):
                break
            for tensor in made.inputs:
                users[tensor] = [n for n in users[tensor] if n is not made] + [node]
            graph.nodes[order[id(made)]] = _gone
    graph.nodes = [node for node in graph.nodes if node is not _gone]


def _long(graph: Graph, users: dict[Tensor, list[Node]], outputs: set[Tensor]) -> set[int]:
    """By their ids, nodes of chains of three and more that have kernels of their own: one pass over memory instead."""
    before: dict[int, list[Node]] = {}
    found: set[int] = set()
    for node in graph.nodes:
        if node.op.name in ("map", "reduce") or node.op.program is None:
            continue
        chain = [node]
        for t in node.inputs:
            made = t.node if t is not None else None
            if made is not None and id(made) in before and t not in outputs and _reader(users, t) is node and \
                    _alike(made, node) and len(before[id(made)]) >= len(chain):
                chain = [*before[id(made)], node]
        before[id(node)] = chain
        if len(chain) >= LONG:
            found.update(map(id, chain))
    return found


def _reader(users: dict[Tensor, list[Node]], tensor: Tensor) -> Node | None:
    """The only node that reads a tensor."""
    readers = users.get(tensor, [])
    return readers[0] if readers and all(n is readers[0] for n in readers) else None


def program_of(node: Node) -> tuple[Program, int, str, tuple] | None:
    """(lines, result, dtype, draws) of a node; None where it has no program."""
    if node.op.program is None:
        return None
    found = node.op.program(node)
    return None if found is None else (*found, node.output.dtype, node.attrs.get("random", ()))


def _fits(made: Node, node: Node, early: bool, long: set[int]) -> bool:
    if made.op.program is None or node.op.program is None or not _alike(made, node):
        return False
    if made.op.name != "map" != node.op.name and not (id(made) in long and id(node) in long):
        return False
    if early and not {made.op.name, node.op.name} <= _EARLY:
        return False
    if early and any(n.op.name != "map" and n.attrs.get("scalars") is None and n.op.name != "scale" for n in (made, node)):
        return False
    return True


def _alike(made: Node, node: Node) -> bool:
    """Whether one's result may be computed where the other's is."""
    a, b = made.output.type, node.output.type
    return (made.segment, made.frozen, len(made.outputs)) == (node.segment, node.frozen, 1) and \
        (a.shape, a.layout, a.fixed) == (b.shape, b.layout, b.fixed) and a.dtype in ("float32", "bool")


# The reductions that may take over a program: how rows are folded, what is done to the program's result first, the operation
# over what is left of rows.
FOLDS: dict[str, tuple[str, str, str]] = {
    "sum": ("sum", "", "sum"),
    "mean": ("sum", "", "mean"),
    "squares": ("sum", "square", "sum"),
    "norm": ("sum", "square", "root"),
    "abs_sum": ("sum", "abs", "sum"),
    "max": ("max", "", "max"),
    "min": ("min", "", "min"),
    "abs_max": ("max", "abs", "max"),
}


def _folds(made: Node, node: Node, early: bool, long: set[int]) -> bool:
    if early or made.segment != node.segment or made.op.program is None or len(made.outputs) > 1 or len(node.inputs) > 1:
        return False
    x = made.output  # a sum to what was repeated along the batch is right for smaller ones than the planned
    some_images = x.batched and 0 in node.attrs["dims"] and "shape" in node.attrs
    return node.attrs["operation"] in FOLDS and x.dtype == "float32" and not some_images


def _fold(made: Node, node: Node) -> bool:
    """The program of ``made`` moves into the reduction ``node``."""
    found = program_of(made)
    if found is None or found[3]:
        return False
    builder = Builder(len(made.inputs))
    value = builder.add(found[0], [builder.input(i) for i in range(len(made.inputs))])[found[1]]
    before = FOLDS[node.attrs["operation"]][1]
    program, (at,) = builder.done([builder.line(before, value) if before else value])
    node.attrs = {**node.attrs, "program": program, "result": at, "type": made.output.type}
    node.op, node.inputs = operator("reduce_map"), list(made.inputs)
    if made.attrs.get("effect"):
        node.attrs["effect"] = True
    return True


def _join(made: Node, node: Node) -> bool:
    """The program of ``made`` moves into ``node``; False where that would be too much for one."""
    first, second = program_of(made), program_of(node)
    if first is None or second is None:
        return False
    tensors: list[Tensor] = []
    for tensor in (*(t for t in node.inputs if t is not made.output), *made.inputs):
        if tensor not in tensors:
            tensors.append(tensor)
    draws = [*second[3]]
    draws += [d for d in first[3] if d not in draws]
    if len(tensors) + len(draws) > OPERANDS or len(first[0]) + len(second[0]) > LINES:
        return False
    if _wide(made) != _wide(node) and any(t.dtype == "float32" for t in tensors) or (_wide(made) and second[2] == "float32"):
        return False  # whole numbers stay exact: they have a program of their own
    builder = Builder(len(tensors) + len(draws))

    def inputs(of: Node, drawn: tuple, value: Any = None) -> list[Any]:
        found = [value if t is made.output else builder.input(tensors.index(t)) for t in of.inputs]
        return found + [builder.input(len(tensors) + draws.index(d)) for d in drawn]

    value = builder.add(first[0], inputs(made, first[3]))[first[1]]
    if first[2] == "bool" and not (first[1] >= len(made.inputs) + len(first[3]) and
                                   first[0][first[1] - len(made.inputs) - len(first[3])][0] in _TRUTH):
        value = builder.line("ne", value, 0.0)
    result = builder.add(second[0], inputs(node, second[3], value))[second[1]]
    program, (at,) = builder.done([result])
    effect = made.attrs.get("effect") or node.attrs.get("effect")
    called = made.attrs.get("called") or node.attrs.get("called")
    node.op, node.inputs = operator("map"), list(tensors)
    node.attrs = {"program": program, "result": at, "dtype": second[2]}
    if draws:
        node.attrs["random"] = tuple(draws)
    if effect:
        node.attrs["effect"] = True
    if called:
        node.attrs["called"] = called
    return True


def _wide(node: Node) -> bool:
    """Whether a node computes with integers that float32 does not hold."""
    return any(t.dtype in ("int64", "int32") for t in node.inputs) and all(t.dtype != "float32" for t in node.inputs)


_gone: Any = object()
