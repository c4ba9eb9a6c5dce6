"""Winograd convolutions in the kernels' terms: guarded operands, steps, an error bound."""

import math

import numpy as np
import reference as ref
from fastconv.kernels._runtime import StepList

from fastconv.kernels import conv, layout, winograd

from .guarded import gaps, guarded, images, pixels
from .problems import run

BLOCK = conv.block_filters()
WIDTH = BLOCK // 2
EPS = 2.0**-24


class Problem:
    """A convolution of stride 1. size, kernel and low/high padding: tuples of 1 to 3 entries; tile: (mh, mw)."""

    def __init__(self, n, c, k, size, tile, low=1, high=None, groups=1, depth=None, swapped=False):
        dims = len(size)
        high = low if high is None else high
        low, high = (v if isinstance(v, tuple) else (v,) * dims for v in (low, high))
        kernel = (3,) if dims == 1 else (1, 3) if tile[0] == 1 else (3, 3)
        if swapped:
            kernel = (3, 1)
        if dims == 3:
            kernel = (depth or 1, *kernel)
        # a dimension without taps has no padding
        low = tuple(a if r > 1 else 0 for a, r in zip(low, kernel, strict=True))
        high = tuple(a if r > 1 else 0 for a, r in zip(high, kernel, strict=True))
        self.n, self.c, self.k, self.size, self.kernel, self.groups, self.tile = n, c, k, size, kernel, groups, tile
        self.swapped = swapped
        self.padding = tuple(zip(low, high, strict=True))
        self.out = tuple(s + a + b - r + 1 for s, a, b, r in zip(size, low, high, kernel, strict=True))
        self.taps = math.prod(kernel)
        self.x_shape, self.y_shape, self.w_shape = (n, c, *size), (n, k, *self.out), (k, c // groups, *kernel)

    def three(self, values, fill):
        return (fill,) * (3 - len(values)) + tuple(values)

    def inner(self):
        """What the factories take."""
        return {"groups": self.groups, "channels": self.c // self.groups, "filters": self.k // self.groups,
                "depth": self.three(self.kernel, 1)[0], "tile": self.tile, "swapped": self.swapped,
                "input": self.three(self.size, 1), "output": self.three(self.out, 1),
                "origin": tuple(-a for a in self.three([a for a, _ in self.padding], 0))}

    def reference(self, x, w, bias=None):
        return ref.conv(x, w, bias, 1, self.padding, 1, self.groups)

    def packing(self, parts=1, part_stride=0):
        per = self.c // self.groups
        return {"taps": list(range(self.taps)), "filters": self.k // self.groups, "channels": per, "groups": self.groups,
                "group_stride": self.k // self.groups * per * self.taps, "filter_stride": per * self.taps,
                "channel_stride": self.taps, "parts": parts, "part_stride": part_stride}


def zeros(count):
    row = guarded(count)
    row[:] = 0
    return row


def packed(p, w):
    """Transformed and packed weights, at guard pages."""
    floats, packed_floats = winograd.weight_floats(p.inner())
    u, flat = guarded(floats), guarded(packed_floats)
    run(layout.pack_weight(w.ctypes.data, flat.ctypes.data, **p.packing()), 1, 1)
    run(winograd.weight(p.inner(), w=flat.ctypes.data, u=u.ctypes.data), 1, 2)
    if np.isfinite(w).all():  # else results would be right by way of the packed weights alone
        assert not np.isnan(u).any()
    return u, flat


def forward(p, x, w, threads=1, bias=None, residual=None, act=None, a=0.0, b=0.0, extra=3, n=None, tiles=5, blocks=1,
            chunk=0):
    """The output, through scratch that the same convolution of NaN has filled before."""
    ldx, ldy, keep = p.c + extra, p.k + 2 * extra, []
    count = x.shape[0] * math.prod(p.out)
    u, flat = packed(p, w)
    zero = zeros(p.c // p.groups)
    keywords = {"act": act, "act_a": a, "act_b": b, "tiles": tiles, "blocks": blocks, "chunk": chunk, "ldx": ldx, "ldy": ldy,
                "u": u.ctypes.data, "w": flat.ctypes.data, "zeros": zero.ctypes.data}
    if bias is not None:
        keep.append(guarded(p.k))
        keep[-1][:] = bias
        keywords["bias"] = keep[-1].ctypes.data
    if residual is not None:
        keep.append(pixels(residual, p.k + 1))
        keywords.update(residual=keep[-1].ctypes.data, ldr=p.k + 1)
    x_flat, nan, y = pixels(x, ldx), pixels(np.full_like(x, np.nan), ldx), guarded(max(0, count * ldy - (ldy - p.k)))
    dirty = guarded(y.size)
    run_all([winograd.forward(p.inner(), x=nan.ctypes.data, y=dirty.ctypes.data, **keywords),
             winograd.forward(p.inner(), x=x_flat.ctypes.data, y=y.ctypes.data, **keywords)], x.shape[0], threads, n)
    if count and n is None:
        assert np.isnan(gaps(y, count, p.k, ldy)).all()
    return images(y, (x.shape[0], p.k, *p.out), ldy)


def backward_weight(p, x, gy, threads=1, parts=1, extra=3, tiles=5, channels=7, blocks=1):
    """The gradient of the weights, through scratch that the same sum over NaN has filled before."""
    ldx, ldy = p.c + extra, p.k + 2 * extra
    size = winograd.weight_floats(p.inner())[1]
    dw, zero, parts_flat = guarded(p.w_shape), zeros(max(p.c, p.k) // p.groups), guarded(parts * size)
    x_flat, gy_flat = pixels(x, ldx), pixels(gy, ldy)
    nan = pixels(np.full_like(x, np.nan), ldx)
    keywords = {"ldx": ldx, "ldy": ldy, "gy": gy_flat.ctypes.data, "dw": parts_flat.ctypes.data, "zeros": zero.ctypes.data,
                "tiles": tiles, "channels": channels, "blocks": blocks, "parts": parts, "part_stride": size}
    run_all([winograd.backward_weight(p.inner(), x=nan.ctypes.data, **keywords),
             winograd.backward_weight(p.inner(), x=x_flat.ctypes.data, **keywords)], x.shape[0], threads)
    run(layout.unpack_weight(dw.ctypes.data, parts_flat.ctypes.data, **p.packing(parts, size)), 1, 1)
    return dw


def run_all(steps, batch, threads, n=None):
    program = StepList(steps, batch)
    if n is not None:
        program.set_batch(n)
    program.run(threads)


# ---- an error bound, from the definition in float64 -------------------------------------------------------------------

POINTS = {2: (1.0,), 4: (0.625, 1.5)}


def matrices(m):
    """A^T, G, B^T of F(m, 3) for the points 0, +-POINTS[m], infinity, by Toom and Cook's construction; F(1, 1) for m = 1."""
    if m == 1:
        return np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1))
    points = [0.0, *(s * p for p in POINTS[m] for s in (1, -1))]
    at = np.array([[*(p**j for p in points), float(j == m - 1)] for j in range(m)])
    scale = [math.prod(p - q for q in points if q != p) for p in points]
    g = np.array([[p**j / s for j in range(3)] for p, s in zip(points, scale, strict=True)] + [[0, 0, 1]])
    bt = np.zeros((m + 2, m + 2))
    for i, p in enumerate(points):  # coefficients of the product over the other points
        bt[i, : m + 1] = np.poly([q for q in points if q != p])[::-1]
    bt[m + 1] = np.poly(points)[::-1]
    return at, g, bt


def magnitude(p, x, w):
    """Per output: the sum over channels of |A^T| [(|G| |w| |G^T|) * (|B^T| |x| |B|)] |A|, what a rounding error scales with.

    A rounding error of relative size eps somewhere on the way from an input to an output changes that output by at most eps
    times this sum; there are fewer than `roundings` of them in a row.
    """
    three = p.three(p.kernel, 1)
    x = np.abs(np.float64(x)).reshape(*x.shape[:2], *p.three(x.shape[2:], 1))
    w = np.abs(np.float64(w)).reshape(*w.shape[:2], *three)
    pads = [(0, 0)] * (3 - len(p.padding)) + list(p.padding)
    if p.swapped:
        x, w, pads = x.swapaxes(3, 4), w.swapaxes(3, 4), [pads[0], pads[2], pads[1]]
    out = [s + a + b - r + 1 for s, (a, b), r in zip(x.shape[2:], pads, w.shape[2:], strict=True)]
    (ah, gh, bh), (aw, gw, bw) = (tuple(np.abs(v) for v in matrices(m)) for m in p.tile)
    mh, mw = p.tile
    th, tw = -(-out[1] // mh), -(-out[2] // mw)
    room = [th * mh - out[1], tw * mw - out[2]]
    x = np.pad(x, [(0, 0), (0, 0), pads[0], (pads[1][0], pads[1][1] + room[0]), (pads[2][0], pads[2][1] + room[1])])
    u = np.einsum("ir,kcdrs,js->kcdij", gh, w, gw)
    y, per, filters = np.zeros((x.shape[0], p.k, out[0], th * mh, tw * mw)), p.c // p.groups, p.k // p.groups
    for i in range(th):
        for j in range(tw):
            d = x[..., i * mh : i * mh + bh.shape[0], j * mw : j * mw + bw.shape[0]]
            v = np.einsum("ir,ncdrs,js->ncdij", bh, d, bw)
            for g in range(p.groups):
                for depth in range(w.shape[2]):
                    m = np.einsum("kcij,ncdij->nkdij", u[g * filters : (g + 1) * filters, :, depth],
                                  v[:, g * per : (g + 1) * per, depth : depth + out[0]])
                    y[:, g * filters : (g + 1) * filters, :, i * mh : i * mh + mh, j * mw : j * mw + mw] += np.einsum(
                        "ai,nkdij,bj->nkdab", ah, m, aw)
    y = y[..., : out[1], : out[2]]
    return (y.swapaxes(3, 4) if p.swapped else y).reshape(x.shape[0], p.k, *p.out)


def roundings(p):
    """The most roundings between an input and an output: transforms, one chain over all channels, the weight's own."""
    return 2 * 3 + p.c // p.groups * p.three(p.kernel, 1)[0] + 2 * 4 + 2
