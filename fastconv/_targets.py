"""Where results go: checked before work begins."""

from __future__ import annotations

import os
import tempfile

from fastconv._arguments import UsageError


def target(option: str, folder: str, name: str) -> str:
    """The path of a file to write in an existing folder; a UsageError where that will not work."""
    if not os.path.isdir(folder):
        raise UsageError(f"{option} {folder!r}: " + ("not a folder" if os.path.exists(folder) else "no such folder"))
    _try(option, folder, folder)
    path = os.path.normpath(os.path.join(folder, name))
    if os.path.isdir(path):
        raise UsageError(f"{option} {folder!r}: {name} is a folder there")
    return path


def writable(option: str, path: str) -> None:
    """A UsageError where a file cannot be written."""
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path):
        raise UsageError(f"{option} {path!r}: it is a folder, not a file")
    if not os.path.isdir(folder):
        raise UsageError(f"{option} {path!r}: there is no folder {folder!r}")
    _try(option, path, folder)


def _try(option: str, shown: str, folder: str) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{option} {shown!r}: cannot write there ({error.strerror})") from error
