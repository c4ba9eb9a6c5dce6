"""fastconv: a convolutional-network engine for CPUs, inference and training on NumPy arrays."""

from importlib import import_module
from typing import TYPE_CHECKING

from fastconv._path import package_path

__path__ = package_path(__path__)

from fastconv._version import __version__ as __version__  # noqa: E402  (from the folder that was just chosen)

if TYPE_CHECKING:
    from fastconv import data, functional, interop, nn, optim, train, vision, zoo
    from fastconv._include import get_include
    from fastconv.config import show_config
    from fastconv.engine.derivative import value_and_grad
    from fastconv.engine.engine import Engine, compile
    from fastconv.graph.parameter import Parameter
    from fastconv.graph.random import initial_seed, manual_seed
    from fastconv.interop.native import load, save
    from fastconv.kernels.threads import get_num_threads, set_num_threads
    from fastconv.lowering.choices import Choices
    from fastconv.report.summary import summary
    from fastconv.train.trainer import Trainer

_MODULES = ("data", "functional", "interop", "nn", "optim", "train", "vision", "zoo")
_NAMES = {
    "Choices": "lowering.choices",
    "Engine": "engine.engine",
    "Parameter": "graph.parameter",
    "Trainer": "train.trainer",
    "compile": "engine.engine",
    "get_include": "_include",
    "get_num_threads": "kernels.threads",
    "initial_seed": "graph.random",
    "load": "interop.native",
    "manual_seed": "graph.random",
    "save": "interop.native",
    "set_num_threads": "kernels.threads",
    "show_config": "config",
    "summary": "report.summary",
    "value_and_grad": "engine.derivative",
}

__all__ = [  # noqa: PLE0604
    "Choices",
    "Engine",
    "Parameter",
    "Trainer",
    "__version__",
    "compile",
    "data",
    "functional",
    "get_include",
    "get_num_threads",
    "initial_seed",
    "interop",
    "load",
    "manual_seed",
    "nn",
    "optim",
    "save",
    "set_num_threads",
    "show_config",
    "summary",
    "train",
    "value_and_grad",
    "vision",
    "zoo",
]


def __getattr__(name: str):
    """Imports what is asked for when it is first asked for, so that ``import fastconv`` costs nothing."""
    if name in _MODULES:
        return import_module(f"fastconv.{name}")
    if name in _NAMES:
        value = globals()[name] = getattr(import_module(f"fastconv.{_NAMES[name]}"), name)
        return value
    functional = None if name.startswith("_") else import_module("fastconv.functional")
    if functional is not None and name in functional.__all__:  # torch.cat, torch.mean: what is a function there is one here
        value = globals()[name] = getattr(functional, name)
        return value
    names = {} if functional is None else import_module("fastconv.functional.names").NAMES  # torch.float32, torch.no_grad
    if name in names:
        return names[name]
    raise AttributeError(f"module 'fastconv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_NAMES})
