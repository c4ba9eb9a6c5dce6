"""Packages that fastconv uses where they are installed, and never imports by itself."""

import importlib
from collections.abc import Iterable

NAMES = {"PIL": "pillow", "sklearn": "scikit-learn"}  # where a package is imported by another one


def how(packages: Iterable[str], extra: str) -> str:
    """How to install them: by their own names, which works however fastconv came here, or with its source tree's extra."""
    return f"pip install {' '.join(packages)} (in fastconv's source tree: pip install '.[{extra}]')"


def require(module, purpose, extra="demo"):
    """Import `module`, or raise an ImportError that says what for and how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        package = NAMES.get(package, package)
        raise ImportError(f"{purpose} needs {package}: {how([package], extra)}: {error}") from error
