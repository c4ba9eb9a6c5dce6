"""A folder of images with a folder per class. Needs Pillow."""

import os

import numpy as np

from fastconv._text import printable
from fastconv.data.image_file import EXTENSIONS, check_channels, check_flag, read_image


def list_images(folder):
    """Return the paths of all image files in a folder and the folders within it, sorted; known by their extensions.

    Linked folders are followed; one that has been met before, as a link to a folder above, is not entered again.

    Raises
    ------
    OSError
        A folder that may not be read, or a link that leads nowhere: nothing vanishes in silence.
    """
    found = []
    met = {_identity(folder)}

    def fail(error):
        raise error

    for where, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        entered = []
        for name in sorted(name for name in folders if not name.startswith(".")):
            identity = _identity(os.path.join(where, name))
            if identity not in met:
                met.add(identity)
                entered.append(name)
        folders[:] = entered
        for name in sorted(name for name in files if not name.startswith(".")):
            path, ending = os.path.join(where, name), os.path.splitext(name)[1].lower()
            if ending in EXTENSIONS or not ending:
                check_link(path)
            if ending in EXTENSIONS:
                found.append(path)
    return found


def check_link(path):
    """A FileNotFoundError where a symbolic link leads nowhere, or to itself."""
    if os.path.islink(path) and not os.path.exists(path):
        raise FileNotFoundError(f"{path!r} is a link to {os.readlink(path)!r}, which is not there")


def _identity(path):
    status = os.stat(path)
    return status.st_dev, status.st_ino


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
    apply_exif_orientation : bool, default True
        As for `read_image`.

    Attributes
    ----------
    classes : list of str
    samples : list of (str, int)
        Path and class of each image, class by class, sorted.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        No such folder.
    OSError
        A folder that may not be read, or a link that leads nowhere.
    ValueError
        No folder in it, one without an image, or one that is not among `classes`.

    Notes
    -----
    ``dataset[i]`` reads an image when it is asked for: (uint8 (H, W, C), int). Equal sizes, which a batch needs, come with
    `size`. ``to_float`` makes a network's input of a batch. Linked folders are followed.
    """

    def __init__(self, path, channels=3, size=None, classes=None, apply_exif_orientation=True):
        name = os.fsdecode(path)
        check_channels("ImageFolder", channels)
        check_flag("ImageFolder", "apply_exif_orientation", apply_exif_orientation)
        self.channels, self.size = channels, None if size is None else (int(size[0]), int(size[1]))
        self.apply_exif_orientation = bool(apply_exif_orientation)
        folders = class_folders(name)
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
        return read_image(path, self.channels, self.size, self.apply_exif_orientation), label

    def subset(self, indices):
        """Return a dataset of these samples alone, in the order given."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.samples = [self.samples[i] for i in indices]
        return other


def class_folders(path):
    """Return the names of the folders in a folder, sorted: the classes."""
    with os.scandir(path) as entries:
        found = [entry.name for entry in entries if not entry.name.startswith(".")]
    for name in found:
        check_link(os.path.join(path, name))
    return sorted(name for name in found if os.path.isdir(os.path.join(path, name)))


def _few(names):
    return ", ".join(map(printable, names[:8])) + (", ..." if len(names) > 8 else "")
