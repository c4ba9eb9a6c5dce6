"""Networks of the ONNX format as modules. Needs the package onnx (extra ``onnx``), which reads the files."""

from typing import TYPE_CHECKING

from fastconv.interop.onnx.building import load_onnx
from fastconv.interop.onnx.model import OnnxModel

if TYPE_CHECKING:
    from fastconv.interop.onnx.export import save_onnx

__all__ = ["OnnxModel", "load_onnx", "save_onnx"]


def __getattr__(name: str):
    """What writes is imported when it is first asked for."""
    if name == "save_onnx":
        from fastconv.interop.onnx import export_general, export_library  # noqa: F401  (their operators)
        from fastconv.interop.onnx.export import save_onnx

        globals()[name] = save_onnx
        return save_onnx
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
