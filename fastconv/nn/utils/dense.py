"""Classifiers of windows as networks over whole images (P. Sermanet et al., "OverFeat", 2014): the fully-connected head
becomes convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastconv._values import shown
from fastconv.graph.ir import Graph, Tensor, apply, building, fail
from fastconv.nn.module import Module

LARGEST = 1024  # windows that are tried
MOVES = ("flatten", "reshape", "view", "assemble")
SAME = ("dropout", "softmax", "log_softmax")  # beside what works element by element


class Convolutional(Module):
    """See :func:`to_convolutional`."""

    def __init__(self, net: Module, window: tuple[int, ...]):
        super().__init__()
        self.net, self.window = net, window

    def forward(self, x):
        graph = x.graph
        result, inside, window = traced(self.net, self.window, graph)
        if x.ndim != len(self.window) + 1:
            fail("Convolutional", f"input of shape {x.shape}: expected {len(self.window) + 1} dimensions")
        return replayed(inside, {window: x}, graph)[result]

    def extra_repr(self) -> str:
        return f"window={self.window}"


def traced(net: Module, window: Sequence[int], graph: Graph | None) -> tuple[Tensor, Graph, Tensor]:
    """What a network computes of one window, as a graph of its own."""
    inside = Graph()
    if graph is not None:
        inside.traced = graph.traced  # what it is made of, the graph around it is made of
    image = inside.input((1, *window), "window")
    with building(inside, ""):
        result = net(image)
    if not isinstance(result, Tensor):
        raise TypeError(f"to_convolutional: the network returns a {type(result).__name__}: expected one tensor")
    return result, inside, image


def replayed(inside: Graph, mapped: dict[Tensor, Any], graph: Graph) -> dict[Tensor, Any]:
    """The operators of a graph again, over larger images: vectors of features are images of them."""
    spread: dict[Tensor, tuple[int, ...]] = {}  # vectors, and the shape of the image that they were

    def there(tensor: Tensor | None) -> Any:
        if tensor is None or tensor in mapped:
            return None if tensor is None else mapped[tensor]
        return tensor.parameter if tensor.parameter is not None else tensor.value

    for node in inside.nodes:
        with building(graph, node.path):
            first, y, name = node.inputs[0] if node.inputs else None, node.output, node.op.name
            inputs, was = [there(t) for t in node.inputs], first.type.shape if first is not None else ()
            if name in ("flatten", "reshape", "view", "layout") and len(was) > 2 and y.type.shape == (1, _prod(was[1:])):
                mapped[y], spread[y] = inputs[0], was[1:]
            elif first in spread and name == "linear":
                weight = apply("reshape", [inputs[1]], shape=(y.type.shape[1], *spread[first]))
                mapped[y] = apply("conv", [inputs[0], weight, *inputs[2:]], stride=1, padding=0, dilation=1, groups=1)
                spread[y] = (y.type.shape[1], *(1,) * (len(spread[first]) - 1))
            elif first in spread and (node.op.pointwise or name in SAME):
                mapped[y], spread[y] = apply(name, inputs, **node.attrs), spread[first]
            elif name in MOVES or any(t in spread for t in node.inputs if t is not None):
                fail("to_convolutional", f"the operator {name} has no form over whole images")
            elif name in ("adaptive_avg_pool", "adaptive_max_pool"):
                mapped[y] = pooled(name, inputs[0], was[2:], y.type.shape[2:])
            else:
                made = apply(name, inputs, **node.attrs)
                mapped.update(zip(node.outputs, made if isinstance(made, tuple) else (made,), strict=True))
    return mapped


def pooled(name: str, x: Tensor, size: Sequence[int], out: Sequence[int]) -> Tensor:
    """A pool by the size of its output, at every place of an image."""
    if tuple(size) == tuple(out):
        return x
    if any(n != 1 for n in out):
        fail("to_convolutional", f"{name} from {tuple(size)} to {tuple(out)} has no form over whole images: expected "
                                 "windows of one place, or one window")
    return apply(name.removeprefix("adaptive_"), [x], kernel_size=tuple(size), stride=1)


def _prod(values: Sequence[int]) -> int:
    product = 1
    for value in values:
        product *= value
    return product


def to_convolutional(model: Module, input_shape: Sequence[int] | None = None) -> Convolutional:
    """A classifier of windows as a network over whole images, with the same parameters.

    Linear layers behind a Flatten become convolutions of the window's size, those behind them of 1x1, a global pool one at
    every place. For a network without padding the result at each place is that of the window there, cut out and classified
    by itself; windows are as far apart as the product of the strides.

    Parameters
    ----------
    model : Module
        A network whose result is one vector for each image; it is shared, not copied.
    input_shape : sequence of int, optional
        The window's (C, H, W), or (N, C, H, W). Default the smallest square that the network takes, for networks with a
        Flatten and no pooling by the size of its output, whose first layer is a convolution.

    Returns
    -------
    Module
        From (N, C, H', W') to (N, features, P, Q).

    Raises
    ------
    TypeError, ValueError
        Where the window cannot be found, or an operator has no form over whole images.
    """
    op = "to_convolutional"
    if not isinstance(model, Module):
        raise TypeError(f"{op}: model is a {type(model).__name__}: expected a Module")
    if input_shape is not None:
        if not isinstance(input_shape, (tuple, list)) or len(input_shape) not in (3, 4):
            raise ValueError(f"{op}: input_shape={shown(input_shape)}: expected (C, H, W) or (N, C, H, W)")
        window = tuple(int(n) for n in input_shape)[-3:]
    else:
        window = smallest(op, model)
    result, inside, image = traced(model, window, None)
    made = Convolutional(model, window)
    scratch = Graph()
    replayed(inside, {image: scratch.input((1, *window), "image")}, scratch)  # refuses what has no such form
    return made


def smallest(op: str, model: Module) -> tuple[int, ...]:
    """The smallest square window that a network takes."""
    kinds = {type(m).__name__ for m in model.modules()}
    if any(kind.startswith("Adaptive") for kind in kinds):
        raise ValueError(f"{op}: input_shape=None, and the network has a pool by the size of its output: expected the "
                         "window's shape")
    channels = next((m.in_channels for m in model.modules() if hasattr(m, "in_channels")), None)
    if channels is None:
        raise ValueError(f"{op}: input_shape=None, and the network has no convolution: expected the window's shape")
    for size in range(1, LARGEST + 1):
        try:
            traced(model, (channels, size, size), None)
        except ValueError:
            continue
        return channels, size, size
    raise ValueError(f"{op}: no square window up to {LARGEST} goes through the network: expected its shape as input_shape")
