"""What computes the networks of ``zoo_networks.py``: PyTorch at any precision, or the float64 reference in NumPy.

``run`` gives everything that there is to compare: what inference gives, then of a training step the output, the gradient of
the input and of every parameter, and the running statistics afterwards.

A ReLU or a max pool *decides*, and one of a million decisions that falls the other way, by a rounding error, changes a
gradient behind a normalisation of few pixels by up to 4e-2: no error of either side. A backend may be given decisions: what
the engine made of each activation, in order. It then lets through, and takes as the largest, what the engine did, and keeps
in ``margin`` how far, relative to the RMS of an activation, its own value was beyond the kink where it would have decided
otherwise.
"""

from typing import NamedTuple

import numpy as np
import reference as ref

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Result(NamedTuple):
    inference: np.ndarray
    output: np.ndarray
    gradients: dict  # by parameter, and "input"
    statistics: dict  # by buffer


class Torch:
    """PyTorch's own functions and automatic differentiation, in one dtype and memory format."""

    def __init__(self, state, smooth, dtype="float64", channels_last=False):
        import torch

        self.decisions, self.margin, self.training = None, 0.0, False
        self.torch, self.F, self.smooth = torch, torch.nn.functional, smooth
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.dtype = getattr(torch, dtype)
        self.w = {name: torch.tensor(value, dtype=self.dtype) for name, value in state.items()}
        for name in self.w:
            if not name.endswith(STATISTICS):
                self.w[name].requires_grad_(True)

    def run(self, network, x, gy, decisions=None):
        torch = self.torch
        x = torch.tensor(x, dtype=self.dtype).to(memory_format=self.format)
        with torch.no_grad():
            inference = network(self, x).numpy()
        self.decisions, self.training = None if decisions is None else iter(decisions), True
        y = network(self, x.requires_grad_(True))
        y.backward(torch.tensor(gy, dtype=self.dtype))
        gradients = {"input": x.grad.numpy(), **{n: t.grad.numpy() for n, t in self.w.items() if t.requires_grad}}
        statistics = {n: t.numpy() for n, t in self.w.items() if n.endswith(STATISTICS)}
        return Result(inference, y.detach().numpy(), gradients, statistics)

    def conv(self, x, name, stride=1, padding=0, depthwise=False):
        w = self.w[f"{name}.weight"]
        return self.F.conv2d(x, w, self.w.get(f"{name}.bias"), stride, padding, 1, len(w) if depthwise else 1)

    def norm(self, x, name):
        mean, var, weight, bias = (self.w[f"{name}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        if self.training:
            self.w[f"{name}.num_batches_tracked"] += 1
        return self.F.batch_norm(x, mean, var, weight, bias, self.training, 0.1, 1e-5)

    def linear(self, x, name):
        return self.F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def act(self, x, most=np.inf):
        if self.smooth:
            return self.F.silu(x)
        if self.decisions is None:
            return x.clamp(0, most)
        self.decided = self.torch.tensor(next(self.decisions))
        if self.decided.shape != x.shape:
            raise ValueError(f"the engine's activation has the shape {self.decided.shape}: expected {x.shape}")
        below, above = self.decided <= 0, self.decided >= most
        value = x.detach()
        inside = self.torch.maximum(-value, value - most)
        beyond = self.torch.where(below, value, self.torch.where(above, most - value, inside))
        self.margin = max(self.margin, float(beyond.max() / value.square().mean().sqrt()))
        return self.torch.where(below, 0.0, self.torch.where(above, most, x))

    def act6(self, x):
        return self.act(x, 6.0)

    def pool(self, x, size, stride, padding):
        if self.smooth:
            return self.F.avg_pool2d(x, size, stride, padding)
        if self.decisions is None:
            return self.F.max_pool2d(x, size, stride, padding)
        _, indices = self.F.max_pool2d(self.decided, size, stride, padding, return_indices=True)
        taken = x.flatten(2).gather(2, indices.flatten(2)).unflatten(2, indices.shape[2:])
        lost = self.F.max_pool2d(x.detach(), size, stride, padding) - taken.detach()
        self.margin = max(self.margin, float(lost.max() / x.detach().square().mean().sqrt()))
        return taken

    def mean(self, x, size):
        return self.F.adaptive_avg_pool2d(x, size)

    def flatten(self, x):
        return x.flatten(1)

    def add(self, x, y):
        return x + y


class Numpy:
    """``tests/reference``, with a tape: each operator notes how a gradient of its result reaches its operands."""

    def __init__(self, state, smooth):
        self.decisions, self.margin, self.training, self.smooth = None, 0.0, False, smooth
        self.w = {name: np.array(value, np.float64) for name, value in state.items()}
        self.tape, self.found, self.statistics = [], {}, {n: v for n, v in self.w.items() if n.endswith(STATISTICS)}

    def run(self, network, x, gy, decisions=None):
        x = np.array(x, np.float64)
        inference = network(self, x)
        self.tape.clear()
        self.decisions, self.margin, self.training = None if decisions is None else iter(decisions), 0.0, True
        y = network(self, x)
        reached = {id(y): np.array(gy, np.float64)}
        for result, operands, backward in reversed(self.tape):
            for operand, g in zip(operands, backward(reached.pop(id(result))), strict=True):
                reached[id(operand)] = reached.get(id(operand), 0) + g
        return Result(inference, y, {"input": reached[id(x)], **self.found}, self.statistics)

    def note(self, result, operands, backward):
        self.tape.append((result, operands, backward))
        return result

    def conv(self, x, name, stride=1, padding=0, depthwise=False):
        w, bias = self.w[f"{name}.weight"], self.w.get(f"{name}.bias")
        how = {"stride": stride, "padding": padding, "groups": len(w) if depthwise else 1}

        def backward(g):
            self.found[f"{name}.weight"] = ref.conv_backward_weight(x, w.shape, g, **how)
            if bias is not None:
                self.found[f"{name}.bias"] = ref.conv_backward_bias(g)
            return [ref.conv_backward_data(x.shape, w, g, **how)]

        return self.note(ref.conv(x, w, bias, **how), [x], backward)

    def norm(self, x, name):
        mean, var, weight, bias = (self.w[f"{name}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        made = ref.batch_norm(x, mean, var, weight, bias, training=self.training)
        if self.training:
            self.statistics[f"{name}.running_mean"], self.statistics[f"{name}.running_var"] = made[1:3]
            self.statistics[f"{name}.num_batches_tracked"] = self.w[f"{name}.num_batches_tracked"] + 1

        def backward(g):
            gx, self.found[f"{name}.weight"], self.found[f"{name}.bias"] = ref.batch_norm_backward(
                g, x, mean, var, weight, training=self.training)
            return [gx]

        return self.note(made.output, [x], backward)

    def linear(self, x, name):
        w = self.w[f"{name}.weight"]

        def backward(g):
            gx, self.found[f"{name}.weight"], self.found[f"{name}.bias"] = ref.linear_backward(g, x, w)
            return [gx]

        return self.note(ref.linear(x, w, self.w[f"{name}.bias"]), [x], backward)

    def act(self, x, most=np.inf):
        if self.smooth:
            s = ref.sigmoid(x)
            return self.note(x * s, [x], lambda g: [g * (s + x * s * (1 - s))])
        decided = self.decided = x if self.decisions is None else next(self.decisions).astype(np.float64)
        below, above = decided <= 0, decided >= most
        beyond = np.where(below, x, np.where(above, most - x, np.maximum(-x, x - most)))
        self.margin = max(self.margin, beyond.max() / np.sqrt((x ** 2).mean()))
        return self.note(np.where(below, 0, np.where(above, most, x)), [x], lambda g: [np.where(below | above, 0, g)])

    def act6(self, x):
        return self.act(x, 6.0)

    def pool(self, x, size, stride, padding):
        if self.smooth:
            return self.note(ref.avg_pool(x, size, stride, padding), [x],
                             lambda g: [ref.avg_pool_backward(g, x.shape, size, stride, padding)])
        made = ref.max_pool(x, size, stride, padding)
        indices = made.indices if self.decisions is None else ref.max_pool(self.decided, size, stride, padding).indices
        taken = np.take_along_axis(x.reshape(*x.shape[:2], -1), indices.reshape(*x.shape[:2], -1), 2)
        taken = taken.reshape(made.values.shape)
        self.margin = max(self.margin, (made.values - taken).max() / np.sqrt((x ** 2).mean()))
        return self.note(taken, [x], lambda g: [ref.max_pool_backward(g, indices, x.shape)])

    def mean(self, x, size):
        return self.note(ref.adaptive_avg_pool(x, size), [x], lambda g: [ref.adaptive_avg_pool_backward(g, x.shape, size)])

    def flatten(self, x):
        return self.note(ref.flatten(x, 1), [x], lambda g: [ref.flatten_backward(g, x.shape)])

    def add(self, x, y):
        return self.note(x + y, [x, y], lambda g: [g, g])
