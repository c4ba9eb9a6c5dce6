"""Augmentation of one image (C, H, W) by definition, in float64: torchvision.transforms.v2's documentation and formulas."""

import math

import numpy as np

from .sampling import _keys


def _mirrored(i, size, border):
    if 0 <= i < size:
        return i
    if border == "constant":
        return None
    if border == "edge" or size == 1:
        return min(max(i, 0), size - 1)
    cycle = [*range(size), *range(size - 2, 0, -1)] if border == "reflect" else [*range(size), *range(size - 1, -1, -1)]
    return cycle[i % len(cycle)]


def warp(image, matrix, size, mode="nearest", border="constant", fill=0.0):
    """Each pixel of the result from where the matrix sends its centre."""
    channels, height, width = image.shape
    fill = np.broadcast_to(np.asarray(fill, np.float64), (channels,))
    out = np.zeros((channels, *size))
    for h, w in np.ndindex(size):
        x, y, z = matrix @ (w + 0.5, h + 0.5, 1.0)
        x, y = x / z, y / z
        if mode == "nearest":
            taps = [(math.floor(x), math.floor(y), 1.0)]
        else:
            x, y = x - 0.5, y - 0.5
            reach, weight = ((0, 1), lambda d: max(0.0, 1 - abs(d))) if mode == "bilinear" else ((-1, 0, 1, 2), _keys)
            taps = [(math.floor(x) + i, math.floor(y) + j, weight(x - math.floor(x) - i) * weight(y - math.floor(y) - j))
                    for i in reach for j in reach]
        for i, j, weight in taps:
            i, j = _mirrored(i, width, border), _mirrored(j, height, border)
            out[:, h, w] += weight * (fill if i is None or j is None else image[:, j, i])
    return out


def settled(values, top):
    values = np.clip(values, 0, top)
    return np.trunc(values) if top > 1 else values


def luminance(image, top):
    if len(image) == 1:
        return image[0]
    gray = 0.2989 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    return np.floor(gray) if top > 1 else gray


def brightness(image, top, factor):
    return settled(image * factor, top)


def contrast(image, top, factor):
    return settled(image * factor + luminance(image, top).mean() * (1 - factor), top)


def saturation(image, top, factor):
    return image if len(image) == 1 else settled(image * factor + luminance(image, top) * (1 - factor), top)


def gray(image, top):
    return np.repeat(luminance(image, top)[None], len(image), axis=0)


def hue(image, top, turn):
    import colorsys

    if len(image) == 1:
        return image
    out = np.zeros(image.shape)
    for h, w in np.ndindex(image.shape[1:]):
        a, s, v = colorsys.rgb_to_hsv(*image[:, h, w] / top)
        out[:, h, w] = colorsys.hsv_to_rgb((a + turn) % 1.0, s, v)
    return settled(out * 255.999, 255) if top > 1 else out


def invert(image, top):
    return top - image


def solarize(image, top, threshold):
    return np.where(image >= threshold, top - image, image)


def posterize(image, top, bits):
    if top > 1:
        return image.astype(np.int64) & (0x100 - (1 << (8 - bits)))
    return np.clip(np.floor(image * 2**bits), 0, 2**bits - 1) / 2**bits


def autocontrast(image, top):
    out = image.astype(np.float64)
    for c in range(len(image)):
        low, high = image[c].min(), image[c].max()
        if high > low:
            out[c] = settled((image[c] - low) / ((high - low) / top), top)
    return out


def equalize(image, top):
    out = image.astype(np.float64)
    for c in range(len(image)):
        values = image[c].astype(np.int64) if top > 1 else np.trunc(image[c] * 255.999).astype(np.int64)
        counts = np.bincount(values.reshape(-1), minlength=256)
        step = (counts.sum() - counts[counts > 0][-1]) // 255
        table = np.arange(256) if step == 0 else np.clip((np.cumsum(counts) - counts + step // 2) // step, 0, 255)
        out[c] = table[values] / (1 if top > 1 else 255)
    return out


def sharpness(image, top, factor):
    out = image.astype(np.float64)
    if min(image.shape[1:]) < 3:
        return out
    kernel = np.ones((3, 3))
    kernel[1, 1] = 5
    height, width = out.shape[1] - 2, out.shape[2] - 2
    soft = sum(kernel[i, j] / 13 * out[:, i:i + height, j:j + width] for i, j in np.ndindex(3, 3))
    soft = np.floor(soft + 0.5) if top > 1 else soft
    middle = out[:, 1:-1, 1:-1]
    out[:, 1:-1, 1:-1] = middle + (soft - middle) * (1 - factor)
    return settled(out, top)


def blur(image, top, sizes, sigma):
    """Sizes along width and height."""
    out = image.astype(np.float64)
    for axis, size in zip((2, 1), sizes, strict=True):
        at = np.arange(size) - (size - 1) / 2
        bell = np.exp(-0.5 * (at / sigma) ** 2)
        pad = [(0, 0)] * 3
        pad[axis] = (size // 2, size // 2)
        wide, extent = np.pad(out, pad, mode="reflect"), out.shape[axis]
        out = sum(b / bell.sum() * np.take(wide, np.arange(i, i + extent), axis) for i, b in enumerate(bell))
    return np.floor(out + 0.5) if top > 1 else out


def resized(image, top, box, size, cubic=False):
    """A part (top, left, height, width), of whole pixels, antialiased."""
    first, left, height, width = (int(v) for v in box)
    out = image[:, first:first + height, left:left + width].astype(np.float64)
    for axis, want in zip((1, 2), size, strict=True):
        have = out.shape[axis]
        scale = have / want
        wide = max(scale, 1.0)
        weights = np.zeros((want, have))
        for o in range(want):
            center = (o + 0.5) * scale
            for i in range(max(0, int(center - (2 if cubic else 1) * wide + 0.5)),
                           min(have, int(center + (2 if cubic else 1) * wide + 0.5))):
                d = abs(i + 0.5 - center) / wide
                weights[o, i] = _keys(d, -0.5) if cubic else max(0.0, 1 - d)
        out = np.moveaxis(np.tensordot(weights / weights.sum(axis=1, keepdims=True), out, (1, axis)), 0, axis)
    return settled(out + 0.5, top) if top > 1 else out
