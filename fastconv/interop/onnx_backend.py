"""The interface of ``onnx.backend``: models and single nodes run on arrays. Needs the package onnx (extra ``onnx``).

>>> from fastconv.interop.onnx_backend import Backend
>>> Backend.prepare(model).run([x])
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastconv._extra import require
from fastconv.interop.onnx.building import Builder

require("onnx", "running ONNX models", "onnx")

from onnx import TensorProto, numpy_helper  # noqa: E402  (said above what it needs)
from onnx.backend import base  # noqa: E402


class Rep(base.BackendRep):
    """A model that is ready to run."""

    def __init__(self, model, folder: str = "."):
        self.model, self.folder = model, folder
        self.net = Builder(model, folder).build().eval()
        self.names = [i.name for i in self.net.inputs]

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
        return self.net.run(*(numpy_helper.to_array(v) if isinstance(v, TensorProto) else v for v in given))


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
