"""Checkpoints: all that a training goes on from, bit for bit, in one file that is written whole or not at all."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING

import numpy as np

from fastconv.graph import random
from fastconv.train.files import load_metadata, load_model, save_model

if TYPE_CHECKING:
    from fastconv.train.trainer import Trainer

KEY, NOTES = "checkpoint", "notes"
WAITING = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger("fastconv")


class Terminated(SystemExit):
    """SIGTERM came while :meth:`fastconv.Trainer.fit` was writing checkpoints; the last one is complete. Exit code 143."""


def save_checkpoint(trainer: Trainer, path) -> None:
    """Writes a trainer's state and the random generator's; see :meth:`fastconv.Trainer.save_checkpoint`."""
    state = trainer.state_dict()
    arrays = {f"model/{name}": array for name, array in state.pop("model").items()}
    for name, buffers in state["optimizer"].pop("state").items():
        arrays.update({f"optimizer/{key}/{name}": array for key, array in buffers.items()})
    arrays.update({f"accumulated/{name}": array for name, array in state["accumulated"].pop("sums").items()})
    arrays.update({f"kept/{name}": array for name, array in trainer.kept.items()})
    average = state.pop("average")
    if average is not None:
        arrays.update({f"average/{name}": array for name, array in average.items()})
    metadata = {KEY: json.dumps({**state, "random": random.get_state()}, default=_number)}
    if trainer.notes:
        metadata[NOTES] = json.dumps(trainer.notes, default=_number)
    save_model(path, arrays, metadata)


def load_checkpoint(trainer: Trainer, path) -> None:
    """Takes over what :func:`save_checkpoint` wrote, all of it or nothing."""
    name = os.fsdecode(path)
    arrays, metadata = load_model(path)
    if KEY not in metadata:
        raise ValueError(f"load_checkpoint {name!r}: it is a model file, not a checkpoint of a training")
    kept = {}
    try:
        state = json.loads(metadata[KEY])
        generator = state.pop("random")
        state["model"], state["optimizer"]["state"], state["accumulated"]["sums"] = {}, {}, {}
        for key, array in arrays.items():
            kind, _, rest = key.partition("/")
            if kind == "model":
                state["model"][rest] = array
            elif kind == "accumulated":
                state["accumulated"]["sums"][rest] = array
            elif kind == "kept":
                kept[rest] = array
            elif kind == "average":
                state.setdefault("average", {})[rest] = array
            else:
                buffer, _, parameter = rest.partition("/")
                state["optimizer"]["state"].setdefault(parameter, {})[buffer] = array
        random.check_state(generator)
        trainer.load_state_dict(state)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"load_checkpoint {name!r}: {error}") from error
    random.set_state(generator)
    trainer.kept = kept


def read_notes(path) -> dict:
    """The ``notes`` of the trainer that wrote a checkpoint; its arrays are not read.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not a checkpoint.
    """
    metadata = load_metadata(path)
    if KEY not in metadata:
        raise ValueError(f"load_checkpoint {os.fsdecode(path)!r}: it is a model file, not a checkpoint of a training")
    try:
        notes = json.loads(metadata.get(NOTES, "{}"))
    except (ValueError, TypeError) as error:
        raise ValueError(f"load_checkpoint {os.fsdecode(path)!r}: its notes are malformed ({error})") from error
    return notes if isinstance(notes, dict) else {}


def _number(value):
    """NumPy's scalars and arrays as Python's numbers and lists."""
    if not isinstance(value, (np.generic, np.ndarray)):
        raise TypeError(f"save_checkpoint: log, notes or schedule hold a {type(value).__name__}, which is not JSON")
    return value.tolist()


class Saver:
    """Writes the checkpoints of a training, where there is a path for them.

    SIGINT and SIGTERM then wait for the end of the step under way, so that a checkpoint is of a whole number of steps; a
    second SIGINT is delivered at once. Whatever ends the training, a signal that waits is delivered then; one that comes
    after it finds the handlers of before. Outside the main thread, where Python delivers no signals, that changes nothing.
    """

    def __init__(self, trainer: Trainer, path, every: int | None):
        self.trainer, self.path, self.every = trainer, path, every
        self.steps = 0
        self.received: int | None = None
        self._raised = False  # by a second SIGINT; once, so that it cannot come amid its own consequences
        self._delivered: int | None = None
        self._before: dict = {}
        self._frame: FrameType | None = None  # of whoever has entered

    def __enter__(self) -> Saver:
        if self.path is not None:
            if threading.current_thread() is threading.main_thread():
                self._frame = sys._getframe(1)
                self._before = {number: signal.getsignal(number) for number in WAITING}
                for number in WAITING:
                    signal.signal(number, self._note)
            try:
                self.trainer.save_checkpoint(self.path)  # what cannot be written is an error now, not after an epoch
            except BaseException as error:
                self._leave(error)
                raise
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        self.restore()
        if self.received is not None and self.received != self._delivered:
            if error is not None and not isinstance(error, KeyboardInterrupt):
                log.error("Trainer.fit: %s: %s; then ended by signal %d, which had come before", type(error).__name__, error,
                          self.received)
            raise self._stop() from error

    def restore(self) -> None:
        """Gives the signals back; once more is as good as once."""
        for number, handler in self._before.items():  # SIGINT last: only its handler raises, and then all is done
            if signal.getsignal(number) == self._note:
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._frame = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        while frame is not None and frame is not self._frame:
            frame = frame.f_back
        if frame is None:  # the training is over, but something came amid restore()
            self.restore()
            os.kill(os.getpid(), number)
        elif number == signal.SIGTERM or self.received is None:
            self.received = number
        elif not self._raised:
            self._raised = True
            if self.received == number:
                self._delivered = number
            raise KeyboardInterrupt

    def _stop(self) -> BaseException:
        self._delivered = self.received
        return KeyboardInterrupt() if self.received == signal.SIGINT else Terminated(128 + signal.SIGTERM)

    def after_step(self) -> None:
        self.steps += 1
        if self.received or (self.every and self.steps % self.every == 0):
            self.after_epoch()

    def after_epoch(self) -> None:
        """Writes, then raises what came meanwhile: KeyboardInterrupt or :class:`Terminated`."""
        if self.path is None:
            return
        self.trainer.save_checkpoint(self.path)
        if self.received is not None:
            raise self._stop()
