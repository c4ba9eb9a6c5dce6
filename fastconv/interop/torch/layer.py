"""Modules of fastconv inside networks of PyTorch, with its autograd."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np

from fastconv._extra import require
from fastconv.engine.engine import Engine, compile
from fastconv.graph.parameter import Parameter
from fastconv.interop.torch.sharing import SharedParameter, Watch
from fastconv.kernels.locks import Lock
from fastconv.nn import Module

KEPT = 4  # engines of a kind that wait for their next call


def to_torch(module: Module):
    """Makes a module of PyTorch of one of ours: a layer, or a network, inside of networks of PyTorch.

    Parameters
    ----------
    module : nn.Module

    Returns
    -------
    torch.nn.Module
        Its parameters and buffers have the names of ``module``'s and its memory, without a copy: what either side's
        optimiser changes the other has. It takes and gives float32 tensors on the CPU (integers where ``module`` takes or
        gives such), is differentiated by PyTorch's autograd, once per call, with respect to parameters and inputs, and its
        ``train()`` and ``eval()`` are ``module``'s. Copies have parameters of their own. Parts of ``module`` that are
        replaced later have to be made known by another call of this.

    Raises
    ------
    TypeError
        Where ``module`` is no module.
    ImportError
        torch is not installed.
    """
    torch = require("torch", "to_torch", "bench")
    if not isinstance(module, Module):
        raise TypeError(f"to_torch: module is a {type(module).__name__}: expected an nn.Module of fastconv")
    return _classes(torch)(module)


class _Lease:
    """An engine in use between a forward and its backward; it goes back when nobody holds this any more."""

    def __init__(self, engines: list[Engine], engine: Engine, inputs: int):
        self.engines, self.engine, self.inputs = engines, engine, inputs

    def __del__(self):
        if len(self.engines) < KEPT:
            self.engines.append(self.engine)


class Runner:
    """Runs a module on tensors: an engine for each call that waits for its backward."""

    def __init__(self, torch, module: Module, tensors: dict[int, Any]):
        self.torch, self.module, self.tensors = torch, module, tensors  # tensors by the ids of parameters
        self.engines: dict[tuple, list[Engine]] = {}
        self.lock = Lock("to_torch")  # gradients of parameters pass through the parameters

    def __call__(self, inputs: tuple):
        torch, graded = self.torch, False
        for i, x in enumerate(inputs):
            if not isinstance(x, torch.Tensor):
                raise TypeError(f"{type(self.module).__name__}: input {i} is a {type(x).__name__}: expected a tensor")
        parameters = [*self.module.parameters()]
        if any(id(p) not in self.tensors for p in parameters):
            raise RuntimeError(f"{type(self.module).__name__}: parameters have been replaced since to_torch: call it again")
        if torch.is_grad_enabled():
            graded = any(x.requires_grad for x in inputs) or any(self.tensors[id(p)].requires_grad for p in parameters)
        if not graded:
            lease = self.lease(inputs, self.module.training, False)
            return torch.utils._pytree.tree_map(torch.from_numpy, self.run(lease, inputs))
        lease = self.lease(inputs, True, any(x.requires_grad for x in inputs))
        parameters = lease.engine.trained_parameters()
        weights = [self.tensors[id(p)] for p in parameters]
        shape: list = []
        outputs = _function(torch).apply(self, lease, parameters, shape, *inputs, *weights)
        return torch.utils._pytree.tree_unflatten(list(outputs), shape[0])

    def lease(self, inputs: tuple, training: bool, back: bool) -> _Lease:
        """An engine for tensors of these dtypes and ranks, that nobody else uses."""
        for p in self.module.parameters():  # as PyTorch's side says
            wanted = self.tensors[id(p)].requires_grad
            if p.requires_grad != wanted:
                p.requires_grad = wanted
        key = (training, back, *((x.dtype, x.ndim) for x in inputs))
        free = self.engines.setdefault(key, [])
        try:
            engine = free.pop()
        except IndexError:
            specs = {f"input{i}" if len(inputs) > 1 else "input": (tuple(x.shape), str(x.dtype).removeprefix("torch."))
                     for i, x in enumerate(inputs)}
            engine = compile(self.module, specs, training=training, input_gradients=back)
        return _Lease(free, engine, len(inputs))

    def run(self, lease: _Lease, inputs: tuple):
        return lease.engine(*(x.detach().numpy() for x in inputs))

    def backward(self, lease: _Lease, parameters: list[Parameter], grads: tuple) -> tuple:
        """The gradients of inputs and of parameters."""
        with self.lock:
            before = [p.grad for p in parameters]
            try:
                for p in parameters:
                    p.grad = None
                inner = lease.engine.backward(*grads)
                outer = [None if p.grad is None else np.array(p.grad) for p in parameters]  # the engine writes its own again
            finally:
                for p, grad in zip(parameters, before, strict=True):
                    p.grad = grad
        made = [None if g is None else self.torch.from_numpy(g) for g in (*(inner or ()), *outer)]
        return tuple(made) if inner else (*[None] * lease.inputs, *made)


@cache
def _function(torch: Any):
    class Call(torch.autograd.Function):
        """A run of an engine, and its backward."""

        @staticmethod
        def forward(ctx, runner, lease, parameters, shape, *tensors):
            ctx.runner, ctx.lease, ctx.parameters = runner, lease, parameters
            flat, spec = torch.utils._pytree.tree_flatten(runner.run(lease, tensors[:lease.inputs]))
            shape.append(spec)
            outputs = [torch.from_numpy(a) for a in flat]
            ctx.integers = [not o.is_floating_point() for o in outputs]
            ctx.mark_non_differentiable(*(o for o in outputs if not o.is_floating_point()))
            return tuple(outputs)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, *grads):
            lease, ctx.lease = ctx.lease, None
            if lease is None:
                raise RuntimeError(f"{type(ctx.runner.module).__name__} of fastconv: a second backward of the same call: "
                                   "its memory has been used again, retain_graph does not keep it")
            given = [None if integer else g.contiguous().numpy()
                     for g, integer in zip(grads, ctx.integers, strict=True)]
            return None, None, None, None, *ctx.runner.backward(lease, ctx.parameters, given)

    return Call


@cache
def _classes(torch: Any):
    class FastconvModule(torch.nn.Module):
        """A module of fastconv as one of PyTorch's; see :func:`fastconv.interop.to_torch`."""

        def __init__(self, module: Module):
            super().__init__()
            tensors: dict[int, Any] = {}
            pairs = []
            for table, parameters in (("_parameters", True), ("_buffers", False)):
                for name, value, kept in module._members(table):
                    if id(value) not in tensors:
                        tensors[id(value)] = _tensor(torch, value, parameters)
                        if isinstance(value, Parameter):
                            pairs.append((value, tensors[id(value)]))
                    home: Any = self
                    *path, last = name.split(".")
                    for part in path:
                        if part not in home._modules:
                            home.add_module(part, torch.nn.Module())
                        home = home._modules[part]
                    if parameters:
                        home.register_parameter(last, tensors[id(value)])
                    else:
                        home.register_buffer(last, tensors[id(value)], kept)
            Watch([p for p, _ in pairs], [t for _, t in pairs])
            self.fastconv = module
            self._runner = Runner(torch, module, tensors)
            super().train(module.training)

        def forward(self, *inputs):
            return self._runner(inputs)

        def train(self, mode: bool = True):
            super().train(mode)
            self.fastconv.train(mode)
            return self

        def extra_repr(self) -> str:
            return repr(self.fastconv)

        def _apply(self, fn, recurse=True):
            probe = fn(torch.empty(1))
            if probe.device.type != "cpu" or probe.dtype != torch.float32:
                raise RuntimeError(f"{type(self.fastconv).__name__} of fastconv computes in float32 on the CPU: it cannot "
                                   f"become {str(probe.dtype).removeprefix('torch.')} on {probe.device}")
            return self

        def __deepcopy__(self, memo):
            made = to_torch(copy.deepcopy(self.fastconv, memo))
            memo[id(self)] = made
            return made

        def __reduce__(self):
            return to_torch, (self.fastconv,)

    return FastconvModule


def _tensor(torch, value, parameter: bool):
    """A parameter's or a buffer's memory as a tensor."""
    if isinstance(value, SharedParameter):
        return value.tensor
    if not isinstance(value, Parameter):
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else torch.as_tensor(value)
    value.address  # noqa: B018  (memory of its own from now on)
    tensor = torch.from_numpy(value._data)
    return torch.nn.Parameter(tensor, requires_grad=value.requires_grad) if parameter else tensor
