"""Datasets, batches and the files they come from. Imports nothing of fastconv but itself."""

from .augment import RandomShift
from .dataset import ArrayDataset
from .idx import load_idx, save_idx
from .images import load_image_dataset, load_npz, mnist_sample, to_float
from .loader import DataLoader, default_collate

__all__ = [
    "ArrayDataset",
    "DataLoader",
    "RandomShift",
    "default_collate",
    "load_idx",
    "load_image_dataset",
    "load_npz",
    "mnist_sample",
    "save_idx",
    "to_float",
]
