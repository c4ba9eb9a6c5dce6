"""Packages that fastconv uses where they are installed, and never imports by itself."""

import importlib


def require(module, purpose, extra="demo"):
    """Import `module`, or raise an ImportError that says what for and which extra of fastconv installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0].replace("PIL", "pillow")
        raise ImportError(f"{purpose} needs {package}: pip install 'fastconv[{extra}]' ({error})") from error
