"""Sums over images, pixels and channels, cut by rows: gradients of what was repeated, and of biases."""

from __future__ import annotations

from math import prod

from fastconv.graph.ir import FLAT, Node, Operator, Type, register
from fastconv.kernels import elementwise as kernels
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import channels, pixels_per_image

WORK = 16384  # elements of a range of rows, at least
GROUP = 64  # channels that one tile may take at once
RUN = 128  # rows that the kernel adds up at a time
MOST = 512  # ranges of one sum


def cut(rows: int, width: int, tiles: int) -> tuple[int, int]:
    """(ranges, rows of each) of a sum of so many rows of ``width`` channels, of which there are ``tiles`` side by side.

    The number of threads has no part in it, so that the bits do not depend on it.
    """
    if tiles >= MOST:
        return 1, rows
    per = max(-(-WORK // max(1, min(width, GROUP))), -(-rows // MOST))
    per = -(-per // RUN) * RUN
    return max(1, -(-rows // per)), per


def sum_rows(cx: Lowering, *, shape: tuple[int, ...], x, x_stride, y, ldy: int, keep_images: bool, keep_pixels: bool,
             keep_channels: bool, info: dict, **z) -> None:
    """Emits the steps of a sum over the axes of an activation of this shape that are not kept, in two levels where long.

    Arguments are those of ``kernels.sum_axes``. How the rows of an image's own sum are cut does not depend on the batch.
    """
    n, pixels, count = shape[0], pixels_per_image(shape), channels(shape)
    outputs, width = pixels if keep_pixels else 1, count if keep_channels else 1
    rows = (1 if keep_images else n) * (1 if keep_pixels else pixels)
    parts, per = cut(rows, count, outputs * -(-width // GROUP))
    common = {"x": x, "keep_images": keep_images, "keep_pixels": keep_pixels, "keep_channels": keep_channels, **z}
    if parts == 1:
        cx.step(kernels.sum_axes, y=y, pixels=pixels, channels=count, x_stride=x_stride, ldy=ldy, info=info, **common)
        return
    partial = cx.temp(4 * width * parts * outputs * (n if keep_images else 1), "partial sums")
    cx.step(kernels.sum_axes, y=partial, pixels=pixels, channels=count, x_stride=x_stride, ldy=width, parts=parts,
            per_part=per, info=info, **common)
    cx.step(kernels.sum_axes, x=partial, y=y, pixels=parts, channels=width, x_stride=(parts * width, width, 1), ldy=ldy,
            keep_images=True, keep_pixels=False, keep_channels=True, fixed_n=0 if keep_images else outputs)


# ---- the gradient of a bias -------------------------------------------------------------------------------------------


def infer_channel_sum(inputs: list, attrs: dict) -> list[Type]:
    return [Type((channels(inputs[0].shape),), FLAT)]


def lower_channel_sum(node: Node, cx: Lowering) -> None:
    (x,) = node.inputs
    view, out = cx.read(x), cx.write(node.output).ref
    sum_rows(cx, shape=x.shape, x=view.ref, x_stride=(prod(x.shape[2:]) * view.ld, view.ld, 1), y=out, ldy=channels(x.shape),
             keep_images=False, keep_pixels=False, keep_channels=True, info={"input": x.shape, "output": node.output.shape})


register(Operator("channel_sum", infer_channel_sum, lower_channel_sum))
