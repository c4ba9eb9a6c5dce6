"""Batch normalisation (S. Ioffe, C. Szegedy, "Batch normalization", ICML 2015) and its gradients.

Inputs of ``batch_norm`` are (x, weight, bias, running_mean, running_var), the last four None where they are not there.
With the statistics of the batch a forward is three steps (statistics of ranges of pixels, their merge, the normalisation);
with running ones the scale is made once per version of the parameters and the normalisation is one step. The statistics
that the backward needs lie in one small buffer, which the forward leaves to it (``cx.extra``).
"""

from __future__ import annotations

import math
import numbers
from math import prod
from typing import Any

import numpy as np

from fastconv._values import shown
from fastconv.graph.ir import FLAT, Node, Operator, Tensor, Type, apply, fail, register
from fastconv.kernels import layout
from fastconv.kernels import norm as kernels
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Ref, channels, pixels_per_image

VECTORS = ("weight", "bias", "running_mean", "running_var")


# ---- shape rules ----------------------------------------------------------------------------------------------------


def number(name: str, value, optional: bool = False) -> float | None:
    """``value`` as a finite float of at least 0."""
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        fail("batch_norm", f"{name}={shown(value)}: expected a number{' or None' if optional else ''}", TypeError)
    if not (math.isfinite(value) and value >= 0):
        fail("batch_norm", f"{name}={value} must be finite and at least 0")
    return float(value)


def infer(inputs: list, attrs: dict) -> list[Type]:
    x, *vectors = inputs
    if not 2 <= len(x.shape) <= 5:
        fail("batch_norm", f"input of shape {x.shape} has {len(x.shape)} dimensions: expected 2 (N, C) to 5 (N, C, D, H, W)")
    for name, vector in zip(VECTORS, vectors, strict=True):
        if vector is not None and vector.shape != (x.shape[1],):
            fail("batch_norm", f"{name} of shape {vector.shape}: input of shape {x.shape} has {x.shape[1]} channels, which "
                               f"need shape ({x.shape[1]},)")
    mean, var = vectors[2:]
    if (mean is None) != (var is None):
        fail("batch_norm", f"{VECTORS[2 if mean is None else 3]}=None: running_mean and running_var go together")
    attrs["eps"] = number("eps", attrs.get("eps", 1e-5))
    attrs["momentum"] = number("momentum", attrs.get("momentum", 0.1), optional=True)
    updates = bool(attrs.get("training")) and mean is not None
    batches = attrs.get("num_batches_tracked")
    if batches is not None and not (isinstance(batches, np.ndarray) and batches.dtype == np.int64 and batches.size == 1):
        fail("batch_norm", f"num_batches_tracked={shown(batches)}: expected an int64 array of one value", TypeError)
    if updates and attrs["momentum"] is None and batches is None:
        fail("batch_norm", "momentum=None, the cumulative average, needs num_batches_tracked")
    attrs["training"] = bool(attrs.get("training")) or mean is None
    if updates:
        attrs["effect"] = True
    return [Type(x.shape)]


def infer_backward(inputs: list, attrs: dict) -> list[Type]:
    gy, x = inputs[:2]
    if gy.shape != x.shape:
        fail("batch_norm_backward", f"grad_output of shape {gy.shape}: expected that of the input, {x.shape}")
    return [Type(x.shape), Type((x.shape[1],), FLAT), Type((x.shape[1],), FLAT)]


def gradient(node: Node, grads: list) -> list:
    x, weight, bias = node.inputs[:3]
    affine = any(t is not None and (t.parameter is None or t.parameter.requires_grad) for t in (weight, bias))
    gx, gw, gb = apply("batch_norm_backward", [grads[0], x], forward=node, affine=affine)
    return [gx, None if weight is None else gw, None if bias is None else gb, None, None][: len(node.inputs)]


# ---- lowering ---------------------------------------------------------------------------------------------------------


class Statistics:
    """Sizes and cut of one normalisation, and the memory that its steps share."""

    def __init__(self, x: Tensor, cx: Lowering):
        self.size: dict[str, Any] = {"channels": channels(x.shape), "pixels": pixels_per_image(x.shape)}
        per_part, self.parts = kernels.cut(x.shape[0], self.size["pixels"], self.size["channels"])
        self.cut = {**self.size, "per_part": per_part}
        self.stats_bytes = 4 * kernels.STATS_ROWS * self.size["channels"]

    def part(self, cx: Lowering) -> Ref:
        return cx.temp(kernels.part_bytes(self.size["channels"], self.parts), "batch_norm sums")


def references(cx: Lowering, **tensors: Tensor | None) -> dict[str, Any]:
    return {name: cx.read(t).ref for name, t in tensors.items() if t is not None}


def lower(node: Node, cx: Lowering) -> None:
    x, weight, bias, mean, var, *extra = node.inputs
    p, attrs = Statistics(x, cx), node.attrs
    view = cx.read(x)
    affine = references(cx, gamma=weight, beta=bias)
    keywords: dict = {}
    if attrs["training"]:
        stats, part = cx.temp(p.stats_bytes, "batch_norm statistics"), p.part(cx)
        running: dict = {}
        if attrs.get("effect"):
            running = {**references(cx, running_mean=mean, running_var=var), "momentum": attrs["momentum"]}
            cx.changed += [t.parameter for t in (mean, var) if t.parameter is not None]
            batches = attrs.get("num_batches_tracked")
            if batches is not None:
                running["batches"] = keywords["batches"] = batches.ctypes.data
                cx.counters.append(batches)
        cx.checks.append(EnoughValues(node.path, x.shape))
        cx.step(kernels.statistics, view.ref, part, ld=view.ld, op="batch_norm statistics", **p.cut)
        cx.step(kernels.merge, part, stats, eps=attrs["eps"], op="batch_norm merge", **affine, **running, **p.cut)
    else:
        stats, segment = cx.packed(p.stats_bytes, weight, bias, mean, var)
        cx.step(kernels.fixed, cx.read(mean).ref, cx.read(var).ref, stats, channels=p.size["channels"], eps=attrs["eps"],
                op="batch_norm scale", segment=segment, **affine)
    cx.extra["batch_norm", node] = stats
    if extra and extra[0] is not None:
        residual = cx.read(extra[0])
        keywords.update(residual=residual.ref, ldr=residual.ld)
    if attrs.get("act"):
        act, a, b = attrs["act"]
        keywords.update(act=act, act_a=float(a), act_b=float(b))
    y = cx.write(node.output)
    cx.step(kernels.apply, view.ref, stats, y.ref, ldx=view.ld, ldy=y.ld, info={"input": x.shape, "output": x.shape},
            **p.size, **keywords)


class EnoughValues:
    """The check that a batch with the statistics of one value is refused before anything has run."""

    def __init__(self, path: str, shape: tuple[int, ...]):
        self.path, self.shape = path, shape

    def __call__(self, batch: int) -> None:
        if batch * prod(self.shape[2:]) == 1:
            where = f"batch_norm '{self.path}'" if self.path else "batch_norm"
            raise ValueError(f"{where}: Expected more than 1 value per channel when training, got input of shape "
                             f"{(batch, *self.shape[1:])}")


def lower_backward(node: Node, cx: Lowering) -> None:
    gy, x = node.inputs
    forward, training = node.attrs["forward"], node.attrs["forward"].attrs["training"]
    p, stats = Statistics(x, cx), cx.extra["batch_norm", forward]
    g, view = cx.read(gy), cx.read(x)
    act: dict = {}
    if node.attrs.get("act"):
        act = dict(zip(("act", "act_a", "act_b"), node.attrs["act"], strict=True))
    data = {**p.size, **act, "training": training}
    if training or act:
        data.update(x=view.ref, ldx=view.ld)
    if training or node.attrs["affine"]:
        part = p.part(cx)
        merge = {**references_to_write(cx, node), "training": training}
        if training:
            merge["coef"] = data["coef"] = cx.temp(8 * p.size["channels"], "batch_norm coefficients")
        cx.step(kernels.backward_sums, view.ref, g.ref, stats, part, ldx=view.ld, ldg=g.ld, op="batch_norm_backward sums",
                **p.cut, **act)
        cx.step(kernels.backward_merge, part, stats, op="batch_norm_backward merge", **p.cut, **merge)
    gx = cx.write(node.outputs[0])
    cx.step(kernels.backward_data, g.ref, stats, gx.ref, ldg=g.ld, ldgx=gx.ld, info={"output": x.shape}, **data)


def references_to_write(cx: Lowering, node: Node) -> dict[str, Ref]:
    """Where the gradients of weight and bias go."""
    if not node.attrs["affine"]:
        return {}
    return {"grad_gamma": cx.write(node.outputs[1]).ref, "grad_beta": cx.write(node.outputs[2]).ref}


# ---- folded into the convolution before it ----------------------------------------------------------------------------


def infer_fold(inputs: list, attrs: dict) -> list[Type]:
    w, mean = inputs[0], inputs[4]
    return [Type(w.shape, FLAT), Type(mean.shape, FLAT)]


def lower_fold(node: Node, cx: Lowering) -> None:
    w, *vectors = node.inputs
    refs = [0 if t is None else cx.read(t).ref for t in vectors]
    if node.attrs.get("transposed"):  # (in_channels, out_channels / groups, *kernel)
        groups = node.attrs["groups"]
        size = {"filters": groups * w.shape[1], "per_filter": prod(w.shape[2:]), "groups": groups,
                "outer": w.shape[0] // groups}
    else:
        size = {"filters": w.shape[0], "per_filter": prod(w.shape[1:])}
    cx.step(layout.fold_batchnorm, cx.read(w).ref, *refs, *(cx.write(t).ref for t in node.outputs), eps=node.attrs["eps"],
            **size)


register(Operator("batch_norm", infer, lower, gradient, activations=(0,)))
register(Operator("batch_norm_backward", infer_backward, lower_backward))
register(Operator("fold_batchnorm", infer_fold, lower_fold))
