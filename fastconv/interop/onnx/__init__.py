"""Networks of the ONNX format as modules. Needs the package onnx (extra ``onnx``), which reads the files."""

from fastconv.interop.onnx import export_general  # noqa: F401  (its operators)
from fastconv.interop.onnx.building import load_onnx
from fastconv.interop.onnx.export import save_onnx
from fastconv.interop.onnx.model import OnnxModel

__all__ = ["OnnxModel", "load_onnx", "save_onnx"]
