"""Submodules written in Cython have no stubs."""
from typing import Any

def __getattr__(name: str) -> Any: ...
