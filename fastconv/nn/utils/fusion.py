"""Batch normalisations folded into the layers before them, under PyTorch's names and for whole networks.

Engines for inference do this by themselves at each compilation; a network that is fused is what is saved or exported without
them.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from fastconv._values import shown
from fastconv.engine.losses import leaves
from fastconv.graph.ir import Graph, building
from fastconv.graph.parameter import Parameter
from fastconv.nn.linear import Identity
from fastconv.nn.module import Module

Layer = TypeVar("Layer", bound=Module)

__all__ = ["fuse", "fuse_conv_bn_eval", "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights"]


def _array(value: Any) -> np.ndarray | None:
    return None if value is None else np.asarray(value, np.float64)


def fuse_conv_bn_weights(conv_w, conv_b, bn_rm, bn_rv, bn_eps: float, bn_w, bn_b, transpose: bool = False):
    """Weight and bias of the convolution that gives what one and the normalisation behind it give.

    Parameters
    ----------
    conv_w : array (O, I / groups, ...), with ``transpose`` (I, O / groups, ...)
    conv_b : array (O,) or None
    bn_rm, bn_rv : array (O,)
        Running mean and variance.
    bn_eps : float
    bn_w, bn_b : array (O,) or None
        Weight and bias of the normalisation.
    transpose : bool, default False
        Of a transposed convolution, of one group.

    Returns
    -------
    weight, bias : Parameter
    """
    weight, mean, variance = _array(conv_w), _array(bn_rm), _array(bn_rv)
    assert weight is not None and mean is not None and variance is not None
    bias = np.zeros_like(mean) if conv_b is None else _array(conv_b)
    scale = (np.ones_like(mean) if bn_w is None else _array(bn_w)) / np.sqrt(variance + bn_eps)
    shift = np.zeros_like(mean) if bn_b is None else _array(bn_b)
    along = 1 if transpose else 0
    if weight.shape[along] != scale.size:
        raise ValueError(f"fuse_conv_bn_weights: conv_w of shape {weight.shape} has {weight.shape[along]} filters, the "
                         f"normalisation {scale.size} channels")
    shape = [1] * weight.ndim
    shape[along] = -1
    return Parameter(weight * scale.reshape(shape)), Parameter((bias - mean) * scale + shift)


def fuse_linear_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps: float, bn_w, bn_b):
    """The same of a linear layer, whose weight is (O, I)."""
    return fuse_conv_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)


def _fused(op: str, layer: Layer, bn: Module, kinds: tuple[str, ...], transpose: bool) -> Layer:
    for name, module, expected in (("the layer", layer, kinds), ("bn", bn, ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"))):
        if not any(k.__name__ in expected for k in type(module).__mro__):
            raise TypeError(f"{op}: {name} is a {type(module).__name__}: expected one of {', '.join(expected)}")
        if module.training:
            raise ValueError(f"{op}: {name} is in training mode: expected evaluation, .eval()")
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError(f"{op}: bn has no running statistics (track_running_stats=False)")
    if transpose and layer.groups != 1:
        raise ValueError(f"{op}: groups={layer.groups}: expected 1 for a transposed convolution")
    made = copy.deepcopy(layer)
    weight, bias = fuse_conv_bn_weights(layer.weight, layer.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight,
                                        bn.bias, transpose)
    made.weight, made.bias = weight, bias
    return made


CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d")
TRANSPOSED = ("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")


def fuse_conv_bn_eval(conv: Layer, bn: Module, transpose: bool = False) -> Layer:
    """A convolution that gives what ``bn(conv(x))`` gives in evaluation; a copy.

    Parameters
    ----------
    conv : Conv1d, Conv2d, Conv3d, or with ``transpose`` a transposed one
    bn : BatchNorm1d, BatchNorm2d, BatchNorm3d
    transpose : bool, default False

    Raises
    ------
    TypeError, ValueError
        For other layers, layers in training mode, and a normalisation without running statistics.
    """
    return _fused("fuse_conv_bn_eval", conv, bn, TRANSPOSED if transpose else CONVOLUTIONS, bool(transpose))


def fuse_linear_bn_eval(linear: Layer, bn: Module) -> Layer:
    """A linear layer that gives what ``bn(linear(x))`` gives in evaluation; a copy. See :func:`fuse_conv_bn_eval`."""
    return _fused("fuse_linear_bn_eval", linear, bn, ("Linear",), False)


def fuse(net: Module, input_shape: Sequence) -> Module:
    """A copy of a network, for inference, without the batch normalisations that layers before them can take over.

    Which these are is seen in what ``forward`` does: a convolution or linear layer that is called once and read by the
    normalisation alone. Each becomes an ``nn.Identity``.

    Parameters
    ----------
    net : Module
    input_shape : tuple of int, or list of such
        As for :func:`fastconv.compile`, of float32.

    Returns
    -------
    Module
        In evaluation mode; its outputs are the same but for rounding.

    Raises
    ------
    TypeError, ValueError
    """
    if not isinstance(net, Module):
        raise TypeError(f"fuse: net is a {type(net).__name__}: expected a Module")
    shapes = [input_shape] if input_shape and not isinstance(input_shape[0], (tuple, list)) else list(input_shape)
    if not shapes or not all(isinstance(s, (tuple, list)) and s and all(isinstance(n, int) for n in s) for s in shapes):
        raise ValueError(f"fuse: input_shape={shown(input_shape)}: expected a shape, or a list of shapes")
    made = copy.deepcopy(net).eval()
    graph = Graph()
    images = [graph.input(s, f"input{i}") for i, s in enumerate(shapes)]
    with building(graph, ""):
        results = leaves(made.symbolic(False)(*images))
    users, modules = graph.users(), dict(made.named_modules())
    called = Counter(n.path for n in graph.nodes if n.op.name in ("conv", "conv_transpose", "linear", "batch_norm"))
    for node in graph.nodes:
        before = node.inputs[0].node if node.op.name == "batch_norm" else None
        if before is None or len(users[node.inputs[0]]) > 1 or any(t is node.inputs[0] for t in results) or \
                called[node.path] > 1 or called[before.path] > 1:
            continue
        layer, bn = modules.get(before.path), modules.get(node.path)
        transpose = before.op.name == "conv_transpose"
        if before.op.name not in ("conv", "conv_transpose", "linear") or layer is None or bn is None or \
                layer._computed or bn.running_mean is None or transpose and layer.groups != 1:
            continue
        weight, bias = fuse_conv_bn_weights(layer.weight, layer.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight,
                                            bn.bias, transpose)
        layer.weight, layer.bias = weight, bias
        parent, _, name = node.path.rpartition(".")
        modules[parent]._modules[name] = Identity()
    return made.eval()
