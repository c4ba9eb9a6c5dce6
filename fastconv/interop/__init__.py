"""Files and modules of others: ONNX, PyTorch, Keras, state dicts, memory of other libraries."""

from __future__ import annotations

from importlib import import_module

_NAMES = {
    "from_torch": "torch",
    "load_keras": "keras",
    "load_onnx": "onnx",
    "read_keras": "keras",
    "read_state_dict": "pickled",
    "read_weights": "weights",
    "register_backend": "torch",
    "save_onnx": "onnx",
    "to_torch": "torch",
    "write_state_dict": "pickled",
    "write_weights": "weights",
}

__all__ = sorted(_NAMES)  # noqa: PLE0605


def __getattr__(name: str):
    """Imports what is asked for when it is first asked for: each needs another package."""
    if name in _NAMES:
        value = globals()[name] = getattr(import_module(f"fastconv.interop.{_NAMES[name]}"), name)
        return value
    if name in ("onnx", "onnx_backend", "torch"):
        return import_module(f"fastconv.interop.{name}")
    raise AttributeError(f"module 'fastconv.interop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
