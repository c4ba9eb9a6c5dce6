"""unfold (im2col) and fold (col2im) as torch.nn.functional has them, in 1, 2 or 3 dimensions; each is the other's adjoint.

``unfold`` makes (N, C * taps, windows) of (N, C, spatial...), a channel's taps together; ``fold`` sums them back.
"""

from __future__ import annotations

from math import prod

from fastconv.graph.ir import Node, Operator, Tensor, Type, apply, fail, register
from fastconv.kernels import im2col
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import channels, spatial3
from fastconv.ops.geometry import ints, output_size, pads, to3, window_taps


def windows(op: str, size: tuple[int, ...], attrs: dict) -> tuple[int, ...]:
    """Normalises the attributes; the number of windows along each dimension."""
    dims = len(size)
    attrs["kernel_size"] = ints(op, "kernel_size", attrs["kernel_size"], dims, 1)
    attrs["stride"] = ints(op, "stride", attrs.get("stride", 1), dims, 1)
    attrs["dilation"] = ints(op, "dilation", attrs.get("dilation", 1), dims, 1)
    attrs["padding"] = pads(op, attrs.get("padding", 0), attrs["kernel_size"], attrs["stride"], attrs["dilation"])
    return tuple(output_size(op, size, attrs["kernel_size"], attrs["stride"], attrs["padding"], attrs["dilation"]))


def infer_unfold(inputs: list, attrs: dict) -> list[Type]:
    (x,) = inputs
    if len(x.shape) not in (3, 4, 5):
        fail("unfold", f"input of shape {x.shape} has {len(x.shape)} dimensions: expected 3 (N, C, L), 4 (N, C, H, W) or "
                       "5 (N, C, D, H, W)")
    count = windows("unfold", x.shape[2:], attrs)
    return [Type((x.shape[0], x.shape[1] * prod(attrs["kernel_size"]), prod(count)))]


def infer_fold(inputs: list, attrs: dict) -> list[Type]:
    (y,) = inputs
    if len(y.shape) != 3:
        fail("fold", f"input of shape {y.shape} has {len(y.shape)} dimensions: expected 3 (N, C * taps, windows)")
    size = attrs["output_size"] = tuple(attrs["output_size"])
    if len(size) not in (1, 2, 3) or min(size) < 1:
        fail("fold", f"output_size={size}: expected 1 to 3 extents of at least 1")
    count = windows("fold", size, attrs)
    taps = prod(attrs["kernel_size"])
    if y.shape[1] % taps:
        fail("fold", f"input of shape {y.shape} has {y.shape[1]} channels: kernel_size={attrs['kernel_size']} expects a "
                     f"multiple of {taps}")
    if y.shape[2] != prod(count):
        fail("fold", f"input of shape {y.shape} has {y.shape[2]} windows: output_size={size} expects {prod(count)}")
    return [Type((y.shape[0], y.shape[1] // taps, *size))]


def rule(attrs: dict) -> dict:
    return {key: attrs[key] for key in ("kernel_size", "stride", "padding", "dilation")}


def geometry(image: Tensor, ldx: int, attrs: dict) -> dict:
    """The windows over an image in the kernels' terms."""
    count = output_size("unfold", image.shape[2:], attrs["kernel_size"], attrs["stride"], attrs["padding"],
                        attrs["dilation"])
    low = tuple(p[0] for p in to3(attrs["padding"], (0, 0)))
    space = to3(tuple(count), 1)
    return {"groups": 1, "channels": channels(image.shape), "filters": 1, "ldx": ldx, "input": spatial3(image.shape),
            "space": space, "stride": to3(attrs["stride"], 1), "output": space,
            "taps": window_taps(to3(attrs["kernel_size"], 1), low, to3(attrs["dilation"], 1))}


def lower_unfold(node: Node, cx: Lowering) -> None:
    x, y = cx.read(node.inputs[0]), cx.write(node.output)
    cx.step(im2col.unfold, geometry(node.inputs[0], x.ld, node.attrs), x=x.ref, y=y.ref, ldy=y.ld)


def lower_fold(node: Node, cx: Lowering) -> None:
    y, x = cx.read(node.inputs[0]), cx.write(node.output)
    cx.step(im2col.fold, geometry(node.output, x.ld, node.attrs), x=x.ref, y=y.ref, ldy=y.ld)


def unfold_gradient(node: Node, grads: list) -> list:
    return [apply("fold", grads, output_size=node.inputs[0].shape[2:], **rule(node.attrs))]


def fold_gradient(node: Node, grads: list) -> list:
    return [apply("unfold", grads, **rule(node.attrs))]


register(Operator("unfold", infer_unfold, lower_unfold, unfold_gradient, activations=(0,)))
register(Operator("fold", infer_fold, lower_fold, fold_gradient, activations=(0,)))
