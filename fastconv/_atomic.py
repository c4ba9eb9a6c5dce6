"""Files that are written whole or not at all, and read only where they are files."""

import contextlib
import os
import re
import stat

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

_LEFT = re.compile(r"(\d{1,10})\.[0-9a-f]{8}\.tmp")


@contextlib.contextmanager
def write_atomic(path):
    """Open `path` for writing bytes, and let the new content appear at once or not at all.

    The bytes go to a temporary file in the same directory, which is flushed to the disk and renamed over `path` when
    the ``with`` block ends. When the block raises, the temporary file is removed and an existing `path` is as it was.
    A symbolic link is followed; the permissions of an existing file are kept. What processes that were killed had left
    beside it is removed.

    Parameters
    ----------
    path : str or os.PathLike
        Where the file shall be.

    Yields
    ------
    io.BufferedWriter
        The temporary file, open for writing in binary mode.

    Raises
    ------
    OSError
        With the fitting subclass: the directory does not exist or may not be written to, `path` is a directory, or is
        something else that is no regular file.

    Examples
    --------
    >>> with write_atomic("log.json") as file:
    ...     file.write(b"[]")
    """
    given = os.fsdecode(path)
    target = os.path.realpath(given)
    mode = _mode_of_existing(given, target)
    directory, name = os.path.split(target)
    # 40 characters of the name: a temporary name longer than the file system allows would fail where `path` would not.
    prefix = f".{name[:40]}."
    _remove_left(directory, prefix)
    temporary = os.path.join(directory, f"{prefix}{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        try:
            descriptor = _create(temporary)
        except OSError as error:
            reason = error.strerror
            raise OSError(error.errno, f"cannot write to directory {directory!r} ({reason})", given) from error
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                os.chmod(temporary, mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_directory(directory)


def _create(temporary):
    """Open a new file, locked for as long as it is being written: who is killed lets go of it."""
    while True:
        # os.open rather than tempfile.mkstemp: the umask decides about the permissions, as it does for open().
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
        if not _lock(descriptor):
            return descriptor
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(temporary), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)  # taken for one that was left behind, before it was locked


def _lock(descriptor):
    """Lock a file if nobody else has; whether that could be."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_left(directory, prefix):
    """Remove temporary files of processes that were killed: these do not run, and hold no lock."""
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            found = name.startswith(prefix) and _LEFT.fullmatch(name, len(prefix))
            if found and not _runs(int(found[1])):
                with contextlib.suppress(OSError):
                    _remove_unlocked(os.path.join(directory, name))


def _remove_unlocked(path):
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0))
    try:
        if _lock(descriptor):
            os.unlink(path)
    finally:
        os.close(descriptor)


def _runs(process):
    """Whether a process of this number runs."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _mode_of_existing(given, target):
    """Permissions of the file that will be replaced, None where there is none."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"cannot write {given!r}: it is a directory")
    if not stat.S_ISREG(mode):
        raise OSError(f"cannot write {given!r}: it is not a regular file")
    return stat.S_IMODE(mode)


def _sync_directory(directory):
    """Make the rename itself survive a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Abandoned(Exception):
    """Leaves a file as it was."""


def check_writable(path):
    """Raise what `write_atomic` would raise for this path, before the work whose result it shall hold."""
    with contextlib.suppress(_Abandoned), write_atomic(path):
        raise _Abandoned


def open_regular(path):
    """Open a file for reading bytes, which must be one: a pipe would never answer, and some devices never end.

    Raises
    ------
    OSError
        With the fitting subclass: there is no such file, it may not be read, it is a directory or no regular file.
    """
    name = os.fsdecode(path)
    mode = os.stat(name).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(f"cannot read {name!r}: it is not a regular file")
    return open(name, "rb")
