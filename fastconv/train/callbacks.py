"""Callbacks of :meth:`fastconv.Trainer.fit`: stopping early, keeping the best network, writing the log.

Each is called with the trainer and the epoch's row after each epoch. They decide from the rows of the trainer's log since
``trainer.began``, which checkpoints keep, so that a resumed training decides as one that was never interrupted, and another
``fit`` begins anew.
"""

from __future__ import annotations

import logging
import math
import os
import weakref
from numbers import Real
from typing import Any

import numpy as np

from fastconv._atomic import check_writable
from fastconv._extra import require
from fastconv._values import shown
from fastconv.engine.options import check_count
from fastconv.train.curve import plot_curve

log = logging.getLogger("fastconv")


def _flag(who: str, name: str, value) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{who}: {name}={shown(value)}: expected True or False")
    return bool(value)


def _path(owner, path) -> str:
    try:
        return os.fsdecode(path)
    except TypeError:
        raise TypeError(f"{type(owner).__name__}: path is a {type(path).__name__}: expected str or os.PathLike") from None


class _Monitor:
    """What a callback watches: a column of the log, and which of two values is better."""

    def __init__(self, monitor: str, mode: str, min_delta: Any = 0.0):
        name = type(self).__name__
        if not isinstance(monitor, str):
            raise TypeError(f"{name}: monitor is a {type(monitor).__name__}: expected the name of a column of the log")
        if not isinstance(mode, str) or mode not in ("auto", "min", "max"):
            raise ValueError(f"{name}: mode={shown(mode)}: expected 'auto', 'min' or 'max'")
        if isinstance(min_delta, bool) or not isinstance(min_delta, Real) or not 0 <= float(min_delta) < math.inf:
            raise ValueError(f"{name}: min_delta={shown(min_delta)}: expected a number of at least 0")
        self.monitor, self.min_delta = monitor, float(min_delta)
        self.mode = mode if mode != "auto" else "min" if "loss" in monitor or "error" in monitor else "max"

    def best(self, rows, first: int = 0) -> int:
        """The number of the best row from ``first`` on; a value that is not a number is worse than all others."""
        where, best = first, None
        for number, row in enumerate(rows[first:], first):
            if self.monitor not in row:
                raise ValueError(f"{type(self).__name__}: monitor={self.monitor!r} is no column of the log, which has "
                                 f"{', '.join(row)}; val_ columns need validation=")
            value = row[self.monitor]
            if value is None or math.isnan(value):
                continue
            if best is None or (value < best - self.min_delta if self.mode == "min" else value > best + self.min_delta):
                where, best = number, value
        return where


class EarlyStopping(_Monitor):
    """Ends the training when a column of the log has not improved for so many epochs; as Keras's of this name.

    Parameters
    ----------
    monitor : str, default "val_loss"
    patience : int, default 5
        Epochs without improvement after which it stops.
    min_delta : float, default 0
        A smaller change is none.
    mode : {"auto", "min", "max"}, default "auto"
        Whether lower or higher is better; "auto": lower for names with loss or error.
    restore_best : bool, default False
        Gives the network the parameters of its best epoch when it stops, and when the epochs are over.
    """

    def __init__(self, monitor: str = "val_loss", patience: int = 5, min_delta: float = 0.0, mode: str = "auto",
                 restore_best: bool = False):
        super().__init__(monitor, mode, min_delta)
        check_count("EarlyStopping", "patience", patience)
        self.patience, self.restore_best = int(patience), _flag("EarlyStopping", "restore_best", restore_best)
        self._kept: tuple[int, dict, dict] | None = None  # number, row and network of the best epoch
        self._restored = False

    def __call__(self, trainer, row: dict) -> None:
        rows, first = list(trainer.log), getattr(trainer, "began", 0)
        best = self.best(rows, first)
        self._restored = False
        if self.restore_best and best == len(rows) - 1:
            self._kept = best, dict(rows[best]), trainer.module.state_dict()
        if len(rows) - 1 - best < self.patience:
            return
        trainer.stop()
        log.info("EarlyStopping: %s has not improved since epoch %s", self.monitor, rows[best].get("epoch", best + 1))
        self.on_fit_end(trainer)

    def on_fit_end(self, trainer) -> None:
        """Restores the best network, where that is wanted."""
        rows, first = list(trainer.log), getattr(trainer, "began", 0)
        if not self.restore_best or self._restored or len(rows) <= first:
            return
        best = self.best(rows, first)
        self._restored = True
        if self._kept is not None and self._kept[:2] == (best, rows[best]):
            if best < len(rows) - 1:
                trainer.module.load_state_dict(self._kept[2])
        elif best < len(rows) - 1:
            log.warning("EarlyStopping: the best epoch was before this training was resumed: its parameters are not here; "
                        "keep them with ModelCheckpoint")


class ModelCheckpoint(_Monitor):
    """Writes the network to a file when a column of the log is at its best; as Keras's of this name.

    Parameters
    ----------
    path : path
        What :func:`fastconv.load` reads. One object remembers its best over several calls of ``fit``; a new one begins with
        the ``fit`` that it is given to.
    monitor, mode
        As for :class:`EarlyStopping`.
    save_best_only : bool, default True
        False: after each epoch.
    """

    def __init__(self, path, monitor: str = "val_loss", mode: str = "auto", save_best_only: bool = True):
        super().__init__(monitor, mode)
        self.path, self.save_best_only = _path(self, path), _flag("ModelCheckpoint", "save_best_only", save_best_only)
        self._first: tuple[Any, int] | None = None  # of which trainer (a weak reference), from which row on

    def on_fit_begin(self, trainer) -> None:
        """What cannot be written is an error now, not after an epoch."""
        require("safetensors", "ModelCheckpoint")
        check_writable(self.path)

    def __call__(self, trainer, row: dict) -> None:
        rows = list(trainer.log)
        if self._first is None or self._first[0]() is not trainer or self._first[1] >= len(rows):
            self._first = weakref.ref(trainer), getattr(trainer, "began", 0)
        if not self.save_best_only or self.best(rows, self._first[1]) == len(rows) - 1:
            trainer.save(self.path)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_first": None}


class LogWriter:
    """Writes the log after each epoch, to a file whose name ends in ``.csv``, ``.json`` or ``.png`` (curves)."""

    def __init__(self, path):
        self.path = _path(self, path)
        self._kind = os.path.splitext(self.path)[1].lower()
        if self._kind not in (".csv", ".json", ".png"):
            raise ValueError(f"LogWriter: path={self.path!r} must end in .csv, .json or .png")

    def on_fit_begin(self, trainer) -> None:
        """What cannot be written is an error now, not after an epoch."""
        if self._kind == ".png":
            require("matplotlib", "LogWriter")
        check_writable(self.path)

    def __call__(self, trainer, row: dict) -> None:
        if self._kind == ".csv":
            trainer.log.to_csv(self.path)
        elif self._kind == ".json":
            trainer.log.to_json(self.path)
        else:
            plot_curve(trainer.log, self.path)
