"""`map`: a program of elementwise instructions over operands of any shapes that broadcast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from fastconv.graph.ir import FLAT, PIXELS, Node, Operator, Tensor, Type, apply, fail, register, shown_name
from fastconv.graph.programs import Program, write
from fastconv.graph.random import random_state
from fastconv.kernels import elementwise
from fastconv.kernels import map as kernels
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Ref, row_major
from fastconv.ops import derivatives, views

STREAMS = 1 << 16
DIVISIONS = ("div_trunc", "div_floor", "fmod", "remainder")
EXACT = 2.0**53  # numbers of a program up to which all whole ones are themselves


def broadcast_shape(op: str, shapes: dict[str, Sequence[int]]) -> tuple[int, ...]:
    """The shape to which these, by the names of operands, are repeated; raises where they do not go together."""
    ndim = max(map(len, shapes.values()), default=0)
    out: list[int] = []
    for d in reversed(range(ndim)):
        extents = list(dict.fromkeys(s[d - ndim] for s in shapes.values() if len(s) >= ndim - d and s[d - ndim] != 1))
        if len(extents) > 1:
            shown = " and ".join(f"{name} of shape {tuple(s)}" for name, s in shapes.items())
            fail(op, f"{shown}: dimension {d} is {' and '.join(map(str, extents))}: expected equal extents, or 1")
        out.append(extents.pop() if extents else 1)
    return tuple(out[::-1])


def result_layout(inputs: Sequence[Tensor], shape: tuple[int, ...]) -> tuple[str, bool]:
    """(layout, fixed) of the result. Where the batch of an operand does not become that of the result, or meets an extent
    that is no batch, the graph is right for its batch alone."""
    batched = [t for t in inputs if t.batched]
    mixed = [t for t in batched if t.ndim != len(shape) or t.type.shape[0] != shape[0]]
    if batched and any(not t.batched and t.ndim == len(shape) and t.type.shape[0] != 1 for t in inputs):
        mixed = batched
    for t in mixed:
        views.fixed(t)
    if batched and len(mixed) < len(batched):
        return views.layout_of(inputs, shape), False
    if any(t.layout == PIXELS and t.type.shape == shape for t in inputs):
        return PIXELS, True
    return FLAT, False


def is_whole(program: Program, inputs: Sequence[Tensor], dtype: str, draws: Sequence = ()) -> bool:
    """Whether a program is one of whole numbers, computed in int64 and exact, rather than in float32."""
    return dtype != "float32" and not draws and all(t.dtype != "float32" for t in inputs) and all(
        line[0] in kernels.WHOLE and all(o.is_integer() and abs(o) <= EXACT for o in line[1:] if isinstance(o, float))
        for line in program)


def infer(inputs: list, attrs: dict) -> list[Type]:
    attrs.setdefault("dtype", "float32")
    if any(line[0] in DIVISIONS for line in attrs["program"]):
        attrs.setdefault("called", shown_name("map"))  # who divides
    shapes = [t.shape for t in inputs] + [tuple(shape) for shape, _ in attrs.get("random", ())]
    shape = broadcast_shape("map", {f"operand {i}": s for i, s in enumerate(shapes)})
    layout, fixed = result_layout(inputs, shape)
    if attrs.get("random") and inputs[0].graph.segment == "forward":
        attrs["effect"] = True  # not the same twice, whatever it is applied to
    return [Type(shape, layout, attrs["dtype"], fixed)]


def gradient(node: Node, grads: list) -> list:
    count = len(node.inputs)
    if grads[0] is None:
        return [None] * count
    wanted = [i for i, t in enumerate(node.inputs) if t.dtype == "float32"]
    draws = node.attrs.get("random", ())
    found = derivatives.gradients(node.attrs["program"], count + len(draws), node.attrs["result"], wanted)
    out: list[Any] = [None] * count
    for i, made in zip(wanted, found, strict=True):
        if made is None:
            continue
        program, result = made
        # operands there: gradient, inputs, draws, output; here inputs come before draws
        given = [grads[0], *node.inputs, *draws, node.output]
        out[i] = views.sum_to(emit(program, result, given), node.inputs[i])
    return out


def emit(program: Program, result: int, operands: Sequence[Any], dtype: str = "float32") -> Tensor:
    """A node of a program over tensors and draws ``(shape, stream)``, of which those are left out that it does not read."""
    used = sorted(
        {o for line in program for o in line[1:] if type(o) is int and o < len(operands)}
        | ({result} if result < len(operands) else set())
    )
    tensors = [i for i in used if not isinstance(operands[i], tuple)]
    draws = [i for i in used if isinstance(operands[i], tuple)]
    if result < len(operands) and not draws and operands[result].dtype == dtype:
        return operands[result]
    if not tensors:
        tensors = [next(i for i, o in enumerate(operands) if not isinstance(o, tuple))]  # which has the shape
    place = {o: k for k, o in enumerate([*tensors, *draws])}
    shift = len(place) - len(operands)

    def moved(o):
        return o if type(o) is not int else place[o] if o < len(operands) else o + shift

    lines = tuple((name, *map(moved, rest)) for name, *rest in program)
    attrs: dict[str, Any] = {"random": tuple(operands[i] for i in draws)} if draws else {}
    return apply("map", [operands[i] for i in tensors], program=lines, result=moved(result), dtype=dtype, **attrs)


def fused(function: Callable, *operands: Any, dtype: str = "float32") -> Tensor:
    """``function`` of values, one per operand (tensors, and draws as :func:`draw` gives them), as one node."""
    program, (result,) = write(function, len(operands))
    return emit(program, result, operands, dtype)


def draw(tensor: Tensor, shape: Sequence[int]) -> tuple:
    """Random numbers, uniform in [0, 1), one per element of this shape: an operand of one program, and of its gradient."""
    tensor.graph.draws += 1
    return tuple(shape), -tensor.graph.draws % STREAMS  # those of `dropout` count from 0


def random_operand(cx: Lowering, own: Sequence[int], shape: Sequence[int], stream: int, layout: str) -> tuple:
    """Where the numbers of a draw are found: counted in the order of memory, N, D, H, W, C for pixels."""
    state = cx.extra.get("random")
    if state is None:
        source = random_state()
        state = cx.extra["random"] = cx.temp(16, "random state")
        cx.extra["random source"] = source  # keeps it alive
        cx.step(elementwise.random_draw, source.ctypes.data, state, op="random")
    own = (1,) * (len(shape) - len(own)) + tuple(own)
    strides: Sequence[int] = row_major(own)
    if layout == PIXELS and len(own) > 1:
        inner = row_major((own[0], *own[2:], own[1]))
        strides = (inner[0], inner[-1], *inner[1:-1])
    return state, tuple(0 if e == 1 else s for e, s in zip(own, strides, strict=True)), "random", stream


class Zero:
    """The error for a divisor of 0 among whole numbers."""

    def __init__(self, called: str):
        self.called = called

    def __call__(self, value: int) -> None:
        raise ZeroDivisionError(f"{self.called}: a divisor is 0: whole numbers have no quotient for it")


def lower(node: Node, cx: Lowering) -> None:
    out, attrs = node.output, node.attrs
    shape = out.shape
    exact = is_whole(attrs["program"], node.inputs, out.dtype, attrs.get("random", ()))
    zero: Ref | int = 0
    if exact and any(line[0] in DIVISIONS and not (isinstance(line[2], float) and line[2]) for line in attrs["program"]):
        zero = found = cx.own(16, "a divisor that is 0")
        cx.after(found, Zero(attrs.get("called", "map")))
    inputs = [tuple(views.broadcast(cx.view(t), t.shape, shape)) for t in node.inputs]
    inputs += [random_operand(cx, own, shape, stream, out.layout) for own, stream in attrs.get("random", ())]
    y = tuple(cx.view(out, write=True))
    if prod(shape):
        cx.step(
            kernels.map,
            shape=shape,
            inputs=inputs,
            outputs=[y],
            program=attrs["program"],
            results=[attrs["result"]],
            batched=out.batched,
            whole=exact,
            zero=zero,
            info={"input": node.inputs[0].shape, "output": shape},
        )


register(Operator("map", infer, lower, gradient, general=True,
                  program=lambda node: (node.attrs["program"], node.attrs["result"])))
