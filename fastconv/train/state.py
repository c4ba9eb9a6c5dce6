"""The state of a trainer as plain dicts and arrays, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastconv.graph.choices import Choices
from fastconv.train.metrics import MetricLog

if TYPE_CHECKING:
    from fastconv.train.trainer import Trainer

FORMAT = 1
KEYS = ("format", "model", "optimizer", "schedule", "loader", "epoch", "log", "meters", "accumulated",
        "choices")


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
    algorithm = trainer._options["algorithm"]
    return {
        "format": FORMAT,
        "model": trainer.module.state_dict(),
        "optimizer": {"rule": trainer.optimizer.state_dict(), "steps": tape.steps, "state": buffers},
        "schedule": None if trainer.schedule is None else trainer.schedule.state_dict(),
        "loader": loader,
        "epoch": trainer.epoch,
        "log": [dict(row) for row in trainer.log],
        "meters": None if trainer._running is None else trainer._running.state_dict(),
        "accumulated": {"steps": tape.accumulated, "sums": {
            name: tape.sum(parameter).copy() for name, parameter in trainer.module.named_parameters()
            if tape.accumulated and parameter.requires_grad}},
        "choices": algorithm.to_dict() if isinstance(algorithm, Choices) else None,
    }


def restore(trainer: Trainer, saved: dict) -> None:
    """What :meth:`Trainer.load_state_dict` does: all of it or nothing."""
    if not isinstance(saved, dict):
        raise TypeError(f"Trainer: state is a {type(saved).__name__}: expected a dict of state_dict()")
    missing, unknown = [k for k in KEYS if k not in saved], [k for k in saved if k not in KEYS]
    if missing or unknown:
        raise ValueError(f"Trainer: state lacks {missing} and has unknown {unknown}")
    if saved["format"] != FORMAT:
        raise ValueError(f"Trainer: state has format {saved['format']!r}, this fastconv reads {FORMAT}")
    if (saved["schedule"] is None) != (trainer.schedule is None):
        raise ValueError("Trainer: only one of the state and this trainer has a schedule")
    optimizer = saved["optimizer"]
    if not isinstance(optimizer, dict) or set(optimizer) != {"rule", "steps", "state"}:
        raise ValueError("Trainer: state's optimizer must be a dict of rule, steps and state")
    for name, value in (("epoch", saved["epoch"]), ("steps", optimizer["steps"])):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < 2**63:
            raise ValueError(f"Trainer: state has {name}={value!r}: expected an integer of at least 0")
    loader = saved["loader"]
    if loader is not None and (not isinstance(loader, dict) or set(loader) != {"seed", "epoch", "position"}):
        raise ValueError(f"Trainer: state has loader={loader!r}: expected None or a dict of seed, epoch and position")
    if not isinstance(saved["log"], (list, tuple)) or not all(isinstance(row, dict) for row in saved["log"]):
        raise ValueError("Trainer: state's log must be a list of dicts")
    if saved["choices"] is not None:
        Choices.from_dict(saved["choices"])
    _check_accumulated(trainer, saved["accumulated"])
    if saved["meters"] is not None:
        trainer._meters().load_state_dict(saved["meters"])
    _check_buffers(trainer, optimizer)
    before = collect(trainer)
    try:
        _write(trainer, saved)
    except BaseException:
        _write(trainer, before)
        raise


def _check_buffers(trainer: Trainer, optimizer: dict) -> None:
    parameters = dict(trainer.module.named_parameters())
    names = trainer.optimizer.state_names
    state = optimizer["state"]
    if not isinstance(state, dict) or not all(isinstance(buffers, dict) for buffers in state.values()):
        raise ValueError("Trainer: state's optimizer must have under state a dict of dicts, by parameter")
    for name, buffers in state.items():
        if name not in parameters:
            raise ValueError(f"Trainer: state has buffers for {name!r}, which this network has no parameter for")
        for key, array in buffers.items():
            if key not in names:
                raise ValueError(f"Trainer: state has {key!r} for {name!r}, {type(trainer.optimizer).__name__} has "
                                 f"{', '.join(names) or 'no state'}")
            if np.asarray(array).dtype.kind not in "fiu":
                raise TypeError(f"Trainer: state has {key!r} of dtype {np.asarray(array).dtype} for {name!r}: expected "
                                "float32")
            if np.shape(array) != parameters[name].shape:
                raise ValueError(f"Trainer: state has {key!r} of shape {np.shape(array)} for {name!r} of shape "
                                 f"{parameters[name].shape}")


def _check_accumulated(trainer: Trainer, accumulated: dict) -> None:
    parameters = dict(trainer.module.named_parameters())
    if not isinstance(accumulated, dict) or set(accumulated) != {"steps", "sums"}:
        raise ValueError("Trainer: state's accumulated must be a dict of steps and sums")
    steps = accumulated["steps"]
    if isinstance(steps, bool) or not isinstance(steps, int) or not 0 <= steps < trainer._tape.accumulate:
        raise ValueError(f"Trainer: state has {steps!r} accumulated steps, this trainer accumulate="
                         f"{trainer._tape.accumulate}")
    for name, array in accumulated["sums"].items():
        if name not in parameters or np.shape(array) != parameters[name].shape:
            raise ValueError(f"Trainer: state has accumulated gradients of shape {np.shape(array)} for {name!r}, which this "
                             "network has not")


def _write(trainer: Trainer, saved: dict) -> None:
    trainer.module.load_state_dict(saved["model"])
    trainer.optimizer.load_state_dict(saved["optimizer"]["rule"])
    if trainer.schedule is not None:
        trainer.schedule.load_state_dict(saved["schedule"])
    tape = trainer._tape
    for array in tape.state.values():  # in place: plans hold their addresses
        array[...] = 0
    parameters = dict(trainer.module.named_parameters())
    for name, parameter in parameters.items():
        for key, array in saved["optimizer"]["state"].get(name, {}).items():
            tape.buffer(parameter, key)[...] = array
    for name, array in saved["accumulated"]["sums"].items():
        tape.sum(parameters[name])[...] = array
    tape.restart(int(saved["optimizer"]["steps"]), saved["accumulated"]["steps"])
    trainer._running = None
    if saved["meters"] is not None:
        trainer._running = trainer._meters()
        trainer._running.load_state_dict(saved["meters"])
    trainer.epoch = int(saved["epoch"])
    trainer.log = MetricLog(saved["log"])
    trainer._loader_state = saved["loader"]
    if saved["choices"] is not None:
        trainer._use(Choices.from_dict(saved["choices"]))
