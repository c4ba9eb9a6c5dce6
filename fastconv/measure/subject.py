"""A network that is measured: what its libraries are given of it, in a folder of files.

``network.pickle`` is the module itself, for fastconv; the others build theirs from ``weights.npz`` and, for each mode, a
``MODE.json`` with the nodes of the traced graph. Of a network that comes from an ONNX file, ONNX Runtime and OpenVINO read
that file; for the others there is a description where its operators are those that networks written by hand have.
"""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np

from fastconv.graph.ir import Graph, Tensor
from fastconv.graph.trace import trace
from fastconv.report.summary import multiply_adds

MODES = ("inference", "training")


class Unsupported(Exception):
    """Something about a network that a peer is not told about."""


def reject(node: dict) -> Unsupported:
    return Unsupported(f"'{node['path']}': the operator {node['op']} with these arguments is not known to this comparison")


def symmetric(node: dict) -> list[int]:
    """Padding as one number per dimension."""
    if any(a != b for a, b in node["attributes"]["padding"]):
        raise reject(node)
    return [a for a, _ in node["attributes"]["padding"]]


def no_scalars(node: dict) -> None:
    if "scalars" in node["attributes"] or len(node["inputs"]) != 2:
        raise reject(node)


def write(folder, network, shape: tuple[int, ...], modes=MODES, source: str | None = None) -> None:
    """Writes the files about a network for inputs of ``shape``, (C, H, W), into an existing folder.

    ``source``: the ONNX file that it was read from.

    Raises
    ------
    Unsupported
        When the network has several inputs; several outputs, or a forward that reads the batch, without a ``source``.
    """
    names: dict[int, str] = {}
    weights: dict[str, np.ndarray] = {}
    for mode in modes:
        graph, _ = trace(network.symbolic(mode == "training"), [((1, *shape), "input")])
        try:
            if graph.exact is not None:
                raise Unsupported("its forward reads the batch: a comparison takes networks that are the same for any batch")
            if len(graph.outputs) != 1:
                raise Unsupported(f"it has {len(graph.outputs)} outputs: a comparison takes networks with one")
            nodes, trainable = describe(graph, names, weights)
            text = json.dumps({"nodes": nodes, "trainable": trainable, "source": source and os.path.abspath(source)})
        except (Unsupported, TypeError, KeyError) as error:  # the latter: arguments and constants that no peer is told
            if source is None:
                raise
            why = str(error) if isinstance(error, Unsupported) else "its operators are not all known to this comparison"
            text = json.dumps({"nodes": _work(graph), "trainable": ["w"], "source": os.path.abspath(source), "refused": why})
        Path(folder, f"{mode}.json").write_text(text)
    np.savez(Path(folder, "weights.npz"), **weights)  # type: ignore[arg-type]
    with open(Path(folder, "network.pickle"), "wb") as file:
        pickle.dump(network, file)


def read(folder, mode: str) -> tuple[list[dict], dict[str, np.ndarray], list[str]]:
    """Nodes, weights by name, and the names of those that are trained."""
    described = json.loads(Path(folder, f"{mode}.json").read_text())
    if "refused" in described:
        raise Unsupported(described["refused"])
    used = {name for node in described["nodes"] for name in node["inputs"]}
    with np.load(Path(folder, "weights.npz")) as file:
        weights = {name: file[name] for name in file.files if name in used}
    return described["nodes"], weights, described["trainable"]


def source(folder, mode: str) -> str | None:
    """The ONNX file that a network was read from."""
    return json.loads(Path(folder, f"{mode}.json").read_text()).get("source")


def _work(graph: Graph) -> list[dict]:
    """Of each node what :func:`flops` counts, where nothing more is described."""
    def name(tensor: Tensor | None) -> str | None:
        parameter = None if tensor is None else tensor.parameter
        return "x" if tensor is graph.inputs[0] else "w" if parameter is not None and parameter.requires_grad else None

    return [{"inputs": [name(t) for t in node.inputs], "multiply_adds": multiply_adds(node)} for node in graph.nodes]


def describe(graph: Graph, names: dict[int, str], weights: dict[str, np.ndarray]) -> tuple[list[dict], list[str]]:
    """Nodes as (op, inputs, output, attributes) with names for tensors, and the names of the parameters that are trained.

    The first node's input is "x", the graph's output "y". ``names`` of parameters by id, and ``weights`` by name, grow.
    """
    known: dict[Tensor, str] = {graph.inputs[0]: "x"}
    trainable: list[str] = []
    nodes = []
    for number, node in enumerate(graph.nodes):
        inputs = []
        for tensor in node.inputs:
            parameter = None if tensor is None else tensor.parameter
            if parameter is not None and tensor not in known:
                known[tensor] = name = names.setdefault(id(parameter), f"w{len(names)}")
                weights[name] = parameter.data
                trainable += [name] if parameter.requires_grad else []
            inputs.append(None if tensor is None else known[tensor])
        known[node.output] = "y" if node.output is graph.outputs[0] else f"t{number}"
        attributes = {key: value for key, value in node.attrs.items() if not isinstance(value, np.ndarray)}
        nodes.append({"op": node.op.name, "path": node.path, "inputs": inputs, "output": known[node.output],
                      "shape": list(node.inputs[0].shape), "result": list(node.output.shape),
                      "multiply_adds": multiply_adds(node), "attributes": attributes})
    return nodes, trainable


def flops(folder, mode: str, batch: int) -> int:
    """Operations of a run by the definition: a multiply-add is two, and those with padding count.

    A training step does as many for the gradients of inputs and of weights each, but for what nothing needs: the gradient
    of the image, and that of weights that are not trained.
    """
    described = json.loads(Path(folder, f"{mode}.json").read_text())
    count = 0
    for node in described["nodes"]:
        passes = 1
        if mode == "training":
            passes += (node["inputs"][0] != "x") + any(name in described["trainable"] for name in node["inputs"][1:2])
        count += 2 * batch * passes * node["multiply_adds"]
    return count


def of_batch(nodes: list[dict], batch: int) -> list[dict]:
    """Nodes, which were traced with one image, with the shapes of a batch."""
    return [{**node, "shape": [batch, *node["shape"][1:]], "result": [batch, *node["result"][1:]]} for node in nodes]


def images(shape, outputs) -> tuple[np.ndarray, np.ndarray]:
    """A batch of noise, and classes for an output of shape (N, classes, ...): the same in every process."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal(shape, np.float32)
    return x, rng.integers(0, outputs[1], (outputs[0], *outputs[2:]))
