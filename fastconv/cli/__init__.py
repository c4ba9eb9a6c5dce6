"""The command line: ``fastconv COMMAND``, also ``python -m fastconv COMMAND``; one file per command.

Exit codes: 0 done; 1 bad data, model or file, a package that is missing, or a training that failed; 2 wrong usage;
130 interrupted (Ctrl-C); 143 terminated (SIGTERM). An error is one line on stderr, with --debug a traceback.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading

from fastconv.cli._arguments import Parser, UsageError

COMMANDS = ("train", "predict", "evaluate", "summary", "bench", "tune", "config")
PLAIN = (UsageError, ValueError, OSError, ImportError, FloatingPointError)  # whose message says it all


class Terminated(SystemExit):
    """SIGTERM."""


def main(argv=None) -> int:
    """Runs a command; returns its exit code. Files that were being written when a signal came are as they were before."""
    arguments = parser().parse_args(argv)
    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGTERM, _terminate)
    try:
        return _run(arguments)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    from fastconv._version import __version__

    top = Parser(prog="fastconv", description="Convolutional networks on CPUs: train them, use them, measure them.",
                 epilog=__doc__.split("\n\n")[1] + " 'fastconv COMMAND --help' lists the options of a command.")
    top.add_argument("--version", action="version", version=f"fastconv {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="command", parser_class=Parser)
    for name in COMMANDS:
        importlib.import_module(f"fastconv.cli.{name}").add(commands)
    return top


def _run(arguments) -> int:
    try:
        if getattr(arguments, "threads", None):
            from fastconv.kernels.threads import set_num_threads

            try:
                set_num_threads(arguments.threads)
            except ValueError as error:
                raise UsageError(f"--threads {arguments.threads}: {error}") from error
        arguments.run(arguments)
        sys.stdout.flush()
        return 0
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != 128 + signal.SIGTERM:
            raise
        what = "interrupted" if isinstance(stop, KeyboardInterrupt) else "terminated"
        print(f"fastconv {arguments.command}: {what}{getattr(stop, 'hint', '')}", file=sys.stderr)
        return 130 if isinstance(stop, KeyboardInterrupt) else 128 + signal.SIGTERM
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if arguments.debug:
            raise
        kind = "" if isinstance(error, PLAIN) else f"{type(error).__name__}: "
        text = " ".join(str(error).split()) or "no message; --debug shows where"
        print(f"fastconv {arguments.command}: error: {kind}{text}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _terminate(number, frame) -> None:
    raise Terminated(128 + number)
