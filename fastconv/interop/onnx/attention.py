"""Recurrent layers, unrolled, and attention."""

from __future__ import annotations

import numpy as np

from fastconv import functional as F
from fastconv.interop.onnx.table import Node, function, register, tensor

ACTIVATIONS = {"sigmoid": F.sigmoid, "tanh": F.tanh, "relu": F.relu}


def _activations(node: Node, default: list[str], directions: int) -> list:
    names = [n.lower() for n in node.get("activations") or default * directions]
    for name in names:
        if name not in ACTIVATIONS:
            raise node.fail(f"activation {name!r}: expected one of {', '.join(ACTIVATIONS)}", NotImplementedError)
    return [ACTIVATIONS[n] for n in names]


def _recurrent(node: Node, x, w, r, b, lengths, h, c, gates: int, default: list[str], cell):
    """Runs a cell along the steps, forwards, backwards or both; x is (steps, batch, features)."""
    if node.get("clip"):
        raise node.fail("clip is not there", NotImplementedError)
    if node.get("layout", 0):
        x = tensor(x).transpose(0, 1)
    x, w, r = tensor(x), tensor(w), tensor(r)
    direction = node.get("direction", "forward")
    count, steps, hidden = int(w.shape[0]), int(x.shape[0]), int(r.shape[-1])
    if lengths is not None:
        given = node.static(lengths, "sequence_lens")
        if (given != steps).any():
            raise node.fail("sequence_lens that differ from the number of steps are not there", NotImplementedError)
    functions = _activations(node, default, count)
    per = len(functions) // count
    outputs, last_h, last_c = [], [], []
    for d in range(count):
        back = direction == "reverse" or d == 1
        weights, recurrent = w[d], r[d]
        bias = None if b is None else tensor(b)[d]
        state = tensor(np.zeros((1, hidden), np.float32)).expand(x.shape[1], hidden) if h is None else _initial(node, h, d)
        memory = None
        if c is not None:
            memory = _initial(node, c, d)
        elif gates == 4:
            memory = tensor(np.zeros((1, hidden), np.float32)).expand(x.shape[1], hidden)
        own = functions[d * per: (d + 1) * per]
        made: list = [None] * steps
        for t in range(steps - 1, -1, -1) if back else range(steps):
            state, memory = cell(node, x[t], state, memory, weights, recurrent, bias, hidden, own, d)
            made[t] = state
        outputs.append(function(node, "stack")(made, 0))
        last_h.append(state)
        last_c.append(memory)
    stack = function(node, "stack")
    y, hn = stack(outputs, 1), stack(last_h, 0)
    cn = stack(last_c, 0) if gates == 4 else None
    if node.get("layout", 0):
        y, hn = y.permute(2, 0, 1, 3), hn.transpose(0, 1)
        cn = None if cn is None else cn.transpose(0, 1)
    return (y, hn) if cn is None else (y, hn, cn)


def _initial(node: Node, h, d: int):
    h = tensor(h)
    return h[:, d] if node.get("layout", 0) else h[d]


def _part(t, i: int, hidden: int):
    return t[i * hidden: (i + 1) * hidden]


@register("LSTM")
def lstm(node: Node, x, w, r, b=None, lengths=None, h=None, c=None, p=None):
    def cell(node, x, h, c, w, r, b, hidden, act, d):
        gates = x @ w.t() + h @ r.t()
        if b is not None:
            gates = gates + b[: 4 * hidden] + b[4 * hidden:]
        i, o, f, g = (gates[:, k * hidden: (k + 1) * hidden] for k in range(4))
        if p is not None:
            peep = tensor(p)[d]
            i, f = i + _part(peep, 0, hidden) * c, f + _part(peep, 2, hidden) * c
        i, f, g = act[0](i), act[0](f), act[1](g)
        f = 1.0 - i if node.get("input_forget", 0) else f
        c = f * c + i * g
        if p is not None:
            o = o + _part(peep, 1, hidden) * c
        return act[0](o) * act[2](c), c

    return _recurrent(node, x, w, r, b, lengths, h, c, 4, ["Sigmoid", "Tanh", "Tanh"], cell)


@register("GRU")
def gru(node: Node, x, w, r, b=None, lengths=None, h=None):
    after = node.get("linear_before_reset", 0)

    def cell(node, x, h, c, w, r, b, hidden, act, d):
        gx, gh = x @ w.t(), h @ r[: 2 * hidden].t()
        if b is not None:
            gx, gh = gx + b[: 3 * hidden], gh + b[3 * hidden: 5 * hidden]
        z = act[0](gx[:, :hidden] + gh[:, :hidden])
        reset = act[0](gx[:, hidden: 2 * hidden] + gh[:, hidden:])
        own = _part(r, 2, hidden).t()
        more = None if b is None else b[5 * hidden:]
        if after:
            inner = h @ own
            inner = reset * (inner if more is None else inner + more)
        else:
            inner = (reset * h) @ own
            inner = inner if more is None else inner + more
        n = act[1](gx[:, 2 * hidden:] + inner)
        return (1.0 - z) * n + z * h, None

    return _recurrent(node, x, w, r, b, lengths, h, None, 3, ["Sigmoid", "Tanh"], cell)


@register("RNN")
def rnn(node: Node, x, w, r, b=None, lengths=None, h=None):
    def cell(node, x, h, c, w, r, b, hidden, act, d):
        total = x @ w.t() + h @ r.t()
        return act[0](total if b is None else total + b[:hidden] + b[hidden:]), None

    return _recurrent(node, x, w, r, b, lengths, h, None, 1, ["Tanh"], cell)
