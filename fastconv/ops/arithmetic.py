"""Addition, subtraction and multiplication with broadcasting, scaling, and concatenation.

An operand of an activation may be repeated along channels, along all spatial dimensions, or both; a parameter along the
batch too. The gradient of such an operand is a sum over what was repeated.
"""

from __future__ import annotations

from math import prod

from fastconv._values import shown
from fastconv.graph.ir import DENSE, FLAT, PIXELS, Node, Operator, Tensor, Type, apply, fail, register
from fastconv.kernels import elementwise as kernels
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import channels, pixels_per_image
from fastconv.ops import views
from fastconv.ops.activation import extent, infer, pixel_stride, want_float
from fastconv.ops.shape import slice_of, strided
from fastconv.ops.sums import sum_rows

# ---- broadcasting -------------------------------------------------------------------------------------------------------


def aligned(shape: tuple[int, ...], layout: str, ndim: int) -> tuple[int, ...]:
    """A parameter's shape with ones in front, as many dimensions as the activation."""
    return (1,) * (ndim - len(shape)) + shape if layout == FLAT else shape


def result_type(op: str, x: Tensor, z: Tensor) -> Type:
    """The type of x op z; raises where they do not go together."""
    both = f"input of shape {x.shape} and other of shape {z.shape}"
    if x.layout == FLAT and z.layout == FLAT:
        if x.shape != z.shape:
            fail(op, f"{both}: two parameters must have the same shape")
        return x.type
    ndim = max(t.ndim for t in (x, z) if t.layout == PIXELS)
    shapes = [aligned(t.shape, t.layout, ndim) for t in (x, z)]
    if len(shapes[0]) != len(shapes[1]):
        fail(op, f"{both}: the same number of dimensions is expected")
    out = []
    for i, (a, b) in enumerate(zip(*shapes, strict=True)):
        if a != b and 1 not in (a, b):
            fail(op, f"{both}: dimension {i} is {a} and {b}: expected equal extents, or 1")
        out.append(b if a == 1 else a)
    for t, shape in zip((x, z), shapes, strict=True):
        if t.layout == PIXELS and shape[0] != out[0]:
            fail(op, f"{both}: the batch of an activation cannot be repeated")
        if t.layout == FLAT and shape[0] != 1:
            fail(op, f"{both}: a parameter must have extent 1 along the batch")
        if prod(shape[2:]) not in (1, prod(out[2:])):
            fail(op, f"{both}: all spatial dimensions are repeated, or none")
        if t.layout == FLAT and prod(shape[2:]) > 1 and channels(shape) > 1:
            fail(op, f"{both}: a parameter with an extent along channels must have extent 1 along spatial dimensions")
    return Type(tuple(out))


def fits(x: Tensor, z: Tensor) -> bool:
    """Whether `add`, `sub` and `mul` take these: float32 of one shape, or one of them repeated as their kernels can."""
    if (x.dtype, z.dtype) != ("float32", "float32") or x.type.fixed or z.type.fixed:
        return False
    if x.type.shape == z.type.shape:
        return x.layout == z.layout
    if FLAT != x.layout != PIXELS or FLAT != z.layout != PIXELS or x.layout == z.layout == FLAT:
        return False
    ndim = max(t.ndim for t in (x, z) if t.layout == PIXELS)
    if any(t.layout == FLAT and t.ndim > ndim or t.layout == PIXELS and t.ndim != ndim for t in (x, z)):
        return False
    shapes = [aligned(t.type.shape, t.layout, ndim) for t in (x, z)]
    out = tuple(b if a == 1 else a for a, b in zip(*shapes, strict=True))
    return all(1 in pair or pair[0] == pair[1] for pair in zip(*shapes, strict=True)) and all(
        shape[0] == (1 if t.layout == FLAT else out[0]) and prod(shape[2:]) in (1, prod(out[2:])) and
        (t.layout != FLAT or prod(shape[2:]) == 1 or channels(shape) == 1) for t, shape in zip((x, z), shapes, strict=True))


def strides(tensor: Tensor, shape: tuple[int, ...], ld: int) -> tuple[int, int, int]:
    """(image, pixel, channel) of an operand under a result of this shape."""
    own = aligned(tensor.shape, tensor.layout, len(shape))
    pixels = pixels_per_image(own)
    repeats = pixels == 1 and pixels_per_image(shape) > 1
    channel = int(channels(own) == channels(shape))
    if tensor.layout == FLAT:
        return 0, 1 if pixels > 1 else 0, channel if pixels == 1 else 0
    return pixels * ld, 0 if repeats else ld, channel


# ---- add, sub, mul ------------------------------------------------------------------------------------------------------


def infer_binary(op: str, inputs: list, attrs: dict) -> list[Type]:
    if attrs.get("scalars") is not None:
        return infer(op, inputs, attrs)
    x, z = inputs
    want_float(op, "input", x)
    want_float(op, "other", z)
    if x.shape == z.shape and DENSE in (x.layout, z.layout):
        inputs[1] = views.laid_out(z, x.type)
        return [x.type]
    inputs[:] = [views.as_pixels(op, t) for t in inputs]
    return [result_type(op, *inputs)]


def lower_binary(node: Node, cx: Lowering, kernel: str, alpha: float) -> None:
    y, ldy = pixel_stride(node.output, cx, True)
    (x, ldx), (z, ldz) = (pixel_stride(t, cx) for t in node.inputs)
    shape = node.output.shape
    size = extent(shape, node.output.layout)
    if node.output.layout != PIXELS:
        sx = sz = (ldx, ldx, 1)
    else:
        sx, sz = strides(node.inputs[0], shape, ldx), strides(node.inputs[1], shape, ldz)
        long_x, long_z = (whole_rows(s, shape) for s in (sx, sz))
        if len(shape) > 2 and shape[-1] > 1 and ldy == size["channels"] and long_x and long_z:
            sx, sz, ldy = long_x, long_z, ldy * shape[-1]
            size = {"pixels": size["pixels"] // shape[-1], "channels": ldy}
    cx.step(kernels.binary, kernel, x=x, z=z, y=y, x_stride=sx, z_stride=sz, ldy=ldy, alpha=alpha,
            info={"input": node.inputs[0].shape, "output": shape}, **size)


def whole_rows(stride: tuple[int, int, int], shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """The strides of an operand where the pixels of a row of the image count as channels of one: few channels leave most
    lanes of a vector empty. None where it repeats its channels pixel by pixel."""
    image, pixel, channel = stride
    if channels(shape) == 1:
        channel = pixel
    return (image, pixel * shape[-1], channel) if channel < 2 and pixel == channel * channels(shape) else None


def lower_scale(node: Node, cx: Lowering, a: float, b: float) -> None:
    x, ldx = pixel_stride(node.inputs[0], cx)
    y, ldy = pixel_stride(node.output, cx, True)
    cx.step(kernels.unary, "f32_scale", x=x, y=y, ldx=ldx, ldy=ldy, a=a, b=b,
            info={"input": node.inputs[0].shape, "output": node.output.shape},
            **extent(node.output.shape, node.output.layout))


def scalar(node: Node) -> tuple[float | None, bool]:
    """The number among the operands, if there is one, and whether it comes first."""
    scalars = node.attrs.get("scalars")
    if scalars is None:
        return None, False
    return float(next(s for s in scalars if s is not None)), scalars[0] is not None


def program(node: Node) -> tuple | None:
    """The same as a program of `map`, bit for bit."""
    number, first = scalar(node)
    name = node.op.name
    if name == "scale":
        return (("fma", 0, node.attrs["a"], node.attrs["b"]),), 1
    if number is None:
        return ((name, 0, 1),), 2
    if name == "mul":
        return (("fma", 0, number, 0.0),), 1
    a, b = (1.0, number) if name == "add" else (-1.0, number) if first else (1.0, -number)
    return (("fma", 0, a, b),), 1


def lower_add(node: Node, cx: Lowering) -> None:
    number, _ = scalar(node)
    if number is None:
        lower_binary(node, cx, "f32_add", 1.0)
    else:
        lower_scale(node, cx, 1.0, number)


def lower_sub(node: Node, cx: Lowering) -> None:
    number, first = scalar(node)
    if number is None:
        lower_binary(node, cx, "f32_add", -1.0)
    else:
        lower_scale(node, cx, *((-1.0, number) if first else (1.0, -number)))


def lower_mul(node: Node, cx: Lowering) -> None:
    number, _ = scalar(node)
    if number is None:
        lower_binary(node, cx, "f32_mul", 1.0)
    else:
        lower_scale(node, cx, number, 0.0)


def reduced(gradient: Tensor, like: Tensor, factor: Tensor | None = None) -> Tensor:
    """The gradient of an operand: summed over what was repeated, times the other operand if there is one."""
    if like.shape == gradient.shape and (like.layout == gradient.layout or DENSE in (like.layout, gradient.layout)):
        return gradient if factor is None else apply("mul", [gradient, factor])
    inputs = [gradient] if factor is None else [gradient, factor]
    return apply("sum_to", inputs, shape=like.shape, layout=like.layout)


def gradient_add(node: Node, grads: list) -> list:
    return [reduced(grads[0], t) for t in node.inputs]


def gradient_sub(node: Node, grads: list) -> list:
    number, first = scalar(node)
    if number is not None:
        return [apply("scale", [grads[0]], a=-1.0) if first else grads[0]]
    x, z = node.inputs
    gz = reduced(grads[0], z)
    return [reduced(grads[0], x), apply("scale", [gz], a=-1.0)]


def gradient_mul(node: Node, grads: list) -> list:
    number, _ = scalar(node)
    if number is not None:
        return [apply("scale", [grads[0]], a=number)]
    x, z = node.inputs
    return [reduced(grads[0], x, z), reduced(grads[0], z, x)]


def infer_sum_to(inputs: list, attrs: dict) -> list[Type]:
    return [Type(tuple(attrs["shape"]), attrs["layout"])]


def lower_sum_to(node: Node, cx: Lowering) -> None:
    g, out = node.inputs[0], node.output
    shape = g.shape
    own = aligned(out.shape, out.layout, len(shape))
    y, ldy = pixel_stride(out, cx, True)
    keep_channels = channels(own) == channels(shape)
    if out.layout == FLAT:
        ldy = channels(own)
    keywords = {}
    if len(node.inputs) > 1:
        z, ldz = pixel_stride(node.inputs[1], cx)
        keywords = {"z": z, "z_stride": strides(node.inputs[1], shape, ldz)}
    x, ldx = pixel_stride(g, cx)
    sum_rows(cx, shape=shape, x=x, x_stride=strides(g, shape, ldx), y=y, ldy=ldy, keep_images=out.layout == PIXELS,
             keep_pixels=pixels_per_image(own) == pixels_per_image(shape), keep_channels=keep_channels,
             info={"input": shape, "output": out.shape}, **keywords)


def lower_constant(node: Node, cx: Lowering) -> None:
    y, ldy = pixel_stride(node.output, cx, True)
    cx.step(kernels.fill, y, value=node.attrs["value"], ldy=ldy, **extent(node.output.shape, FLAT))


def infer_scale(inputs: list, attrs: dict) -> list[Type]:
    attrs.setdefault("b", 0.0)
    return infer("scale", inputs, attrs)


register(Operator("add", lambda inputs, attrs: infer_binary("add", inputs, attrs), lower_add, gradient_add, pointwise=True,
                  general=True, program=program))
register(Operator("add_flat", lambda inputs, attrs: infer_binary("add_flat", inputs, attrs), lower_add, gradient_add))
register(Operator("sub", lambda inputs, attrs: infer_binary("sub", inputs, attrs), lower_sub, gradient_sub, pointwise=True,
                  general=True, program=program))
register(Operator("mul", lambda inputs, attrs: infer_binary("mul", inputs, attrs), lower_mul, gradient_mul, pointwise=True,
                  general=True, program=program))
register(Operator("scale", infer_scale, lambda node, cx: lower_scale(node, cx, node.attrs["a"], node.attrs["b"]),
                  lambda node, grads: [apply("scale", [grads[0]], a=node.attrs["a"])], pointwise=True, general=True,
                  program=program))
register(Operator("constant", lambda inputs, attrs: [Type(tuple(attrs["shape"]), FLAT)], lower_constant))
register(Operator("sum_to", infer_sum_to, lower_sum_to))


# ---- concatenation ------------------------------------------------------------------------------------------------------


def infer_concat(inputs: list, attrs: dict) -> list[Type]:
    if not inputs:
        fail("concat", "no tensors: expected at least one")
    first, dim = inputs[0], attrs.setdefault("dim", 0)
    for i, t in enumerate(inputs):
        want_float("concat", f"tensor {i}", t)
        if t.layout != PIXELS:
            fail("concat", f"tensor {i} of shape {t.shape} is a parameter: expected activations", TypeError)
    if isinstance(dim, bool) or not isinstance(dim, int):
        fail("concat", f"dim={shown(dim)}: expected an integer", TypeError)
    if not -first.ndim <= dim < first.ndim:
        fail("concat", f"dim={dim}: tensors of shape {first.shape} have {first.ndim} dimensions")
    dim = attrs["dim"] = dim % first.ndim
    if dim == 0:
        fail("concat", f"dim=0: tensors of shape {first.shape}: the batch stays as it is")
    for i, t in enumerate(inputs):
        if t.shape[:dim] + t.shape[dim + 1:] != first.shape[:dim] + first.shape[dim + 1:]:
            fail("concat", f"tensor {i} of shape {t.shape}: expected the extents of tensor 0, {first.shape}, but for "
                           f"dim={dim}")
    return [Type((*first.shape[:dim], sum(t.shape[dim] for t in inputs), *first.shape[dim + 1:]))]


def gradient_concat(node: Node, grads: list) -> list:
    first, out, dim = 0, [], node.attrs["dim"]
    for t in node.inputs:
        along = {} if dim == 1 else {"dim": dim}
        out.append(apply("channel_slice" if dim == 1 else "slice", [grads[0]], start=first, count=t.shape[dim], **along))
        first += t.shape[dim]
    return out


def lower_concat(node: Node, cx: Lowering) -> None:
    whole, first, dim = cx.write(node.output), 0, node.attrs["dim"]
    for t in node.inputs:
        if dim != 1:
            view, (ref, strides) = cx.read(t), slice_of(whole, node.output.shape, dim, first)
            cx.step(strided, view.ref, ref, forward=True, shape=t.shape, ld=view.ld, strides=strides,
                    info={"input": t.shape, "output": node.output.shape})
        elif not node.attrs.get("placed"):  # otherwise it was written there
            view = cx.read(t)
            cx.step(kernels.unary, "f32_copy", x=view.ref, y=whole.ref.plus(first), ldx=view.ld, ldy=whole.ld,
                    info={"input": t.shape, "output": node.output.shape}, **extent(t.shape, PIXELS))
        first += t.shape[dim]


def infer_slice(inputs: list, attrs: dict) -> list[Type]:
    x, start, count = inputs[0], attrs["start"], attrs["count"]
    if not 0 <= start <= start + count <= channels(x.shape):
        fail("channel_slice", f"start={start}, count={count}: input of shape {x.shape} has {channels(x.shape)} channels")
    return [Type((x.shape[0], count, *x.shape[2:]))]


def lower_slice(node: Node, cx: Lowering) -> None:
    view = cx.read(node.inputs[0])
    cx.alias(node.output, view._replace(ref=view.ref.plus(node.attrs["start"])))


def infer_spatial_slice(inputs: list, attrs: dict) -> list[Type]:
    x, dim, start, count = inputs[0], attrs["dim"], attrs["start"], attrs["count"]
    if not 2 <= dim < x.ndim or not 0 <= start <= start + count <= x.shape[dim]:
        fail("slice", f"dim={dim}, start={start}, count={count}: input of shape {x.shape} has no such elements")
    return [Type((*x.shape[:dim], count, *x.shape[dim + 1:]))]


def lower_spatial_slice(node: Node, cx: Lowering) -> None:
    x, y = node.inputs[0], cx.write(node.output)
    ref, strides = slice_of(cx.read(x), x.shape, node.attrs["dim"], node.attrs["start"])
    cx.step(strided, y.ref, ref, forward=False, shape=node.output.shape, ld=y.ld, strides=strides,
            info={"input": x.shape, "output": node.output.shape})


register(Operator("concat", infer_concat, lower_concat, gradient_concat))
register(Operator("channel_slice", infer_slice, lower_slice))
register(Operator("slice", infer_spatial_slice, lower_spatial_slice))
