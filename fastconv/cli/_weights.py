"""``--init`` and ``--freeze``: a training that begins from the weights of another."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np


class Init(NamedTuple):
    """Arrays by name, and what the file says of their network, where it is fastconv's own."""

    path: str
    arrays: dict[str, np.ndarray]
    preprocessing: dict | None
    name: str | None


def read(path: str) -> Init:
    """The weights that ``--init`` names."""
    import json

    from fastconv.interop.weights import KERAS, PICKLED, read_weights
    from fastconv.train.checkpoint import KEY
    from fastconv.train.files import load_metadata
    from fastconv.train.model import NETWORK, PREPROCESSING

    if not os.path.exists(path):
        raise FileNotFoundError(f"--init {path!r}: No such file")
    preprocessing: Any = None
    network: Any = None
    if os.path.splitext(path)[1].lower() not in (".npz", *PICKLED, *KERAS):
        metadata = load_metadata(path)
        if KEY in metadata:
            raise ValueError(f"--init {path!r} is a checkpoint of a training: --resume goes on with it")
        try:
            preprocessing, network = (json.loads(metadata.get(key, "null")) for key in (PREPROCESSING, NETWORK))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"--init {path!r}: what it says of its network is malformed ({error})") from error
    return Init(path, read_weights(path), preprocessing if isinstance(preprocessing, dict) else None,
                network["name"] if isinstance(network, dict) and isinstance(network.get("name"), str) else None)


def head(network) -> str:
    """The path of the last layer with weights, which says the classes."""
    return next(name for name, module in reversed(list(network.named_modules())) if "weight" in module._parameters)


def channels(init: Init, name: str) -> int | None:
    """Of the images that the weights of a network of this name are for; None where they have no such layer."""
    from fastconv import zoo
    from fastconv.graph.parameter import unallocated

    with unallocated():
        network = zoo.create(name)
    first = next(path for path, module in network.named_modules() if hasattr(module, "in_channels"))
    weight = init.arrays.get(f"{first}.weight")
    return weight.shape[1] if weight is not None and weight.ndim == 4 else None


def begin(network, init: Init, name: str, classes: list[str]) -> str:
    """Gives a network the weights, its last layer only where it is of the same classes; returns what was done.

    Raises
    ------
    ValueError
        Weights of another network: what is missing or has another shape, apart from the last layer, is listed.
    """
    top = head(network)
    own = network._state()
    theirs = init.preprocessing.get("classes") if init.preprocessing else None
    wrong, taken, new = [], {}, False
    for key, entry in own.items():
        array = init.arrays.get(key)
        if not hasattr(entry, "requires_grad"):  # counts of batches: they begin anew
            continue
        fits = array is not None and array.shape == tuple(entry.shape)
        if key.rpartition(".")[0] == top and (not fits or theirs not in (None, classes)):
            new = True
        elif fits:
            taken[key] = array
        elif array is None:
            wrong.append(f"{key} is missing")
        else:
            wrong.append(f"{key} has shape {array.shape}: expected {tuple(entry.shape)}")
    if wrong:
        more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        of = f", they are those of {init.name}" if init.name not in (None, name) else ""
        raise ValueError(f"--init {init.path!r}: not the weights of {name}{of}: {'; '.join(wrong[:5])}{more}")
    network.load_state_dict({**network.state_dict(), **taken})
    return f"weights of {init.path}" + (f", its last layer ({top}) anew for {len(classes)} classes" if new else "")


def freeze(network) -> int:
    """Leaves the last layer alone to be trained, normalisations with their statistics included; returns what that trains."""
    top = network.get_submodule(head(network))
    for module in network.modules():
        if module is not top:
            for parameter in module._parameters.values():
                if parameter is not None:
                    parameter.requires_grad = False
            if "running_mean" in module._buffers:
                module.training = False
    return network.num_parameters(trainable=True)
