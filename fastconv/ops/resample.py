"""Resampling along axes by lists, sampling at coordinates, and their gradients.

``resample`` is linear, and its adjoint is itself with the transposed lists. A rule is (dimension, extent read, extent made,
how), ``how`` the name of a function of :mod:`fastconv.ops.resampling` and its further arguments.
"""

from __future__ import annotations

from fastconv.graph.ir import FLAT, Node, Operator, Type, apply, fail, register
from fastconv.kernels import resample as kernels
from fastconv.kernels.taps import Taps
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Strided
from fastconv.ops import resampling, views


def taps(rule: tuple, adjoint: bool) -> Taps:
    """The list of a rule; the adjoint's makes what the other reads."""
    _, size, out, (name, *arguments) = rule
    made = getattr(resampling, name)(size, out, *arguments)
    return made.transposed(size) if adjoint else made


def infer(inputs: list, attrs: dict) -> list[Type]:
    x, shape = inputs[0], list(inputs[0].shape)
    for dim, size, out, _ in attrs["rules"]:
        shape[dim] = size if attrs["adjoint"] else out
    return [Type(tuple(shape), x.layout, x.dtype, x.type.fixed)]


def gradient(node: Node, grads: list) -> list:
    return [apply("resample", [grads[0]], rules=node.attrs["rules"], adjoint=not node.attrs["adjoint"])]


def lower(node: Node, cx: Lowering) -> None:
    (x,), y, attrs = node.inputs, node.output, node.attrs
    axes = {rule[0]: taps(rule, attrs["adjoint"]) for rule in attrs["rules"]}
    cx.step(kernels.resample, x=tuple(cx.view(x)), y=tuple(cx.view(y, True)), shape=x.shape, axes=axes, batched=x.batched,
            info={"input": x.shape, "output": y.shape})


register(Operator("resample", infer, lower, gradient, general=True))


# ---- at coordinates -----------------------------------------------------------------------------------------------------

def together(*tensors) -> bool:
    """Whether the first extent of all is the batch of the run; where it is that of some, the graph is exact."""
    if all(t.batched for t in tensors):
        return True
    for tensor in tensors:
        views.fixed(tensor)
    return False


def sampled(inputs: list, attrs: dict) -> dict:
    """What the kernels are told."""
    rule = {key: attrs[key] for key in ("mode", "padding_mode", "align_corners")}
    return {**rule, "size": attrs["size"], "batched": all(t.batched for t in inputs)}


def infer_grid_sample(inputs: list, attrs: dict) -> list[Type]:
    x, grid = inputs
    attrs["size"] = grid.shape[1:-1]
    shape = (*x.shape[:2], *attrs["size"])
    return [Type(shape, x.layout) if together(x, grid) else Type(shape, FLAT)]


def lower_grid_sample(node: Node, cx: Lowering) -> None:
    x, grid = node.inputs
    cx.step(kernels.grid_sample, x=tuple(cx.view(x)), y=tuple(cx.view(node.output, True)), grid=tuple(cx.view(grid)),
            shape=x.shape, info={"input": x.shape, "output": node.output.shape}, **sampled(node.inputs, node.attrs))


def grid_sample_gradient(node: Node, grads: list) -> list:
    x, grid = node.inputs
    rule = {key: node.attrs[key] for key in ("mode", "padding_mode", "align_corners", "size")}
    to_grid = apply("grid_sample_backward_grid", [x, grid, grads[0]], **rule) if grid.dtype == "float32" else None
    return [apply("grid_sample_backward_data", [grid, grads[0]], like=x.type, **rule), to_grid]


def lower_backward_data(node: Node, cx: Lowering) -> None:
    grid, gy = node.inputs
    gx = node.output
    cx.step(kernels.grid_sample_backward_data, gx=tuple(cx.view(gx, True)), gy=tuple(cx.view(gy)), grid=tuple(cx.view(grid)),
            shape=gx.shape, info={"input": gy.shape, "output": gx.shape}, **sampled([grid, gy, gx], node.attrs))


def lower_backward_grid(node: Node, cx: Lowering) -> None:
    x, grid, gy = node.inputs
    cx.step(kernels.grid_sample_backward_grid, x=tuple(cx.view(x)), gy=tuple(cx.view(gy)), grid=tuple(cx.view(grid)),
            ggrid=tuple(cx.view(node.output, True)), shape=x.shape, info={"input": gy.shape, "output": grid.shape},
            **sampled(node.inputs, node.attrs))


register(Operator("grid_sample", infer_grid_sample, lower_grid_sample, grid_sample_gradient, general=True))
register(Operator("grid_sample_backward_data", lambda inputs, attrs: [attrs["like"]], lower_backward_data, general=True))
register(Operator("grid_sample_backward_grid", lambda inputs, attrs: [inputs[1].type], lower_backward_grid, general=True))


# ---- grids of affine maps -----------------------------------------------------------------------------------------------

def infer_affine_grid(inputs: list, attrs: dict) -> list[Type]:
    theta, size = inputs[0], tuple(attrs["size"])
    return [Type((theta.shape[0], *size, len(size)), theta.layout, "float32", theta.type.fixed)]


def affine_views(theta, theta_shape, grid, grid_shape) -> tuple:
    """Both as (N, dims, columns or pixels): the grid is theta with its columns resampled."""
    ref, strides, dtype = grid
    return theta, (ref, (strides[0], strides[-1], strides[-2]), dtype), tuple(theta_shape)


def lower_affine_grid(node: Node, cx: Lowering) -> None:
    (theta,), grid, size = node.inputs, node.output, tuple(node.attrs["size"])
    x, y, shape = affine_views(tuple(cx.view(theta)), theta.shape, tuple(cx.view(grid, True)), grid.shape)
    cx.step(kernels.resample, x=x, y=y, shape=shape, axes={2: resampling.affine(size, node.attrs["align_corners"])},
            batched=theta.batched, info={"input": theta.shape, "output": grid.shape})


def lower_affine_grid_backward(node: Node, cx: Lowering) -> None:
    (grid,), theta, size = node.inputs, node.output, tuple(node.attrs["size"])
    x, y, shape = affine_views(tuple(cx.view(theta, True)), theta.shape, cx.view(grid), grid.shape)
    lists = resampling.affine(size, node.attrs["align_corners"])
    cx.step(kernels.resample, x=y, y=x, shape=(*shape[:2], lists.size), axes={2: lists.transposed(shape[2])},
            batched=theta.batched, info={"input": grid.shape, "output": theta.shape})


register(Operator("affine_grid", infer_affine_grid, lower_affine_grid, lambda node, grads: [
    apply("affine_grid_backward", [grads[0]], like=node.inputs[0].type, size=node.attrs["size"],
          align_corners=node.attrs["align_corners"])], general=True))
register(Operator("affine_grid_backward", lambda inputs, attrs: [attrs["like"]], lower_affine_grid_backward, general=True))


# ---- regions of interest ------------------------------------------------------------------------------------------------

def infer_boxes(inputs: list, attrs: dict) -> list[Type]:
    for tensor in inputs:
        views.fixed(tensor)
    return [Type((inputs[0].shape[0], 5), FLAT)]


def lower_boxes(node: Node, cx: Lowering) -> None:
    ref, strides, dtype = cx.view(node.output, True)
    image, *boxes = node.inputs
    cx.copy(cx.view(image), Strided(ref, strides, dtype), image.shape, False)
    first = 0
    for tensor in boxes:
        cx.copy(cx.view(tensor), Strided(ref.plus(5 * first + 1), strides, dtype), tensor.shape, False)
        first += tensor.shape[0]


register(Operator("roi_boxes", infer_boxes, lower_boxes, lambda node, grads: [None] * len(node.inputs), general=True))


def infer_roi(inputs: list, attrs: dict) -> list[Type]:
    x, rois = inputs
    for tensor in inputs:
        views.fixed(tensor)
    return [Type((rois.shape[0], x.shape[1], *attrs["size"]), FLAT)]


def region(x_shape, rois, attrs: dict) -> dict:
    """What all kernels are told; aligned ones a few things more."""
    more = {"samples": attrs["samples"], "aligned": attrs["aligned"]} if "samples" in attrs else {}
    return {"shape": x_shape, "count": rois.shape[0], "size": attrs["size"], "scale": attrs["scale"], **more}


def lower_roi(kernel):
    def lower(node: Node, cx: Lowering) -> None:
        x, rois = node.inputs
        mode = {"mode": node.attrs["mode"]} if "mode" in node.attrs else {}
        cx.step(kernel, x=tuple(cx.view(x)), y=tuple(cx.view(node.output, True)), rois=tuple(cx.view(rois)),
                info={"input": x.shape, "output": node.output.shape}, **mode, **region(x.shape, rois, node.attrs))
    return lower


def roi_align_gradient(node: Node, grads: list) -> list:
    x, rois = node.inputs
    if node.attrs["mode"] != "avg":
        fail("roi_align", f"mode={node.attrs['mode']!r} has no gradient")
    attrs = {key: node.attrs[key] for key in ("size", "scale", "samples", "aligned")}
    return [apply("roi_align_backward", [rois, grads[0]], like=x.type, **attrs), None]


def roi_pool_gradient(node: Node, grads: list) -> list:
    x, rois = node.inputs
    attrs = {key: node.attrs[key] for key in ("size", "scale")}
    return [apply("roi_pool_backward", [x, rois, grads[0]], like=x.type, **attrs), None]


def lower_roi_align_backward(node: Node, cx: Lowering) -> None:
    rois, gy = node.inputs
    gx = node.output
    cx.step(kernels.roi_align_backward, gx=tuple(cx.view(gx, True)), gy=tuple(cx.view(gy)), rois=tuple(cx.view(rois)),
            info={"input": gy.shape, "output": gx.shape}, **region(gx.shape, rois, node.attrs))


def lower_roi_pool_backward(node: Node, cx: Lowering) -> None:
    x, rois, gy = node.inputs
    gx = node.output
    cx.step(kernels.roi_pool_backward, gx=tuple(cx.view(gx, True)), gy=tuple(cx.view(gy)), x=tuple(cx.view(x)),
            rois=tuple(cx.view(rois)), info={"input": gy.shape, "output": gx.shape}, **region(gx.shape, rois, node.attrs))


register(Operator("roi_align", infer_roi, lower_roi(kernels.roi_align), roi_align_gradient, general=True))
register(Operator("roi_pool", infer_roi, lower_roi(kernels.roi_pool), roi_pool_gradient, general=True))
register(Operator("roi_align_backward", lambda inputs, attrs: [attrs["like"]], lower_roi_align_backward, general=True))
register(Operator("roi_pool_backward", lambda inputs, attrs: [attrs["like"]], lower_roi_pool_backward, general=True))
