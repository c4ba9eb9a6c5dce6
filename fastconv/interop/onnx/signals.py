"""Sound: Fourier transforms as products with the tables of their sines, as short as frames are."""

from __future__ import annotations

import numpy as np

from fastconv.interop.onnx.table import Node, function, register, tensor

LONGEST = 1 << 13  # elements of a transform: its tables grow with the square


def tables(node: Node, length: int, count: int, inverse: bool) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines (length, count), in float64 rounded once."""
    if length > LONGEST:
        raise node.fail(f"a transform of {length} elements: expected at most {LONGEST}", NotImplementedError)
    angle = 2 * np.pi / length * (np.outer(np.arange(length), np.arange(count)) % length)
    share = 1 / length if inverse else 1
    return (np.cos(angle) * share).astype(np.float32), (np.sin(angle) * (share if inverse else -share)).astype(np.float32)


@register("DFT")
def dft(node: Node, x, length=None, axis=None):
    """Over one axis of real (last extent 1) or complex (2) values."""
    x, inverse, one_sided = tensor(x), bool(node.get("inverse", 0)), bool(node.get("onesided", 0))
    at = node.get("axis", 1) if node.opset < 20 else -2 if axis is None else int(node.number(axis, "axis"))
    at %= x.ndim
    if at == x.ndim - 1 or int(x.shape[-1]) not in (1, 2):
        raise node.fail(f"input of shape {tuple(x.shape)} over axis {at}: expected real or complex values in the last one")
    whole = int(x.shape[at])
    real = inverse and one_sided  # of the half that a real signal's transform is
    count = int(node.number(length, "dft_length")) if length is not None else 2 * (whole - 1) if real else whole
    if count < 1:
        raise node.fail(f"a transform of {count} elements: expected at least one")
    used = count // 2 + 1 if real else count
    x = x.transpose(at, x.ndim - 1)  # the parts where the axis was, the axis last
    if used < whole:
        x = x[..., :used]
    elif used > whole:
        x = function(node, "pad")(x, [0, used - whole])
    cos, sin = tables(node, count, count // 2 + 1 if one_sided else count, inverse)
    if real:
        twice = np.where((np.arange(used) == 0) | (2 * np.arange(used) == count), 1, 2).astype(np.float32)[:, None]
        cos, sin = cos.T * twice, sin.T * twice
    a, b = tensor(cos), tensor(sin)
    re, im = x.narrow(at, 0, 1) @ a, None if real else x.narrow(at, 0, 1) @ b
    if int(x.shape[at]) == 2:
        other = x.narrow(at, 1, 1)
        re, im = re - other @ b, None if real else im + other @ a
    y = re if im is None else function(node, "cat")([re, im], at)
    return y.transpose(at, x.ndim - 1)


@register("STFT")
def stft(node: Node, x, step, window=None, length=None):
    """Frames of a real signal (batch, samples[, 1]), each times the window, transformed."""
    x, step = tensor(x), int(node.number(step, "frame_step"))
    if x.ndim == 3:
        if int(x.shape[-1]) != 1:
            raise node.fail("a complex signal is not there", NotImplementedError)
        x = x.squeeze(-1)
    count = int(node.number(length, "frame_length")) if length is not None else int(window.shape[0])
    cos, sin = tables(node, count, count // 2 + 1 if node.get("onesided", 1) else count, False)
    cos, sin = tensor(cos.T[:, None]), tensor(sin.T[:, None])
    if window is not None:
        cos, sin = cos * tensor(window), sin * tensor(window)
    x = x.unsqueeze(1)
    parts = [function(node, "conv1d")(x, t, None, step).transpose(1, 2) for t in (cos, sin)]
    return function(node, "stack")(parts, 3)
