"""Networks from fastconv's own model files."""

from __future__ import annotations

import json
import os

import numpy as np

from fastconv import zoo
from fastconv.graph.parameter import unallocated
from fastconv.nn import Module, describe, state
from fastconv.train.files import load_model, read_header
from fastconv.train.model import NETWORK, PREPROCESSING, UNNAMED, attach


def load(path) -> Module:
    """Reads a network from a file: an ONNX model (``.onnx``; see :func:`fastconv.interop.onnx.load_onnx`), or a model file
    of fastconv's own, of a network of :mod:`fastconv.zoo`, also with parts replaced by layers and containers of
    :mod:`fastconv.nn`.

    Parameters
    ----------
    path : str or os.PathLike
        What :meth:`fastconv.Trainer.save` or :func:`fastconv.train.save` wrote.

    Returns
    -------
    nn.Module
        With its parameters. Its ``network`` is the file's description of it, its ``preprocessing`` the dict that was saved
        with it, or None; where it has parts of these names, they stay.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        A truncated or foreign file, one that does not describe its network (as it has parts of the user's own), or
        parameters that are not that network's.
    ImportError
        The package safetensors is not installed.

    Notes
    -----
    Names, shapes and dtypes in the file are held against the network before memory is taken for either.
    """
    name = os.fsdecode(path)
    if name.lower().endswith(".onnx"):
        from fastconv.interop.onnx import load_onnx

        return load_onnx(path)
    header, metadata = read_header(path)
    if NETWORK not in metadata:
        why = f" ({metadata[UNNAMED]})" if UNNAMED in metadata else ""
        raise ValueError(f"load {name!r}: the file does not name its network{why}: build the module and use "
                         "module.load_state_dict(fastconv.train.load_model(path)[0])")
    try:
        description = json.loads(metadata[NETWORK])
        preprocessing = json.loads(metadata.get(PREPROCESSING, "null"))
        with unallocated():
            module = describe.build(description, zoo.create)
        claimed = {key: np.broadcast_to(np.zeros((), dtype), shape) for key, (dtype, shape) in header.items()}
        state.check(type(module).__name__, module._state(), claimed, True)
        module.load_state_dict(load_model(path)[0])
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"load {name!r}: {error}") from error
    attach(module, description, preprocessing)
    return module
