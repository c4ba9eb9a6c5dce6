"""Recurrent cells and their layers, unrolled: composites of matrix products and activations."""

from __future__ import annotations

import numpy as np

from fastconv.functional.activation import relu, sigmoid, tanh
from fastconv.functional.joining import cat, stack
from fastconv.functional.slicing import parts, selected
from fastconv.graph.ir import Tensor
from fastconv.ops.matmul import contract

__all__: list[str] = []

GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}


def projected(x: Tensor, weight, bias) -> Tensor:
    """``x @ weight.T + bias`` of (..., features)."""
    batch = "nlm"[:x.ndim - 1]
    return contract(x, weight, f"{batch}b,ab->{batch}a", bias)


def zeros_like(x: Tensor, features: int) -> Tensor:
    """Zeros (N, features), or (features,), for the batch of x (N, ...)."""
    batch = "n"[:x.ndim - 1]
    return contract(x, x.graph.constant(np.zeros((), np.float32)), f"{batch}b,->{batch}a", extents={"a": features})


def rnn_step(x: Tensor, h: Tensor | None, w_hh, act) -> Tensor:
    """The next hidden state; ``x`` is the projected input with both biases."""
    return act(x if h is None else onto(x, h, w_hh))


def onto(x: Tensor, h: Tensor, weight) -> Tensor:
    """``x + h @ weight.T``."""
    batch = "n"[:h.ndim - 1]
    return contract(h, weight, f"{batch}b,ab->{batch}a", x)


def lstm_step(x: Tensor, state: tuple | None, w_hh, w_hr=None) -> tuple[Tensor, Tensor]:
    """The next (hidden, cell); ``x`` is the projected input with both biases."""
    gates = x if state is None else onto(x, state[0], w_hh)
    size = gates.type.shape[-1] // 4
    i, f, g, o = parts(gates, gates.ndim - 1, [size] * 4)
    c = sigmoid(i) * tanh(g)
    if state is not None:
        c = sigmoid(f) * state[1] + c
    h = sigmoid(o) * tanh(c)
    return (h if w_hr is None else projected(h, w_hr, None)), c


def gru_step(x: Tensor, h: Tensor | None, w_hh, b_hh) -> Tensor:
    """The next hidden state; ``x`` is the projected input with its own bias."""
    size = x.type.shape[-1] // 3
    if h is None:
        h = zeros_like(x, size)
    y = projected(h, w_hh, b_hh)
    last = x.ndim - 1
    (xr, xz, xn), (hr, hz, hn) = parts(x, last, [size] * 3), parts(y, last, [size] * 3)
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    n = tanh(xn + r * hn)
    return n + z * (h - n)


def layer(kind: str, x: Tensor, state, weights: dict, axis: int, reverse: bool, nonlinearity: str = "tanh"):
    """One direction of one layer over (L, N, features), or (N, L, features) where ``axis`` is 1, or (L, features).

    Returns the outputs along ``axis``, and the last state.
    """
    w_ih, w_hh, b_ih, b_hh, w_hr = (weights.get(name) for name in ("w_ih", "w_hh", "b_ih", "b_hh", "w_hr"))
    steps = x.type.shape[axis]
    bias = b_ih if kind == "GRU" or b_ih is None else b_ih + b_hh
    inputs = projected(x, w_ih, bias)
    act = relu if nonlinearity == "relu" else tanh
    outputs: list[Tensor] = [None] * steps  # type: ignore[list-item]
    for t in range(steps)[::-1] if reverse else range(steps):
        now = selected(inputs, axis, t)
        if kind == "LSTM":
            state = lstm_step(now, state, w_hh, w_hr)
            outputs[t] = state[0]
        elif kind == "GRU":
            state = outputs[t] = gru_step(now, state, w_hh, b_hh)
        else:
            state = outputs[t] = rnn_step(now, state, w_hh, act)
    return stack(outputs, axis), state


def joined_directions(outputs: list[Tensor]) -> Tensor:
    return outputs[0] if len(outputs) == 1 else cat(outputs, outputs[0].ndim - 1)
