"""Convolutions, products with weights, pooling."""

from __future__ import annotations

from math import prod

import numpy as np

from fastconv import functional as F
from fastconv.interop.onnx.table import Node, function, register, tensor


def spatial(node: Node, x) -> int:
    """How many spatial dimensions an image has."""
    if not 3 <= x.ndim <= 5:
        raise node.fail(f"input of shape {tuple(x.shape)}: expected 1 to 3 spatial dimensions")
    return x.ndim - 2


def several(node: Node, name: str, count: int, default: int) -> list[int]:
    values = node.get(name)
    if values is None or len(values) == 0:
        return [default] * count
    if len(values) != count:
        raise node.fail(f"{name}={list(values)}: expected {count} values")
    return list(values)


def pads(node: Node, x, kernel, strides, dilations) -> list[tuple[int, int]]:
    """The padding of each spatial dimension, in front and behind."""
    count = len(kernel)
    auto = node.get("auto_pad", "NOTSET") or "NOTSET"
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        found = []
        for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
            need = max(0, (-(-int(size) // s) - 1) * s + (k - 1) * d + 1 - int(size))
            less, more = need // 2, need - need // 2
            found.append((less, more) if auto == "SAME_UPPER" else (more, less))
        return found
    if auto == "VALID":
        return [(0, 0)] * count
    if auto != "NOTSET":
        raise node.fail(f"auto_pad={auto!r}: expected NOTSET, SAME_UPPER, SAME_LOWER or VALID")
    given = node.get("pads") or [0] * (2 * count)
    if len(given) != 2 * count:
        raise node.fail(f"pads={list(given)}: expected {2 * count} values")
    return list(zip(given[:count], given[count:], strict=True))


def padded(x, pairs, value: float = 0.0):
    """The image with a border, as F.pad takes it: the last dimension first."""
    return F.pad(x, [p for pair in reversed(pairs) for p in pair], value=value) if any(map(any, pairs)) else x


@register("Conv")
def conv(node: Node, x, w, b=None):
    x, count = tensor(x), spatial(node, x)
    kernel = [int(s) for s in w.shape[2:]]
    strides, dilations = several(node, "strides", count, 1), several(node, "dilations", count, 1)
    pairs = pads(node, x, kernel, strides, dilations)
    if min(min(p) for p in pairs) < 0:
        x, pairs = padded(x, pairs), [(0, 0)] * count
    return function(node, f"conv{count}d")(x, tensor(w), None if b is None else tensor(b), tuple(strides), tuple(pairs),
                                           tuple(dilations), node.get("group", 1))


@register("ConvTranspose")
def conv_transpose(node: Node, x, w, b=None):
    x, count = tensor(x), spatial(node, x)
    kernel = [int(s) for s in w.shape[2:]]
    strides, dilations = several(node, "strides", count, 1), several(node, "dilations", count, 1)
    extra = several(node, "output_padding", count, 0)
    given, auto = node.get("output_shape"), node.get("auto_pad", "NOTSET") or "NOTSET"
    full = [(int(n) - 1) * s + (k - 1) * d + 1 + e
            for n, s, k, d, e in zip(x.shape[2:], strides, kernel, dilations, extra, strict=True)]
    if given or auto in ("SAME_UPPER", "SAME_LOWER"):
        want = list(given)[-count:] if given else [int(n) * s for n, s in zip(x.shape[2:], strides, strict=True)]
        pairs = []
        for f, g in zip(full, want, strict=True):
            total = f - g
            half = total // 2
            pairs.append((half, total - half) if auto == "SAME_UPPER" else (total - half, half))
    else:
        pairs = pads(node, x, kernel, strides, dilations)
    y = function(node, f"conv_transpose{count}d")(x, tensor(w), None if b is None else tensor(b), tuple(strides), 0,
                                                  tuple(extra), node.get("group", 1), tuple(dilations))
    return padded(y, [(-low, -high) for low, high in pairs])


@register("Gemm")
def gemm(node: Node, a, b, c=None):
    a, b, alpha, beta = tensor(a), tensor(b), node.get("alpha", 1.0), node.get("beta", 1.0)
    if node.get("transB", 0) and not node.get("transA", 0) and alpha == 1 and b.parameter is not None and \
            (c is None or beta == 1 and c.ndim == 1):
        return F.linear(a, b, None if c is None else tensor(c))
    y = function(node, "matmul")(a.t() if node.get("transA", 0) else a, b.t() if node.get("transB", 0) else b)
    y = y if alpha == 1 else y * alpha
    return y if c is None or beta == 0 else y + (tensor(c) if beta == 1 else tensor(c) * beta)


@register("MatMul")
def matmul(node: Node, a, b):
    return function(node, "matmul")(tensor(a), tensor(b))


@register("Einsum")
def einsum(node: Node, *operands):
    return function(node, "einsum")(node.get("equation"), *map(tensor, operands))


# ---- pooling ------------------------------------------------------------------------------------------------------------


def window(node: Node, x):
    count = spatial(node, x)
    kernel = node.get("kernel_shape")
    if kernel is None or len(kernel) != count:
        raise node.fail(f"kernel_shape={kernel}: expected {count} values")
    strides, dilations = several(node, "strides", count, 1), several(node, "dilations", count, 1)
    return count, list(kernel), strides, dilations, pads(node, x, kernel, strides, dilations)


def even(pairs, kernel) -> bool:
    """Whether pooling takes this padding itself."""
    return all(low == high and 2 * low <= k for (low, high), k in zip(pairs, kernel, strict=True))


def rounded_up(x, kernel, strides, dilations, pairs) -> list[tuple[int, int]]:
    """Padding with which rounding down gives as many windows as rounding up."""
    out = []
    for size, k, s, d, (low, high) in zip(x.shape[2:], kernel, strides, dilations, pairs, strict=True):
        reach = int(size) + low + high - (k - 1) * d - 1
        count = -(-reach // s)
        if count * s >= int(size) + low:  # the last window would begin behind the image
            count -= 1
        out.append((low, high + max(0, count * s - reach)))
    return out


@register("MaxPool")
def max_pool(node: Node, x):
    x = tensor(x)
    if x.dtype != "float32":
        cast, kind = function(node, "cast"), x.dtype
        y = max_pool(node, cast(x, "float32"))
        return (cast(y[0], kind), y[1]) if isinstance(y, tuple) else cast(y, kind)
    count, kernel, strides, dilations, pairs = window(node, x)
    if node.get("ceil_mode", 0):
        pairs = rounded_up(x, kernel, strides, dilations, pairs)
    pool = function(node, f"max_pool{count}d")
    grown = x if even(pairs, kernel) else padded(x, pairs, -np.inf)
    own = tuple(p for p, _ in pairs) if grown is x else 0
    if len([o for o in node.outputs if o]) < 2:
        return pool(grown, tuple(kernel), tuple(strides), own, tuple(dilations))
    y, places = pool(grown, tuple(kernel), tuple(strides), own, tuple(dilations), False, True)
    return y, counted(node, places, x, [int(s) for s in grown.shape[2:]], [(0, 0)] * count if grown is x else pairs)


def counted(node: Node, places, x, extents, pairs):
    """Places in a padded image as ONNX has them: in the image itself, through all channels and images."""
    n, c, size = int(x.shape[0]), int(x.shape[1]), [int(s) for s in x.shape[2:]]
    if node.get("storage_order", 0) or extents != size:
        rest, moved = places, 0
        for i, extent in reversed(list(enumerate(extents))):
            step = prod(size[:i] if node.get("storage_order", 0) else size[i + 1:])
            moved = moved + (rest % extent - pairs[i][0]) * step
            rest = rest // extent
        places = function(node, "cast")(moved, "int64")
    first = (np.arange(n * c) * prod(size)).reshape(n, c, *[1] * len(size))
    return places + first


@register("AveragePool")
def average_pool(node: Node, x):
    x = tensor(x)
    count, kernel, strides, dilations, pairs = window(node, x)
    include, up = bool(node.get("count_include_pad", 0)), bool(node.get("ceil_mode", 0))
    pool = function(node, f"avg_pool{count}d")
    if all(d == 1 for d in dilations) and even(pairs, kernel):
        return pool(x, tuple(kernel), tuple(strides), tuple(p for p, _ in pairs), up, include)
    grown = rounded_up(x, kernel, strides, dilations, pairs) if up else pairs
    ones = np.ones((1, 1, *(int(s) for s in x.shape[2:])), np.float32)
    if include:
        ones = np.pad(ones, ((0, 0), (0, 0), *pairs), constant_values=1)
        more = [(g - p, h - q) for (g, h), (p, q) in zip(grown, pairs, strict=True)]
        ones = np.pad(ones, ((0, 0), (0, 0), *more))
    else:
        ones = np.pad(ones, ((0, 0), (0, 0), *grown))
    weights = np.ones((1, 1, *kernel), np.float32)
    counts = F.conv2d if count == 2 else F.conv1d if count == 1 else F.conv3d
    c = int(x.shape[1])
    each = tensor(np.tile(weights, (c, 1, *[1] * count)))
    total = counts(padded(x, grown), each, None, tuple(strides), 0, tuple(dilations), c)
    return total / counts(tensor(ones), tensor(weights), None, tuple(strides), 0, tuple(dilations))


@register("LpPool")
def lp_pool(node: Node, x):
    x = tensor(x)
    count, kernel, strides, dilations, pairs = window(node, x)
    p = float(node.get("p", 2))
    if node.get("ceil_mode", 0):
        pairs = rounded_up(x, kernel, strides, dilations, pairs)
    c = int(x.shape[1])
    weights = tensor(np.ones((c, 1, *kernel), np.float32))
    x = padded(abs(x) ** p, pairs)
    total = function(node, f"conv{count}d")(x, weights, None, tuple(strides), 0, tuple(dilations), c)
    return total ** (1 / p)


@register("GlobalAveragePool")
def global_average(node: Node, x):
    x = tensor(x)
    count = spatial(node, x)
    return function(node, f"adaptive_avg_pool{count}d")(x, (1,) * count)


@register("GlobalMaxPool")
def global_max(node: Node, x):
    x = tensor(x)
    count = spatial(node, x)
    return function(node, f"adaptive_max_pool{count}d")(x, (1,) * count)


@register("GlobalLpPool")
def global_lp(node: Node, x):
    x, p = tensor(x), float(node.get("p", 2))
    return (abs(x) ** p).sum(tuple(range(2, x.ndim)), keepdim=True) ** (1 / p)


@register("Col2Im")
def col2im(node: Node, x, image, block):
    size, kernel = node.integers(image, "image_shape"), node.integers(block, "block_shape")
    count = len(size)
    strides, dilations = several(node, "strides", count, 1), several(node, "dilations", count, 1)
    pairs = pads(node, x, kernel, strides, dilations)
    whole = [s + low + high for s, (low, high) in zip(size, pairs, strict=True)]
    y = function(node, "fold")(tensor(x), whole, kernel, tuple(dilations), 0, tuple(strides))
    return padded(y, [(-low, -high) for low, high in pairs])


@register("MaxUnpool")
def max_unpool(node: Node, x, indices, output_shape=None):
    x = tensor(x)
    count = spatial(node, x)
    kernel = node.get("kernel_shape")
    strides = several(node, "strides", count, 1)
    pairs = pads(node, x, kernel, strides, [1] * count)
    natural = [(int(n) - 1) * s + k - low - high
               for n, s, k, (low, high) in zip(x.shape[2:], strides, kernel, pairs, strict=True)]
    size = natural if output_shape is None else node.integers(output_shape, "output_shape")[2:]
    n, c = int(x.shape[0]), int(x.shape[1])
    first = (np.arange(n * c) * prod(natural)).reshape(n, c, *[1] * count)
    places = (tensor(indices) - tensor(first)).reshape(n, c, -1)
    if list(size) != natural:  # places count in what the pool read; the output is larger
        steps_in, steps_out = [prod(natural[i + 1:]) for i in range(count)], [prod(size[i + 1:]) for i in range(count)]
        moved = 0
        for i in range(count):
            moved = moved + (places // steps_in[i]) % natural[i] * steps_out[i]
        places = moved
    flat = tensor(np.zeros((n, c, prod(size)), np.float32))
    return function(node, "scatter")(flat, 2, places, x.reshape(n, c, -1)).reshape(n, c, *size)
