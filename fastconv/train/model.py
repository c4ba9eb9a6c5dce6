"""Saving a network with what it takes to use it."""

from __future__ import annotations

import json

from fastconv.train.files import save_model


def save(module, path, preprocessing: dict | None = None) -> None:
    """Writes a module's parameters and buffers to a safetensors file.

    Parameters
    ----------
    module : nn.Module
        One of :mod:`fastconv.zoo` is written with its name and arguments, so that :func:`fastconv.load` can rebuild it.
    path : str or os.PathLike
        An existing file is replaced at once when the new one is complete.
    preprocessing : dict, optional
        What an input needs before the network sees it, as JSON: "mean" and "std" (of pixels in 0..1), "pad", "size"
        (height, width, before the padding), "classes" (their names) or anything else. Where it is None, the module's own
        ``preprocessing``, which a loaded network has, is written.

    Raises
    ------
    TypeError
        What is no module, or a preprocessing that JSON cannot hold.
    ImportError
        The package safetensors is not installed.
    OSError
        The file cannot be written.
    """
    if not hasattr(module, "state_dict") or isinstance(module, type):
        raise TypeError(f"save: module is a {type(module).__name__}: expected an nn.Module")
    metadata = {}
    network = getattr(module, "network", None)
    if network is not None:
        metadata["network"] = json.dumps(network)
    if preprocessing is None:
        preprocessing = getattr(module, "preprocessing", None)
    if preprocessing is not None:
        try:
            metadata["preprocessing"] = json.dumps(preprocessing)
        except (TypeError, ValueError) as error:
            raise TypeError(f"save: preprocessing={preprocessing!r} is not JSON ({error})") from None
    save_model(path, module.state_dict(), metadata)
