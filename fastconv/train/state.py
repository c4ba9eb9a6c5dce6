"""The state of a trainer as plain dicts and arrays, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastconv.train.metrics import MetricLog

if TYPE_CHECKING:
    from fastconv.train.trainer import Trainer

FORMAT = 1
KEYS = ("format", "model", "optimizer", "schedule", "loader", "epoch", "log")


def collect(trainer: Trainer) -> dict:
    """What :meth:`Trainer.state_dict` returns."""
    tape = trainer._tape
    buffers: dict[str, dict[str, np.ndarray]] = {}
    for name, parameter in trainer.module.named_parameters():
        found = {key: array.copy() for (owner, key), array in tape.state.items() if owner == id(parameter)}
        if found:
            buffers[name] = found
    loader = trainer._loader_state
    if loader is None and trainer._loader is not None:
        loader = trainer._loader.state_dict()
    return {
        "format": FORMAT,
        "model": trainer.module.state_dict(),
        "optimizer": {"rule": trainer.optimizer.state_dict(), "steps": tape.steps, "state": buffers},
        "schedule": None if trainer.schedule is None else trainer.schedule.state_dict(),
        "loader": loader,
        "epoch": trainer.epoch,
        "log": [dict(row) for row in trainer.log],
    }


def restore(trainer: Trainer, saved: dict) -> None:
    """What :meth:`Trainer.load_state_dict` does: all of it or nothing."""
    missing, unknown = [k for k in KEYS if k not in saved], [k for k in saved if k not in KEYS]
    if missing or unknown:
        raise ValueError(f"Trainer: state lacks {missing} and has unknown {unknown}")
    if saved["format"] != FORMAT:
        raise ValueError(f"Trainer: state has format {saved['format']!r}, this fastconv reads {FORMAT}")
    if (saved["schedule"] is None) != (trainer.schedule is None):
        raise ValueError("Trainer: only one of the state and this trainer has a schedule")
    _check_buffers(trainer, saved["optimizer"])
    before = collect(trainer)
    try:
        _write(trainer, saved)
    except BaseException:
        _write(trainer, before)
        raise


def _check_buffers(trainer: Trainer, optimizer: dict) -> None:
    parameters = dict(trainer.module.named_parameters())
    names = trainer.optimizer.state_names
    for name, buffers in optimizer["state"].items():
        if name not in parameters:
            raise ValueError(f"Trainer: state has buffers for {name!r}, which this network has no parameter for")
        for key, array in buffers.items():
            if key not in names:
                raise ValueError(f"Trainer: state has {key!r} for {name!r}, {type(trainer.optimizer).__name__} has "
                                 f"{', '.join(names) or 'no state'}")
            if np.shape(array) != parameters[name].shape:
                raise ValueError(f"Trainer: state has {key!r} of shape {np.shape(array)} for {name!r} of shape "
                                 f"{parameters[name].shape}")


def _write(trainer: Trainer, saved: dict) -> None:
    trainer.module.load_state_dict(saved["model"])
    trainer.optimizer.load_state_dict(saved["optimizer"]["rule"])
    if trainer.schedule is not None:
        trainer.schedule.load_state_dict(saved["schedule"])
    tape = trainer._tape
    for array in tape.state.values():  # in place: plans hold their addresses
        array[...] = 0
    for name, parameter in trainer.module.named_parameters():
        for key, array in saved["optimizer"]["state"].get(name, {}).items():
            tape.buffer(parameter, key)[...] = array
    tape.restart(int(saved["optimizer"]["steps"]))
    trainer.epoch = int(saved["epoch"])
    trainer.log = MetricLog(saved["log"])
    trainer._loader_state = saved["loader"]
