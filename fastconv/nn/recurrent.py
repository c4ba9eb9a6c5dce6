"""Recurrent layers and cells, under PyTorch's names of parameters; unrolled where they are traced."""

from __future__ import annotations

import math

from fastconv.functional import recurrent
from fastconv.functional.activation import relu, tanh
from fastconv.functional.joining import stack
from fastconv.functional.slicing import selected
from fastconv.graph.ir import Tensor, apply, fail
from fastconv.graph.parameter import filled
from fastconv.nn import init
from fastconv.nn._check import choice, flag, integer, number
from fastconv.nn.module import Module

__all__ = ["GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNCell"]


def _checked(layer: str, name: str, x, *ranks: int) -> Tensor:
    if not isinstance(x, Tensor):
        fail(layer, f"{name} is a {type(x).__name__}: expected a tensor (packed sequences are not taken)", TypeError)
    if x.ndim not in ranks:
        fail(layer, f"{name} of shape {tuple(x.type.shape)} has {x.ndim} dimensions: expected "
                    f"{' or '.join(map(str, ranks))}")
    return x


def _reset(module: Module, hidden_size: int) -> None:
    """PyTorch's initial values: uniform within one by the root of the hidden size."""
    bound = 1 / math.sqrt(hidden_size)
    for parameter in module.parameters():
        init.uniform_(parameter, -bound, bound)

MOST_LAYERS = 1000  # of a recurrent network: each has weights of its own


class _Recurrent(Module):
    """What the three layers share."""

    kind = ""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0):
        super().__init__()
        layer = type(self).__name__
        self.input_size = integer(layer, "input_size", input_size, 1)
        self.hidden_size = integer(layer, "hidden_size", hidden_size, 1)
        self.num_layers = integer(layer, "num_layers", num_layers, 1)
        if self.num_layers > MOST_LAYERS:
            raise ValueError(f"{layer}: num_layers={self.num_layers}: expected at most {MOST_LAYERS}")
        self.bias = flag(layer, "bias", bias)
        self.batch_first = flag(layer, "batch_first", batch_first)
        self.dropout = number(layer, "dropout", dropout, 0, 1)
        self.bidirectional = flag(layer, "bidirectional", bidirectional)
        self.proj_size = integer(layer, "proj_size", proj_size, 0)
        if self.proj_size >= self.hidden_size:
            raise ValueError(f"{layer}: proj_size={proj_size} must be less than hidden_size={hidden_size}")
        if self.proj_size and self.kind != "LSTM":
            raise ValueError(f"{layer}: proj_size={proj_size}: only an LSTM has a projection")
        rows, real = recurrent.GATES[self.kind] * self.hidden_size, self.proj_size or self.hidden_size
        for index in range(self.num_layers):
            for end in self._ends():
                width = self.input_size if index == 0 else real * len(self._ends())
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, width), "weight_hh": (rows, real)}
                if self.bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if self.proj_size:
                    shapes["weight_hr"] = (real, self.hidden_size)
                for name, shape in shapes.items():
                    setattr(self, f"{name}_l{index}{end}", filled(layer, name, shape))
        self.reset_parameters()

    def _ends(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def reset_parameters(self) -> None:
        """PyTorch's initial values."""
        _reset(self, self.hidden_size)

    def _weights(self, index: int, end: str) -> dict:
        names = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh", "w_hr": "weight_hr"}
        return {short: getattr(self, f"{name}_l{index}{end}", None) for short, name in names.items()}

    def _initial(self, name: str, given, x: Tensor, width: int) -> list[Tensor]:
        """A given state (layers * directions, N, width) as one per layer and direction."""
        count = self.num_layers * len(self._ends())
        layer, axis = type(self).__name__, 0 if self.batch_first else 1
        shape = (count, width) if x.ndim == 2 else (count, x.type.shape[axis], width)
        given = _checked(layer, name, given, x.ndim)
        if given.type.shape != shape:
            fail(layer, f"{name} of shape {tuple(given.type.shape)}: expected {shape}")
        return [selected(given, 0, i) for i in range(count)]

    def forward(self, input, hx=None):
        layer, ends = type(self).__name__, self._ends()
        x = _checked(layer, "input", input, 2, 3)
        if x.type.shape[-1] != self.input_size:
            fail(layer, f"input of shape {tuple(x.type.shape)} has {x.type.shape[-1]} features: expected "
                        f"input_size={self.input_size}")
        axis = 1 if self.batch_first and x.ndim == 3 else 0
        if x.type.shape[axis] == 0:
            fail(layer, f"input of shape {tuple(x.type.shape)}: expected at least one time step")
        states: list = [None] * (self.num_layers * len(ends))
        if hx is not None and self.kind == "LSTM":
            if not isinstance(hx, (tuple, list)) or len(hx) != 2:
                fail(layer, f"hx is a {type(hx).__name__}: expected a pair (h_0, c_0)", TypeError)
            states = list(zip(self._initial("h_0", hx[0], x, self.proj_size or self.hidden_size),
                              self._initial("c_0", hx[1], x, self.hidden_size), strict=True))
        elif hx is not None:
            states = self._initial("hx", hx, x, self.hidden_size)
        last = []
        for index in range(self.num_layers):
            outputs = []
            for way, end in enumerate(ends):
                y, state = recurrent.layer(self.kind, x, states[index * len(ends) + way], self._weights(index, end), axis,
                                           bool(way), getattr(self, "nonlinearity", "tanh"))
                outputs.append(y)
                last.append(state)
            x = recurrent.joined_directions(outputs)
            if self.dropout and self.training and index + 1 < self.num_layers:
                x = apply("dropout", [x], p=self.dropout)
        if self.kind == "LSTM":
            return x, (stack([h for h, _ in last], 0), stack([c for _, c in last], 0))
        return x, stack(last, 0)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0,
                    "bidirectional": False}
        return text + "".join(f", {name}={getattr(self, name)}" for name, value in defaults.items()
                              if getattr(self, name) != value)


class RNN(_Recurrent):
    """``h' = tanh(W_ih x + b_ih + W_hh h + b_hh)`` over a sequence, as ``torch.nn.RNN``.

    Parameters
    ----------
    input_size, hidden_size : int
    num_layers : int, default 1
    nonlinearity : {"tanh", "relu"}, default "tanh"
    bias : bool, default True
    batch_first : bool, default False
        Whether sequences are (N, L, input_size) rather than (L, N, input_size); (L, input_size) is one without a batch.
    dropout : float, default 0
        Between layers, in training.
    bidirectional : bool, default False

    A call gives the outputs (L, N, directions * hidden_size) and the last state (num_layers * directions, N, hidden_size).
    Parameters are ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``, ``bias_hh_l0``, and so on with ``_reverse``. The loop
    over time is unrolled: a plan has steps for each time step, and is right for one length.
    """

    kind = "RNN"

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False):
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)
        self.nonlinearity = choice("RNN", "nonlinearity", nonlinearity, ("tanh", "relu"))


class LSTM(_Recurrent):
    """Long short-term memory over a sequence, as ``torch.nn.LSTM`` (Hochreiter and Schmidhuber, 1997).

    Arguments are those of :class:`RNN` without ``nonlinearity``, and ``proj_size``, the width to which outputs are projected
    (0: not). The state is a pair (h, c); a call gives the outputs and the last pair.
    """

    kind = "LSTM"


class GRU(_Recurrent):
    """Gated recurrent units over a sequence, as ``torch.nn.GRU`` (Cho et al., 2014). Arguments are those of :class:`RNN`
    without ``nonlinearity``."""

    kind = "GRU"

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False):
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)


class _Cell(Module):
    kind = ""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True):
        super().__init__()
        layer = type(self).__name__
        self.input_size = integer(layer, "input_size", input_size, 1)
        self.hidden_size = integer(layer, "hidden_size", hidden_size, 1)
        self.bias = flag(layer, "bias", bias)
        rows = recurrent.GATES[self.kind] * self.hidden_size
        self.weight_ih = filled(layer, "weight_ih", (rows, self.input_size))
        self.weight_hh = filled(layer, "weight_hh", (rows, self.hidden_size))
        self.register_parameter("bias_ih", filled(layer, "bias_ih", (rows,)) if self.bias else None)
        self.register_parameter("bias_hh", filled(layer, "bias_hh", (rows,)) if self.bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's initial values."""
        _reset(self, self.hidden_size)

    def _projected(self, input) -> Tensor:
        layer = type(self).__name__
        x = _checked(layer, "input", input, 1, 2)
        if x.type.shape[-1] != self.input_size:
            fail(layer, f"input of shape {tuple(x.type.shape)} has {x.type.shape[-1]} features: expected "
                        f"input_size={self.input_size}")
        bias = self.bias_ih if self.kind == "GRU" or self.bias_ih is None else self.bias_ih + self.bias_hh
        return recurrent.projected(x, self.weight_ih, bias)

    def _initial(self, name: str, given, x: Tensor) -> Tensor:
        given = _checked(type(self).__name__, name, given, x.ndim)
        if given.type.shape != (*x.type.shape[:-1], self.hidden_size):
            fail(type(self).__name__, f"{name} of shape {tuple(given.type.shape)}: expected "
                                      f"{(*x.type.shape[:-1], self.hidden_size)}")
        return given

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """One step of :class:`RNN`: (N, input_size) and a state (N, hidden_size) (default zeros) give the next state."""

    kind = "RNN"

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh"):
        super().__init__(input_size, hidden_size, bias)
        self.nonlinearity = choice("RNNCell", "nonlinearity", nonlinearity, ("tanh", "relu"))

    def forward(self, input, hx=None):
        x = self._projected(input)
        h = None if hx is None else self._initial("hx", hx, x)
        return recurrent.rnn_step(x, h, self.weight_hh, relu if self.nonlinearity == "relu" else tanh)


class LSTMCell(_Cell):
    """One step of :class:`LSTM`: (N, input_size) and a pair of states (N, hidden_size), default zeros, give the next
    pair."""

    kind = "LSTM"

    def forward(self, input, hx=None):
        x = self._projected(input)
        if hx is not None:
            if not isinstance(hx, (tuple, list)) or len(hx) != 2:
                fail("LSTMCell", f"hx is a {type(hx).__name__}: expected a pair (h, c)", TypeError)
            hx = self._initial("h", hx[0], x), self._initial("c", hx[1], x)
        return recurrent.lstm_step(x, hx, self.weight_hh)


class GRUCell(_Cell):
    """One step of :class:`GRU`: (N, input_size) and a state (N, hidden_size) (default zeros) give the next state."""

    kind = "GRU"

    def forward(self, input, hx=None):
        x = self._projected(input)
        return recurrent.gru_step(x, None if hx is None else self._initial("hx", hx, x), self.weight_hh, self.bias_hh)
