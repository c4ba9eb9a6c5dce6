"""The command line: ``fastconv COMMAND``, also ``python -m fastconv COMMAND``; one file per command."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable

from fastconv._arguments import Parser, UsageError
from fastconv._text import lenient, note, printable
from fastconv.cli._completion import SHELLS, PrintCompletion

EXIT_CODES = """Exit codes: 0 done; 1 bad data, model or file, a package that is missing, or a training that failed; 2 wrong
usage; 130 interrupted (Ctrl-C); 143 terminated (SIGTERM); of bench --compare 1 for something slower, 2 for what cannot be
compared. An error is one line on stderr, with --debug a traceback."""
COMMANDS = ("train", "predict", "run", "evaluate", "summary", "convert", "bench", "profile", "tune", "config")
PLAIN = (UsageError, ValueError, OSError, ImportError, FloatingPointError, MemoryError)  # whose message says it all


class _Signals:
    """While a command runs, SIGTERM ends it as Ctrl-C does, with a KeyboardInterrupt: Python's compiler, which an import
    may be in, lets that one through and drops others.

    ``received`` is the signal that came, None while there is none: what raises after it is no error of the command, as an
    import that is interrupted may raise ImportError. Where the interpreter lets no exception through, in a finalizer or a
    callback of a weak reference, the signal is sent again.
    """

    def __init__(self):
        self.received: int | None = None
        self._before: dict = {}
        self._hook: Callable | None = None

    def __enter__(self) -> _Signals:
        global _heard
        _heard = self
        if threading.current_thread() is threading.main_thread():
            self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._stop)
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._stop)
            self._hook, sys.unraisablehook = sys.unraisablehook, self._ignored
        return self

    def __exit__(self, *exc) -> None:
        self.restore()

    def restore(self) -> None:
        """Once more is as good as once: a signal may come amid :meth:`__enter__`."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._hook is not None:
            sys.unraisablehook = self._hook

    def _ignored(self, what) -> None:
        if self.received is None or not issubclass(what.exc_type, KeyboardInterrupt):
            assert self._hook is not None
            return self._hook(what)
        threading.Timer(0.01, os.kill, (os.getpid(), self.received)).start()

    def _stop(self, number, frame) -> None:
        self.received = number
        raise KeyboardInterrupt


_heard: _Signals | None = None  # of the command that runs


def check_signals() -> None:
    """Raises once more for a signal whose exception was lost, as C code of an import may clear it; before long work."""
    if _heard is not None and _heard.received is not None:
        raise KeyboardInterrupt


def main(argv=None) -> int:
    """Runs a command; returns its exit code. Files that were being written when a signal came are as they were before."""
    signals = _Signals()
    try:
        with lenient(sys.stdout), signals:  # in this order: a signal within reconfigure() leaves a stream without encoder
            try:
                words = sys.argv[1:] if argv is None else list(argv)
                if not words:
                    parser().print_help()
                    return 0
                return _run(parser().parse_args(words, argparse.Namespace(words=words)), signals)
            except BrokenPipeError:
                return _unread()
            except Exception:  # of what was imported when a signal came, as in _run()
                if signals.received:
                    return _stopped("fastconv", signals.received)
                raise
    except KeyboardInterrupt:  # before it was known which command it is, or after its last word
        return _stopped("fastconv", signals.received or signal.SIGINT)
    finally:
        signals.restore()


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    from fastconv._version import __version__

    top = Parser(prog="fastconv", description="Convolutional networks on CPUs: train them, use them, measure them.",
                 epilog=EXIT_CODES + " 'fastconv COMMAND --help' lists the options of a command.")
    top.add_argument("--version", action="version", version=f"fastconv {__version__}")
    top.add_argument("--print-completion", choices=SHELLS, action=PrintCompletion, metavar="SHELL",
                     help="print a script with which the shell completes this command line: bash, zsh, tcsh or fish; needs "
                     "shtab")
    commands = top.add_subparsers(dest="command", required=True, metavar="command", parser_class=Parser)
    for name in COMMANDS:
        importlib.import_module(f"fastconv.cli.{name}").add(commands)
    return top


def _run(arguments, signals: _Signals) -> int:
    try:
        if isinstance(getattr(arguments, "threads", None), int):  # a list is for processes that a benchmark starts
            from fastconv.kernels.threads import set_num_threads

            try:
                set_num_threads(arguments.threads)
            except ValueError as error:
                raise UsageError(f"--threads {arguments.threads}: {error}") from error
        check_signals()
        code = arguments.run(arguments) or 0
        check_signals()
        if sys.stdout is not None:  # where there is none, print() did nothing
            sys.stdout.flush()
        return code
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != 128 + signal.SIGTERM:
            raise
        number = signal.SIGTERM if isinstance(stop, SystemExit) else signals.received or signal.SIGINT
        return _stopped(f"fastconv {arguments.command}", number, getattr(stop, "hint", ""))
    except BrokenPipeError:
        return _unread()
    except Exception as error:
        if signals.received:
            return _stopped(f"fastconv {arguments.command}", signals.received)
        if arguments.debug:
            raise
        kind = "" if isinstance(error, PLAIN) else f"{type(error).__name__}: "
        text = printable(" ".join(str(error).split()))
        text = text or ("out of memory" if isinstance(error, MemoryError) else "no message; --debug shows where")
        note(f"fastconv {arguments.command}: error: {kind}{text}")
        return 2 if isinstance(error, UsageError) else 1


def _unread() -> int:
    """Whoever read our output has had enough: what is still buffered goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _stopped(who: str, number: int, hint: str = "") -> int:
    note(f"{who}: {'interrupted' if number == signal.SIGINT else 'terminated'}{hint}")
    return 128 + number
