"""Images in files: one image, and a folder of them with a folder per class. Needs Pillow."""

import os

import numpy as np

from fastconv._atomic import open_regular
from fastconv._extra import require

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def read_image(path, channels=3, size=None):
    """Read an image file.

    Parameters
    ----------
    path : str or os.PathLike
        Any format that Pillow reads; of several frames the first. 16-bit grey is scaled to 8 bits.
    channels : {1, 3}, default 3
        Grey or RGB; what the file has is converted.
    size : (int, int), optional
        Height and width to which it is resized, bilinear with antialiasing, without keeping its proportions.

    Returns
    -------
    numpy.ndarray
        uint8, (H, W, channels).

    Raises
    ------
    OSError
        The file cannot be opened.
    ValueError
        Not an image, truncated, of more pixels than Pillow takes for safe, or of 32-bit pixels.
    ImportError
        Pillow is not installed.
    """
    image = require("PIL.Image", "reading an image")
    name = os.fsdecode(path)
    if channels not in (1, 3):
        raise ValueError(f"read_image: channels={channels!r} must be 1 or 3")
    if os.path.isdir(name):
        raise IsADirectoryError(f"read_image: {name!r} is a directory, not an image")
    with open_regular(name) as file:
        try:
            picture = image.open(file)
            if picture.mode.startswith("I;16"):  # Pillow's own conversion would cut values off at 255
                picture = image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            elif picture.mode in ("I", "F"):
                raise ValueError(f"pixels of mode {picture.mode!r}, 32 bits each: convert it to 8 bits")
            picture = picture.convert("L" if channels == 1 else "RGB")
        except (OSError, ValueError, SyntaxError, image.DecompressionBombError) as error:
            raise ValueError(f"{name!r} is not an image that can be read ({error})") from error
    if size is not None and picture.size != (size[1], size[0]):
        picture = picture.resize((size[1], size[0]), image.Resampling.BILINEAR)
    return np.asarray(picture, np.uint8).reshape(picture.height, picture.width, channels)


def list_images(folder):
    """Return the paths of all image files in a folder and the folders within it, sorted; known by their extensions."""
    found = []
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [os.path.join(where, name) for name in sorted(files)
                  if name.lower().endswith(EXTENSIONS) and not name.startswith(".")]
    return found


class ImageFolder:
    """A dataset of images in a folder per class, ``path/class/image.png``, as torchvision's of this name.

    Parameters
    ----------
    path : str or os.PathLike
    channels, size
        As for `read_image`.
    classes : sequence of str, optional
        The classes in their order, those of another folder or of a model; every folder must be among them. Where it is
        None: the folders' names, sorted.

    Attributes
    ----------
    classes : list of str
    samples : list of (str, int)
        Path and class of each image, class by class, sorted.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        No such folder.
    ValueError
        No folder in it, one without an image, or one that is not among `classes`.

    Notes
    -----
    ``dataset[i]`` reads an image when it is asked for: (uint8 (H, W, C), int). Equal sizes, which a batch needs, come with
    `size`. ``to_float`` makes a network's input of a batch.
    """

    def __init__(self, path, channels=3, size=None, classes=None):
        name = os.fsdecode(path)
        if channels not in (1, 3):
            raise ValueError(f"ImageFolder: channels={channels!r} must be 1 or 3")
        self.channels, self.size = channels, None if size is None else (int(size[0]), int(size[1]))
        with os.scandir(name) as entries:
            folders = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        if not folders:
            raise ValueError(f"ImageFolder: {name!r} has no folders: expected one for each class")
        self.classes = folders if classes is None else [str(c) for c in classes]
        number = {c: i for i, c in enumerate(self.classes)}
        self.samples = []
        for folder in folders:
            if folder not in number:
                raise ValueError(f"ImageFolder: {name!r} has a folder {folder!r}, which is none of the {len(number)} "
                                 "classes "
                                 f"({_few(self.classes)})")
            images = list_images(os.path.join(name, folder))
            if not images:
                raise ValueError(f"ImageFolder: {os.path.join(name, folder)!r} has no image ({', '.join(EXTENSIONS)})")
            self.samples += [(image, number[folder]) for image in images]
        self.samples.sort(key=lambda sample: sample[1])  # in the order of the given classes; stable

    @property
    def labels(self):
        """numpy.ndarray: int64, (N,): the class of each image."""
        return np.array([label for _, label in self.samples], np.int64)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        path, label = self.samples[index]
        return read_image(path, self.channels, self.size), label

    def subset(self, indices):
        """Return a dataset of these samples alone, in the order given."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.samples = [self.samples[i] for i in indices]
        return other


def _few(names):
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
