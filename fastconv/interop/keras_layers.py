"""Layers of Keras: which arrays they have, and how those lie here."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from fastconv import nn

RECURRENT = {"lstm": 4, "gru": 3, "simplernn": 1}
WAYS = ("forward", "backward")  # how the two in a Bidirectional are called
ORDER = {"lstm": (0, 1, 2, 3), "gru": (1, 0, 2), "simplernn": (0,)}  # of the gates, as PyTorch has them
# What leaves each value at its place: through these a description is followed back to what was flattened.
ELEMENTWISE = {
    "dropout", "activation", "relu", "leakyrelu", "prelu", "elu", "softmax", "gaussiannoise", "gaussiandropout",
    "alphadropout", "activityregularization", "identity", "batchnormalization", "rescaling", "layernormalization"}
SAME_CHANNELS = {
    *ELEMENTWISE, "spatialdropout1d", "spatialdropout2d", "spatialdropout3d", "groupnormalization", "unitnormalization",
    "add", "multiply", "maximum", "minimum", "average", "subtract",
    *(f"{name}{dims}d" for dims in (1, 2, 3) for name in ("maxpooling", "averagepooling", "zeropadding", "cropping",
                                                          "upsampling", "depthwiseconv"))}


class Layer:
    """A layer with weights.

    Attributes
    ----------
    path : str
    arrays : dict from Keras's name of a weight to ndarray
    kind : str
        The class's name in lower case, without underscores; a guess where the file does not say it.
    config : dict
        What it was made with; empty where the file does not say.
    place : tuple, optional
        Its description, and that of its model.
    way : str
        "forward" or "backward", of what is one of two in a Bidirectional, whose path this is then.
    """

    def __init__(self, path: str, arrays: dict[str, np.ndarray], kind: str = "", config: dict | None = None,
                 place: tuple | None = None, way: str = ""):
        self.path, self.arrays, self.config, self.place, self.way = path, arrays, config or {}, place, way
        self.kind = kind or _guess(arrays)


def _guess(arrays: dict[str, np.ndarray]) -> str:
    """What a layer is by its arrays."""
    kernel = arrays.get("kernel")
    if "recurrent_kernel" in arrays and kernel is not None:
        gates = kernel.shape[-1] // max(1, arrays["recurrent_kernel"].shape[0])
        return next((kind for kind, count in RECURRENT.items() if count == gates), "recurrent")
    if "pointwise_kernel" in arrays:
        return f"separableconv{arrays['pointwise_kernel'].ndim - 2}d"
    if "depthwise_kernel" in arrays:
        return f"depthwiseconv{arrays['depthwise_kernel'].ndim - 2}d"
    if "moving_mean" in arrays:
        return "batchnormalization"
    if "gamma" in arrays or "beta" in arrays:
        return "layernormalization"
    if "embeddings" in arrays:
        return "embedding"
    if "alpha" in arrays:
        return "prelu"
    if kernel is not None:
        return "dense" if kernel.ndim == 2 else f"conv{kernel.ndim - 2}d"
    return ""


def kind_of(module) -> str | None:
    """What a layer of Keras would be called that does what a module does."""
    for dims in (1, 2, 3):
        if isinstance(module, getattr(nn, f"SeparableConv{dims}d")):
            return f"separableconv{dims}d"
        if isinstance(module, getattr(nn, f"ConvTranspose{dims}d")):
            return f"conv{dims}dtranspose"
        if isinstance(module, getattr(nn, f"Conv{dims}d")):
            depthwise = module.groups > 1 and module.groups == module.in_channels
            return f"depthwiseconv{dims}d" if depthwise else f"conv{dims}d"
    kinds: tuple[tuple[Any, str], ...] = (
        (nn.Linear, "dense"), (nn.LSTM, "lstm"), (nn.GRU, "gru"), (nn.RNN, "simplernn"), (nn.PReLU, "prelu"),
        (nn.GroupNorm, "groupnormalization"), (nn.LayerNorm, "layernormalization"), (nn.Embedding, "embedding"),
        ((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), "batchnormalization"))
    return next((kind for types, kind in kinds if isinstance(module, types)), None)


def variables(kind: str, config: dict, values: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by their names, of a layer that numbers them."""
    if kind == "batchnormalization":
        names = ["gamma"] * config.get("scale", True) + ["beta"] * config.get("center", True)
        names += ["moving_mean", "moving_variance"]
        if not config and len(values) == 2:
            names = names[2:]
    elif kind in RECURRENT or kind == "bidirectional":
        names = ["kernel", "recurrent_kernel", "bias"]
    elif kind.startswith("separableconv"):
        names = ["depthwise_kernel", "pointwise_kernel", "bias"]
    elif kind in ("layernormalization", "groupnormalization"):
        names = ["gamma"] * config.get("scale", True) + ["beta"] * config.get("center", True)
    elif kind == "embedding":
        names = ["embeddings"]
    elif kind == "prelu":
        names = ["alpha"]
    elif kind == "dense" or "conv" in kind:
        names = ["kernel", "bias"]
    else:
        names = [str(i) for i in range(len(values))]
    if len(values) > len(names) or not config and kind == "batchnormalization" and len(values) not in (2, 4):
        raise ValueError(f"{len(values)} arrays of a {kind}: expected {', '.join(names)}")
    return dict(zip(names, values, strict=False))


# ---- layouts ------------------------------------------------------------------------------------------------------------


def convert(layer: Layer, channels: int | None) -> dict[str, np.ndarray]:
    """The arrays of a layer under PyTorch's names, in its layouts.

    ``channels``: of what was flattened before it, whose pixels had their channels last.

    Raises
    ------
    NotImplementedError
        For layers that have no counterpart.
    ValueError, LookupError
        For arrays that the layer cannot have.
    """
    kind, arrays = layer.kind, layer.arrays
    if layer.way:
        inner = _guess(arrays)
        if inner not in RECURRENT:
            raise NotImplementedError(f"a Bidirectional around {inner or 'something else'}")
        return _named(layer.path, _recurrent(inner, arrays, "_reverse" if layer.way == WAYS[1] else ""))
    if kind in RECURRENT:
        return _named(layer.path, _recurrent(kind, arrays, ""))
    rule: Callable | None = RULES.get(re.sub(r"[123]d(transpose)?$", "", kind))
    if rule is None:
        raise NotImplementedError(f"no counterpart of a {kind or 'layer with ' + ', '.join(arrays)}")
    if kind in ("dense", "batchnormalization", "layernormalization", "prelu") and channels:
        arrays = {key: _channels_first(value, channels) for key, value in arrays.items() if key != "bias"} | \
            {key: value for key, value in arrays.items() if key == "bias"}
    return _named(layer.path, rule(arrays))


def _named(path: str, made: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{path}.{key}": np.ascontiguousarray(value, np.float32) for key, value in made.items()}


def _channels_first(array: np.ndarray, channels: int) -> np.ndarray:
    """The first dimension, of pixels with their channels last, in the order of channels with their pixels last."""
    if array.shape[0] % channels:
        raise ValueError(f"{array.shape[0]} inputs of {channels} channels")
    parts = array.reshape(array.shape[0] // channels, channels, *array.shape[1:])
    return parts.swapaxes(0, 1).reshape(array.shape)


def _bias(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"bias": arrays["bias"]} if "bias" in arrays else {}


def _dense(arrays):
    return {"weight": arrays["kernel"].T, **_bias(arrays)}


def _conv(arrays):
    """(..., in, out) as (out, in, ...); (..., out, in), which transposed ones have, as (in, out, ...)."""
    kernel = arrays["kernel"]
    return {"weight": np.moveaxis(kernel, (-1, -2), (0, 1)), **_bias(arrays)}


def _filters_of_channels(kernel: np.ndarray) -> np.ndarray:
    """(..., channels, filters of each) as (channels * filters, 1, ...)."""
    moved = np.moveaxis(kernel, (-2, -1), (0, 1))
    return moved.reshape(prod(moved.shape[:2]), 1, *moved.shape[2:])


def _depthwise(arrays):
    return {"weight": _filters_of_channels(arrays.get("depthwise_kernel", arrays.get("kernel"))), **_bias(arrays)}


def _separable(arrays):
    made = {"depthwise.weight": _filters_of_channels(arrays["depthwise_kernel"]),
            "pointwise.weight": np.moveaxis(arrays["pointwise_kernel"], (-1, -2), (0, 1))}
    return made | {f"pointwise.{key}": value for key, value in _bias(arrays).items()}


def _batch_norm(arrays):
    mean, var = arrays["moving_mean"], arrays["moving_variance"]
    return {"weight": arrays.get("gamma", np.ones_like(mean)), "bias": arrays.get("beta", np.zeros_like(mean)),
            "running_mean": mean, "running_var": var}


def _norm(arrays):
    known = arrays.get("gamma", arrays.get("beta"))
    return {"weight": arrays.get("gamma", np.ones_like(known)), "bias": arrays.get("beta", np.zeros_like(known))}


def _prelu(arrays):
    alpha = arrays["alpha"]
    if alpha.size != alpha.shape[-1]:
        raise NotImplementedError(f"a PReLU with a slope for each place, {alpha.shape}")
    return {"weight": alpha.reshape(-1)}


def _recurrent(kind: str, arrays, ending: str) -> dict[str, np.ndarray]:
    units = arrays["recurrent_kernel"].shape[0]

    def gates(array):  # (..., gates * units) as (gates * units, ...), in PyTorch's order
        parts = np.split(array, RECURRENT[kind], -1)
        return np.concatenate([parts[i] for i in ORDER[kind]], -1).T

    bias = arrays.get("bias")
    if bias is None:
        bias = np.zeros(RECURRENT[kind] * units, np.float32)
    if kind == "gru" and bias.ndim == 1:
        raise NotImplementedError("a GRU with reset_after=False")
    both = (gates(bias[0]), gates(bias[1])) if bias.ndim == 2 else (gates(bias), np.zeros_like(bias))
    return {f"weight_ih_l0{ending}": gates(arrays["kernel"]), f"weight_hh_l0{ending}": gates(arrays["recurrent_kernel"]),
            f"bias_ih_l0{ending}": both[0], f"bias_hh_l0{ending}": both[1]}


RULES: dict[str, Callable] = {
    "dense": _dense, "conv": _conv, "depthwiseconv": _depthwise, "separableconv": _separable,
    "batchnormalization": _batch_norm, "layernormalization": _norm, "groupnormalization": _norm, "prelu": _prelu,
    "embedding": lambda arrays: {"weight": arrays["embeddings"]}}


# ---- what a description says about flattening ---------------------------------------------------------------------------


def flattened(layer: Layer) -> int | None:
    """The channels of what was flattened before a layer; None where nothing was, or it has one pixel or channel.

    Raises
    ------
    ValueError
        Where the description does not say.
    """
    if layer.place is None or layer.kind not in ("dense", "batchnormalization", "layernormalization", "prelu"):
        return None
    child, model = layer.place
    before = _before(child, model)
    while before and _kind(before[0]) in ELEMENTWISE:
        before = _before(before[0], model)
    if not before or not _flattens(before[0]):
        return None
    channels = _channels(_before(before[0], model), model)
    if channels is None:
        raise ValueError("it comes after a Flatten, and the file does not say of how many channels: pass channels=")
    return channels if channels > 1 else None


def _flattens(child: dict) -> bool:
    target = (child.get("config") or {}).get("target_shape")
    return _kind(child) == "flatten" or _kind(child) == "reshape" and isinstance(target, list) and len(target) == 1


def _kind(child: dict) -> str:
    return str(child.get("class_name", "")).lower()


def _layers(model: dict) -> list[dict]:
    inner = model.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else inner
    return [c for c in layers or () if isinstance(c, dict)] if isinstance(layers, list) else []


def _name(child: dict) -> str:
    return str(child.get("name") or (child.get("config") or {}).get("name") or "")


def _before(child: dict, model: dict) -> list[dict]:
    """The layers whose outputs a layer reads."""
    layers = _layers(model)
    if "inbound_nodes" not in child:  # a Sequential's
        at = next((i for i, c in enumerate(layers) if c is child), 0)
        return layers[at - 1: at] if at else []
    names = {_name(c): c for c in layers}
    return [names[n] for n in _history(child["inbound_nodes"][:1], names)]


def _history(value, names) -> list[str]:
    """The names of layers in the ways that Keras 2 and 3 write down where a tensor comes from."""
    if isinstance(value, dict):
        return [n for v in value.values() for n in _history(v, names)]
    if isinstance(value, list):
        if value and isinstance(value[0], str) and value[0] in names and len(value) > 1 and isinstance(value[1], int):
            return [value[0]]
        return [n for v in value for n in _history(v, names)]
    return []


def _channels(layers: list[dict], model: dict) -> int | None:
    """The last extent of what the first of these layers gives."""
    seen = 0
    while layers and seen < 10_000:
        child, seen = layers[0], seen + 1
        kind, config = _kind(child), child.get("config") or {}
        if kind in ("sequential", "functional", "model"):
            inner = _layers(child)
            return _channels(inner[-1:], child)
        for key in ("filters", "units"):
            if isinstance(config.get(key), int):
                return config[key]
        if kind == "inputlayer":
            shape = config.get("batch_shape") or config.get("batch_input_shape")
            return shape[-1] if isinstance(shape, list) and shape and isinstance(shape[-1], int) else None
        if kind == "concatenate" and config.get("axis", -1) in (-1, 3):
            parts = [_channels([c], model) for c in _before(child, model)]
            return sum(p for p in parts if p) if parts and all(parts) else None
        if kind == "reshape":
            target = config.get("target_shape") or [None]
            return target[-1] if isinstance(target[-1], int) and target[-1] > 0 else None
        if kind not in SAME_CHANNELS:
            return None
        shape = (config.get("batch_input_shape") or [None])[-1]
        before = _before(child, model)
        if kind.startswith("depthwiseconv"):
            one = _channels(before, model) if before else shape
            return one * int(config.get("depth_multiplier", 1)) if isinstance(one, int) else None
        if not before:
            return shape if isinstance(shape, int) else None
        layers = before
    return None



