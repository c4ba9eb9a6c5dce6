"""Activations and their gradients: from the output where that is possible, so that the input's memory can be reused."""

from __future__ import annotations

from math import isnan, prod
from typing import Any

from fastconv._values import shown
from fastconv.graph.ir import DENSE, FLAT, PIXELS, Node, Operator, Tensor, Type, apply, fail, register
from fastconv.graph.programs import write
from fastconv.kernels import elementwise as kernels
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import channels, pixels_per_image
from fastconv.ops import views


def extent(shape: tuple[int, ...], layout: str) -> dict:
    """A tensor as the kernels see it: pixels of channels, a row per image where it is dense, one row where it is flat."""
    if layout == FLAT:
        return {"pixels": 1, "channels": prod(shape), "fixed_n": 1}
    if layout == DENSE:
        return {"pixels": 1, "channels": prod(shape[1:])}
    return {"pixels": pixels_per_image(shape), "channels": channels(shape)}


def pixel_stride(tensor: Tensor, cx: Lowering, write: bool = False) -> tuple:
    """Where a tensor lies and its pixel stride; a row per image if it is dense, one row if it is flat."""
    view = cx.write(tensor) if write else cx.read(tensor)
    if tensor.layout == PIXELS:
        return view.ref, view.ld
    return view.ref, prod(tensor.shape[1:] if tensor.layout == DENSE else tensor.shape)


def want_float(op: str, name: str, tensor: Tensor) -> None:
    if tensor.dtype != "float32":
        fail(op, f"{name} has dtype {tensor.dtype}: expected float32", TypeError)


def infer(op: str, inputs: list, attrs: dict) -> list[Type]:
    want_float(op, "input", inputs[0])
    return [inputs[0].type]


def infer_backward(op: str, inputs: list, attrs: dict) -> list[Type]:
    gy, kept = inputs
    if gy.shape != kept.shape:
        fail(op, f"grad_output of shape {gy.shape}: expected {kept.shape}, the shape of the input")
    inputs[0] = views.laid_out(gy, kept.type)
    return [kept.type]


def number(op: str, attrs: dict, name: str, low: float = float("-inf")) -> None:
    """Checks an attribute, a number of at least ``low``, and makes it a float."""
    value = attrs[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        fail(op, f"{name}={shown(value)}: expected a number", TypeError)
    if isnan(value) or value < low:
        fail(op, f"{name}={shown(value)}: expected a number" + (f" of at least {low:g}" if low > float("-inf") else ""))
    attrs[name] = float(value)


class Activation:
    """One activation: how its attributes become the kernel's constants, and whether its backward reads the output."""

    def __init__(self, name: str, from_output: Any, constants=lambda attrs: (), check=lambda attrs: None,
                 kernel=None):
        self.name, self.constants, self.check = name, constants, check
        self.from_output = from_output if callable(from_output) else lambda attrs: from_output
        self.kernel = kernel or (lambda attrs: name)
        register(Operator(name, self.infer, self.lower, self.gradient, pointwise=True, general=True, program=self.program))
        backward = f"{name}_backward"
        register(Operator(backward, lambda inputs, attrs: infer_backward(backward, inputs, attrs), self.lower_backward,
                          pointwise=True, general=True, program=self.program))

    def program(self, node: Node) -> tuple:
        """The same as a program of `map`, bit for bit."""
        body = PROGRAMS[node.op.name](*self.constants(node.attrs), **self.variant(node.attrs))
        lines, results = write(body, len(node.inputs))
        return lines, results[0]

    def variant(self, attrs: dict) -> dict:
        return {"tanh": True} if attrs.get("approximate") == "tanh" else {}

    def infer(self, inputs: list, attrs: dict) -> list[Type]:
        self.check(attrs)
        return infer(self.name, inputs, attrs)

    def gradient(self, node: Node, grads: list) -> list:
        kept = node.output if self.from_output(node.attrs) else node.inputs[0]
        return [apply(f"{self.name}_backward", [grads[0], kept], **node.attrs)]

    def arguments(self, attrs: dict) -> dict:
        return dict(zip("ab", self.constants(attrs), strict=False))

    def lower(self, node: Node, cx: Lowering) -> None:
        x, ldx = pixel_stride(node.inputs[0], cx)
        y, ldy = pixel_stride(node.output, cx, True)
        cx.step(kernels.unary, f"f32_{self.kernel(node.attrs)}", x=x, y=y, ldx=ldx, ldy=ldy,
                info={"input": node.inputs[0].shape, "output": node.output.shape}, **self.arguments(node.attrs),
                **extent(node.output.shape, node.output.layout))

    def lower_backward(self, node: Node, cx: Lowering) -> None:
        gy, ldgy = pixel_stride(node.inputs[0], cx)
        kept, ldk = pixel_stride(node.inputs[1], cx)
        gx, ldgx = pixel_stride(node.output, cx, True)
        cx.step(kernels.backward, f"f32_{self.kernel(node.attrs)}_backward", gy=gy, kept=kept, gx=gx, ldgy=ldgy, ldk=ldk,
                ldgx=ldgx, info={"input": node.inputs[0].shape, "output": node.output.shape},
                **self.arguments(node.attrs), **extent(node.output.shape, node.output.layout))


def check_clip(attrs: dict) -> None:
    number("clip", attrs, "low")
    number("clip", attrs, "high")
    if attrs["low"] > attrs["high"]:
        fail("clip", f"low={attrs['low']} is above high={attrs['high']}")


def check_slope(attrs: dict) -> None:
    attrs.setdefault("negative_slope", 0.01)
    number("leaky_relu", attrs, "negative_slope")


def check_alpha(attrs: dict) -> None:
    attrs.setdefault("alpha", 1.0)
    number("elu", attrs, "alpha", 0.0)  # the backward reads the output, whose sign is then the input's


def check_approximate(attrs: dict) -> None:
    if attrs.setdefault("approximate", "none") not in ("none", "tanh"):
        fail("gelu", f"approximate={shown(attrs['approximate'])}: expected 'none' or 'tanh'")


def _inner(x):
    return x * 0.797884561 * x.builder.line("fma", x * x, 0.044715, 1.0)


def _gelu_backward_program(tanh: bool = False):
    def exact(g, z):
        density = (z * -0.5 * z).exp() * 0.398942280
        return g * z.builder.line("fma", z, density, z.normal_cdf())

    def approximate(g, z):
        line = z.builder.line
        s = (_inner(z) * 2.0).sigmoid()
        slope = line("fma", z * z, 0.134145, 1.0) * 1.595769122
        return g * line("fma", z * (s * (1.0 - s)), slope, s)

    return approximate if tanh else exact


#: The kernels' bodies (elementwise.inl.h) as programs, by operator: made from the constants.
PROGRAMS: dict[str, Any] = {
    "relu": lambda: lambda x: x.relu(),
    "relu_backward": lambda: lambda g, z: (z <= 0.0).where(0.0, g),
    "leaky_relu": lambda a: lambda x: (x > 0.0).where(x, x * a),
    "leaky_relu_backward": lambda a: lambda g, z: (z > 0.0).where(g, g * a),
    "clip": lambda a, b: lambda x: x.builder.line("clamp", x, a, b),
    "clip_backward": lambda a, b: lambda g, z: (z > a).where((z < b).where(g, 0.0), 0.0),
    "sigmoid": lambda: lambda x: x.sigmoid(),
    "sigmoid_backward": lambda: lambda g, z: g * (z * (1.0 - z)),
    "tanh": lambda: lambda x: x.tanh(),
    "tanh_backward": lambda: lambda g, z: g * z.builder.line("fma", -z, z, 1.0),
    "elu": lambda a: lambda x: (x > 0.0).where(x, x.expm1_negative() * a),
    "elu_backward": lambda a: lambda g, z: (z > 0.0).where(g, g * (z + a)),
    "silu": lambda: lambda x: x.silu(),
    "silu_backward": lambda: lambda g, z: g * (z.sigmoid() * z.builder.line("fma", z, 1.0 - z.sigmoid(), 1.0)),
    "hardsigmoid": lambda: lambda x: x.builder.line("clamp", x + 3.0, 0.0, 6.0) / 6.0,
    "hardsigmoid_backward": lambda: lambda g, z: (z > -3.0).where((z < 3.0).where(g / 6.0, 0.0), 0.0),
    "hardswish": lambda: lambda x: x * x.builder.line("clamp", x + 3.0, 0.0, 6.0) / 6.0,
    "hardswish_backward": lambda: lambda g, z: (z <= -3.0).where(0.0, (z >= 3.0).where(g, g * (z / 3.0 + 0.5))),
    "gelu": lambda tanh=False: (lambda x: x * (_inner(x) * 2.0).sigmoid()) if tanh else lambda x: x * x.normal_cdf(),
    "gelu_backward": _gelu_backward_program,
}

Activation("relu", True)
Activation("leaky_relu", lambda attrs: attrs["negative_slope"] >= 0, lambda attrs: (attrs["negative_slope"],), check_slope)
Activation("clip", True, lambda attrs: (attrs["low"], attrs["high"]), check_clip)
Activation("sigmoid", True)
Activation("tanh", True)
Activation("elu", True, lambda attrs: (attrs["alpha"],), check_alpha)
Activation("silu", False)
Activation("hardsigmoid", False)
Activation("hardswish", False)
Activation("gelu", False, check=check_approximate,
           kernel=lambda attrs: "gelu" if attrs["approximate"] == "none" else "gelu_tanh")
