"""Weights of Keras: ``.keras``, ``.weights.h5`` and ``.h5`` files, of Keras 2 and 3, in PyTorch's names and layouts.

Needs h5py (extra ``keras``); neither Keras nor TensorFlow.
"""

from __future__ import annotations

import io
import json
import logging
import os
import zipfile
from collections.abc import Mapping
from itertools import count, takewhile

import numpy as np

from fastconv import nn
from fastconv._atomic import open_regular
from fastconv._extra import require
from fastconv.interop.keras_layers import WAYS, Layer, convert, flattened, kind_of, variables

log = logging.getLogger("fastconv")
WEIGHTS = "model.weights.h5"
LEAST = 1 << 20  # bytes that a file may always ask for


def read_keras(path, channels: Mapping[str, int] | None = None) -> dict[str, np.ndarray]:
    """Reads the weights of a Keras file.

    Parameters
    ----------
    path : str or os.PathLike
        ``.keras``, or an HDF5 file of a model or of its weights.
    channels : mapping, optional
        Of dense layers behind a Flatten, by their names, the channels of what was flattened: Keras flattens pixels with
        their channels last, PyTorch each channel by itself, and the rows of such kernels are put in PyTorch's order. Only
        for files that do not describe their network, and where its description does not say.

    Returns
    -------
    dict from name to ndarray
        Float32. Names are those of the layers, with dots where models are nested, and PyTorch's: ``conv1.weight``,
        ``bn1.running_mean``. Layouts are those of :mod:`fastconv.nn`. Layers that have no counterpart are left out, which is
        logged. A file of weights alone does not say what its layers are: where their arrays do not either, they are
        convolutions; :func:`load_keras` asks the network.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not such a file, a damaged one, one that claims much more memory than it has bytes, links to other files.
    ImportError
        h5py is not installed.

    Notes
    -----
    The HDF5 library takes a file's own structures at their word: damaged in the wrong place they may occupy it for ever.
    Read files of strangers in a process that can be ended.
    """
    found = {}
    name = os.fsdecode(path)
    for layer in _layers(name):
        try:
            found.update(convert(layer, (channels or {}).get(layer.path) or flattened(layer)))
        except NotImplementedError as error:
            log.warning("%s: %s is left out: %s", name, layer.path, error)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise ValueError(f"{name!r}: {layer.path}: {error}") from error
    if not found:
        raise ValueError(f"{name!r} has no weights of layers that are known")
    return found


def load_keras(module: nn.Module, path, names: Mapping[str, str] | None = None) -> None:
    """Gives a network the weights of a Keras file, by the names of layers.

    Parameters
    ----------
    module : nn.Module
        With the same layers as the file's model. Where the file does not say what a layer is, or what was flattened before
        a dense layer, this network does. Normalisations get the file's epsilon, too, which belongs to its weights (Keras's
        usual one is 0.001, ours 1e-5).
    path : str or os.PathLike
        As for :func:`read_keras`.
    names : mapping from layer to module path, optional
        Of layers that have other names here: ``{"block1_conv1": "features.0"}``. Those of ``keras.applications``' VGG16 and
        VGG19 are known for :mod:`fastconv.zoo`'s.

    Raises
    ------
    ValueError, TypeError
        As :func:`read_keras` and :meth:`fastconv.nn.Module.load_state_dict`, which lists all names and shapes that do not
        fit; the network is as it was then. Names that are no layer's.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"load_keras: module is a {type(module).__name__}: expected an nn.Module")
    name = os.fsdecode(path)
    layers = _layers(name)
    paths = {**known_names(module), **(names or {})}
    wrong = sorted(set(names or {}) - {layer.path for layer in layers})
    if wrong:
        raise ValueError(f"load_keras: names has {wrong[0]!r}: the file has the layers {', '.join(x.path for x in layers)}")
    arrays, epsilons, silent = {}, [], 0
    for layer in layers:
        where = paths.get(layer.path, layer.path)
        try:
            ours = module.get_submodule(where)
        except AttributeError:
            ours = None
        if not layer.config:
            layer.kind = kind_of(ours) or layer.kind
        try:
            made = convert(layer, flattened(layer) if layer.config else _channels(module, ours))
        except NotImplementedError as error:
            log.warning("load_keras: %s is left out: %s", layer.path, error)
            continue
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise ValueError(f"load_keras {name!r}: {layer.path}: {error}") from error
        arrays.update({where + key[len(layer.path):]: value for key, value in made.items()})
        if hasattr(ours, "eps") and layer.kind.endswith("normalization"):
            epsilons.append((ours, layer.config.get("epsilon")))
            silent += "epsilon" not in layer.config
    counts = {key: value for key, value in module.state_dict().items() if key.endswith("num_batches_tracked")}
    module.load_state_dict({**counts, **arrays})
    for ours, epsilon in epsilons:
        if epsilon is not None and ours is not None:
            ours.eps = float(epsilon)
    if silent:
        log.warning("load_keras: %s does not say the epsilon of its normalisations (Keras's usual one is 0.001): the "
                    "network's own stays", name)


def known_names(module) -> dict[str, str]:
    """How layers of ``keras.applications`` are called in a network of :mod:`fastconv.zoo`."""
    about = getattr(module, "network", None) or {}
    if about.get("name") not in ("vgg16", "vgg19") or about.get("arguments", {}).get("batch_norm"):
        return {}
    names, block, number = {}, 1, 0
    for i, layer in enumerate(module.features):
        if isinstance(layer, nn.MaxPool2d):
            block, number = block + 1, 0
        elif isinstance(layer, nn.Conv2d):
            number += 1
            names[f"block{block}_conv{number}"] = f"features.{i}"
    return {**names, "fc1": "classifier.0", "fc2": "classifier.3", "predictions": "classifier.6"}


def _channels(module, ours) -> int | None:
    """Of what was flattened in front of a Linear: those of the last convolution before it, in the order of modules."""
    last = None
    for one in module.modules():
        if one is ours:
            break
        if hasattr(one, "out_channels"):
            last = one.out_channels
        elif isinstance(one, nn.Linear):
            last = None
    return last if isinstance(ours, nn.Linear) and last and ours.in_features % last == 0 else None


# ---- files --------------------------------------------------------------------------------------------------------------


def _layers(name: str) -> list[Layer]:
    """The layers of a file that have weights, in the model's order where the file says it."""
    h5py = require("h5py", "reading a file of Keras", "keras")
    with open_regular(name) as file:
        pass
    size = os.path.getsize(name)
    config: dict = {}
    data: str | io.BytesIO = name
    try:
        if zipfile.is_zipfile(name):
            with zipfile.ZipFile(name) as archive:
                config = _described(_member(archive, "config.json", size))
                data = io.BytesIO(_member(archive, WEIGHTS, size))
        with h5py.File(data, "r") as file:
            found = _Reader(h5py, file, size, config).layers()
            if not found:
                raise ValueError("it has no weights")
            return found
    except (OSError, KeyError, zipfile.BadZipFile, RuntimeError, UnicodeError, RecursionError, EOFError, TypeError,
            AttributeError, IndexError, NotImplementedError) as error:
        raise ValueError(f"{name!r} is no file of a Keras model, or damaged ({error})") from error
    except ValueError as error:
        raise ValueError(f"{name!r}: {error}") from error


def _member(archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > 4 * size + LEAST:
        raise ValueError(f"{name} claims {info.file_size:,} bytes in a file of {size:,}")
    return archive.read(info)


def _described(text: bytes | str) -> dict:
    """The description of a model: class, name and layers."""
    found = json.loads(text)
    return found if isinstance(found, dict) else {}


class _Reader:
    """Reads layers out of an HDF5 file of either kind."""

    def __init__(self, h5py, file, size: int, config: dict):
        self.h5py, self.file, self.left, self.config = h5py, file, 4 * size + LEAST, config
        self.size, self.found = size, []  # type: int, list[Layer]

    def layers(self) -> list[Layer]:
        if "model_config" in self.file.attrs:
            self.config = _described(self.file.attrs["model_config"])
        root = self.group(self.file, "model_weights") if "model_weights" in self.file else self.file
        if "layer_names" in root.attrs or "layer_names0" in root.attrs:
            self.by_layer(root)
        else:
            self.tree(root, self.config, "")
        return self.found

    def group(self, parent, name: str):
        """What goes by a name in this file; nothing of other files."""
        if not isinstance(parent.get(name, getlink=True), self.h5py.HardLink):
            raise ValueError(f"{name!r} is a link")
        return parent[name]

    def array(self, dataset) -> np.ndarray:
        if not isinstance(dataset, self.h5py.Dataset):
            raise ValueError(f"{dataset.name!r} is no array")
        if dataset.is_virtual or dataset.external:
            raise ValueError(f"{dataset.name!r} lies in another file")
        if dataset.dtype.kind not in "fiu":
            raise ValueError(f"{dataset.name!r} has dtype {dataset.dtype}: expected numbers")
        self.left -= dataset.size * max(4, dataset.dtype.itemsize)
        if self.left < 0:
            raise ValueError(f"its arrays claim more than four times the file's {self.size:,} bytes")
        values = dataset[()]
        if dataset.attrs.get("dtype") == "bfloat16" and values.dtype == np.uint16:
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return np.asarray(values, np.float32)

    def names(self, attributes, key: str) -> list[str]:
        """A list of names; long ones are cut into several attributes."""
        cut = [key] if key in attributes else [*takewhile(attributes.__contains__, (f"{key}{i}" for i in count()))]
        return [n.decode() if isinstance(n, bytes) else str(n) for part in cut for n in attributes[part]]

    # ---- Keras 2, and 3's older format: a group per layer, arrays by name ------------------------------------------------

    def by_layer(self, root) -> None:
        configs = described(self.config)
        for name in self.names(root.attrs, "layer_names"):
            group = self.group(root, name)
            inside: dict[str, dict[str, np.ndarray]] = {}
            for weight in self.names(group.attrs, "weight_names"):
                at = group
                for part in weight.split("/"):
                    at = self.group(at, part)
                *parts, last = weight.split("/")
                parts = [p for p in parts[parts.index(name) + 1 if name in parts else 0:] if not _is_cell(p)]
                inside.setdefault(".".join([name, *parts]), {})[last.split(":")[0]] = self.array(at)
            for path, arrays in inside.items():
                whole, _, last = path.rpartition(".")
                if "recurrent_kernel" in arrays and whole and path not in configs and last.startswith(WAYS):
                    self.found.append(Layer(whole, arrays, "bidirectional", way=last.partition("_")[0]))
                else:
                    self.found.append(Layer(path, arrays, *configs.get(path, ("", {}, None))))

    # ---- Keras 3: a tree of groups by class, arrays by number ------------------------------------------------------------

    def tree(self, group, config: dict, path: str) -> None:
        """The layers of a model."""
        if "layers" not in group:
            raise ValueError("it has no layers")
        holder = self.group(group, "layers")
        waiting = {kind: [c for c in _children(config) if _plain(c.get("class_name", "")) == kind]
                   for kind in {_plain(c.get("class_name", "")) for c in _children(config)}}
        order = {id(c): i for i, c in enumerate(_children(config))}
        found = []
        for key in sorted(holder, key=lambda k: (_stem(k), _number(k))):
            child, kind = self.group(holder, key), _plain(_stem(key))
            mine = waiting[kind].pop(0) if waiting.get(kind) else {}
            own = self.group(child, "vars") if "vars" in child else None
            name = _name(mine) or (own is not None and str(own.attrs.get("name", ""))) or key
            found.append((order.get(id(mine), len(order)), key, child, kind, mine, f"{path}{name}"))
        for _, _, child, kind, mine, where in sorted(found, key=lambda f: f[:2]):
            if "layers" in child:
                self.tree(child, mine, f"{where}.")
            else:
                self.layer(child, kind, mine, where, config)

    def layer(self, group, kind: str, mine: dict, where: str, model: dict) -> None:
        about, before = mine.get("config") or {}, len(self.found)
        for way, inner in (("", "cell"), *((way, f"{way}_layer") for way in WAYS)):
            at = group
            if inner in group:
                at = self.group(group, inner)
                at = self.group(at, "cell") if "cell" in at else at
            elif way:
                continue
            numbered = self.group(at, "vars") if "vars" in at else {}
            values = [self.array(self.group(numbered, n)) for n in sorted(numbered, key=int)]
            if values:
                self.found.append(Layer(where, variables(kind, about, values), kind, about,
                                        (mine, model) if mine else None, way))
        inside: list[str] = []
        group.visititems(lambda name, at: inside.append(name) if isinstance(at, self.h5py.Dataset) else None)
        if len(self.found) == before and any("seed_generator" not in name for name in inside):
            self.found.append(Layer(where, {}, kind, about))  # one that is not known from inside


def described(config: dict, path: str = "") -> dict[str, tuple[str, dict, tuple | None]]:
    """By path, the class of each layer, what it was made with, and its description in that of its model."""
    found: dict[str, tuple[str, dict, tuple | None]] = {}
    for child in _children(config):
        where = path + _name(child)
        found[where] = _plain(child.get("class_name", "")), child.get("config") or {}, (child, config)
        found.update(described(child, where + "."))
    return found


def _children(config: dict) -> list[dict]:
    """The descriptions of a model's layers."""
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else inner if isinstance(inner, list) else None
    return [c for c in layers or () if isinstance(c, dict)] if isinstance(layers, list) else []


def _name(config: dict) -> str:
    inner = config.get("config")
    return str(config.get("name") or (inner.get("name") if isinstance(inner, dict) else "") or "")


def _plain(kind: str) -> str:
    """A class's name, or a group's that is made of it, for comparison."""
    return str(kind).replace("_", "").lower()


def _stem(key: str) -> str:
    stem, _, number = key.rpartition("_")
    return stem if number.isdigit() and stem else key


def _number(key: str) -> int:
    number = key.rpartition("_")[2]
    return int(number) if number.isdigit() and _stem(key) != key else 0


def _is_cell(part: str) -> bool:
    return part.split("_")[-1] == "cell" or len(part.split("_")) > 1 and part.split("_")[-2] == "cell"
