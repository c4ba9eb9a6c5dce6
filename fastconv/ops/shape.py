"""Flatten. A Linear behind it absorbs it (passes.py); elsewhere features are put into NCHW order by a copy."""

from __future__ import annotations

import operator
from math import prod

from fastconv.graph.ir import Node, Operator, Type, apply, fail, register
from fastconv.graph.lower import Lowering, channels, spatial3
from fastconv.kernels import layout


def infer(inputs: list, attrs: dict) -> list[Type]:
    (x,) = inputs
    dims = len(x.shape)
    try:
        start, end = (operator.index(attrs[key]) for key in ("start_dim", "end_dim"))
    except TypeError:
        fail("flatten", f"start_dim={attrs['start_dim']!r}, end_dim={attrs['end_dim']!r}: expected integers", TypeError)
    if not -dims <= start < dims or not -dims <= end < dims:
        fail("flatten", f"start_dim={start}, end_dim={end}: input of shape {x.shape} has {dims} dimensions")
    if start % dims != 1 or end % dims != dims - 1:
        fail("flatten", f"start_dim={start}, end_dim={end} on input of shape {x.shape}: only start_dim=1, end_dim=-1 "
                        "(all but the batch) is supported")
    return [Type((x.shape[0], prod(x.shape[1:])))]


def gradient(node: Node, grads: list) -> list:
    return [apply("unflatten", [grads[0]], shape=node.inputs[0].shape)]


def infer_unflatten(inputs: list, attrs: dict) -> list[Type]:
    (x,) = inputs
    shape = tuple(attrs["shape"])
    if prod(shape[1:]) != prod(x.shape[1:]) or shape[0] != x.shape[0]:
        fail("unflatten", f"input of shape {x.shape} cannot take shape={shape}")
    return [Type(shape)]


def _reordered(source: int, target: int, *, forward: bool, channels: int, size, ld: int, features: int):
    """Between pixels and features in NCHW order."""
    slot = layout.Slot()
    d, h, w = size
    slot.set(target if forward else source, features, d * h * w, h * w, w, 1)
    if forward:
        return layout.from_channels_last(slot, source, channels=channels, size=size, ld=ld)
    return layout.to_channels_last(slot, target, channels=channels, size=size, ld=ld)


def _lower(node: Node, cx: Lowering, image: tuple[int, ...], forward: bool) -> None:
    source = cx.read(node.inputs[0])
    c, size = channels(image), spatial3(image)
    if prod(size) == 1 and node.output not in cx.placed:
        cx.alias(node.output, source)
        return
    target = cx.write(node.output)
    ld, features = (source.ld, target.ld) if forward else (target.ld, source.ld)
    cx.step(_reordered, source.ref, target.ref, forward=forward, channels=c, size=size, ld=ld, features=features)


register(Operator("flatten", infer, lambda node, cx: _lower(node, cx, node.inputs[0].shape, True), gradient))
register(Operator("unflatten", infer_unflatten, lambda node, cx: _lower(node, cx, node.output.shape, False),
                  lambda node, grads: [apply("flatten", [grads[0]], start_dim=1, end_dim=-1)]))
