"""Flatten, and what else moves elements between axes: copies between pixels and memory of any strides.

A Linear behind a Flatten absorbs it (passes.py). Joining spatial dimensions alone moves nothing; where channels are joined
with pixels, or an operator works along another axis than the channels, elements are put into their order by a copy.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from math import prod

from fastconv._values import shown
from fastconv.graph.ir import Node, Operator, Type, apply, fail, register
from fastconv.kernels import layout
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Ref, View, channels, spatial3

# ---- copies -------------------------------------------------------------------------------------------------------------


def strided(pixels: int, other: int, *, forward: bool, shape: Sequence[int], ld: int, strides: Sequence[int]):
    """The step between an activation of this shape, ``ld`` floats a pixel, and memory in which the distance along each of
    its axes is ``strides``, in floats; ``forward`` writes the other, else the activation is written."""
    slot = layout.Slot()
    n, c, *spatial = strides
    slot.set(other, n, c, *(0,) * (3 - len(spatial)), *spatial)
    door = layout.from_channels_last if forward else layout.to_channels_last
    return door(slot, pixels, channels=channels(shape), size=spatial3(shape), ld=ld)


def dense(shape: Sequence[int], ld: int) -> list[int]:
    """Strides of an activation, channels last, ``ld`` floats a pixel."""
    return [ld * prod(shape[2:]), 1, *(ld * prod(shape[i + 1:]) for i in range(2, len(shape)))]


def row_major(shape: Sequence[int]) -> list[int]:
    """Strides of a dense array as users have them."""
    return [prod(shape[i + 1:]) for i in range(len(shape))] + [1] * (2 - len(shape))


def swapped(shape: Sequence[int], dim: int) -> tuple[int, ...]:
    """The shape with channels and ``dim`` exchanged."""
    out = list(shape)
    out[1], out[dim] = out[dim], out[1]
    return tuple(out)


def swap(cx: Lowering, view: View, shape: Sequence[int], dim: int, back: bool = False, to: View | None = None) -> View:
    """An activation with channels and ``dim`` exchanged, in memory of its own; or ``back`` from there ``to`` a place.

    ``shape`` is the activation's as users see it.
    """
    other = swapped(shape, dim)
    strides = dense(other, other[1])
    strides[1], strides[dim] = strides[dim], strides[1]
    if back:
        assert to is not None
        cx.step(strided, to.ref, view.ref, forward=False, shape=shape, ld=to.ld, strides=strides)
        return to
    target = View(cx.temp(4 * prod(shape), "swapped"), other[1])
    cx.step(strided, view.ref, target.ref, forward=True, shape=shape, ld=view.ld, strides=strides)
    return target


def slice_of(whole: View, shape: Sequence[int], dim: int, start: int) -> tuple[Ref, list[int]]:
    """Where the elements from ``start`` along ``dim`` begin in an activation of this shape, and its strides."""
    strides = dense(shape, whole.ld)
    return whole.ref.plus(start * strides[dim]), strides


# ---- flatten ------------------------------------------------------------------------------------------------------------


def infer(inputs: list, attrs: dict) -> list[Type]:
    (x,) = inputs
    dims = len(x.shape)
    try:
        start, end = (operator.index(attrs[key]) for key in ("start_dim", "end_dim"))
    except TypeError:
        fail("flatten", f"start_dim={shown(attrs['start_dim'])}, end_dim={shown(attrs['end_dim'])}: expected integers",
             TypeError)
    if not -dims <= start < dims or not -dims <= end < dims:
        fail("flatten", f"start_dim={start}, end_dim={end}: input of shape {x.shape} has {dims} dimensions")
    if start % dims > end % dims:
        fail("flatten", f"start_dim={start} is behind end_dim={end}: input of shape {x.shape}")
    start, end = attrs["start_dim"], attrs["end_dim"] = start % dims, end % dims
    if start == 0 and end > 0:
        fail("flatten", f"start_dim=0, end_dim={end} on input of shape {x.shape}: the batch, dimension 0, stays by itself")
    return [Type((*x.shape[:start], prod(x.shape[start:end + 1]), *x.shape[end + 1:]))]


def gradient(node: Node, grads: list) -> list:
    return [apply("unflatten", [grads[0]], shape=node.inputs[0].shape, **node.attrs)]


def infer_unflatten(inputs: list, attrs: dict) -> list[Type]:
    (x,) = inputs
    shape = tuple(attrs["shape"])
    if prod(shape[1:]) != prod(x.shape[1:]) or shape[0] != x.shape[0]:
        fail("unflatten", f"input of shape {x.shape} cannot take shape={shape}")
    return [Type(shape)]


def _lower(node: Node, cx: Lowering, image: tuple[int, ...], forward: bool) -> None:
    """``image`` is the shape that is not flattened."""
    source = cx.read(node.inputs[0])
    start, end = node.attrs["start_dim"], node.attrs["end_dim"]
    joined, rest = image[2:end + 1], image[end + 1:]
    if (start != 1 or prod(joined) == 1) and node.output not in cx.placed:
        cx.alias(node.output, source)  # pixels in the order in which they lie
        return
    target = cx.write(node.output)
    pixels, flat = (source, target) if forward else (target, source)
    strides = [flat.ld * prod(rest), prod(joined), *(prod(joined[i + 1:]) for i in range(len(joined))),
               *(flat.ld * prod(rest[i + 1:]) for i in range(len(rest)))]
    cx.step(strided, pixels.ref, flat.ref, forward=forward, shape=image, ld=pixels.ld, strides=strides)


register(Operator("flatten", infer, lambda node, cx: _lower(node, cx, node.inputs[0].shape, True), gradient))
register(Operator("unflatten", infer_unflatten, lambda node, cx: _lower(node, cx, node.output.shape, False),
                  lambda node, grads: [apply("flatten", [grads[0]], start_dim=node.attrs["start_dim"],
                                             end_dim=node.attrs["end_dim"])]))
