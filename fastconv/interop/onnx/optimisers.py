"""Steps of training as operators (domain ai.onnx.preview.training): a rate, the count of steps, then the tensors, all
their gradients, and all of each state."""

from __future__ import annotations

from fastconv.interop.onnx.reading import TRAINING
from fastconv.interop.onnx.table import Node, function, register, tensor


def _groups(node: Node, values, states: int) -> list[tuple]:
    """Of each tensor: itself, its gradient with the decay of weights, its states."""
    count, left = divmod(len(values), 2 + states)
    if left or not count:
        raise node.fail(f"{len(values)} tensors: expected {2 + states} for each that is changed")
    decay = float(node.get("norm_coefficient", 0.0))
    groups = list(zip(*([tensor(v) for v in values[i * count: (i + 1) * count]] for i in range(2 + states)), strict=True))
    return [(x, g if decay == 0 else g + x * decay, *rest) for x, g, *rest in groups]


def _results(groups: list[tuple]) -> tuple:
    return tuple(value for kind in zip(*groups, strict=True) for value in kind)


def _count(node: Node, steps):
    return function(node, "cast")(tensor(steps), "float32")


@register(f"{TRAINING}.Momentum")
def momentum(node: Node, rate, steps, *values):
    alpha, beta, mode = float(node.get("alpha")), float(node.get("beta")), node.get("mode")
    if mode not in ("standard", "nesterov"):
        raise node.fail(f"mode={mode!r}: expected standard or nesterov")
    rate, begun = tensor(rate), function(node, "gt")(_count(node, steps), 0.0)
    share = function(node, "where")(begun, beta, 1.0)
    done = []
    for x, g, v in _groups(node, values, 1):
        v = v * alpha + g * share
        done.append((x - (v if mode == "standard" else g + v * alpha) * rate, v))
    return _results(done)


@register(f"{TRAINING}.Adagrad")
def adagrad(node: Node, rate, steps, *values):
    decay, eps = float(node.get("decay_factor", 0.0)), float(node.get("epsilon", 0.0))
    rate = tensor(rate) / (_count(node, steps) * decay + 1.0)
    done = []
    for x, g, h in _groups(node, values, 1):
        h = h + g * g
        done.append((x - g * rate / (h.sqrt() + eps), h))
    return _results(done)


@register(f"{TRAINING}.Adam")
def adam(node: Node, rate, steps, *values):
    alpha, beta, eps = float(node.get("alpha", 0.9)), float(node.get("beta", 0.999)), float(node.get("epsilon", 0.0))
    after, power, where = float(node.get("norm_coefficient_post", 0.0)), function(node, "pow"), function(node, "where")
    count, rate = _count(node, steps), tensor(rate)
    begun = function(node, "gt")(count, 0.0)
    late = where(begun, count, 1.0)
    rate = where(begun, rate * (1.0 - power(beta, late)).sqrt() / (1.0 - power(alpha, late)), rate)
    done = []
    for x, g, v, h in _groups(node, values, 2):
        v, h = v * alpha + g * (1 - alpha), h * beta + g * g * (1 - beta)
        x = x - v * rate / (h.sqrt() + eps)
        done.append((x * (1 - after), v, h))
    return _results(done)
