"""Normalisation by moments of the values themselves: group, layer, instance and RMS normalisation; softmax of any dimension.
Groups of channels of pixels are `group_norm.py`'s.

A tensor is seen with its channels split into groups, ``(N, groups, C / groups, spatial...)``, where the statistics want it:
a matter of strides. Forward: one pass for mean and 1 / sqrt(variance + eps), one `map`. Backward, with x^ = (x - mean) * r
the normalised values, g = gy * weight, and means over what was reduced:

    gx = r * (g - mean(g) - x^ * mean(g * x^))        gweight = sum(gy * x^)        gbias = sum(gy)

Where the weight does not vary along some reduced dimensions (group, instance), sums of gy and of gy * x over those give
all of the means: they are the only other pass over memory (Wu and He, "Group Normalization", 2018; Ba, Kiros, Hinton, "Layer
Normalization", 2016; Ulyanov, Vedaldi, Lempitsky, 2016; Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from fastconv.graph.ir import DENSE, FLAT, Node, Operator, Tensor, Type, apply, register
from fastconv.graph.programs import write
from fastconv.kernels import loss as loss_kernels
from fastconv.kernels import map as map_kernels
from fastconv.kernels import norm as norm_kernels
from fastconv.kernels import reduce as kernels
from fastconv.kernels.reduce_way import way
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Ref, Strided, row_major
from fastconv.ops import group_norm, views

Operand = Any  # (reference, strides, dtype), as step factories take it


class Steps:
    """Emits reductions and maps over views of one shape."""

    def __init__(self, cx: Lowering, shape: Sequence[int], batched: bool):
        self.cx, self.shape, self.batched = cx, tuple(shape), batched

    def temp(self, dims: Sequence[int], name: str) -> Operand:
        """Memory for a value per element of these dimensions, the others repeated."""
        shape = tuple(s if d in dims else 1 for d, s in enumerate(self.shape))
        return self.dense(self.cx.temp(4 * prod(shape), name), shape)

    def dense(self, ref: Ref, shape: Sequence[int]) -> Operand:
        return ref, tuple(0 if s == 1 else n for s, n in zip(shape, row_major(shape), strict=True)), "float32"

    def reduce(
        self,
        operation: str,
        x: Operand,
        axes: Sequence[int],
        y: Operand,
        y2: Operand | None = None,
        z: Operand | None = None,
        only: Sequence[int] | None = None,
        **constants,
    ) -> None:
        """``only``: the dimensions that there are; of the others one element is taken."""
        shape = self.shape if only is None else tuple(s if d in only else 1 for d, s in enumerate(self.shape))
        batched = self.batched and (only is None or 0 in only)
        keywords: dict[str, Any] = {
            "shape": shape,
            "axes": tuple(axes),
            "operation": operation,
            "x": x,
            "y": y,
            "y2": y2,
            "z": z,
            "batched": batched,
        }
        floats = way(**keywords).part_floats
        if floats:
            keywords["part"] = self.cx.temp(4 * floats, "partial reductions")
        self.cx.step(kernels.reduce, info={"input": shape, "output": shape}, **keywords, **constants)
        if floats:
            self.cx.step(kernels.merge, **keywords, **constants)

    def map(self, function: Callable, inputs: Sequence[Operand], y: Operand, only: Sequence[int] | None = None) -> None:
        shape = self.shape if only is None else tuple(s if d in only else 1 for d, s in enumerate(self.shape))
        program, results = write(function, len(inputs))
        self.cx.step(
            map_kernels.map,
            shape=shape,
            inputs=list(inputs),
            outputs=[y],
            program=program,
            results=results,
            batched=self.batched and (only is None or 0 in only),
            info={"input": shape, "output": shape},
        )


# ---- group, layer, instance, RMS -----------------------------------------------------------------------------------------


def multiplied(scale: Operand, weight: Operand | None) -> tuple[Callable, list[Operand]]:
    """What of a scale and perhaps a weight makes their product."""
    return ((lambda r: r), [scale]) if weight is None else ((lambda r, w: r * w), [scale, weight])


def split_shape(shape: Sequence[int], groups: int) -> tuple[int, ...]:
    return tuple(shape) if not groups else (shape[0], groups, shape[1] // groups, *shape[2:])


class Grouped:
    """A normalisation seen in the shape that its statistics want."""

    def __init__(self, x: Tensor, attrs: dict, cx: Lowering):
        self.groups, self.reduced, self.weighted = attrs["groups"], attrs["reduced"], attrs["weighted"]
        self.shape = split_shape(x.shape, self.groups)
        self.kept = [d for d in range(len(self.shape)) if d not in self.reduced]
        self.count = prod(self.shape[d] for d in self.reduced)
        self.steps = Steps(cx, self.shape, x.batched)
        self.cx = cx

    def operand(self, view: Strided) -> Operand:
        strides = view.strides
        if self.groups:
            strides = (strides[0], strides[1] * self.shape[2], *strides[1:])
        return view.ref, strides, view.dtype

    def parameter(self, t: Tensor | None, write: bool = False) -> Operand | None:
        """A weight or bias, of which there is a value per element of the dimensions ``weighted``."""
        if t is None:
            return None
        view = self.cx.view(t, write)
        own = tuple(self.shape[d] if d in self.weighted else 1 for d in range(len(self.shape)))
        if view.strides != row_major(t.shape):
            view = Strided(self.cx.read(t).ref, row_major(t.shape), view.dtype)
        return self.steps.dense(view.ref, own)

    @property
    def rows(self) -> int:
        """How many runs of values are normalised, of each image where the batch is known at run time."""
        return prod(self.shape[d] for d in self.kept if d or not self.steps.batched)

    @property
    def images(self) -> int | None:
        return None if self.steps.batched else 1

    @property
    def affine(self) -> tuple[int, int] | None:
        """(values in a run with one weight, rows after which weights begin anew), where dimensions without weights are the
        last ones, or the first ones that are kept."""
        last = max(self.weighted, default=len(self.shape) - 1) + 1
        first = min(self.weighted, default=last)
        if tuple(self.weighted) != tuple(range(first, last)) or last < len(self.kept):
            return None
        return prod(self.shape[last:]), prod(self.shape[d] for d in self.kept if d >= first)

    def row(self, t: Operand) -> int | None:
        """The stride between what is normalised, where each is a run in memory; else None."""
        axes, at = [(self.shape[d], t[1][d]) for d in (*self.kept, *self.reduced)], len(self.kept)
        whole = tuple(self.reduced) == tuple(range(at, len(self.shape))) and self.affine is not None
        if not whole or not 1 < self.count <= norm_kernels.LONGEST_ROW:
            return None
        run, stride = 1, None
        for extent, step in reversed(axes[at:]):
            if extent != 1 and step != run:
                return None
            run *= extent
        for d, (extent, step) in reversed(list(enumerate(axes[:at]))):
            batch = d == 0 and self.steps.batched
            if extent == 1 and not batch:
                continue
            if stride is None:
                stride, run = step, step * (1 if batch else extent)
            elif step != run:
                return None
            else:
                run *= extent
        return max(self.count, stride or 0) if stride is None or stride >= self.count else None

    def by_channel(self, function: Callable, inputs: Sequence[Operand]) -> Operand:
        """A value per image and channel: what is one for a group would end the run of channels that `map` takes at once."""
        made = self.steps.temp([0, 1, 2], "by channel")
        self.steps.map(function, inputs, made, [0, 1, 2])
        return made

    def statistics(self, t: Tensor, write: bool = False) -> Operand:
        """Means, or 1 / deviations: a value per element of the dimensions that are kept."""
        view = self.cx.view(t, write)
        return self.steps.dense(view.ref, tuple(1 if d in self.reduced else s for d, s in enumerate(self.shape)))


def standardized(x: Tensor, weight: Tensor | None, bias: Tensor | None, *, groups: int, reduced: Sequence[int],
                 weighted: Sequence[int], eps: float, centred: bool = True) -> Tensor:
    """The node; ``reduced`` and ``weighted`` count dimensions of the split shape. It has two more inputs where running
    statistics, mean and variance, are to move by ``momentum`` towards those of the batch."""
    inner = range(2, x.ndim + (groups > 0))  # what a channel has of an image
    if centred and tuple(reduced) == tuple(inner) and tuple(weighted) == ((1, 2) if groups else (1,)) and \
            group_norm.fits(x, weight, bias):
        return apply("group_norm", [x, weight, bias], groups=groups or x.type.shape[1], eps=eps)
    return apply("standardize", [x, weight, bias], groups=groups, reduced=tuple(reduced), weighted=tuple(weighted), eps=eps,
                 centred=centred)[0]


def infer(inputs: list, attrs: dict) -> list[Type]:
    x = inputs[0]
    shape = split_shape(x.type.shape, attrs["groups"])
    kept = tuple(s for d, s in enumerate(shape) if d not in attrs["reduced"])
    if x.batched and 0 in attrs["reduced"]:
        views.fixed(x)
    statistics = Type(kept, DENSE if x.batched and 0 not in attrs["reduced"] else FLAT)
    return [x.type, statistics, statistics]


def lower(node: Node, cx: Lowering) -> None:
    x, weight, bias, *running = node.inputs
    y, *statistics = node.outputs
    p = Grouped(x, node.attrs, cx)
    source, target = p.operand(cx.view(x)), p.operand(cx.view(y, write=True))
    mean, scale = (p.statistics(t, True) for t in statistics)
    if prod(p.shape) == 0:
        return
    centred = node.attrs["centred"]
    ld = None if running else [p.row(t) for t in (source, target)]
    if ld and None not in ld:
        w, b = p.parameter(weight), p.parameter(bias)
        run, cycle = p.affine or (1, 1)
        step = cx.step(norm_kernels.rows, source[0], target[0], scale[0], mean=mean[0] if centred else 0,
                       weight=w[0] if w else 0, bias=b[0] if b else 0, channels=p.count, rows=p.rows,
                       run=run, cycle=cycle, ldx=ld[0], ldy=ld[1], eps=node.attrs["eps"],
                       info={"input": p.shape, "output": p.shape})
        step.images = p.images
        return
    if centred:
        p.steps.reduce("rstd", source, p.reduced, scale, mean, eps=node.attrs["eps"])
    else:
        p.steps.reduce("rms", source, p.reduced, scale, eps=node.attrs["eps"])
    w, b = p.parameter(weight), p.parameter(bias)
    if centred and p.groups:
        mean, scale = p.by_channel(lambda m: m, [mean]), p.by_channel(*multiplied(scale, w))
        w = None
    given = [t for t in (w, b) if t is not None]
    inputs = [source, scale, *([mean] if centred else []), *given]

    def body(x, r, *rest):
        left = list(rest)
        out = (x - left.pop(0)) * r if centred else x * r
        if w is not None:
            out = out * left.pop(0)
        return out + left.pop(0) if b is not None else out

    p.steps.map(body, inputs, target)
    if running:
        follow(p, cx, source, running, node.attrs["momentum"])


def follow(p: Grouped, cx: Lowering, source: Operand, running: Sequence[Tensor], momentum: float) -> None:
    """Moves running statistics towards the means over the batch of those of its images, variances unbiased."""
    cx.changed += [t.parameter for t in running if t.parameter is not None]
    variances, means = p.steps.temp(p.kept, "variances"), p.steps.temp(p.kept, "means")
    p.steps.reduce("var", source, p.reduced, variances, means, correction=1.0)
    for t, found in zip(running, (means, variances), strict=True):
        kept, average = p.parameter(t), p.steps.temp([1], "average")
        assert kept is not None
        p.steps.reduce("mean", found, [0], average, only=[0, 1])
        p.steps.map(lambda old, new: old * (1.0 - momentum) + new * momentum, [kept, average], kept, [1])


def gradient(node: Node, grads: list) -> list:
    x, weight, bias = node.inputs[:3]
    if grads[0] is None:
        return [None] * len(node.inputs)
    if prod(x.type.shape) == 0:  # sums of nothing
        given = [None if t is None else apply("constant", [], shape=t.type.shape, value=0.0) for t in (x, weight, bias)]
        laid = [None if g is None else views.laid_out(g, t.type) for g, t in zip(given, (x, weight, bias), strict=True)]
        return [*laid, *[None] * (len(node.inputs) - 3)]
    _, mean, scale = node.outputs
    gy = views.laid_out(grads[0], x.type)
    found = apply(
        "standardize_backward",
        [gy, x, mean, scale, weight],
        bias=bias is not None,
        parameters=[None if t is None else t.type.shape for t in (weight, bias)],
        **{k: node.attrs[k] for k in ("groups", "reduced", "weighted", "centred")},
    )
    found = list(found) if isinstance(found, tuple) else [found]
    gx = found.pop(0)
    gw = found.pop(0) if weight is not None else None
    gb = found.pop(0) if bias is not None else None
    laid = [None if g is None else views.laid_out(g, t.type) for g, t in ((gw, weight), (gb, bias))]
    return [gx, *laid, *[None] * (len(node.inputs) - 3)]


def infer_backward(inputs: list, attrs: dict) -> list[Type]:
    return [inputs[1].type, *(Type(tuple(s), FLAT) for s in attrs["parameters"] if s is not None)]


def lower_backward(node: Node, cx: Lowering) -> None:
    gy, x, mean_, scale_, weight = node.inputs
    p, centred = Grouped(x, node.attrs, cx), node.attrs["centred"]
    s, rank = p.steps, range(len(p.shape))
    g, v = p.operand(cx.view(gy)), p.operand(cx.view(x))
    written = [p.parameter(t, True) for t in node.outputs[1:]]
    gw = written.pop(0) if weight is not None else None
    gb = written.pop(0) if node.attrs["bias"] else None
    wanted = cx.is_read(node.outputs[0]) or not (gw or gb)
    gx = p.operand(cx.view(node.outputs[0], write=True)) if wanted else None
    mean, r, w = p.statistics(mean_), p.statistics(scale_), p.parameter(weight)
    ld = [p.row(t) for t in (g, v, gx) if t]
    if None not in ld and p.affine == (1, 1):
        of_rows = {"rows": p.rows, "channels": p.count}
        per_part, parts = norm_kernels.cut_rows(p.rows * (p.shape[0] if x.batched else 1), p.count)
        part = cx.temp(8 * parts * p.count, "gradients of ranges of rows") if gw or gb else 0
        data = {"gx": gx[0], "ldgx": ld[2]} if gx else {}
        step = cx.step(norm_kernels.rows_backward, g[0], v[0], r[0], mean=mean[0] if centred else 0, weight=w[0] if w else 0,
                       part=part, ldg=ld[0], ldx=ld[1], per_part=per_part, info={"input": p.shape, "output": p.shape},
                       **data, **of_rows)
        step.images = p.images
        if part:
            step = cx.step(norm_kernels.rows_merge, part, per_part=per_part, grad_weight=gw[0] if gw else 0,
                           grad_bias=gb[0] if gb else 0, **of_rows)
            step.images = p.images
        return
    inner = [d for d in p.reduced if d not in p.weighted]  # along which the weight is one value
    outer = [d for d in rank if d not in inner]
    others = [d for d in p.reduced if d not in inner]
    one = 1.0 / p.count
    across = [d for d in rank if d not in p.weighted and d not in inner]  # over which weights' gradients are summed, besides
    if w is None and gb is None:
        inner, outer, others = list(p.reduced), p.kept, []
    if inner or w is None:
        sums, dots = s.temp(outer, "sums of gradients"), s.temp(outer, "sums of gradients times values")
        s.reduce("sum", g, inner, sums)
        s.reduce("dot", g, inner, dots, z=v)
        if centred:
            s.map(lambda d, m, t, r: (d - m * t) * r, [dots, mean, sums, r], dots, outer)
        else:
            s.map(lambda d, r: d * r, [dots, r], dots, outer)
        if gw is not None:
            s.reduce("sum", dots, across, gw, only=outer)
        if gb is not None:
            s.reduce("sum", sums, across, gb, only=outer)
        if gx is None:
            return
        a, b = sums, dots
        if others:
            a, b = s.temp(p.kept, "means"), s.temp(p.kept, "means")
            for total, part in ((a, sums), (b, dots)):
                if w is not None:
                    s.reduce("dot", part, others, total, z=w, only=outer)
                else:
                    s.reduce("sum", part, others, total, only=outer)
        elif w is not None:  # one weight for what is reduced together
            a, b = s.temp(p.kept, "means"), s.temp(p.kept, "means")
            s.map(lambda t, w: t * w, [sums, w], a, outer)
            s.map(lambda t, w: t * w, [dots, w], b, outer)
    else:
        normal = s.temp(rank, "gradient times normalised values")
        if centred:
            s.map(lambda g, x, m, r: g * (x - m) * r, [g, v, mean, r], normal)
        else:
            s.map(lambda g, x, r: g * x * r, [g, v, r], normal)
        s.reduce("sum", normal, across, gw)
        if gb is not None:
            s.reduce("sum", g, across, gb)
        if gx is None:
            return
        a, b = s.temp(p.kept, "means"), s.temp(p.kept, "means")
        if centred:
            s.reduce("dot", g, p.reduced, a, z=w)
        s.reduce("dot", normal, p.reduced, b, z=w)
    if centred and p.groups:
        by_gradient, by_value = p.by_channel(*multiplied(r, w)), p.by_channel(lambda r, b: r * r * (b * one), [r, b])
        level, mean = p.by_channel(lambda r, a: r * (a * one), [r, a]), p.by_channel(lambda m: m, [mean])
        s.map(lambda g, x, cg, cx, c, m: g * cg - (x - m) * cx - c, [g, v, by_gradient, by_value, level, mean], gx)
        return
    inputs = [g, v, r, b, *([mean, a] if centred else []), *([w] if w is not None else [])]

    def body(g, x, r, b, *rest):
        left = list(rest)
        mean, a = (left.pop(0), left.pop(0)) if centred else (None, None)
        weighted = g * left.pop(0) if w is not None else g
        if centred:
            return (weighted - a * one - (x - mean) * r * (b * one)) * r
        return (weighted - x * r * (b * one)) * r

    s.map(body, inputs, gx)


register(Operator("standardize", infer, lower, gradient, general=True))
register(Operator("standardize_backward", infer_backward, lower_backward, general=True))


# ---- softmax of any dimension --------------------------------------------------------------------------------------------


def infer_softmax(inputs: list, attrs: dict) -> list[Type]:
    if inputs[0].batched and attrs["dim"] == 0:
        views.fixed(inputs[0])
    return [inputs[0].type]


def rows(t: Tensor) -> dict:
    """The lines along the last dimension as pixels of so many channels."""
    return {
        "channels": t.shape[-1],
        "pixels": prod(t.shape[1:-1] if t.batched else t.shape[:-1]),
        "info": {"input": t.shape, "output": t.shape},
    }


def lower_softmax(node: Node, cx: Lowering) -> None:
    x, dim, log = node.inputs[0], node.attrs["dim"], node.attrs["log"]
    s, kept = Steps(cx, x.shape, x.batched), [d for d in range(x.ndim) if d != dim]
    source, target = tuple(cx.view(x)), tuple(cx.view(node.output, write=True))
    if prod(x.shape) == 0:
        return
    if dim == x.ndim - 1 and all(v[1] == row_major(x.shape) for v in (source, target)):
        step = cx.step(
            loss_kernels.softmax,
            "f32_log_softmax" if log else "f32_softmax",
            x=source[0],
            y=target[0],
            ldx=x.shape[-1],
            ldy=x.shape[-1],
            **rows(x),
        )
        step.images = None if x.batched else 1
        return
    top, total = s.temp(kept, "largest values"), s.temp(kept, "sums")
    s.reduce("max", source, [dim], top)
    if log:
        s.map(lambda x, m: x - m, [source, top], target)
        s.reduce("logsumexp", target, [dim], total)
        s.map(lambda y, t: y - t, [target, total], target)
    else:
        s.map(lambda x, m: (x - m).exp(), [source, top], target)
        s.reduce("sum", target, [dim], total)
        s.map(lambda y, t: y / t, [target, total], target)


def gradient_softmax(node: Node, grads: list) -> list:
    return [apply("softmax_along_backward", [views.laid_out(grads[0], node.output.type), node.output], **node.attrs)]


def lower_softmax_backward(node: Node, cx: Lowering) -> None:
    gy, y = node.inputs
    dim, log = node.attrs["dim"], node.attrs["log"]
    s, kept = Steps(cx, y.shape, y.batched), [d for d in range(y.ndim) if d != dim]
    g, v, gx = tuple(cx.view(gy)), tuple(cx.view(y)), tuple(cx.view(node.output, write=True))
    if prod(y.shape) == 0:
        return
    if dim == y.ndim - 1 and all(t[1] == row_major(y.shape) for t in (g, v, gx)):
        step = cx.step(
            loss_kernels.softmax_backward,
            "f32_log_softmax_backward" if log else "f32_softmax_backward",
            gy=g[0],
            y=v[0],
            gx=gx[0],
            ldgy=y.shape[-1],
            ldy=y.shape[-1],
            ldgx=y.shape[-1],
            **rows(y),
        )
        step.images = None if y.batched else 1
        return
    total = s.temp(kept, "sums")
    if log:
        s.reduce("sum", g, [dim], total)
        s.map(lambda g, y, t: g - y.exp() * t, [g, v, total], gx)
    else:
        s.reduce("dot", g, [dim], total, z=v)
        s.map(lambda g, y, t: y * (g - t), [g, v, total], gx)


register(Operator("softmax_along", infer_softmax, lower_softmax, gradient_softmax, general=True))
register(Operator("softmax_along_backward", lambda inputs, attrs: [inputs[1].type], lower_softmax_backward, general=True))
