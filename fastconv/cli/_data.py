"""Labelled images for training and evaluation: an .npz file, MNIST's IDX files, an image folder, or the embedded sample."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastconv._recipes import Recipe
from fastconv.data import ArrayDataset, DataLoader, ImageFolder, load_image_dataset, mnist_sample, to_float
from fastconv.data.folder import class_folders
from fastconv.data.image_file import has_colours, open_image

IN_MEMORY = 2**30  # bytes: larger image folders are read from the disk again in each epoch
AS_FLOATS = 2**28  # bytes: larger arrays are converted batch by batch
LOOKED_AT = 1000  # images of a large folder from which mean and standard deviation are taken
HELD_OUT = ("test", "val", "validation")
FORMS = ("expected an .npz file, a folder with MNIST's four IDX files, or an image folder: class/image.png, or "
         "train/class/image.png beside test/ or val/")


@dataclass
class Part:
    """Images and labels: uint8 (N, H, W[, C]) in memory, or a folder from which they are read."""

    images: Any
    labels: np.ndarray
    folder: Any = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices) -> Part:
        if self.folder is not None:
            return Part(None, self.labels[indices], self.folder.subset(indices))
        return Part(self.images[indices], self.labels[indices])

    def loader(self, batch_size: int, preprocessing: dict, *, shuffle: bool = False, seed: int = 0,
               augment=None) -> DataLoader:
        """Batches of a network's input and labels. The bits do not depend on where the conversion is made."""
        p = preprocessing
        if self.images is not None and 4 * self.images.size <= AS_FLOATS:
            x = to_float(self.images, p["mean"], p["std"], p["pad"])
            return DataLoader(ArrayDataset(x, self.labels), batch_size, shuffle=shuffle, seed=seed, augment=augment)
        dataset = self.folder if self.folder is not None else ArrayDataset(self.images, self.labels)
        return DataLoader(dataset, batch_size, shuffle=shuffle, seed=seed, augment=_Convert(p, augment))


class _Convert:
    """Converts a batch of pixels before it is augmented."""

    def __init__(self, preprocessing: dict, augment):
        self.preprocessing, self.augment = preprocessing, augment

    def __call__(self, batch, rng):
        p = self.preprocessing
        batch = (to_float(batch[0], p["mean"], p["std"], p["pad"]), *batch[1:])
        return batch if self.augment is None else self.augment(batch, rng)


@dataclass
class Data:
    """``size`` (H, W) of the images and ``channels``; ``validation`` and ``test`` may be missing. Where the data are not
    ``parted``, all are in ``train``."""

    name: str
    train: Part
    validation: Part | None
    test: Part | None
    classes: list[str]
    size: tuple[int, int]
    channels: int
    parted: bool = True
    exif: bool = True  # image files are turned upright

    def in_memory(self) -> Data:
        """Images of folders read into memory, where there is room for them: each is then decoded once."""
        parts = {name: getattr(self, name) for name in ("train", "validation", "test")}
        folders = {name: part for name, part in parts.items() if part is not None and part.folder is not None}
        if sum(map(len, folders.values())) * self.size[0] * self.size[1] * self.channels > IN_MEMORY:
            return self
        read: dict[str, Any] = {name: _decoded(part, name) for name, part in folders.items()}
        return replace(self, **read)

    def fingerprint(self) -> list:
        """What tells these training data from others, without reading all pixels."""
        return [len(self.train), *self.size, self.channels, len(self.classes), zlib.crc32(self.train.labels.tobytes())]

    def split(self, share: float, seed: int) -> Data:
        """Holds out this share of each class's training images, drawn with the seed, for validation."""
        rng = np.random.Generator(np.random.Philox(key=np.array([seed, 2**63], np.uint64)))
        held = np.zeros(len(self.train), bool)
        for label in range(len(self.classes)):
            rows = np.flatnonzero(self.train.labels == label)
            count = min(max(1, round(share * len(rows))), len(rows) - 1)  # each class keeps one for the training
            if count > 0:
                held[rng.permutation(rows)[:count]] = True
        if not held.any():
            raise ValueError(f"{self.name!r}: no class has two images, of which one could be held out for validation")
        return replace(self, train=self.train.take(np.flatnonzero(~held)), validation=self.train.take(np.flatnonzero(held)))


def is_folder_of_images(path: str) -> bool:
    """Whether a directory is an image folder rather than one with IDX files."""
    return os.path.isdir(path) and not any("ubyte" in name for name in os.listdir(path))


def read(path: str | None, size: tuple[int, int], *, channels: int | None = None,
         classes: list[str] | None = None, exif: bool = True) -> Data:
    """Data from where ``--data`` points; None: the sample of MNIST.

    Image files are resized to ``size`` and become grey or RGB as ``channels`` says (None: as the training images are).
    Arrays stay as they are. ``classes``: those of a model, by the names of the folders. ``exif``: whether image files are
    turned upright.
    """
    if path is not None and not os.path.exists(path):
        raise FileNotFoundError(f"--data {path!r}: No such file or directory")
    if path is not None and is_folder_of_images(path):
        return _read_folder(path, size, channels, classes, exif)
    train_x, train_y, test_x, test_y = mnist_sample() if path is None else load_image_dataset(path)
    names = classes or [str(c) for c in range(int(train_y.max()) + 1)]
    top = max(int(train_y.max()), int(test_y.max()))
    if top >= len(names):
        raise ValueError(f"{path or 'the MNIST sample'}: label {top} must be below {len(names)}, the model's number of "
                         "classes")
    return Data(path or "the MNIST sample", Part(train_x, train_y), None, Part(test_x, test_y), names, train_x.shape[1:3],
                1 if train_x.ndim == 3 else train_x.shape[3])


def _read_folder(path: str, size, channels: int | None, classes: list[str] | None, exif: bool) -> Data:
    inside = set(class_folders(path))
    if not inside:
        raise ValueError(f"--data {path!r}: {FORMS}")
    parted = "train" in inside and (inside & set(HELD_OUT) or len(inside) == 1)
    train = ImageFolder(os.path.join(path, "train") if parted else path, 3, size, classes, exif)
    if channels is None:
        channels = _channels(train)
    train.channels = channels
    parts = {"train": train}
    for name in HELD_OUT:
        if parted and name in inside:
            parts[name] = ImageFolder(os.path.join(path, name), channels, size, train.classes, exif)
    found = {name: Part(None, folder.labels, folder) for name, folder in parts.items()}
    validation = found.get("val", found.get("validation"))
    return Data(path, found["train"], validation, found.get("test"), train.classes, size, channels, bool(parted), exif)


def _decoded(part: Part, name: str) -> Part:
    from fastconv.train.progress import progress

    with progress(range(len(part)), f"reading {name} images", leave=False) as rows:
        images = np.stack([part.folder[i][0] for i in rows])
    return Part(images, part.labels)


def _some(folder: ImageFolder) -> list[int]:
    """Places of at most LOOKED_AT images, evenly spaced."""
    return np.unique(np.linspace(0, len(folder) - 1, min(len(folder), LOOKED_AT)).astype(int)).tolist()


def _channels(folder: ImageFolder) -> int:
    """3 where one of the images that are looked at has colours, else 1; the files' headers say so."""
    for i in _some(folder):
        with open_image(folder.samples[i][0]) as picture:
            if has_colours(picture):
                return 3
    return 1


def preprocessing_of(data: Data, network: str, known: Recipe, input_size: tuple[int, int] | None) -> dict:
    """What images need before the network sees them: their statistics, and padding up to the input's size."""
    side = (known.size, known.size) if known.fixed else input_size or data.size
    height, width = data.size
    if height > side[0] or width > side[1] or (side[0] - height) % 2 or (side[1] - width) % 2:
        raise ValueError(f"{data.name!r}: images of {height}x{width}: {_takes(network, known, side)}")
    images = data.train.images
    if images is None:
        images = np.stack([data.train.folder[i][0] for i in _some(data.train.folder)])
    pixels = images.reshape(-1, data.channels)
    mean, std = (getattr(pixels, name)(axis=0, dtype="float64") / 255 for name in ("mean", "std"))
    if not std.all():
        raise ValueError(f"{data.name!r}: all pixels of the training images are equal")
    return {"mean": mean.round(6).tolist(), "std": std.round(6).tolist(), "size": [height, width],
            "pad": [(side[0] - height) // 2, (side[1] - width) // 2], "classes": data.classes,
            "apply_exif_orientation": data.exif}


def _takes(network: str, known: Recipe, side: tuple[int, int]) -> str:
    if known.fixed and network == "lenet5":
        return f"LeNet-5 takes even sizes up to {known.size}x{known.size}"
    return f"they are padded to an input of {side[0]}x{side[1]}, so must not be larger, and the difference must be even"
