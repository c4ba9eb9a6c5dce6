"""Networks from fastconv's own model files."""

from __future__ import annotations

import json
import os

from fastconv import zoo
from fastconv.nn import Module
from fastconv.train.files import load_model


def load(path) -> Module:
    """Rebuilds a network of :mod:`fastconv.zoo` from its model file.

    Parameters
    ----------
    path : str or os.PathLike
        What :meth:`fastconv.Trainer.save` or :func:`fastconv.train.save` wrote.

    Returns
    -------
    nn.Module
        With its parameters. Its ``preprocessing`` is the dict that was saved with it, or None.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        A truncated or foreign file, one that does not name its network, or parameters that are not that network's.
    ImportError
        The package safetensors is not installed.
    """
    name = os.fsdecode(path)
    arrays, metadata = load_model(path)
    if "network" not in metadata:
        raise ValueError(f"load {name!r}: the file does not name its network: build the module and use "
                         "module.load_state_dict(fastconv.train.load_model(path)[0])")
    try:
        network = json.loads(metadata["network"])
        if not isinstance(network, dict) or not isinstance(network.get("name"), str) or \
                not isinstance(network.get("arguments"), dict):
            raise ValueError("the metadata's network must be an object with a name and arguments")
        preprocessing = json.loads(metadata.get("preprocessing", "null"))
        module = zoo.create(network["name"], **network["arguments"])
        module.load_state_dict(arrays)
    except (ValueError, TypeError, LookupError, RecursionError, MemoryError) as error:
        raise ValueError(f"load {name!r}: {error}") from error
    module.preprocessing = preprocessing
    return module
