"""Losses: cross entropy of logits against classes, squared error. Both are also their own gradients' source: what the
backward needs (largest logit and sum of exponentials per pixel, what the mean divided by) is kept by the forward."""

from __future__ import annotations

from fastconv._values import shown
from fastconv.graph.ir import FLAT, PIXELS, Node, Operator, Tensor, Type, apply, fail, register
from fastconv.kernels import loss as kernels
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Ref, channels, pixels_per_image
from fastconv.ops.activation import number, want_float
from fastconv.ops.shape import row_major, strided

REDUCTIONS = ("mean", "sum", "none")


def check_reduction(op: str, attrs: dict) -> str:
    reduction = attrs.setdefault("reduction", "mean")
    if reduction not in REDUCTIONS:
        fail(op, f"reduction={shown(reduction)}: expected one of {', '.join(REDUCTIONS)}")
    return reduction


def problem(x: Tensor, cx: Lowering) -> dict:
    return {"x": cx.read(x).ref, "ldx": cx.read(x).ld, "pixels": pixels_per_image(x.shape), "channels": channels(x.shape)}


def sum_parts(node: Node, cx: Lowering, x: Tensor, part: Ref) -> Ref:
    """The step from parts to the loss; returns where the backward's factor is."""
    norm = cx.temp(4, "loss norm")
    cx.step(kernels.loss_sum, part=part, loss=cx.write(node.output).ref, norm=norm, pixels=pixels_per_image(x.shape),
            channels=channels(x.shape), mean=node.attrs["reduction"] == "mean")
    return norm


def part_memory(x: Tensor, cx: Lowering) -> Ref:
    return cx.temp(16 * kernels.parts(cx.pixels(x), channels(x.shape)), "loss parts")


# ---- cross entropy ------------------------------------------------------------------------------------------------------


def infer_cross_entropy(inputs: list, attrs: dict) -> list[Type]:
    op = "cross_entropy"
    x, target, weight = (*inputs, None)[:3]
    want_float(op, "input", x)
    reduction = check_reduction(op, attrs)
    if x.layout == FLAT or x.ndim < 2:
        fail(op, f"input of shape {x.shape}: expected logits (N, C, ...)")
    expected = (x.shape[0], *x.shape[2:])
    if target.dtype != "int64":
        want_float(op, "target", target)
        if target.layout == FLAT:
            fail(op, f"target of shape {target.shape} is a parameter: expected an activation", TypeError)
        if target.shape == expected:
            fail(op, f"target has dtype {target.dtype}: expected class indices of an integer dtype for shape {expected}, or "
                     f"probabilities of the input's shape {x.shape}", TypeError)
        if target.shape != x.shape:
            fail(op, f"target of shape {target.shape} and dtype float32: expected probabilities of the input's shape "
                     f"{x.shape}, or class indices of shape {expected} and an integer dtype")
    elif target.shape != expected:
        fail(op, f"target of shape {target.shape}: input of shape {x.shape} expects {expected}")
    if weight is not None and weight.shape != (x.shape[1],):
        fail(op, f"weight of shape {weight.shape}: expected ({x.shape[1]},), one per class")
    ignore = attrs.setdefault("ignore_index", -100)
    if isinstance(ignore, bool) or not isinstance(ignore, int):
        fail(op, f"ignore_index={shown(ignore)}: expected an integer", TypeError)
    if not -2**63 <= ignore < 2**63:
        fail(op, f"ignore_index={ignore} must be from -2**63 to 2**63 - 1")
    if target.dtype != "int64" and ignore >= 0:
        fail(op, f"ignore_index={ignore}: a target of probabilities has no class to ignore")
    attrs.setdefault("label_smoothing", 0.0)
    number(op, attrs, "label_smoothing", 0.0)
    if attrs["label_smoothing"] > 1:
        fail(op, f"label_smoothing={attrs['label_smoothing']}: expected 0 to 1")
    return [Type(expected) if reduction == "none" else Type((), FLAT)]


def gradient_cross_entropy(node: Node, grads: list) -> list:
    inputs = [*node.inputs, None][:3]
    gx = apply("cross_entropy_backward", [grads[0], *inputs, node.output], **node.attrs)
    gt = None
    if inputs[1].dtype != "int64":
        gt = apply("cross_entropy_backward", [grads[0], *inputs, node.output], of_target=True, **node.attrs)
    return [gx, gt, None][: len(node.inputs)]


def entropy_problem(x: Tensor, target: Tensor, weight: Tensor | None, cx: Lowering, attrs: dict) -> dict:
    soft = {} if target.dtype == "int64" else {"ldt": cx.read(target).ld}
    keywords = {**soft, "target": cx.read(target).ref, "ignore_index": attrs["ignore_index"],
                "label_smoothing": attrs["label_smoothing"], **problem(x, cx)}
    if weight is not None:
        keywords["weight"] = cx.read(weight).ref
    return keywords


def is_dense(shape: tuple[int, ...]) -> bool:
    """Whether (N, spatial...) read as (N, C, spatial...) lies in memory as it is written: one spatial dimension at most."""
    return len(shape) <= 2 or pixels_per_image(shape) == 1


def lower_cross_entropy(node: Node, cx: Lowering) -> None:
    x, target, weight = (*node.inputs, None)[:3]
    attrs, out = node.attrs, node.output
    # what targets are checked against before each run; several losses may read one target
    if target.dtype == "int64":
        cx.extra.setdefault("classes", []).append((target, x.shape[1], attrs["ignore_index"]))
    kept, part = cx.temp(8 * cx.pixels(x), "cross entropy"), part_memory(x, cx)
    keywords = entropy_problem(x, target, weight, cx, attrs)
    info = {"input": x.shape, "output": out.shape}
    if attrs["reduction"] != "none":
        cx.step(kernels.cross_entropy, kept=kept, part=part, info=info, **keywords)
        cx.extra["loss", out] = kept, sum_parts(node, cx, x, part)
        return
    y = cx.write(out)
    dense = is_dense(out.shape) and y.ld == channels(out.shape)
    loss = y.ref if dense else cx.temp(4 * cx.pixels(x), "losses")
    cx.step(kernels.cross_entropy, kept=kept, part=part, loss=loss, info=info, **keywords)
    if not dense:
        cx.step(strided, y.ref, loss, forward=False, shape=out.shape, ld=y.ld, strides=row_major(out.shape))
    cx.extra["loss", out] = kept, None


def infer_cross_entropy_backward(inputs: list, attrs: dict) -> list[Type]:
    return [inputs[1].type]


def lower_cross_entropy_backward(node: Node, cx: Lowering) -> None:
    gy, x, target, weight, forward = node.inputs
    kept, norm = cx.extra["loss", forward]
    gx = cx.write(node.output)
    keywords = entropy_problem(x, target, weight, cx, node.attrs)
    keywords.update(gy=0, gy_stride=0)
    if node.attrs.get("of_target"):
        keywords["of_target"] = True
    if norm is not None:
        keywords["norm"] = norm
    if gy is not None:
        view = cx.read(gy)
        keywords["gy"] = view.ref
        if norm is None:
            keywords["gy_stride"] = 1
            if not (is_dense(gy.shape) and view.ld == channels(gy.shape)):
                keywords["gy"] = cx.temp(4 * cx.pixels(x), "grad_output")
                cx.step(strided, view.ref, keywords["gy"], forward=True, shape=gy.shape, ld=view.ld,
                        strides=row_major(gy.shape))
    cx.step(kernels.cross_entropy_backward, kept=kept, gx=gx.ref, ldgx=gx.ld, info={"input": x.shape, "output": x.shape},
            **keywords)


register(Operator("cross_entropy", infer_cross_entropy, lower_cross_entropy, gradient_cross_entropy, True,
                  activations=(0,)))
register(Operator("cross_entropy_backward", infer_cross_entropy_backward, lower_cross_entropy_backward))


# ---- squared error ------------------------------------------------------------------------------------------------------


def infer_mse(inputs: list, attrs: dict) -> list[Type]:
    x, target = inputs
    want_float("mse_loss", "input", x)
    want_float("mse_loss", "target", target)
    reduction = check_reduction("mse_loss", attrs)
    for name, t in (("input", x), ("target", target)):
        if t.layout != PIXELS:
            fail("mse_loss", f"{name} of shape {t.shape} is a parameter: expected an activation", TypeError)
    if x.shape != target.shape:
        fail("mse_loss", f"target of shape {target.shape}: expected {x.shape}, the shape of the input")
    return [x.type if reduction == "none" else Type((), FLAT)]


def gradient_mse(node: Node, grads: list) -> list:
    x, target = node.inputs
    same = {"reduction": node.attrs["reduction"]}
    return [apply("mse_loss_backward", [grads[0], x, target, node.output], factor=f, **same) for f in (2.0, -2.0)]


def mse_problem(x: Tensor, target: Tensor, cx: Lowering) -> dict:
    return {"target": cx.read(target).ref, "ldt": cx.read(target).ld, **problem(x, cx)}


def lower_mse(node: Node, cx: Lowering) -> None:
    x, target = node.inputs
    part, info = part_memory(x, cx), {"input": x.shape, "output": node.output.shape}
    keywords = mse_problem(x, target, cx)
    if node.attrs["reduction"] != "none":
        cx.step(kernels.squared_error, part=part, info=info, **keywords)
        cx.extra["loss", node.output] = sum_parts(node, cx, x, part)
        return
    y = cx.write(node.output)
    cx.step(kernels.squared_error, part=part, loss=y.ref, ldl=y.ld, info=info, **keywords)


def lower_mse_backward(node: Node, cx: Lowering) -> None:
    gy, x, target, forward = node.inputs
    gx, keywords = cx.write(node.output), mse_problem(x, target, cx)
    norm = cx.extra.get(("loss", forward))
    if norm is not None:
        keywords["norm"] = norm
    keywords.update(gy=0, ldgy=0)
    if gy is not None:
        view = cx.read(gy)
        keywords.update(gy=view.ref, ldgy=0 if norm is not None else view.ld)
    cx.step(kernels.squared_error_backward, gx=gx.ref, ldgx=gx.ld, factor=node.attrs["factor"],
            info={"input": x.shape, "output": x.shape}, **keywords)


register(Operator("mse_loss", infer_mse, lower_mse, gradient_mse, True, activations=(0, 1)))
register(Operator("mse_loss_backward", lambda inputs, attrs: [inputs[1].type], lower_mse_backward))
