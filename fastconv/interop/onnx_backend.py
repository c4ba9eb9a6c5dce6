"""The interface of ``onnx.backend``: models and single nodes run on arrays. Needs the package onnx (extra ``onnx``).

>>> from fastconv.interop.onnx_backend import Backend
>>> Backend.prepare(model).run([x])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastconv._extra import require
from fastconv.graph import general
from fastconv.interop.onnx.model import Builder
from fastconv.interop.onnx.reading import ours
from fastconv.interop.onnx.table import DependsOnValues

require("onnx", "running ONNX models", "onnx")

from onnx.backend import base  # noqa: E402  (said above what it needs)

CHOSEN = 8  # elements that an input of floating point has at most where it says how something is done


class Rep(base.BackendRep):
    """A model that is ready to run."""

    def __init__(self, model, folder: str = "."):
        self.model, self.folder = model, folder
        self.net = Builder(model, folder).build().eval()
        self.names = [i.name for i in self.net.inputs]
        self._ready: dict[tuple, Any] = {}

    def run(self, inputs, **kwargs) -> tuple:
        """Runs the model.

        Parameters
        ----------
        inputs : sequence or dict of arrays
            Floating point becomes float32, integers that tensors do not have int64.

        Returns
        -------
        tuple of ndarray
        """
        given = [inputs[n] for n in self.names] if isinstance(inputs, Mapping) else list(inputs)
        if len(given) != len(self.names):
            raise ValueError(f"run: {len(given)} inputs given: the model has {', '.join(self.names)}")
        for name, value in zip(self.names, given, strict=True):
            if not isinstance(value, (np.ndarray, np.generic, float, int, bool)):
                raise TypeError(f"run: {name} is a {type(value).__name__}: expected an array")
        arrays = [ours(np.asarray(value)) for value in given]
        key = tuple((a.shape, a.dtype.name) for a in arrays)
        compiled, free, constants = self._ready.get(key, (None, (), {}))
        if compiled is None or any(not np.array_equal(arrays[self.names.index(n)], v) for n, v in constants.items()):
            compiled, free, constants = self._ready[key] = self._compile(arrays)
        return tuple(compiled.run([arrays[i] for i in free], 1))

    def _compile(self, arrays: Sequence[np.ndarray]) -> tuple:
        everything = list(range(len(arrays)))
        try:
            return _compiled(self.net, arrays), everything, {}
        except DependsOnValues:  # what says how something is done is taken as it is now
            constants = {n: a for n, a in zip(self.names, arrays, strict=True)
                         if a.dtype != np.float32 or a.size <= CHOSEN and a.ndim < 2}
            net = Builder(self.model, self.folder, constants).build().eval()
            free = [i for i in everything if self.names[i] not in constants]
            return _compiled(net, [arrays[i] for i in free]), free, constants


def _compiled(net, arrays: Sequence[np.ndarray]):
    places = tuple(general.Place(i, a.shape, a.dtype.name) for i, a in enumerate(arrays))
    return general.compile_function("run", net.symbolic(False), places, arrays)


class Backend(base.Backend):
    """Runs ONNX models with fastconv."""

    @classmethod
    def is_compatible(cls, model, device: str = "CPU", **kwargs) -> bool:
        """Whether all of its operators are there."""
        try:
            Builder(model, ".").build()
        except (NotImplementedError, ValueError):
            return False
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model, device: str = "CPU", **kwargs) -> Rep:
        """Makes a model ready to run.

        Raises
        ------
        NotImplementedError
            For operators that are not there, naming all of them.
        ValueError
            For a model that contradicts itself, and another device than the CPU.
        """
        if not cls.supports_device(device):
            raise ValueError(f"prepare: device={device!r}: expected 'CPU'")
        return Rep(model)

    @classmethod
    def run_model(cls, model, inputs, device: str = "CPU", **kwargs) -> tuple:
        return cls.prepare(model, device).run(inputs)

    @classmethod
    def run_node(cls, node, inputs, device: str = "CPU", outputs_info=None, **kwargs) -> tuple:
        """Runs one node on arrays."""
        from onnx import helper, numpy_helper  # noqa: F401
        from onnx.defs import onnx_opset_version

        names = [n for n in node.input if n]
        arrays = [np.asarray(a) for a in (inputs.values() if isinstance(inputs, Mapping) else inputs)]
        infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
                 for n, a in zip(names, arrays, strict=True)]
        graph = helper.make_graph([node], "node", infos, [helper.make_empty_tensor_value_info(n) for n in node.output if n])
        version = kwargs.get("opset_version", onnx_opset_version())
        return cls.run_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)]), arrays, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device.split(":")[0] == "CPU"


prepare, run_model, run_node, supports_device = Backend.prepare, Backend.run_model, Backend.run_node, Backend.supports_device
is_compatible = Backend.is_compatible
