"""Runs convolutions over bfloat16 planes on buffers that end at guard pages and start as NaN."""

import math

import numpy as np

from fastconv.kernels import conv, layout, planes

from .guarded import gaps, guarded, images, pixels
from .problems import run

NAN = 0x7FC0  # a bfloat16 NaN


def halves(count, fill=NAN):
    """``count`` 16-bit elements, filled, of which the last is the last before a page nobody may touch."""
    array = guarded((count + 1) // 2).view(np.uint16)
    array[...] = fill
    return array[array.size - count:]


def values(elements):
    """bfloat16 elements as float32."""
    return (elements.astype(np.uint32) << 16).view(np.float32)


def split(x, count, ldp, ldx=None, threads=1):
    """The split image [plane][pixel][ldp] of (N, C, *spatial), from pixels ``ldx`` apart."""
    n, c = x.shape[:2]
    per = math.prod(x.shape[2:])
    flat = pixels(x, ldx or c)
    out = halves(count * n * per * ldp)
    run(planes.split(x=flat.ctypes.data, planes=out.ctypes.data, pixels=per, channels=c, ldx=ldx or c, ldp=ldp, count=count,
                     plane_stride=n * per * ldp), n, threads)
    return out


def packed(case, w, count, row=0, **changes):
    """The weights (OIHW, or as ``changes`` to the packing say) in planes."""
    p = {**case.packing(), **changes}
    reads = p.get("channel_run", 1) * (row or p["channels"])
    out = halves(planes.packed_elements(taps=len(p["taps"]), channels=reads, planes=count, groups=p.get("groups", 1),
                                        filters=p["filters"] * p.get("filter_run", 1)))
    w = np.ascontiguousarray(w)
    run(planes.pack_weight(w.ctypes.data, out.ctypes.data, planes=count, row=row, **p), 1, 2)
    return out


def zeros(case):
    row = halves(max(2, case.c // case.groups), 0)
    return row


def forward(kernel, count, case, x, w, threads=1, bias=None, residual=None, act=None, a=0.0, b=0.0, extra=3, n=None,
            ldp=None, splits=0, alone=False):
    """y of a convolution by ``kernel`` over ``count`` planes; with ``splits`` also (or alone) so many planes of it, as they
    lie: [plane][pixel][element]."""
    ldp, ldy = ldp or case.c + case.c % 2 + 2 * extra, case.k + 2 * extra
    image, weights, zero = split(x, count, ldp), packed(case, w, count), zeros(case)
    size = x.shape[0] * math.prod(case.out)
    y = guarded(max(0, size * ldy - (ldy - case.k)))
    keywords = {"act": act, "act_a": a, "act_b": b}
    if bias is not None:
        bias_flat = guarded(case.k)
        bias_flat[:] = bias
        keywords["bias"] = bias_flat.ctypes.data
    if residual is not None:
        residual_flat = pixels(residual, case.k + 1)
        keywords.update(residual=residual_flat.ctypes.data, ldr=case.k + 1)
    if splits:
        row = planes.split_row(case.k)
        made = halves(splits * size * row)
        keywords.update(split=made.ctypes.data, split_count=splits, split_ldp=row, split_stride=size * row,
                        split_alone=alone)
    run(planes.forward(kernel, case.geometry(ldp), x=image.ctypes.data, w=weights.ctypes.data, y=y.ctypes.data, ldy=ldy,
                       zeros=zero.ctypes.data, planes=count, plane_stride=image.size // count, **keywords),
        x.shape[0], threads, n)
    if alone:
        assert np.isnan(y).all()
        return made.reshape(splits, size, row)
    if size and n is None:
        assert np.isnan(gaps(y, size, case.k, ldy)).all()
    result = images(y, (x.shape[0], case.k, *case.out), ldy)
    return (result, made.reshape(splits, size, row)) if splits else result


def one_accumulator(case, x, w):
    """In NumPy, one fused accumulator per output over (tap, channel) in order.

    Products of two float32 are exact in float64; that sums are rounded to float64 on the way to float32 differs in
    one of 2**29 roundings.
    """
    assert case.groups == 1 and all(s == 1 for s in (*case.stride, *case.dilation))
    wide = np.pad(np.float64(x), [(0, 0), (0, 0), *((p, p) for p in case.padding)])
    sums = np.zeros(case.y_shape, np.float32)
    for tap in np.ndindex(*case.kernel):
        part = wide[(..., *(slice(t, t + n) for t, n in zip(tap, case.out, strict=True)))]
        for c in range(case.c):
            products = part[:, c:c + 1] * np.float64(w[(slice(None), c, *tap)]).reshape(1, -1, *[1] * len(tap))
            sums = np.float32(sums + products)
    return sums


def directly(case, x, w):
    """The same convolution by the float32 kernel, which is what values that are not finite are left to."""
    image, zero = pixels(x, case.c), guarded(case.c, 0)
    weights = guarded(case.taps * (case.c // case.groups) * conv.packed_filters(case.k // case.groups) * case.groups)
    run(layout.pack_weight(w.ctypes.data, weights.ctypes.data, **case.packing()), 1, 1)
    y = guarded((x.shape[0] * math.prod(case.out), case.k))
    run(conv.forward("f32_conv_direct", case.geometry(case.c), x=image.ctypes.data, w=weights.ctypes.data, y=y.ctypes.data,
                     ldy=case.k, zeros=zero.ctypes.data), x.shape[0], 1)
    return images(y.reshape(-1), (x.shape[0], case.k, *case.out), case.k)


def backward_weight(kernel, count, case, x, gy, threads=1, parts=1, extra=3):
    """dw in OIHW by ``kernel`` over ``count`` planes of both operands."""
    ldp, ldy, size = case.c + case.c % 2 + 2 * extra, case.k + case.k % 2 + 2 * extra, math.prod(case.w_shape)
    image, gradient, zero = split(x, count, ldp), split(gy, count, ldy), halves(max(case.c, case.k), 0)
    partial = guarded(parts * size)
    run(planes.backward_weight(kernel, case.geometry(ldp), x=image.ctypes.data, gy=gradient.ctypes.data, ldy=ldy,
                               dw=partial.ctypes.data, zeros=zero.ctypes.data, parts=parts, part_stride=size, planes=count,
                               x_plane_stride=image.size // count, gy_plane_stride=gradient.size // count),
        x.shape[0], threads)
    return unpacked_gradient(case, partial, parts)


def unpacked_gradient(case, partial, parts=1):
    """The sum of a weight gradient's parts, in OIHW."""
    dw = guarded(case.w_shape)
    run(layout.unpack_weight(dw.ctypes.data, partial.ctypes.data, parts=parts, part_stride=dw.size,
                             block=planes.WEIGHT_BLOCK, **case.packing()), 1, 1)
    return dw
