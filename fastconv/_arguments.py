"""What arguments may be, and those that several commands share."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Mapping

from fastconv._text import printable

PRECISIONS = ("highest", "high", "medium")
MODEL = "a model file, or the name of a network of fastconv.zoo (with untrained weights)"


class UsageError(Exception):
    """An argument that does not fit: exit code 2."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line.

    ``fill(parser)`` adds its options when they are first needed, if making them takes long. Words that begin with none of
    the names in ``commands`` go to the parser ``otherwise``, if there is one; the help is this one's.
    """

    def __init__(self, *arguments, fill: Callable[[Parser], None] | None = None, **keywords):
        keywords.setdefault("allow_abbrev", False)
        super().__init__(*arguments, **keywords)
        self._fill = fill
        self.commands: Mapping[str, argparse.ArgumentParser] = {}
        self.otherwise: argparse.ArgumentParser | None = None

    def filled(self) -> Parser:
        fill, self._fill = self._fill, None
        if fill is not None:
            fill(self)
        return self

    def parse_known_args(self, args=None, namespace=None):
        self.filled()
        if self.otherwise is None:
            return super().parse_known_args(args, namespace)
        words = sys.argv[1:] if args is None else list(args)
        if words and words[0] in self.commands:
            return self.commands[words[0]].parse_known_args(words[1:], namespace)
        if "-h" in words or "--help" in words:
            self.print_help()
            self.exit()
        return self.otherwise.parse_known_args(words, namespace)

    def parse_args(self, args=None, namespace=None):
        words = sys.argv[1:] if args is None else list(args)
        namespace, unknown = self.parse_known_args(words, namespace)
        if unknown:
            self.whose(words).error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace

    def whose(self, words) -> argparse.ArgumentParser:
        """The parser of the command that the words name, whose help has their options."""
        for i, word in enumerate(words):
            for action in self._actions:
                if isinstance(action, argparse._SubParsersAction) and word in action.choices:
                    found = action.choices[word]
                    return found.whose(words[i + 1:]) if isinstance(found, Parser) else found
        return self

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {printable(message)} (see {self.prog} --help)\n")


def command(commands, name: str, run, help: str, *,
            threads: bool = True, precision: bool = True, tuned: bool = True):
    """A command's parser, with the options that (nearly) all have."""
    return shared(commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + "."), run, threads=threads,
                  precision=precision, tuned=tuned)


def shared(parser: argparse.ArgumentParser, run, *, threads: bool = True, precision: bool = True, tuned: bool = True):
    """Adds these options to a parser."""
    parser.set_defaults(run=run)
    if precision:
        parser.add_argument("--precision", choices=PRECISIONS, default="highest",
                            help="what convolutions promise, see the documentation of fastconv.compile (default highest)")
    if precision and tuned:
        parser.add_argument("--tuned", metavar="FILE", help="measured choices of algorithms, from fastconv tune")
    if threads:
        parser.add_argument("--threads", type=whole, metavar="N", help="results do not depend on it (default: "
                            "OMP_NUM_THREADS, else the processors that this process may use)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    return parser


def exif(parser, default: str) -> None:
    """Adds --exif and --no-exif: None where neither is given."""
    parser.add_argument("--exif", action=argparse.BooleanOptionalAction, help="turn photographs upright, as their EXIF "
                        f"orientation says (default: {default})")


def choices_of(path):
    """What ``--tuned FILE`` names, None where it is not given."""
    if path is None:
        return None
    from fastconv.lowering.choices import Choices

    return Choices.load(path)


def check_isa(name: str | None) -> None:
    """A UsageError where ``--isa`` names an instruction set that is not there."""
    from fastconv.kernels._runtime import isa_info

    available = isa_info()["available"]
    if name and name not in available:
        raise UsageError(f"--isa {name}: this machine and build have {', '.join(available)}")


def whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10 or not 1 <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} must be an integer of at least 1")
    return int(text)


def seed(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 20 or int(text) >= 2**64:
        raise argparse.ArgumentTypeError(f"{text!r} must be an integer from 0 to 2**64 - 1")
    return int(text)


def positive(text: str) -> float:
    value = _float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return value


def share(text: str) -> float:
    value = _float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number between 0 and 1")
    return value


def extent(text: str) -> tuple[int, int]:
    """``224`` or ``224x160``: height and width."""
    found = re.fullmatch(r"([1-9][0-9]{0,3})(?:x([1-9][0-9]{0,3}))?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} must be a size such as 224, or height and width such as 224x160, up to "
                                         "9999")
    return int(found[1]), int(found[2] or found[1])


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
