"""Datasets, batches and the files they come from. Imports nothing of fastconv but itself."""

from .augment import RandomHorizontalFlip, RandomShift
from .dataset import ArrayDataset
from .folder import ImageFolder
from .idx import load_idx, save_idx
from .image_file import read_image
from .images import load_image_dataset, load_npz, mnist_sample, to_float
from .loader import DataLoader, default_collate

__all__ = [
    "ArrayDataset",
    "DataLoader",
    "ImageFolder",
    "RandomHorizontalFlip",
    "RandomShift",
    "default_collate",
    "load_idx",
    "load_image_dataset",
    "load_npz",
    "mnist_sample",
    "read_image",
    "save_idx",
    "to_float",
]
