"""Networks from fastconv's own model files."""

from __future__ import annotations

import json
import os

import numpy as np

from fastconv.nn import Module, describe, state  # of training, data and the zoo, only what a format needs: see load


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
    from fastconv import zoo
    from fastconv.graph.parameter import unallocated
    from fastconv.train.files import load_model, read_header
    from fastconv.train.model import NETWORK, PREPROCESSING, UNNAMED, attach

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


def save(module, path, input_shape=None, *, preprocessing: dict | None = None,
         metadata: dict[str, str] | None = None) -> None:
    """Writes a network, in the format that the file's ending names.

    Parameters
    ----------
    module : nn.Module
    path : str or os.PathLike
        ``.onnx``: the whole network (see :func:`fastconv.interop.onnx.save_onnx`). ``.safetensors``, or any other: its
        parameters and, of a network of :mod:`fastconv.zoo`, how it is made (see :func:`fastconv.train.save`). ``.npz``,
        ``.pt``, ``.pth``: its parameters and buffers by name, as NumPy and PyTorch read them. An existing file is replaced
        at once when the new one is complete.
    input_shape : tuple of int, sequence of tuples, or dict, optional
        For ONNX, as for :func:`fastconv.compile`; not needed for what was read from ONNX.
    preprocessing : dict, optional
        What an input needs before the network sees it; kept in safetensors and ONNX files.
    metadata : dict of str to str, optional
        For ONNX, entries of the file.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        For wrong arguments; what an ONNX model cannot say.
    ImportError, OSError
        The package that writes this format is not installed; the file cannot be written.
    """
    if not isinstance(module, Module):
        raise TypeError(f"save: module is a {type(module).__name__}: expected an nn.Module")
    from fastconv.interop.weights import PICKLED, write_weights
    from fastconv.train.model import PREPROCESSING, preprocessing_of
    from fastconv.train.model import save as save_native

    ending = os.path.splitext(os.fsdecode(path))[1].lower()
    if ending == ".onnx":
        from fastconv.interop.onnx import save_onnx

        entries = dict(metadata or getattr(module, "metadata", None) or {})
        if preprocessing is None:
            preprocessing = preprocessing_of(module)
        if preprocessing is not None:
            entries[PREPROCESSING] = json.dumps(describe.plain(preprocessing))
        save_onnx(module, path, input_shape, entries)
    elif ending == ".npz" or ending in PICKLED:
        write_weights(path, module.state_dict())
    else:
        save_native(module, path, preprocessing)
