"""Activations and their gradients: from the output where that is possible, so that the input's memory can be reused."""

from __future__ import annotations

from math import isnan, prod
from typing import Any

from fastconv._values import shown
from fastconv.graph.ir import DENSE, FLAT, PIXELS, Node, Operator, Tensor, Type, apply, fail, register
from fastconv.graph.programs import write
from fastconv.kernels import elementwise as kernels
from fastconv.kernels import map as map_kernels
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


def lower_program(node: Node, cx: Lowering) -> None:
    """The step of a node that is a program of `map`."""
    assert node.op.program is not None
    (lines, result), out = node.op.program(node), node.output
    cx.step(map_kernels.map, shape=out.shape, inputs=[tuple(cx.view(t)) for t in node.inputs],
            outputs=[tuple(cx.view(out, write=True))], program=lines, results=[result], batched=out.batched,
            info={"input": node.inputs[0].shape, "output": out.shape})


def lower_clip_backward(node: Node, cx: Lowering) -> None:
    gy, ldgy = pixel_stride(node.inputs[0], cx)
    kept, ldk = pixel_stride(node.inputs[1], cx)
    gx, ldgx = pixel_stride(node.output, cx, True)
    cx.step(kernels.clip_backward, gy=gy, kept=kept, gx=gx, ldgy=ldgy, ldk=ldk, ldgx=ldgx, a=node.attrs["low"],
            b=node.attrs["high"], info={"input": node.inputs[0].shape, "output": node.output.shape},
            **extent(node.output.shape, node.output.layout))


class Activation:
    """One activation: how its attributes become the constants of its programs, and whether its backward reads the output."""

    def __init__(self, name: str, from_output: Any, constants=lambda attrs: (), check=lambda attrs: None,
                 lower_backward=lower_program):
        self.name, self.constants, self.check = name, constants, check
        self.from_output = from_output if callable(from_output) else lambda attrs: from_output
        register(Operator(name, self.infer, lower_program, self.gradient, pointwise=True, general=True,
                          program=self.program))
        backward = f"{name}_backward"
        register(Operator(backward, lambda inputs, attrs: infer_backward(backward, inputs, attrs), lower_backward,
                          pointwise=True, general=True, program=self.program))

    def program(self, node: Node) -> tuple:
        """(lines, result) of a program of `map`."""
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


#: What the operators are as programs, by operator: made from the constants.
PROGRAMS: dict[str, Any] = {
    "relu": lambda: lambda x: x.relu(),
    "relu_backward": lambda: lambda g, z: g.relu_backward(z),
    "leaky_relu": lambda a: lambda x: x.leaky_relu(a),
    "leaky_relu_backward": lambda a: lambda g, z: g.leaky_relu_backward(z, a),
    "clip": lambda a, b: lambda x: x.builder.line("clamp", x, a, b),
    "clip_backward": lambda a, b: lambda g, z: (z > a).where((z < b).where(g, 0.0), 0.0),
    "sigmoid": lambda: lambda x: x.sigmoid(),
    "sigmoid_backward": lambda: lambda g, z: g.sigmoid_backward(z),
    "tanh": lambda: lambda x: x.tanh(),
    "tanh_backward": lambda: lambda g, z: g.tanh_backward(z),
    "elu": lambda a: lambda x: x.elu(a),
    "elu_backward": lambda a: lambda g, z: g.elu_backward(z, a),
    "silu": lambda: lambda x: x.silu(),
    "silu_backward": lambda: lambda g, z: g.silu_backward(z),
    "hardsigmoid": lambda: lambda x: x.hardsigmoid(),
    "hardsigmoid_backward": lambda: lambda g, z: g.hardsigmoid_backward(z),
    "hardswish": lambda: lambda x: x.hardswish(),
    "hardswish_backward": lambda: lambda g, z: g.hardswish_backward(z),
    "gelu": lambda tanh=False: (lambda x: x.gelu_tanh()) if tanh else lambda x: x.gelu(),
    "gelu_backward": lambda tanh=False: (lambda g, z: g.gelu_tanh_backward(z)) if tanh else lambda g, z: g.gelu_backward(z),
}

Activation("relu", True)
Activation("leaky_relu", lambda attrs: attrs["negative_slope"] >= 0, lambda attrs: (attrs["negative_slope"],), check_slope)
Activation("clip", True, lambda attrs: (attrs["low"], attrs["high"]), check_clip, lower_clip_backward)
Activation("sigmoid", True)
Activation("tanh", True)
Activation("elu", True, lambda attrs: (attrs["alpha"],), check_alpha)
Activation("silu", False)
Activation("hardsigmoid", False)
Activation("hardswish", False)
Activation("gelu", False, check=check_approximate)
