"""Rewrites of the graph: what can be folded, fused or left out before it is lowered."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from fastconv.graph.autodiff import remove_dead
from fastconv.graph.ir import DENSE, FLAT, PIXELS, Graph, Node, Tensor, Type, operator
from fastconv.graph.merge import merge

# operators whose kernels add a residual and apply an activation, and how many inputs they have without a residual
FUSES_EPILOGUE = {"conv": 3, "conv_transpose": 3, "linear": 3, "batch_norm": 5, "group_norm": 3}
NORMS = ("batch_norm", "group_norm")  # whose gradients take that of an activation along
FOLDS_BATCHNORM = ("conv", "conv_transpose", "linear")
ACTIVATIONS = {"relu": lambda a: ("relu", 0.0, 0.0), "leaky_relu": lambda a: ("leaky_relu", a["negative_slope"], 0.0),
               "clip": lambda a: ("clip", a["low"], a["high"])}


GATES = {"sigmoid": "silu", "hardsigmoid": "hardswish"}


def name_gates(graph: Graph) -> None:
    """``x * sigmoid(x)`` is SiLU and ``x * hardsigmoid(x)`` hardswish, as some exporters write them: one pass over memory.
    Before differentiation."""
    users = graph.users()
    for node in graph.nodes:
        if node.op.name != "mul" or node.attrs.get("scalars") is not None or len(node.inputs) != 2:
            continue
        for x, gate in (node.inputs, node.inputs[::-1]):
            made = gate.node
            if made is not None and made.op.name in GATES and made.inputs[0] is x and len(users[gate]) == 1 and \
                    made.frozen == node.frozen and gate not in graph.outputs and gate not in graph.roots:
                node.op, node.inputs, node.attrs = operator(GATES[made.op.name]), [x], {}
                break
    remove_dead(graph)


def absorb_flatten(graph: Graph) -> None:
    """Linear reads pixels directly; its weight's columns are permuted when packed. Before differentiation."""
    for node in graph.nodes:
        if node.op.name == "linear":
            source = node.inputs[0].node
            if source is not None and source.op.name == "flatten" and source.attrs["start_dim"] == 1:
                node.inputs[0] = source.inputs[0]
                node.attrs["flattened"] = True
    remove_dead(graph)


def absorb_padding(graph: Graph) -> None:
    """A convolution behind zeros around the image has them as padding of its own: no copy. Before differentiation."""
    for node in graph.nodes:
        if node.op.name != "conv":
            continue
        pad = node.inputs[0].node
        if pad is None or pad.op.name != "pad" or pad.attrs["mode"] != "constant" or pad.attrs["value"] != 0:
            continue
        pairs = pad.attrs["pads"]
        if any(pairs[1]) or min(min(p) for p in pairs) < 0:
            continue
        node.inputs[0] = pad.inputs[0]
        node.attrs["padding"] = tuple((low + a, high + b) for (low, high), (a, b) in
                                      zip(node.attrs["padding"], pairs[2:], strict=True))
    remove_dead(graph)


def fold_bias(graph: Graph) -> None:
    """A parameter that is added to each channel behind a convolution without a bias is its bias: some exporters write it so.
    In inference, before normalisations are folded; as a bias the parameter has another shape."""
    users = graph.users()
    for node in list(graph.nodes):
        if node.op.name != "add" or len(node.inputs) != 2 or any(value is not None for value in node.attrs.values()):
            continue
        for source, term in (node.inputs, node.inputs[::-1]):
            conv = source.node
            if conv is None or conv.op.name not in FOLDS_BATCHNORM or conv.op.name == "linear" and source.ndim != 2 or \
                    len(users[source]) > 1 or source in graph.outputs or conv.attrs.get("act") or \
                    any(t is not None for t in conv.inputs[2:]) or term.parameter is None or term.layout != FLAT:
                continue
            filters = source.shape[1]
            shape = (1,) * (source.ndim - term.ndim) + term.shape
            if len(shape) != source.ndim or shape[1] != filters or prod(shape) != filters:
                continue
            bias = Tensor(graph, Type((filters,), FLAT), name=term.name)
            bias.parameter = term.parameter
            conv.inputs = [*conv.inputs[:2], bias]
            _replace(graph, node, source)
            break
    remove_dead(graph)


def fold_batchnorm(graph: Graph) -> None:
    """conv + batch_norm (inference) becomes conv with other weights, made once per version of the parameters."""
    users = graph.users()
    for node in list(graph.nodes):
        if node.op.name != "batch_norm" or node.attrs.get("training"):
            continue
        conv = node.inputs[0].node
        if conv is None or conv.op.name not in FOLDS_BATCHNORM or len(users[conv.output]) > 1 or \
                conv.output in graph.outputs or conv.attrs.get("act") or len(conv.inputs) > 3:
            continue
        w, b = conv.inputs[1], conv.inputs[2] if len(conv.inputs) > 2 else None
        gamma, beta, mean, var = node.inputs[1:5]
        if mean is None or var is None or any(t is not None and t.parameter is None for t in (w, b, gamma, beta, mean, var)):
            continue
        attrs = {"eps": node.attrs["eps"], "transposed": conv.op.name == "conv_transpose",
                 "groups": conv.attrs.get("groups", 1)}
        fold = Node(operator("fold_batchnorm"), [w, b, gamma, beta, mean, var], attrs, conv.path, conv.segment)
        filters = conv.output.shape[1]
        fold.outputs = [Tensor(graph, Type(w.shape, FLAT), fold, 0), Tensor(graph, Type((filters,), FLAT), fold, 1)]
        graph.nodes.insert(graph.nodes.index(conv), fold)
        conv.inputs = [conv.inputs[0], *fold.outputs]
        _replace(graph, node, conv.output)
    remove_dead(graph)


def fuse(graph: Graph) -> None:
    """What is done while a value is at hand anyway. After differentiation."""
    fuse_epilogue(graph)
    fuse_gradient(graph)
    merge(graph)
    lay_inputs(graph)


def lay_inputs(graph: Graph) -> None:
    """Inputs that nobody reads as pixels, but through views that leave no dimension in its place (an NHWC model's, which it
    permutes), stay in C order, as users have them."""
    users = graph.users()
    for tensor in graph.inputs:
        readers = users.get(tensor, [])
        if readers and tensor.layout == PIXELS and tensor.batched and tensor not in graph.late_inputs and \
                tensor not in graph.outputs and \
                all(n.op.name in ("view", "reshape") and n.output.layout != PIXELS for n in readers):
            tensor.type = replace(tensor.type, layout=DENSE)


def fuse_epilogue(graph: Graph) -> None:
    """Residual addition and activation move into the producer."""
    for node in list(graph.nodes):
        if node not in graph.nodes:
            continue
        if node.op.name == "add" and node.attrs.get("scalars") is None:
            _fuse_residual(graph, node)
        elif node.op.name in ACTIVATIONS:
            producer: Any = node.inputs[0].node
            if _sole(graph, producer) and not producer.attrs.get("act"):
                producer.attrs["act"] = ACTIVATIONS[node.op.name](node.attrs)
                _take_over(graph, node, producer)


def fuse_gradient(graph: Graph) -> None:
    """The gradient of an activation moves into that of the normalisation which the activation was fused into."""
    users = graph.users()
    for node in list(graph.nodes):
        activation = node.op.name.removesuffix("_backward")
        if node.op.name == activation or activation not in ("relu", "clip"):
            continue
        gradient, output = node.inputs
        norm, readers = output.node, users.get(node.output, [])
        if norm is None or norm.op.name not in NORMS or norm.attrs.get("act") != ACTIVATIONS[activation](node.attrs) or \
                len(norm.inputs) > FUSES_EPILOGUE[norm.op.name]:  # with a residual, its gradient is wanted as well
            continue
        if len(readers) == 1 and readers[0].op.name == norm.op.name + "_backward" and node.output not in graph.outputs and \
                readers[0].attrs["forward"] is norm:
            readers[0].inputs[0], readers[0].attrs["act"] = gradient, norm.attrs["act"]
            graph.nodes.remove(node)


def _fuse_residual(graph: Graph, node: Node) -> None:
    if len(node.inputs) != 2 or node.inputs[0].type != node.inputs[1].type:  # a parameter is read by other strides
        return
    order = {id(n): i for i, n in enumerate(graph.nodes)}
    for this, other in ((1, 0), (0, 1)):
        producer: Any = node.inputs[this].node
        residual = node.inputs[other]
        if not _sole(graph, producer) or producer.attrs.get("act") or producer is residual.node or \
                len(producer.inputs) > FUSES_EPILOGUE[producer.op.name]:
            continue
        if residual.node is not None and order[id(residual.node)] > order[id(producer)]:
            continue  # the residual is not there yet when the producer runs
        producer.inputs = [*producer.inputs, *([None] * (FUSES_EPILOGUE[producer.op.name] - len(producer.inputs))),
                           residual]
        _take_over(graph, node, producer)
        return


def _sole(graph: Graph, producer: Any) -> bool:
    """Whether a producer can take an epilogue: nothing else reads its output."""
    if producer is None or producer.op.name not in FUSES_EPILOGUE or producer.output in graph.outputs:
        return False
    return sum(t is producer.output for n in graph.nodes for t in n.inputs) == 1


def _take_over(graph: Graph, node: Node, producer: Node) -> None:
    """The producer now makes what ``node`` made."""
    tensor = node.outputs[0]
    tensor.node, tensor.index = producer, 0
    producer.outputs = [tensor]
    graph.nodes.remove(node)


def _replace(graph: Graph, node: Node, by: Tensor) -> None:
    """Everything that read the node's output reads ``by``."""
    old = node.outputs[0]
    for other in graph.nodes:
        other.inputs = [by if t is old else t for t in other.inputs]
    graph.outputs = [by if t is old else t for t in graph.outputs]
    graph.nodes.remove(node)


def place_concatenations(graph: Graph) -> dict[Tensor, tuple[Tensor, int]]:
    """Concatenations along channels whose inputs can be written straight into their channels."""
    placed: dict[Tensor, tuple[Tensor, int]] = {}
    taken = set(graph.outputs)
    for node in graph.nodes:
        if node.op.name != "concat" or node.attrs.get("dim") != 1:
            continue
        if len({id(t) for t in node.inputs}) != len(node.inputs):
            continue
        ok = all(t.node is not None and t not in placed and t not in taken and t.node.op.name not in KEEPS_OWN_LAYOUT
                 for t in node.inputs)
        if not ok:
            continue
        channel = 0
        for t in node.inputs:
            placed[t] = (node.output, channel)
            channel += t.shape[1]
        node.attrs["placed"] = True
    return placed


# operators whose output is another tensor's bytes, or must be dense
KEEPS_OWN_LAYOUT = ("flatten", "unflatten", "linear_backward_data", "channel_slice")
