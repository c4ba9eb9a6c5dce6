"""Saving a network with what it takes to use it."""

from __future__ import annotations

import json

from fastconv._values import shown
from fastconv.nn import Module, describe
from fastconv.train.files import save_model

NETWORK, PREPROCESSING, UNNAMED = "network", "preprocessing", "unnamed"  # of a file's metadata; the last: why no network


def save(module, path, preprocessing: dict | None = None) -> None:
    """Writes a module's parameters and buffers to a safetensors file.

    Parameters
    ----------
    module : nn.Module
        A network of :mod:`fastconv.zoo`, also one of which parts were replaced by layers and containers of
        :mod:`fastconv.nn`, is written with a description, from which :func:`fastconv.load` rebuilds it. Of other modules
        the file has the parameters, for ``load_state_dict``.
    path : str or os.PathLike
        An existing file is replaced at once when the new one is complete.
    preprocessing : dict, optional
        What an input needs before the network sees it, as JSON (NumPy's numbers and vectors become plain ones): "mean" and
        "std" (of pixels in 0..1), "pad", "size" (height, width, before the padding), "classes" (their names) or anything
        else. Where it is None, the module's own ``preprocessing``, which a loaded network has, is written, if it is such a
        dict.

    Raises
    ------
    TypeError
        What is no module, or a preprocessing that JSON cannot hold.
    ImportError
        The package safetensors is not installed.
    OSError
        The file cannot be written.
    """
    if not isinstance(module, Module):
        raise TypeError(f"save: module is a {type(module).__name__}: expected an nn.Module")
    metadata = {}
    try:
        metadata[NETWORK] = json.dumps(describe.describe(module))
    except describe.Undescribable as error:
        metadata[UNNAMED] = str(error)
    if preprocessing is None:
        preprocessing = preprocessing_of(module)
    elif not isinstance(preprocessing, dict):
        raise TypeError(f"save: preprocessing is a {type(preprocessing).__name__}: expected a dict")
    if preprocessing is not None:
        try:
            metadata[PREPROCESSING] = json.dumps(describe.plain(preprocessing))
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(f"save: preprocessing={shown(preprocessing)} is not JSON ({error})") from None
    save_model(path, module.state_dict(), metadata)


def preprocessing_of(module) -> dict | None:
    """What was saved with a network, or given to it since; None where a module has something else of this name."""
    for name in ("preprocessing", "_preprocessing"):
        value = vars(module).get(name)
        if isinstance(value, dict):
            try:
                describe.plain(value)
            except (TypeError, RecursionError):
                continue  # a module's own affair
            return value
    return None


def attach(module, description: dict, preprocessing) -> None:
    """Gives a network what its file says of it; its own parts of these names stay."""
    vars(module)["_preprocessing"] = preprocessing
    parts = {*module._parameters, *module._buffers, *module._modules}
    for name, value in (("network", description), ("preprocessing", preprocessing)):
        if name not in parts:
            setattr(module, name, value)
