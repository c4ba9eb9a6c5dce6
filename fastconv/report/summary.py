"""A network layer by layer without computing anything: shapes, parameters, multiply-adds, activations, receptive fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from math import prod
from typing import NamedTuple

from fastconv.graph.arrays import input_specs
from fastconv.graph.ir import DENSE, PIXELS, Node, Tensor
from fastconv.graph.trace import trace

FLOAT = 4  # bytes
VIEWS = ("flatten", "unflatten", "view", "layout", "detach", "repeat_reduced")  # they make no values of their own
# Each output pixel depends on the same pixel of the inputs.
POINTWISE = {
    "add", "sub", "mul", "scale", "concat", "channel_slice", "pad", "relu", "leaky_relu", "clip", "sigmoid", "tanh", "elu",
    "silu", "hardsigmoid", "hardswish", "gelu", "softmax", "log_softmax", "dropout", "linear",
    "map", "layout", "detach",
}


class LayerSummary(NamedTuple):
    """One layer of a :class:`Summary`.

    ``path`` of the module, ``type`` (its class; the operator, for what a ``forward`` computes outside of layers), shapes of
    the first input and of the output, ``parameters`` not counted by a layer above, ``multiply_adds`` of convolutions and
    linear layers by the definition (taps in the padding count), ``activation_bytes`` of the output, and ``receptive_field``:
    how many input pixels an output pixel depends on, per spatial dimension, borders left out; None where there is no answer.
    """

    path: str
    type: str
    input: tuple[int, ...] | None
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int
    activation_bytes: int
    receptive_field: tuple[int, ...] | None


class Summary:
    """What :func:`fastconv.summary` returns; prints as a table.

    Attributes
    ----------
    rows : list of LayerSummary
        In the order of computation.
    input_shapes, output_shapes : list of tuple of int
    parameters, trainable_parameters : int
        Numbers in the module's parameters, each counted once, whether a layer reads them or not.
    multiply_adds, activation_bytes : int
        Sums over the rows. A compiled engine needs less memory than the activations: see :meth:`fastconv.Engine.memory`.
    """

    def __init__(self, rows: list[LayerSummary], inputs: list, outputs: list, parameters: int, trainable: int):
        self.rows, self.input_shapes, self.output_shapes = rows, inputs, outputs
        self.parameters, self.trainable_parameters = parameters, trainable
        self.multiply_adds = sum(row.multiply_adds for row in rows)
        self.activation_bytes = sum(row.activation_bytes for row in rows)

    def to_dict(self) -> dict:
        """Everything as dicts, lists and numbers."""
        return {"input_shapes": [list(s) for s in self.input_shapes], "output_shapes": [list(s) for s in self.output_shapes],
                "parameters": self.parameters, "trainable_parameters": self.trainable_parameters,
                "multiply_adds": self.multiply_adds, "activation_bytes": self.activation_bytes,
                "layers": [row._asdict() for row in self.rows]}

    def json(self) -> str:
        """Everything as one JSON object."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        table = [("path", "type", "output", "parameters", "multiply-adds", "activations", "receptive field")]
        for row in self.rows:
            table.append((row.path or "-", row.type, _by(row.output), f"{row.parameters:,}" if row.parameters else "",
                          f"{row.multiply_adds:,}" if row.multiply_adds else "",
                          _bytes(row.activation_bytes) if row.activation_bytes else "",
                          "-" if row.receptive_field is None else _by(row.receptive_field)))
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        lines = ["  ".join(cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in
                           enumerate(zip(row, widths, strict=True))).rstrip() for row in table]
        frozen = self.parameters - self.trainable_parameters
        lines += [
            f"input {', '.join(map(_by, self.input_shapes))}, output {', '.join(map(_by, self.output_shapes))}",
            f"{self.parameters:,} parameters ({_bytes(FLOAT * self.parameters)})" + (f", {frozen:,} of them frozen"
                                                                                  if frozen else ""),
            f"{self.multiply_adds:,} multiply-adds, {_bytes(self.activation_bytes)} of activations"]
        return "\n".join(lines)

    __repr__ = __str__


def summary(module, input_shape) -> Summary:
    """Says of each layer of a network what it costs; nothing is computed and no memory is planned.

    Parameters
    ----------
    module : nn.Module or callable
        As for :func:`fastconv.compile`; traced as for inference.
    input_shape : tuple of int, or sequence of tuples
        Shape of the input ``(N, C, ...)``; one per input where there are several.

    Returns
    -------
    Summary
        ``print`` shows a table; ``rows``, ``to_dict()``, ``json()``, and sums.

    Raises
    ------
    TypeError, ValueError
        For wrong arguments, and for shape errors in the network, naming the module's path.

    Notes
    -----
    Receptive fields: A. Araujo, W. Norris, J. Sim, "Computing receptive fields of convolutional neural networks", Distill,
    2019, doi:10.23915/distill.00021. What reads a whole image (flattening, global pooling) counts as a kernel of its size.
    """
    if not callable(module) or isinstance(module, type):
        raise TypeError(f"summary: module is a {type(module).__name__}: expected an nn.Module or a callable")
    specs = input_specs("summary", input_shape)
    shapes = [shape for shape, _, _ in specs]
    function: Callable = module.symbolic(False) if hasattr(module, "symbolic") else module
    graph, _ = trace(function, [(shape, name, PIXELS if dtype == "float32" and 2 <= len(shape) <= 5 else DENSE, dtype)
                                for shape, name, dtype in specs])
    modules = dict(module.named_modules()) if hasattr(module, "named_modules") else {}
    leaves = {name: type(m).__name__ for name, m in modules.items() if not m._modules}
    if hasattr(module, "named_parameters"):
        parameters = [p for _, p in module.named_parameters()]
    else:  # a function: running statistics get no gradient and do not count
        parameters = [t.parameter for t in graph.parameters if t.parameter.requires_grad]
    return Summary(_rows(graph, leaves, {id(p) for p in parameters}), shapes, [t.shape for t in graph.outputs],
                   sum(p.size for p in parameters), sum(p.size for p in parameters if p.requires_grad))


def _rows(graph, leaves: dict[str, str], parameters: set[int]) -> list[LayerSummary]:
    fields: dict[Tensor, list | None] = {t: [(1, Fraction(1))] * (len(t.shape) - 2) for t in graph.inputs}
    rows: list[LayerSummary] = []
    left = set(parameters)
    before: str | None = None  # the layer of the row before
    ops: set[str] = set()  # and its operators; one that comes again is another call
    for node in graph.nodes:
        activations = [t for t in node.inputs if t is not None and t.parameter is None and t.value is None]
        owned = {id(t.parameter): t.parameter.size for t in node.inputs if t is not None and t.parameter is not None
                 and id(t.parameter) in left}
        left -= set(owned)
        field = fields[node.output] = _field(node, [fields.get(t) for t in activations])
        for other in node.outputs[1:]:
            fields[other] = field
        row = LayerSummary(
            node.path, leaves.get(node.path, node.op.name), activations[0].shape if activations else None,
            node.output.shape, sum(owned.values()), multiply_adds(node),
            0 if node.op.name in VIEWS else sum(t.type.nbytes for t in node.outputs),
            tuple(int(size) for size, _ in field) if field else None)
        if rows and before == node.path and node.path in leaves and node.op.name not in ops:
            last = rows.pop()
            row = row._replace(input=last.input, parameters=last.parameters + row.parameters,
                               multiply_adds=last.multiply_adds + row.multiply_adds,
                               activation_bytes=last.activation_bytes + row.activation_bytes)
        else:
            ops = set()
        rows.append(row)
        before = node.path
        ops.add(node.op.name)
    return rows


def multiply_adds(node: Node) -> int:
    """Of convolutions, linear layers and other products, by the definition; 0 for every other operator."""
    name = node.op.name
    if name == "conv":
        return prod(node.output.shape) * prod(node.inputs[1].shape[1:])
    if name == "conv_transpose":
        return prod(node.inputs[0].shape) * prod(node.inputs[1].shape[1:])
    if name == "contract":  # each letter once: the extents of those that both operands or the result have
        left, right = node.attrs["spec"].split("->")[0].split(",")
        extents: dict[str, int] = {}
        for labels, tensor in ((left, node.inputs[0]), (right, node.inputs[1])):
            for label, extent in zip(labels, tensor.shape, strict=True):
                extents[label] = max(int(extent), extents.get(label, 1))
        return prod(extents.values())
    return node.output.shape[0] * prod(node.inputs[1].shape) if name == "linear" else 0


def _field(node: Node, inputs: list[list | None]) -> list | None:
    """(receptive field, distance in input pixels between neighbours) per spatial dimension of a node's output."""
    known = [f for f in inputs if f]
    if len(known) != len(inputs) or not known or len({len(f) for f in known}) > 1:
        return None
    field = [(max(s for s, _ in dims), max(j for _, j in dims)) for dims in zip(*known, strict=True)]
    name, attrs = node.op.name, node.attrs
    if attrs.get("dim", 1) != 1 or name == "flatten" and len(node.output.shape) > 2:
        return None  # along a spatial dimension, or what mixes them
    if name in POINTWISE or name == "batch_norm" and not attrs["training"]:
        return field
    size = node.inputs[0].shape[2:]
    if name in ("flatten", "batch_norm", "group_norm"):
        return [(s + (extent - 1) * jump, jump) for (s, jump), extent in zip(field, size, strict=True)] if size else field
    if name.startswith("adaptive_"):
        return [(s + (_window(a, b) - 1) * jump, jump * Fraction(a, b)) for (s, jump), a, b in
                zip(field, size, node.output.shape[2:], strict=True)]
    if name not in ("conv", "conv_transpose", "max_pool", "avg_pool"):
        return None
    kernel = attrs["kernel_size"] if name.endswith("pool") else node.inputs[1].shape[2:]
    out = []
    for (s, jump), k, stride, dilation in zip(field, kernel, attrs["stride"], attrs["dilation"], strict=True):
        reach = (k - 1) * dilation
        out.append((s + (reach // stride) * jump, jump / stride) if name == "conv_transpose" else
                   (s + reach * jump, jump * stride))
    return out


def _window(size: int, windows: int) -> int:
    """The widest window of an adaptive pooling."""
    return max(-(-(i + 1) * size // windows) - i * size // windows for i in range(windows))


def _by(shape) -> str:
    return "x".join(map(str, shape)) or "1"


def _bytes(count: int) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count} B" if unit == "B" else f"{count:.1f} {unit}"
        count = count / 1024  # type: ignore[assignment]
    raise AssertionError
