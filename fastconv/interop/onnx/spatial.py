"""Pictures: resizing, sampling by coordinates, regions."""

from __future__ import annotations

import numpy as np

from fastconv.graph.ir import apply
from fastconv.interop.onnx.conv import several
from fastconv.interop.onnx.table import Node, function, register, tensor
from fastconv.ops import views


@register("Resize", "Upsample")
def resize(node: Node, x, *more):
    x = tensor(x)
    if node.op == "Upsample":
        roi, scales, sizes = None, more[0] if more else None, None
        transform = "asymmetric"
    elif node.opset < 11:
        roi, scales, sizes, transform = None, more[0], None, "asymmetric"
    else:
        roi, scales, sizes = (*more, None, None, None)[:3]
        transform = node.get("coordinate_transformation_mode", "half_pixel")
    mode = node.get("mode", "nearest")
    given = node.get("scales") if scales is None else node.static(scales, "scales").reshape(-1).tolist()
    axes = node.dims(node.get("axes") or range(x.ndim), x.ndim)
    extents = [0] * x.ndim
    factors = [0.0] * x.ndim  # 0: as it is
    if sizes is not None and np.size(node.static(sizes, "sizes")):
        wanted = [int(s) for s in node.integers(sizes, "sizes")]
        policy = node.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            ratios = [w / max(1, int(x.shape[a])) for a, w in zip(axes, wanted, strict=True)]
            scale = min(ratios) if policy == "not_larger" else max(ratios)
            wanted = [int(np.floor(scale * int(x.shape[a]) + 0.5)) for a in axes]
        for a, w in zip(axes, wanted, strict=True):
            extents[a], factors[a] = w, scale if policy != "stretch" else w / max(1, int(x.shape[a]))  # 0: an empty batch
    elif given:
        if len(given) != len(axes):
            raise node.fail(f"{len(given)} scales: expected {len(axes)}")
        for a, s in zip(axes, given, strict=True):
            extents[a], factors[a] = int(np.floor(int(x.shape[a]) * s)), float(s)
    else:
        raise node.fail("neither scales nor sizes are given")
    start: list = [None] * x.ndim
    end: list = [None] * x.ndim
    if transform == "tf_crop_and_resize":
        region = node.static(roi, "roi").reshape(2, -1)
        for i, a in enumerate(axes):
            start[a], end[a] = float(region[0, i]), float(region[1, i])
    rounding = "floor" if node.op == "Upsample" or node.opset < 11 else node.get("nearest_mode", "round_prefer_floor")
    settings = (mode, transform, rounding, float(node.get("cubic_coeff_a", -0.75)),
                bool(node.get("exclude_outside", 0)), bool(node.get("antialias", 0)))
    for a in range(x.ndim):
        if not factors[a] or factors[a] == 1.0 and extents[a] == int(x.shape[a]) and transform != "tf_crop_and_resize":
            continue
        table = weights(int(x.shape[a]), extents[a], factors[a], *settings, start=start[a], end=end[a],
                        outside=float(node.get("extrapolation_value", 0.0)))
        x = along(node, x, a, *table)
    return x


def weights(size: int, out: int, scale: float, mode: str, transform: str, nearest: str, a: float, exclude: bool,
            antialias: bool, start=None, end=None, outside: float = 0.0):
    """The rows of a resampling along one axis: a matrix (out, size), and what is added (for places outside of a region).

    The coordinate transformations, the roundings of "nearest" and the weights are the ONNX standard's (operator Resize).
    """
    i = np.arange(out, dtype=np.float64)
    if transform == "half_pixel":
        x = (i + 0.5) / scale - 0.5
    elif transform == "half_pixel_symmetric":
        adjust = out / (scale * size)
        centre = size / 2
        x = centre * (1 - adjust) + (i + 0.5) / scale - 0.5
    elif transform == "pytorch_half_pixel":
        x = (i + 0.5) / scale - 0.5 if out > 1 else np.zeros(out)
    elif transform == "align_corners":
        whole = scale * size  # the standard's extent: not rounded
        x = i * (size - 1) / (whole - 1) if whole > 1 else np.zeros(out)
    elif transform == "asymmetric":
        x = i / scale
    elif transform == "tf_crop_and_resize":
        x = start * (size - 1) + i * (end - start) * (size - 1) / (out - 1) if out > 1 else \
            np.full(out, 0.5 * (start + end) * (size - 1))
    else:
        raise ValueError(f"Resize: coordinate_transformation_mode={transform!r} is not known")
    matrix, added = np.zeros((out, size)), np.zeros(out)
    for row, at in enumerate(x):
        if transform == "tf_crop_and_resize" and not 0 <= at <= size - 1:
            added[row] = outside
            continue
        if mode == "nearest":
            place = {"round_prefer_floor": np.ceil(at - 0.5), "round_prefer_ceil": np.floor(at + 0.5), "floor": np.floor(at),
                     "ceil": np.ceil(at)}[nearest]
            matrix[row, int(min(max(place, 0), size - 1))] += 1
            continue
        shrink = min(scale, 1.0) if antialias else 1.0
        reach = (2 if mode == "cubic" else 1) / shrink
        first, last = int(np.floor(at - reach)) + 1, int(np.ceil(at + reach)) - 1
        if not antialias:
            first = int(np.floor(at)) - (1 if mode == "cubic" else 0)
            last = first + (3 if mode == "cubic" else 1)
        places = np.arange(first, last + 1)
        values = _kernel((places - at) * shrink, mode, a)
        if exclude or antialias:
            values = np.where((places >= 0) & (places < size), values, 0.0) if exclude else values
            total = values.sum()
            values = values / total if total else values
        np.add.at(matrix[row], np.clip(places, 0, size - 1), values)
    return matrix.astype(np.float32), added.astype(np.float32)


def _kernel(d: np.ndarray, mode: str, a: float) -> np.ndarray:
    d = np.abs(d)
    if mode == "cubic":
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
    return np.maximum(0.0, 1 - d)


def along(node: Node, x, axis: int, matrix: np.ndarray, added: np.ndarray):
    """Resamples along one axis by the rows of a matrix."""
    out, size = matrix.shape
    found = [np.flatnonzero(row) for row in matrix]
    start = (0, *np.cumsum([len(f) for f in found]).tolist())
    index = tuple(int(i) for f in found for i in f)
    weight = tuple(float(matrix[r, i]) for r, f in enumerate(found) for i in f)
    if axis == 0:
        views.fixed(x)
    y = apply("resample", [x], rules=((axis, size, out, ("rows", start, index, weight)),), adjoint=False)
    return y + added.reshape([-1 if i == axis else 1 for i in range(x.ndim)]) if added.any() else y


@register("GridSample")
def grid_sample(node: Node, x, grid):
    mode = {"linear": "bilinear", "cubic": "bicubic", "bilinear": "bilinear", "bicubic": "bicubic",
            "nearest": "nearest"}[node.get("mode", "linear")]
    return function(node, "grid_sample")(tensor(x), tensor(grid), mode, node.get("padding_mode", "zeros"),
                                         bool(node.get("align_corners", 0)))


@register("AffineGrid")
def affine_grid(node: Node, theta, size):
    return function(node, "affine_grid")(tensor(theta), [int(s) for s in node.integers(size, "size")],
                                         bool(node.get("align_corners", 0)))


@register("RoiAlign")
def roi_align(node: Node, x, rois, batch_indices):
    cast, cat = function(node, "cast"), function(node, "cat")
    boxes = cat([cast(tensor(batch_indices), "float32").reshape(-1, 1), tensor(rois)], 1)
    default = "half_pixel" if node.opset >= 16 else "output_half_pixel"
    aligned = node.get("coordinate_transformation_mode", default) == "half_pixel"
    more = {"mode": "max"} if node.get("mode", "avg") == "max" else {}
    return function(node, "roi_align")(tensor(x), boxes, (node.get("output_height", 1), node.get("output_width", 1)),
                                       float(node.get("spatial_scale", 1.0)), node.get("sampling_ratio", 0), aligned, **more)


@register("MaxRoiPool")
def max_roi_pool(node: Node, x, rois):
    return function(node, "roi_pool")(tensor(x), tensor(rois), tuple(node.get("pooled_shape")),
                                      float(node.get("spatial_scale", 1.0)))


@register("DeformConv")
def deform_conv(node: Node, x, w, offset, b=None, mask=None):
    """Convolution whose taps are moved: they are sampled (bilinear, zero outside), then multiplied."""
    x, offset = tensor(x), tensor(offset)
    if x.ndim != 4:
        raise node.fail(f"input of shape {tuple(x.shape)}: expected (N, C, H, W)")
    n, c, *size = (int(s) for s in x.shape)
    outputs, per, *kernel = (int(s) for s in w.shape)
    groups, moved, taps = node.get("group", 1), node.get("offset_group", 1), kernel[0] * kernel[1]
    strides, dilations = several(node, "strides", 2, 1), several(node, "dilations", 2, 1)
    given = node.get("pads") or [0] * 4
    rows, columns = (int(s) for s in offset.shape[2:])
    if moved < 1 or c % moved or groups < 1 or c != per * groups or outputs % groups:
        raise node.fail(f"input of {c} channels, weight of shape {tuple(w.shape)}, group={groups}, offset_group={moved}")
    if tuple(int(s) for s in offset.shape[:2]) != (n, 2 * moved * taps):
        raise node.fail(f"offset of shape {tuple(offset.shape)}: expected ({n}, {2 * moved * taps}, rows, columns)")
    offset = offset.reshape(n * moved, taps, 2, rows, columns)
    places = []
    for axis, count in ((1, columns), (0, rows)):  # the grid's order is (x, y)
        tap = np.arange(taps) % kernel[1] if axis else np.arange(taps) // kernel[1]
        at = np.arange(count) * strides[axis] - given[axis]
        still = (tap * dilations[axis])[:, None, None] + (at[None, None] if axis else at[None, :, None])
        place = offset[:, :, axis] + tensor(np.broadcast_to(still, (taps, rows, columns)).astype(np.float32))
        places.append((place * 2.0 + 1.0) / float(size[axis]) - 1.0)
    grid = function(node, "stack")(places, 4).reshape(n * moved, taps * rows, columns, 2)
    taken = function(node, "grid_sample")(x.reshape(n * moved, c // moved, *size), grid, "bilinear", "zeros", False)
    if mask is not None:
        taken = taken * tensor(mask).reshape(n * moved, 1, taps * rows, columns)
    taken = taken.reshape(n, groups, per * taps, rows * columns)
    y = tensor(w).reshape(groups, outputs // groups, per * taps) @ taken
    y = y.reshape(n, outputs, rows, columns)
    return y if b is None else y + tensor(b).reshape(1, outputs, 1, 1)
