"""Where the C++ headers are."""

from pathlib import Path


def get_include() -> str:
    """The folder to compile with (``-I``) for ``#include <fastconv/...>``: floor 0, usable without Python."""
    package = Path(__file__).resolve().parent
    installed = package / "include"
    return str(installed if installed.is_dir() else package.parent / "include")
