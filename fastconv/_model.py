"""The network that a command is about: from a model file, or by its name; and what its input needs."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from fastconv._arguments import UsageError
from fastconv._recipes import recipe

MOST_PIXELS = 4096  # the longest side to which an image is resized because a model file says so
MOST_CHANNELS = 4096
NEEDED = {"mean", "std", "size", "pad", "classes"}


class Model(NamedTuple):
    """``shape`` is that of an input, (C, H, W); ``trained`` whether it came from a file."""

    name: str
    network: Any
    shape: tuple[int, int, int]
    preprocessing: Any
    trained: bool


def describe(network) -> dict:
    """How a network was made: see :mod:`fastconv.nn.describe`."""
    from fastconv.nn import describe

    return describe.describe(network)


def open_model(name: str, input_size: tuple[int, int] | None = None) -> Model:
    """A model from its file, or a network of the zoo by its name where there is no file of that name."""
    from fastconv import zoo
    from fastconv.interop.native import load
    from fastconv.train.checkpoint import KEY
    from fastconv.train.files import load_metadata
    from fastconv.train.model import preprocessing_of

    trained = os.path.exists(name) or name not in zoo.NETWORKS
    if trained:
        if not os.path.exists(name):
            raise FileNotFoundError(f"{name!r}: No such file, and no network of that name "
                                    f"({', '.join(sorted(zoo.NETWORKS))})")
        if not os.path.isdir(name) and not name.lower().endswith(".onnx") and KEY in load_metadata(name):
            raise ValueError(f"{name!r} is a checkpoint of a training, not a model: fastconv train --resume finishes it")
        network = load(name)
        if hasattr(network, "input_names"):
            return _onnx(name, network, input_size)
    else:
        network = zoo.create(name)
    kind = describe(network).get("name", type(network).__name__)
    known = recipe(kind)
    size, preprocessing = (known.size, known.size), preprocessing_of(network)
    if isinstance(preprocessing, dict) and NEEDED <= set(preprocessing):
        check_preprocessing(name, preprocessing)
        size = tuple(s + 2 * p for s, p in zip(preprocessing["size"], pads(preprocessing), strict=True))
    if input_size is not None:
        if known.fixed and input_size != (known.size, known.size):
            raise UsageError(f"--input-size {input_size[0]}x{input_size[1]}: {kind} takes "
                             f"{known.size}x{known.size} alone")
        size = input_size
    return Model(name, network, (_channels(network, preprocessing), *size), preprocessing, trained)


def _onnx(name: str, network, input_size: tuple[int, int] | None) -> Model:
    """A network read from an ONNX file; extents that may be any are those of ``input_size``."""
    if len(network.inputs) != 1:
        raise ValueError(f"{name!r} takes {', '.join(network.input_names)}: expected a model of one input")
    shape = network.inputs[0].shape
    if shape is None:
        raise ValueError(f"{name!r} does not say the shape of its input")
    return Model(name, network, _extents(name, network.input_names[0], shape, input_size), network.preprocessing, True)


def _extents(name: str, port: str, shape: tuple, size: tuple[int, int] | None) -> tuple:
    """Those of an ONNX model's input without its batch: height and width are two neighbours that ``size`` fits."""
    own = shape[1:]
    free = [i for i, extent in enumerate(own) if extent is None]
    if not free and size is None:
        return own
    shown = f"{name}: its input {port} of shape {shape}"
    if size is None:
        raise UsageError(f"{shown}: dimension {free[0] + 1} may be any: --input-size says which height and width")
    if len(free) == 1 and size[0] == size[1]:
        return tuple(size[0] if extent is None else extent for extent in own)
    for i in range(len(own) - 1):
        if set(free) <= {i, i + 1} and all(extent in (None, s) for extent, s in zip(own[i:], size, strict=False)):
            return (*own[:i], *size, *own[i + 2:])
    raise UsageError(f"{shown}: --input-size {size[0]}x{size[1]} does not fit")


def _channels(network, preprocessing) -> int:
    """Of the input: those that the preprocessing has a mean for, else those of the first layer that has any."""
    mean = preprocessing.get("mean") if isinstance(preprocessing, dict) else None
    if isinstance(mean, list) and 1 <= len(mean) <= MOST_CHANNELS:
        return len(mean)
    return next((layer.in_channels for layer in network.modules() if hasattr(layer, "in_channels")), 1)


def open_trained(name: str) -> Model:
    """A model file that says what its input needs."""
    if not os.path.exists(name):
        raise FileNotFoundError(f"{name!r}: No such file")
    model = open_model(name)
    if not model.preprocessing:
        raise ValueError(f"{name!r} does not say what its input needs: save it with preprocessing=")
    check_preprocessing(name, model.preprocessing)
    made = describe(model.network)
    classes = None if made.get("changes") else made.get("arguments", {}).get("num_classes")
    if classes is not None and classes != len(model.preprocessing["classes"]):
        raise ValueError(f"{name!r}: the network has {classes} classes, its preprocessing names "
                         f"{len(model.preprocessing['classes'])}")
    return model


def pads(preprocessing: dict) -> tuple[int, int]:
    pad = preprocessing["pad"]
    return (pad, pad) if isinstance(pad, int) else tuple(pad)


def check_preprocessing(model: str, preprocessing) -> None:
    """What the file says must be what to_float and predict need; its numbers are checked by to_float."""
    if not isinstance(preprocessing, dict) or not set(preprocessing) >= NEEDED:
        raise ValueError(f"{model!r}: its preprocessing must have mean, std, size, pad and classes")
    size, pad = preprocessing["size"], preprocessing["pad"]
    for name, value, low in (("size", size, 1), ("pad", pad if isinstance(pad, list) else [pad, pad], 0)):
        if not isinstance(value, list) or len(value) != 2 or \
                not all(type(side) is int and low <= side <= MOST_PIXELS for side in value):
            raise ValueError(f"{model!r}: its preprocessing has {name}={value!r}: expected two integers from {low} to "
                             f"{MOST_PIXELS}")
    upright = preprocessing.get("apply_exif_orientation", True)
    if not isinstance(upright, bool):
        raise ValueError(f"{model!r}: its preprocessing has apply_exif_orientation={upright!r}: expected true or false")
    classes = preprocessing["classes"]
    if not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
        raise ValueError(f"{model!r}: its preprocessing has classes={classes!r}: expected a list of names")


def upright(model: Model, asked: bool | None) -> bool:
    """Whether photographs are turned as their EXIF orientation says: as asked, else as the model was trained."""
    return model.preprocessing.get("apply_exif_orientation", True) if asked is None else asked


def logits_of(model: Model, engine, images):
    """What the network makes of uint8 images (N, H, W, C), in float64; it must be finite, one number per class."""
    import numpy as np

    from fastconv.data import to_float

    p = model.preprocessing
    logits = engine(to_float(images, p["mean"], p["std"], p["pad"]))
    if not isinstance(logits, np.ndarray) or logits.shape != (len(images), len(p["classes"])):
        raise ValueError(f"{model.name!r}: the network does not give one number for each of {len(p['classes'])} classes")
    if not np.isfinite(logits).all():
        raise ValueError(f"{model.name!r}: what the network computes is not finite")
    return logits.astype(np.float64)


def compiled(model: Model, batch: int, arguments):
    """An engine for batches of this size, with the options that commands share; results do not depend on the size."""
    from fastconv._arguments import choices_of
    from fastconv.engine.engine import compile
    from fastconv.engine.options import alike

    algorithm = choices_of(arguments.tuned)
    return compile(model.network, (batch, *model.shape), precision=arguments.precision, algorithm=algorithm,
                   choose_for=alike(algorithm))
