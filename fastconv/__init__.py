"""fastconv: a convolutional-network engine for CPUs, inference and training on NumPy arrays."""

from fastconv._version import __version__ as __version__
