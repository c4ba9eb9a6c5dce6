"""Text of others, shown safely, and lines on a stderr that may not be there."""

import contextlib
import sys

JOINERS = "\u200c\u200d"  # of letters in Persian and in Indian scripts, and of emoji: names have them


def printable(text):
    r"""Return `text` as one line that moves no cursor: what controls a terminal or turns text around is escaped.

    A file may name its classes as it likes. Control characters, newlines, surrogates (of undecodable file names) and
    characters without a shape, as those that change the direction of writing, become ``\x1b``, ``\u202e`` and so on;
    letters of all scripts, spaces of all widths and emoji stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in JOINERS or (c.isspace() and ord(c) >= 0xA0 and c not in "\x85\u2028\u2029")
                   else c.encode("unicode_escape").decode() for c in text)


def on_terminal(stream):
    """Whether a stream is a terminal: there may be none, it may be closed, and what stands in for one may not know."""
    try:
        return bool(stream.isatty())
    except (AttributeError, OSError, ValueError):
        return False


def note(line):
    """Print a line on stderr; where there is none that takes it, nobody is there to be told."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        if sys.stderr is not None:
            print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def lenient(stream):
    r"""While it lasts, what the encoding of `stream` lacks is written as ``\xe9`` or ``\u5b57`` and is no error."""
    before = getattr(stream, "errors", None)
    try:
        stream.reconfigure(errors="backslashreplace")
    except (AttributeError, OSError, ValueError):
        yield  # none, closed, or a stand-in
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            stream.reconfigure(errors=before)
