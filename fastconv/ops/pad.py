"""Padding and cropping: constant, reflect, replicate and circular, along spatial dimensions; constant along channels too.

What each output coordinate reads is a list per dimension, so the modes differ in that list alone. The gradient is the
adjoint: each input pixel sums over the places that it went to.
"""

from __future__ import annotations

import numbers
import operator

from fastconv._values import shown
from fastconv.graph.ir import Node, Operator, Type, apply, fail, register
from fastconv.kernels import pad as kernels
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import channels, spatial3
from fastconv.ops.geometry import LIMIT, to3

MODES = ("constant", "reflect", "replicate", "circular")


def pairs(op: str, x: tuple[int, ...], pad) -> tuple[tuple[int, int], ...]:
    """(front, back) per dimension of x, from PyTorch's order: the last dimension first."""
    if not isinstance(pad, (tuple, list)):
        fail(op, f"pad={shown(pad)}: expected a sequence of integers, (front, back) of the last dimension first", TypeError)
    if any(isinstance(p, bool) for p in pad):
        fail(op, f"pad={shown(pad)}: expected integers", TypeError)
    try:
        pad = tuple(operator.index(p) for p in pad)
    except TypeError:
        fail(op, f"pad={shown(pad)}: expected integers", TypeError)
    if len(pad) % 2 or len(pad) > 2 * len(x):
        fail(op, f"pad={pad} has {len(pad)} values: expected (front, back) for at most the {len(x)} dimensions of input of "
                 f"shape {x}")
    if any(abs(p) >= LIMIT for p in pad):
        fail(op, f"pad={pad}: every value must be below 2**31")
    found = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    return tuple((found + [(0, 0)] * (len(x) - len(found)))[::-1])


def padded_shape(op: str, x: tuple[int, ...], attrs: dict, everything: bool = False) -> tuple[int, ...]:
    """The shape of the output; raises what the mode does not allow. Sets ``attrs["pads"]``. ``everything``: of any rank,
    along any dimensions, to nothing at all."""
    mode = attrs.setdefault("mode", "constant")
    if mode not in MODES:
        fail(op, f"mode={shown(mode)}: expected one of {', '.join(map(repr, MODES))}")
    value = attrs.get("value")
    if value is not None and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
        fail(op, f"value={shown(value)}: expected a number", TypeError)
    if mode != "constant" and value not in (None, 0):
        fail(op, f"value={shown(value)}: mode={shown(mode)} takes no value")
    attrs["value"] = 0.0 if value is None else float(value)
    pad = attrs["pads"] = pairs(op, x, attrs["pad"])
    if mode != "constant" and not everything:
        if not 3 <= len(x) <= 5:
            fail(op, f"input of shape {x} has {len(x)} dimensions: mode={shown(mode)} expects 3 (N, C, L), 4 (N, C, H, W) "
                     "or 5 (N, C, D, H, W)")
        if len(attrs["pad"]) != 2 * len(x[2:]):
            fail(op, f"pad={tuple(attrs['pad'])} has {len(attrs['pad'])} values: mode={shown(mode)} of input of shape {x} "
                     f"expects {2 * len(x[2:])}, (front, back) per spatial dimension")
    if not everything and any(pad[0]):
        fail(op, f"pad={tuple(attrs['pad'])}: the batch, dimension 0 of input of shape {x}, cannot be padded")
    out = []
    for i, (size, (low, high)) in enumerate(zip(x, pad, strict=True)):
        where = f"pad=({low}, {high}) of dimension {i} with {size} elements"
        if size + low + high >= LIMIT:
            fail(op, f"{where}: 2**31 elements or more")
        if i and size and size + low + high < 1 and not everything:
            fail(op, f"{where}: nothing would be left")
        if mode == "constant" and kept(size, low, high) < 0:
            fail(op, f"{where}: cropping takes away more than there is")
        if mode == "replicate" and size == 0 and max(low, high) > 0:
            fail(op, f"{where}: mode='replicate' needs an element")
        if mode == "reflect" and max(low, high, 0) >= max(size, 1):
            fail(op, f"{where}: mode='reflect' needs less padding than elements")
        if mode != "constant" and kept(size, low, high) < 0:
            fail(op, f"{where}: cropping takes away more than there is")
        if mode == "circular" and max(low, high) > kept(size, low, high):
            fail(op, f"{where}: mode='circular' needs at most as much padding as elements that are kept")
        out.append(size + low + high)
    return tuple(out)


def kept(size: int, low: int, high: int) -> int:
    """How many elements cropping leaves of an axis."""
    return size + min(low, 0) + min(high, 0)


def source(mode: str, size: int, low: int, high: int) -> list[int]:
    """Which of the axis's elements each output coordinate reads; -1 for the constant."""
    out = []
    for i in range(-low, size + high):
        if mode == "reflect":
            i = -i if i < 0 else 2 * (size - 1) - i if i >= size else i
        elif mode == "replicate":
            i = min(max(i, 0), size - 1)
        elif mode == "circular":  # of what is left after cropping
            first = max(0, -low)
            i = first + (i - first) % kept(size, low, high)
        elif not 0 <= i < size:
            i = -1
        out.append(i)
    return out


def infer(inputs: list, attrs: dict) -> list[Type]:
    return [Type(padded_shape("pad", inputs[0].shape, attrs))]


def infer_backward(inputs: list, attrs: dict) -> list[Type]:
    (gy,) = inputs
    shape = tuple(attrs["input_shape"])
    expected = padded_shape("pad_backward", shape, attrs)
    if gy.shape != expected:
        fail("pad_backward", f"grad_output of shape {gy.shape}: input_shape={shape} and pad={tuple(attrs['pad'])} give an "
                             f"output of shape {expected}")
    return [Type(shape)]


def gradient(node: Node, grads: list) -> list:
    return [apply("pad_backward", [grads[0]], input_shape=node.inputs[0].shape, pad=node.attrs["pad"],
                  mode=node.attrs["mode"])]


def problem(x: tuple[int, ...], y: tuple[int, ...], attrs: dict) -> dict:
    """What both kernels are told."""
    pad = attrs["pads"]
    sizes, pads = spatial3(x), to3(pad[2:], (0, 0))
    low, high = pad[1] if len(x) > 1 else (0, 0)
    return {"channels": (channels(x), channels(y), kept(channels(x), low, high), max(0, -low), max(0, low)), "input": sizes,
            "output": spatial3(y), "sources": [source(attrs["mode"], s, *p) for s, p in zip(sizes, pads, strict=True)]}


def lower(node: Node, cx: Lowering) -> None:
    (x,), y = node.inputs, node.output
    view = cx.read(x)
    if y.shape == x.shape and not any(map(any, node.attrs["pads"])) and y not in cx.placed:
        cx.alias(y, view)
        return
    out = cx.write(y)
    cx.step(kernels.forward, x=view.ref, ldx=view.ld, y=out.ref, ldy=out.ld, value=node.attrs["value"],
            info={"input": x.shape, "output": y.shape}, **problem(x.shape, y.shape, node.attrs))


def lower_backward(node: Node, cx: Lowering) -> None:
    (gy,), gx = node.inputs, node.output
    view, out = cx.read(gy), cx.write(gx)
    cx.step(kernels.backward, gx=out.ref, ldx=out.ld, gy=view.ref, ldy=view.ld,
            info={"input": gy.shape, "output": gx.shape}, **problem(gx.shape, gy.shape, node.attrs))


register(Operator("pad", infer, lower, gradient, activations=(0,)))
register(Operator("pad_backward", infer_backward, lower_backward))
