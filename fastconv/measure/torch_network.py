"""A described network (``subject.py``) as a PyTorch module, as fast as its users write them.

Activations and sums work in place where nothing else reads their input, as torchvision's do, and values are dropped
after their last reader.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fastconv.measure.subject import no_scalars, reject, symmetric

F: Any = torch.nn.functional
OVERWRITTEN = ("conv", "conv_transpose", "batch_norm", "linear")  # their own gradients do not need their outputs
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class Network(torch.nn.Module):
    """``trainable`` names the weights that are parameters; the others are buffers."""

    def __init__(self, nodes: list[dict], weights: dict[str, np.ndarray], trainable: list[str], layout: str):
        super().__init__()
        self.nodes = nodes
        for name, value in weights.items():
            tensor = torch.from_numpy(np.array(value))
            if tensor.ndim == 4:
                tensor = tensor.contiguous(memory_format=FORMATS[layout])
            if name in trainable:
                self.register_parameter(name, torch.nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)
        last = {name: number for number, node in enumerate(nodes) for name in node["inputs"] if name}
        made = {node["output"]: node["op"] for node in nodes}
        readers: dict[str, int] = {}
        for node in nodes:
            for name in node["inputs"]:
                readers[name] = readers.get(name, 0) + 1
        self.dropped = [[n for n in {*node["inputs"]} if n and last[n] == number and n not in weights]
                        for number, node in enumerate(nodes)]
        self.inplace = [readers[node["inputs"][0]] == 1 and made.get(node["inputs"][0]) in OVERWRITTEN for node in nodes]

    def forward(self, x):
        values = {"x": x}
        for node, dropped, inplace in zip(self.nodes, self.dropped, self.inplace, strict=True):
            inputs = [None if n is None else values[n] if n in values else getattr(self, n) for n in node["inputs"]]
            values[node["output"]] = compute(node, inputs, inplace)
            for name in dropped:
                del values[name]
        return values["y"]


def compute(node: dict, inputs: list, inplace: bool):
    """One node, by PyTorch's function for it."""
    a, op = node["attributes"], node["op"]
    dims = len(a.get("stride", ())) - 1
    if op == "conv":
        call = (F.conv1d, F.conv2d, F.conv3d)[dims]
        padding = [before for before, _ in a["padding"]]
        if any(before != after for before, after in a["padding"]):  # as padding="same" does it
            padding = [min(pair) for pair in a["padding"]]
            rest = [n - p for pair, p in zip(reversed(a["padding"]), reversed(padding), strict=True) for n in pair]
            inputs = [F.pad(inputs[0], rest), *inputs[1:]]
        return call(*inputs, stride=a["stride"], padding=padding, dilation=a["dilation"], groups=a["groups"])
    if op == "conv_transpose":
        call = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims]
        return call(*inputs, stride=a["stride"], padding=symmetric(node), output_padding=a["output_padding"],
                    groups=a["groups"], dilation=a["dilation"])
    if op == "linear":
        return F.linear(*inputs)
    if op == "max_pool":
        call = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[dims]
        return call(inputs[0], a["kernel_size"], a["stride"], symmetric(node), a["dilation"], a["ceil_mode"])
    if op == "avg_pool" and dims == 1:
        return F.avg_pool2d(inputs[0], a["kernel_size"], a["stride"], symmetric(node), a["ceil_mode"],
                            a["count_include_pad"], a["divisor_override"])
    if op == "adaptive_avg_pool" and len(a["output_size"]) == 2:
        return F.adaptive_avg_pool2d(inputs[0], a["output_size"])
    if op == "batch_norm":
        x, weight, bias, mean, var = inputs
        return F.batch_norm(x, mean, var, weight, bias, a["training"], a["momentum"], a["eps"])
    if op in ("add", "mul"):
        no_scalars(node)
        return inputs[0].add_(inputs[1]) if inplace and op == "add" else getattr(torch, op)(*inputs)
    if op == "concat":
        return torch.cat(inputs, a["dim"])
    if op == "clip":
        return F.hardtanh(inputs[0], a["low"], a["high"], inplace=inplace)
    if op == "flatten":
        return torch.flatten(inputs[0], a["start_dim"], a["end_dim"])
    if op == "dropout":
        return F.dropout(inputs[0], a["p"], True, inplace)
    if op in ("softmax", "log_softmax"):
        return getattr(torch, op)(inputs[0], a["dim"])
    if op in ("sigmoid", "tanh"):
        return getattr(torch, op)(inputs[0])
    if op in ("relu", "silu", "hardsigmoid", "hardswish"):
        return getattr(F, op)(inputs[0], inplace=inplace)
    if op == "reshape" and a["batch"]:
        return inputs[0].reshape(inputs[0].shape[0], *a["shape"][1:])
    if op == "layout":
        return inputs[0]
    if op == "view":
        return inputs[0].permute(permutation(node))
    if op == "contract" and a["alpha"] == 1 and len(inputs) < 3 + (inputs[-1] is None):
        return torch.einsum(a["spec"], *inputs[:2])
    if op == "map" and a["program"] == [["add", 0, 1]] and a["dtype"] == "float32" and len(inputs) == 2:
        return inputs[0].add_(inputs[1]) if inplace else inputs[0] + inputs[1]
    raise reject(node)


def permutation(node: dict) -> list[int]:
    """The order of the axes of a view that does nothing else."""
    shape, start, terms = node["attributes"]["map"]
    axes = [axes[0][0] if len(axes) == 1 else -1 for axes in terms]
    whole = not any(start) and all(step == 1 for axes in terms for _, step in axes)
    if not whole or sorted(axes) != list(range(len(shape))) or axes[0] != 0 or \
            shape[1:] != [node["shape"][axis] for axis in axes[1:]]:
        raise reject(node)
    return axes
