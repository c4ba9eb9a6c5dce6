"""Labelled images from files, and what turns them into a network's input."""

import errno
import importlib.resources
import math
import os
import struct
import zipfile
import zlib

import numpy as np

from fastconv._arrays import refuse_masked
from fastconv._atomic import open_regular
from fastconv._text import printable
from fastconv._values import shown

from .idx import load_idx

_NPZ_KEYS = (
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
)
# What zipfile and zlib raise for files that are no archive, or a damaged one.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, LookupError, OSError, RuntimeError)
_IDX_PARTS = (("train-images", "idx3"), ("train-labels", "idx1"), ("t10k-images", "idx3"), ("t10k-labels", "idx1"))


def load_image_dataset(path, classes=None):
    """Read training and test images with their labels.

    Parameters
    ----------
    path : str or os.PathLike
        A directory with the four IDX files of MNIST under their usual names (``train-images-idx3-ubyte`` or
        ``train-images.idx3-ubyte`` and so on, with ``.gz`` or without), or an ``.npz`` file as for `load_npz`.
    classes : int, optional
        Labels must be below it; where it is None, the labels of the test set must be among the range of the training
        set's.

    Returns
    -------
    train_x, train_y, test_x, test_y : numpy.ndarray
        Images: uint8, (N, H, W) or (N, H, W, C). Labels: int64, (N,), from 0.

    Raises
    ------
    FileNotFoundError
        `path` does not exist, or a file is missing in the directory: which names were looked for.
    ValueError
        A malformed file, or images and labels that do not belong together.
    """
    name = os.fsdecode(path)
    if not os.path.isdir(name):
        return load_npz(name, classes)
    return _check_dataset(name, [load_idx(_find(name, *part)) for part in _IDX_PARTS], classes)


def load_npz(path, classes=None):
    """Read training and test images with their labels from an ``.npz`` file.

    Parameters
    ----------
    path : str or os.PathLike
        The file, with the arrays ``train_images, train_labels, test_images, test_labels`` or
        ``x_train, y_train, x_test, y_test``; others are not read. Pickled objects are refused.
    classes : int, optional
        As for `load_image_dataset`.

    Returns
    -------
    train_x, train_y, test_x, test_y : numpy.ndarray
        Images: uint8, (N, H, W) or (N, H, W, C). Labels: int64, (N,), from 0.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Truncated or damaged, not an npz, arrays missing, or images and labels that do not belong together.
    """
    name = os.fsdecode(path)
    with open_regular(name) as file:
        try:
            arrays = _read_npz(file)
        except ValueError as error:
            raise ValueError(f"load_npz {name!r}: {error}") from error
        except _ZIP_ERRORS as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise  # the disk's error and not the file's; EINVAL is a seek to where a damaged directory points
            raise ValueError(f"load_npz {name!r}: not an npz file, or truncated or damaged ({error})") from error
    return _check_dataset(name, arrays, classes)


def mnist_sample():
    """Read the sample of MNIST that comes with fastconv: 1,000 training and 200 test images of each digit.

    Returns
    -------
    train_x, train_y, test_x, test_y : numpy.ndarray
        uint8 (10000, 28, 28), int64 (10000,), uint8 (2000, 28, 28), int64 (2000,).

    Notes
    -----
    MNIST: Yann LeCun and Corinna Cortes, CC BY-SA 3.0. How it was cut is said in ``data/samples/README.md``.
    """
    sample = importlib.resources.files("fastconv.data") / "samples" / "mnist_sample.npz"
    with importlib.resources.as_file(sample) as path:
        return load_npz(path, classes=10)


def to_float(images, mean=0.0, std=1.0, pad=0):
    """Turn 8-bit images into a network's input: scaled to [0, 1], padded with black, and normalised.

    Parameters
    ----------
    images : array_like of uint8
        (N, H, W) or (N, H, W, C).
    mean, std : float or sequence of C floats, default 0 and 1
        The output is ``(images / 255 - mean) / std``, rounded once from float64. `std` must be above 0.
    pad : int or (int, int), default 0
        Black pixels to add on each side: rows above and below, columns left and right. LeNet-5 wants 32x32 and so
        ``pad=2`` for MNIST.

    Returns
    -------
    numpy.ndarray
        float32, C-contiguous, (N, C, H + 2 pad, W + 2 pad), with C = 1 for (N, H, W).

    Raises
    ------
    TypeError
        `images` is not uint8.
    ValueError
        A wrong number of dimensions, or `mean`, `std`, `pad` outside their rules.
    """
    refuse_masked("to_float", "images", images)
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"to_float: images must be uint8, got {images.dtype}")
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4:
        raise ValueError(f"to_float: images must be (N, H, W) or (N, H, W, C), got shape {images.shape}")
    count, height, width, channels = images.shape
    mean = _per_channel("mean", mean, channels)
    std = _per_channel("std", std, channels)
    if not (std > 0).all():
        raise ValueError(f"to_float: std={std.tolist()} must be above 0")
    rows, columns = _padding(pad)
    out = np.empty((count, channels, height + 2 * rows, width + 2 * columns), dtype=np.float32)
    for channel in range(channels):
        table = ((np.arange(256) / 255 - mean[channel]) / std[channel]).astype(np.float32)
        plane = out[:, channel]
        if rows or columns:
            plane[...] = table[0]
        inner = plane[:, rows : rows + height, columns : columns + width]
        for start in range(0, count, 256):  # in pieces, so that what the look-up makes stays in the cache
            inner[start : start + 256] = table[images[start : start + 256, :, :, channel]]
    return out


def _find(directory, part, kind):
    names = [f"{part}{mark}{kind}-ubyte{ending}" for ending in ("", ".gz") for mark in "-."]
    for name in names:
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            return path
    raise FileNotFoundError(f"load_image_dataset: {directory!r} has none of {', '.join(names)}")


def _read_npz(file):
    with zipfile.ZipFile(file) as archive:
        members = set(archive.namelist())
        for keys in _NPZ_KEYS:
            if {f"{key}.npy" for key in keys} <= members:
                return [_read_member(archive, f"{key}.npy") for key in keys]
    raise ValueError(
        f"needs the arrays {' or '.join(', '.join(keys) for keys in _NPZ_KEYS)}; "
        f"it has {', '.join(sorted(printable(member.removesuffix('.npy')) for member in members)) or 'none'}"
    )


def _read_member(archive, member):
    """Read one array, its header held against the archive's directory before anything is allocated."""
    entry = archive.getinfo(member)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member} is compressed by method {entry.compress_type}, which NumPy does not write")
    with archive.open(member) as file:
        try:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            elif version == (2, 0):
                shape, _, dtype = np.lib.format.read_array_header_2_0(file)
            else:
                raise ValueError(f"unknown npy format version {version}")
        except ValueError as error:
            raise ValueError(f"{member} is not an array ({error})") from error
        if dtype.hasobject:
            raise ValueError(f"{member} holds pickled Python objects, which are not loaded")
        needed, present = math.prod(shape) * dtype.itemsize, entry.file_size - file.tell()
        if needed != present:
            raise ValueError(f"{member} has shape {shape}, {needed} bytes, but holds {present}")
    with archive.open(member) as file:
        try:
            return np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{member} is truncated or damaged ({error})") from error


def _check_dataset(name, arrays, classes):
    if classes is not None and (not isinstance(classes, (int, np.integer)) or classes < 1):
        raise ValueError(f"classes={shown(classes)} must be an int of at least 1, or None")
    train_x, train_y, test_x, test_y = arrays
    train_x, train_y = _check_part(name, "training", train_x, train_y)
    test_x, test_y = _check_part(name, "test", test_x, test_y)
    if train_x.shape[1:] != test_x.shape[1:]:
        raise ValueError(
            f"{name!r}: training images have shape {train_x.shape[1:]} but test images have {test_x.shape[1:]}"
        )
    limit = int(train_y.max()) + 1 if classes is None else classes
    for part, labels in (("training", train_y), ("test", test_y)):
        if labels.max() >= limit:
            rule = "the number of classes" if classes is not None else "what the training labels make the classes"
            raise ValueError(f"{name!r}: {part} label {labels.max()} must be below {limit}, {rule}")
    return train_x, train_y, test_x, test_y


def _check_part(name, part, images, labels):
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(
            f"{name!r}: {part} images must be uint8 of shape (N, H, W) or (N, H, W, C) and not empty, "
            f"got {images.dtype} of shape {images.shape}"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:  # as CIFAR-10 is often stored
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise ValueError(
            f"{name!r}: {part} labels must be integers of shape (N,), got {labels.dtype} of shape {labels.shape}"
        )
    if len(images) != len(labels):
        raise ValueError(f"{name!r}: {len(images)} {part} images but {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= 2**31:
        raise ValueError(f"{name!r}: {part} labels go from {labels.min()} to {labels.max()}, must be in 0..2**31 - 1")
    return np.ascontiguousarray(images), labels.astype(np.int64)


def _per_channel(name, value, channels):
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"to_float: {name}={shown(value)} must be a number or one for each of {channels}") from None
    if numbers.ndim > 1 or (numbers.ndim == 1 and len(numbers) != channels):
        raise ValueError(f"to_float: {name} has shape {numbers.shape}, must be a number or one for each of {channels}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"to_float: {name}={numbers.tolist()} must be finite")
    return np.broadcast_to(numbers, (channels,))


def _padding(pad):
    sides = tuple(pad) if isinstance(pad, (tuple, list)) else (pad, pad)
    if len(sides) != 2 or not all(
        isinstance(side, (int, np.integer)) and not isinstance(side, bool) and side >= 0 for side in sides
    ):
        raise ValueError(f"to_float: pad={shown(pad)} must be an int of at least 0, or two of them")
    if max(sides) >= 2**15:
        raise ValueError(f"to_float: pad={shown(pad)} must be below {2**15}")
    return sides
