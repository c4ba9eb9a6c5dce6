"""Normalisation of groups of channels of each image (Wu and He, "Group Normalization", 2018), channels-last; groups of one
channel are instance normalisation (Ulyanov, Vedaldi, Lempitsky, 2016).

The passes over memory are those of batch normalisation, with statistics of each image: a forward is statistics of ranges of
its pixels, their merge by groups, the normalisation with a scale and a shift per channel, which takes a residual and an
activation along. `standardize.py` has every other normalisation by the values' own statistics.
"""

from __future__ import annotations

from math import prod
from typing import Any

from fastconv.graph.ir import FLAT, PIXELS, Node, Operator, Tensor, Type, apply, register
from fastconv.kernels import norm as kernels
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import channels, pixels_per_image
from fastconv.ops.norm import references

FEWEST = 12  # channels: with fewer, most of a vector is empty


def fits(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> bool:
    """Whether the kernels take this activation and these parameters."""
    shape = x.type.shape
    if any(t is not None and t.type != Type(shape[1:2], FLAT) for t in (weight, bias)):
        return False
    return x.layout == PIXELS and x.dtype == "float32" and shape[1] >= FEWEST and prod(shape[2:]) > 1


def infer(inputs: list, attrs: dict) -> list[Type]:
    return [inputs[0].type]


def gradient(node: Node, grads: list) -> list:
    x, weight, bias = node.inputs[:3]
    gx, gw, gb = apply("group_norm_backward", [grads[0], x, weight], forward=node)
    return [gx, None if weight is None else gw, None if bias is None else gb]


def infer_backward(inputs: list, attrs: dict) -> list[Type]:
    x = inputs[1].type
    return [x, Type(x.shape[1:2], FLAT), Type(x.shape[1:2], FLAT)]


class Cut:
    """How a normalisation is cut, which follows from the size of one image."""

    def __init__(self, x: Tensor, cx: Lowering):
        self.cx, self.images = cx, x.shape[0]
        self.size: dict[str, Any] = {"channels": channels(x.shape), "pixels": pixels_per_image(x.shape)}
        per_part, self.parts = kernels.cut(1, self.size["pixels"], self.size["channels"])
        self.ranges = {"per_part": per_part, "image_parts": self.parts}

    def of_images(self, nbytes: int, name: str) -> Any:
        return self.cx.temp(max(1, self.images) * nbytes, name)

    def part(self) -> Any:
        return self.of_images(kernels.part_bytes(self.size["channels"], self.parts), "group_norm sums")


def lower(node: Node, cx: Lowering) -> None:
    x, weight, bias, *residual = node.inputs
    p, view, attrs = Cut(x, cx), cx.read(x), node.attrs
    stats, part = p.of_images(4 * kernels.STATS_ROWS * p.size["channels"], "group_norm statistics"), p.part()
    keywords: dict[str, Any] = {}
    if residual and residual[0] is not None:
        other = cx.read(residual[0])
        keywords.update(residual=other.ref, ldr=other.ld)
    if attrs.get("act"):
        keywords.update(zip(("act", "act_a", "act_b"), attrs["act"], strict=True))
    cx.extra["group_norm", node] = stats
    cx.step(kernels.statistics, view.ref, part, ld=view.ld, op="group_norm statistics", **p.size, **p.ranges)
    cx.step(kernels.group_merge, part, stats, groups=attrs["groups"], eps=attrs["eps"], op="group_norm merge", **p.size,
            **p.ranges, **references(cx, gamma=weight, beta=bias))
    y = cx.write(node.output)
    cx.step(kernels.apply, view.ref, stats, y.ref, ldx=view.ld, ldy=y.ld, own=True, **p.size, **keywords,
            info={"input": x.shape, "output": x.shape})


def lower_backward(node: Node, cx: Lowering) -> None:
    gy, x, weight = node.inputs
    forward = node.attrs["forward"]
    p, stats, groups = Cut(x, cx), cx.extra["group_norm", forward], forward.attrs["groups"]
    g, view, part = cx.read(gy), cx.read(x), p.part()
    act: dict[str, Any] = dict(zip(("act", "act_a", "act_b"), node.attrs.get("act") or (), strict=False))
    written: dict[str, Any] = {name: cx.write(t).ref for name, t in zip(("grad_gamma", "grad_beta"), node.outputs[1:],
                                                                         strict=True) if cx.is_read(t)}
    wanted = cx.is_read(node.outputs[0]) or not written
    coef: dict[str, Any] = {"coef": p.of_images(8 * p.size["channels"], "group_norm coefficients")} if wanted else {}
    cx.step(kernels.backward_sums, view.ref, g.ref, stats, part, ldx=view.ld, ldg=g.ld, op="group_norm_backward sums",
            **p.size, **p.ranges, **act)
    cx.step(kernels.group_backward_merge, part, stats, groups=groups, op="group_norm_backward merge", **p.size, **p.ranges,
            **references(cx, gamma=weight), **coef)
    if written:
        cx.step(kernels.group_backward_weight, part, channels=p.size["channels"], image_parts=p.parts,
                op="group_norm_backward weight", **written)
    if wanted:
        gx = cx.write(node.outputs[0])
        cx.step(kernels.backward_data, g.ref, stats, gx.ref, x=view.ref, ldx=view.ld, ldg=g.ld, ldgx=gx.ld, training=True,
                image_parts=p.parts, info={"output": x.shape}, **p.size, **coef, **act)


register(Operator("group_norm", infer, lower, gradient))
register(Operator("group_norm_backward", infer_backward, lower_backward))
