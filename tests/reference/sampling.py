"""Sampling at coordinates and regions of interest by definition, in float64, a value at a time.

Sources: the documentation of torch.nn.functional.grid_sample and torchvision.ops; R. Girshick, "Fast R-CNN" (2015); K. He et
al., "Mask R-CNN" (2017); the ONNX operator RoiAlign for maxima; R. Keys (1981) with a = -0.75.
"""

import itertools
import math

import numpy as np


def _fold(x, low, high):
    """A coordinate mirrored into [low, high]."""
    if high == low:
        return 0.0
    period = 2 * (high - low)
    off = (x - low) % period
    return low + (off if off <= high - low else period - off)


def _place(x, size, padding, align):
    if padding == "reflection":
        x = _fold(x, 0, size - 1) if align else _fold(x, -0.5, size - 0.5)
    return x if padding == "zeros" else min(max(x, 0.0), size - 1.0)


def _keys(d, a=-0.75):
    d = abs(d)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def _axis(g, size, mode, padding, align):
    """(pixel, weight) of one coordinate; pixels outside are left out."""
    x = (g + 1) / 2 * (size - 1) if align else ((g + 1) * size - 1) / 2
    if mode == "bicubic":
        low = math.floor(x)
        taps = [(_place(i, size, padding, align), _keys(x - i)) for i in range(low - 1, low + 3)]
        taps = [(int(p), w) for p, w in taps]
    else:
        x = _place(x, size, padding, align)
        if mode == "nearest":
            taps = [(round(x), 1.0)]  # halves to even
        else:
            low = math.floor(x)
            taps = [(low, low + 1 - x), (low + 1, x - low)]
    return [(p, w) for p, w in taps if 0 <= p < size]


def grid_sample(x, grid, mode, padding, align):
    """Values, and the table {(image, pixel): [(input pixel, weight)]}."""
    x, size = np.asarray(x, np.float64), grid.shape[1:-1]
    y, table = np.zeros((*x.shape[:2], *size)), {}
    for n, pixel in itertools.product(range(len(x)), np.ndindex(size)):
        axes = [_axis(float(g), s, mode, padding, align) for g, s in zip(grid[(n, *pixel)][::-1], x.shape[2:], strict=True)]
        taps = [(tuple(p for p, _ in several), math.prod(w for _, w in several)) for several in itertools.product(*axes)]
        table[n, pixel] = taps
        for at, weight in taps:
            y[(n, slice(None), *pixel)] += weight * x[(n, slice(None), *at)]
    return y, table


def _bilinear(v, size):
    """Two (pixel, weight) of a coordinate; None outside."""
    if v < -1 or v > size:
        return None
    v = max(v, 0.0)
    low = int(v)
    if low >= size - 1:
        return [(size - 1, 1.0), (size - 1, 0.0)]
    return [(low, low + 1 - v), (low + 1, v - low)]


def roi_align(x, rois, size, scale, samples, aligned, mode, gy):
    """Values, and the gradient to x of averages."""
    x = np.asarray(x, np.float64)
    y, gx = np.zeros((len(rois), x.shape[1], *size)), np.zeros(x.shape)
    for k, (image, x1, y1, x2, y2) in enumerate(np.asarray(rois, np.float64)):
        image, offset = int(image), 0.5 if aligned else 0.0
        left, top = x1 * scale - offset, y1 * scale - offset
        width, height = (x2 - x1) * scale, (y2 - y1) * scale
        if not aligned:
            width, height = max(width, 1.0), max(height, 1.0)
        bin_h, bin_w = height / size[0], width / size[1]
        rows, columns = (samples, samples) if samples > 0 else (max(0, math.ceil(bin_h)), max(0, math.ceil(bin_w)))
        share = 1 / max(rows * columns, 1)
        for ph, pw in np.ndindex(size):
            values = []
            for i, j in itertools.product(range(rows), range(columns)):
                v = _bilinear(top + ph * bin_h + (i + 0.5) * bin_h / rows, x.shape[2])
                u = _bilinear(left + pw * bin_w + (j + 0.5) * bin_w / columns, x.shape[3])
                if v is None or u is None:
                    values.append(np.zeros(x.shape[1]))
                    continue
                parts = [a * b * x[image, :, h, w] for (h, a), (w, b) in itertools.product(v, u)]
                values.append(np.max(parts, axis=0) if mode == "max" else np.sum(parts, axis=0))
                for (h, a), (w, b) in itertools.product(v, u):
                    gx[image, :, h, w] += a * b * share * gy[k, :, ph, pw]
            if values:
                y[k, :, ph, pw] = np.max(values, axis=0) if mode == "max" else np.sum(values, axis=0) * share
    return y, gx


def _away(v):
    return math.floor(abs(v) + 0.5) * (1 if v >= 0 else -1)


def roi_pool(x, rois, size, scale, gy):
    """Values, and the gradient to x."""
    x = np.asarray(x, np.float64)
    y, gx = np.zeros((len(rois), x.shape[1], *size)), np.zeros(x.shape)
    for k, (image, *corners) in enumerate(np.asarray(rois, np.float64)):
        image = int(image)
        x1, y1, x2, y2 = (_away(c * scale) for c in corners)
        height, width = max(y2 - y1 + 1, 1) / size[0], max(x2 - x1 + 1, 1) / size[1]
        for ph, pw in np.ndindex(size):
            h0, h1 = (min(max(v + y1, 0), x.shape[2]) for v in (math.floor(ph * height), math.ceil((ph + 1) * height)))
            w0, w1 = (min(max(v + x1, 0), x.shape[3]) for v in (math.floor(pw * width), math.ceil((pw + 1) * width)))
            if h1 <= h0 or w1 <= w0:
                continue
            for c in range(x.shape[1]):
                part = x[image, c, h0:h1, w0:w1]
                i, j = np.unravel_index(part.argmax(), part.shape)
                y[k, c, ph, pw] = part[i, j]
                gx[image, c, h0 + i, w0 + j] += gy[k, c, ph, pw]
    return y, gx


def ps_roi_align(x, rois, size, scale, samples, gy):
    """Values, and the gradient to x: the bins of `roi_align` that belong to their channels."""
    bins = size[0] * size[1]
    channels = x.shape[1] // bins
    wide = np.zeros((len(rois), x.shape[1], *size))
    for c, i, j in np.ndindex(channels, *size):
        wide[:, c * bins + i * size[1] + j, i, j] = gy[:, c, i, j]
    y, gx = roi_align(x, rois, size, scale, samples, True, "avg", wide)[:2]
    return np.stack([np.stack([np.stack([y[:, c * bins + i * size[1] + j, i, j] for j in range(size[1])], -1)
                               for i in range(size[0])], -2) for c in range(channels)], 1), gx


def ps_roi_pool(x, rois, size, scale, gy):
    """Values, and the gradient to x."""
    x = np.asarray(x, np.float64)
    channels = x.shape[1] // (size[0] * size[1])
    y, gx = np.zeros((len(rois), channels, *size)), np.zeros(x.shape)
    for k, (image, *corners) in enumerate(np.asarray(rois, np.float64)):
        x1, y1, x2, y2 = (_away(c * scale) for c in corners)
        height, width = max(y2 - y1, 1) / size[0], max(x2 - x1, 1) / size[1]
        for c, i, j in np.ndindex(channels, *size):
            h0, h1 = (min(max(v + y1, 0), x.shape[2]) for v in (math.floor(i * height), math.ceil((i + 1) * height)))
            w0, w1 = (min(max(v + x1, 0), x.shape[3]) for v in (math.floor(j * width), math.ceil((j + 1) * width)))
            if h1 > h0 and w1 > w0:
                at = int(image), (c * size[0] + i) * size[1] + j, slice(h0, h1), slice(w0, w1)
                y[k, c, i, j] = x[at].mean()
                gx[at] += gy[k, c, i, j] / x[at].size
    return y, gx
