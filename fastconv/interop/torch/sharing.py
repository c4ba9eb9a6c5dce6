"""Parameters that lie in PyTorch's memory."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from operator import attrgetter

import numpy as np

from fastconv.graph.parameter import Parameter, touch, unwatch, watch

VERSION = attrgetter("_version")  # PyTorch's count of a tensor's changes in place


class SharedParameter(Parameter):
    """A parameter whose values are a tensor's of PyTorch: what either side changes the other has.

    Attributes
    ----------
    tensor : torch.Tensor
    """

    def __init__(self, tensor):
        self._hold(tensor.detach().numpy())
        self._requires_grad = bool(tensor.requires_grad)
        self.grad = None
        self.version = 0
        self.tensor = tensor

    def __deepcopy__(self, memo):
        return Parameter(self._data, self.requires_grad)


class Watch:
    """Notices what PyTorch changes in the memory that parameters share with tensors, as long as one of them lives."""

    def __init__(self, parameters: Sequence[Parameter], tensors: Sequence):
        self.tensors = [*tensors]
        self.parameters = [weakref.ref(p, self._gone) for p in parameters]
        self.living = len(parameters)
        self.seen = [*map(VERSION, self.tensors)]
        self.total = sum(self.seen)
        if parameters:
            watch(self.look)

    def _gone(self, _) -> None:
        self.living -= 1
        if not self.living:
            unwatch(self.look)

    def look(self) -> None:
        """Says which parameters have changed since it last looked. Threads (and signal handlers) that look at the same time
        may say so twice, which costs no more than to pack again; a lock would have to know forks and handlers."""
        if sum(map(VERSION, self.tensors)) == self.total:
            return
        now = [*map(VERSION, self.tensors)]
        found = (p() for p, was, version in zip(self.parameters, self.seen, now, strict=True) if was != version)
        touch([p for p in found if p is not None])
        self.seen, self.total = now, sum(now)  # last: another thread that finds all in order runs at once


def as_parameter(tensor, share: bool) -> np.ndarray | Parameter:
    """A tensor as a parameter, in its memory where that is asked for and possible; integers as an array."""
    if not tensor.is_floating_point():
        array = tensor.detach().cpu().numpy()
        return array if share else array.copy()
    if share and tensor.device.type == "cpu" and str(tensor.dtype) == "torch.float32" and tensor.is_contiguous() and \
            tensor.numel() and tensor.data_ptr() % 4 == 0:
        return SharedParameter(tensor)
    return Parameter(tensor.detach().cpu().float().numpy(), tensor.requires_grad)
