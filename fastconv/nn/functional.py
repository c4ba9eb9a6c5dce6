"""The functions of :mod:`fastconv.functional`, where PyTorch has them."""

from fastconv.functional import *  # noqa: F403
from fastconv.functional import __all__ as __all__
