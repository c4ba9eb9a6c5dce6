"""Weights from files of several kinds, by name."""

from __future__ import annotations

import os

import numpy as np

from fastconv._atomic import open_regular, write_atomic
from fastconv.interop.pickled import read_state_dict, write_state_dict
from fastconv.train.files import load_model, save_model

PICKLED = (".pt", ".pth", ".bin")
KERAS = (".keras", ".h5", ".hdf5")
PREFIXES = ("module.", "model.", "_orig_mod.")  # of wrappers for training on several devices, and compiled modules
NESTED = ("state_dict", "model_state_dict", "model", "net", "weights")  # where checkpoints of trainings keep them


def read_weights(path) -> dict[str, np.ndarray]:
    """The floating-point arrays of a file, by name, in float32.

    Parameters
    ----------
    path : str or os.PathLike
        ``.npz``: arrays by name. ``.pt``, ``.pth``, ``.bin``: a state dict that PyTorch saved, or a checkpoint with one in
        it; read without torch, and nothing in the file is run. ``.keras``, ``.h5``: a model of Keras or its weights, in
        PyTorch's names and layouts (see :func:`fastconv.interop.read_keras`). Anything else: safetensors, of fastconv or
        others.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not such a file, or one without arrays.
    ImportError
        safetensors or h5py is not installed.
    """
    name = os.fsdecode(path)
    ending = os.path.splitext(name)[1].lower()
    with open_regular(name):
        pass
    if ending == ".npz":
        found = _npz(name)
    elif ending in PICKLED:
        found = _torch(name)
    elif ending in KERAS:
        from fastconv.interop.keras import read_keras

        return read_keras(name)
    else:
        found = load_model(name)[0]
    arrays = {}
    for key, value in found.items():
        array = np.asarray(value)
        if array.dtype.kind == "f":
            arrays[key] = np.ascontiguousarray(array, np.float32)
    for prefix in PREFIXES:
        if arrays and all(key.startswith(prefix) for key in arrays):
            arrays = {key[len(prefix):]: array for key, array in arrays.items()}
    if not arrays:
        raise ValueError(f"{name!r} has no weights: no floating-point array")
    return arrays


def write_weights(path, arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Writes arrays by name: ``.npz``, ``.pt``, ``.pth`` and ``.bin`` (a state dict of PyTorch), else safetensors.

    Raises
    ------
    OSError
        The file cannot be written.
    ImportError
        safetensors is not installed.
    """
    ending = os.path.splitext(os.fsdecode(path))[1].lower()
    if ending == ".npz":
        with write_atomic(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    elif ending in PICKLED:
        write_state_dict(path, arrays)
    else:
        save_model(path, arrays, metadata)


def _npz(name: str) -> dict:
    try:
        with np.load(name, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except Exception as error:  # what a damaged archive brings zipfile, zlib and NumPy to raise
        raise ValueError(f"{name!r} is not an .npz file of arrays ({error or type(error).__name__})") from error


def _torch(name: str) -> dict:
    found = read_state_dict(name)
    while isinstance(found, dict) and not any(isinstance(value, np.ndarray) for value in found.values()):
        inner = next((found[key] for key in NESTED if isinstance(found.get(key), dict)), None)
        if inner is None:
            break
        found = inner
    if not isinstance(found, dict):
        raise ValueError(f"{name!r} holds a {type(found).__name__}, not a state dict: save model.state_dict()")
    return {key: value for key, value in found.items() if isinstance(key, str) and isinstance(value, np.ndarray)}
