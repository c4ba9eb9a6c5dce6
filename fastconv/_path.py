"""Which folder the package is imported from."""

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES


def _built(folder: str) -> bool:
    return any(os.path.exists(os.path.join(folder, "kernels", f"_runtime{suffix}")) for suffix in EXTENSION_SUFFIXES)


def package_path(path: list[str]) -> list[str]:
    """``path``, or the installed package's where this one is a working tree that was not built in place.

    Python started in the root of a working tree finds that tree's fastconv before the installed one.

    Raises
    ------
    ImportError
        Neither has compiled kernels.
    """
    here = os.path.realpath(path[0])
    if _built(here):
        return path
    for entry in sys.path:
        folder = os.path.realpath(os.path.join(entry or ".", "fastconv"))
        if folder != here and _built(folder):
            return [folder]
    raise ImportError(f"fastconv in {here} has no compiled kernels for this Python: install it with 'pip install .', or "
                      "build it in place with 'python setup.py build_ext --inplace'")
