"""What people do with pictures around a network."""

from fastconv.vision import filters

__all__ = ["filters"]
