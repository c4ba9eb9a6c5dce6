"""The state of a trainer as plain dicts and arrays, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastconv._values import shown
from fastconv.data.loader import check_state
from fastconv.lowering.choices import Choices
from fastconv.train.metrics import MetricLog

if TYPE_CHECKING:
    from fastconv.train.trainer import Trainer

FORMAT = 2  # 1 had no counts (all parameters had been updated equally often) and no began (every row counted)
KEYS = ("format", "model", "optimizer", "schedule", "loader", "epoch", "log", "began", "meters", "accumulated",
        "choices", "average")
OWN = ("_loader_state", "_resumed", "_last", "_running", "log")  # what a state does not tell apart


def collect(trainer: Trainer) -> dict:
    """What :meth:`Trainer.state_dict` returns."""
    tape = trainer._tape
    learnt = {name: tape.learnt[parameter] for name, parameter in trainer.module.named_parameters()
              if parameter in tape.learnt}
    buffers = {name: {key: array.copy() for key, array in known.buffers.items()} for name, known in learnt.items()
               if known.hyper.begun and known.buffers}
    loader = trainer._loader_state
    if loader is None and trainer._reader is not None:
        loader = trainer._reader.state_dict()
    algorithm = trainer._options["algorithm"]
    under_way = trainer._resumed is None and trainer.epoch < trainer._last and not trainer._stopped
    return {
        "format": FORMAT,
        "model": trainer.module.state_dict(),
        "optimizer": {"rule": trainer.optimizer.options_dict(), "steps": tape.steps, "state": buffers,
                      "counts": {name: known.hyper.steps for name, known in learnt.items() if known.hyper.steps}},
        "schedule": None if trainer.schedule is None else trainer.schedule.state_dict(),
        "loader": loader,
        "epoch": trainer.epoch,
        "log": [dict(row) for row in trainer.log],
        "began": trainer.began if under_way else trainer._resumed,
        "meters": None if trainer._running is None else trainer._running.state_dict(),
        "accumulated": {"steps": tape.accumulated, "sums": {
            name: known.total.copy() for name, known in learnt.items() if known.waiting}},
        "choices": algorithm.to_dict() if isinstance(algorithm, Choices) else None,
        "average": None if trainer.average is None else trainer.average.state_dict(),
    }


def restore(trainer: Trainer, saved: dict) -> None:
    """What :meth:`Trainer.load_state_dict` does: all of it or nothing."""
    try:
        _restore(trainer, saved)
    except OverflowError as error:
        raise ValueError(f"Trainer: state has a number out of range ({error})") from error


def _restore(trainer: Trainer, saved: dict) -> None:
    if not isinstance(saved, dict):
        raise TypeError(f"Trainer: state is a {type(saved).__name__}: expected a dict of state_dict()")
    if saved.get("format") == 1 and "began" not in saved:
        saved = {**saved, "began": 0}
    saved = {"average": None, **saved}  # as of before there were any
    missing, unknown = [k for k in KEYS if k not in saved], [k for k in saved if k not in KEYS]
    if missing or unknown:
        raise ValueError(f"Trainer: state lacks {missing} and has unknown {unknown}")
    if isinstance(saved["format"], bool) or saved["format"] not in (1, FORMAT):
        raise ValueError(f"Trainer: state has format {saved['format']!r}, this fastconv reads 1 to {FORMAT}")
    if (saved["schedule"] is None) != (trainer.schedule is None):
        raise ValueError("Trainer: only one of the state and this trainer has a schedule")
    if (saved["average"] is None) != (trainer.average is None):
        raise ValueError("Trainer: only one of the state and this trainer has an average")
    optimizer, keys = saved["optimizer"], {"rule", "steps", "state"} | ({"counts"} if saved["format"] == FORMAT else set())
    if not isinstance(optimizer, dict) or set(optimizer) != keys:
        raise ValueError("Trainer: state's optimizer must be a dict of rule, steps, counts and state")
    _whole("epoch", saved["epoch"])
    _whole("steps", optimizer["steps"])
    if saved["loader"] is not None:
        if not isinstance(saved["loader"], dict):
            raise ValueError(f"Trainer: state has loader={shown(saved['loader'])}: expected None or a dict of seed, epoch "
                             "and position")
        check_state(saved["loader"])
    _check_log(saved["log"])
    if saved["began"] is not None:
        _whole("began", saved["began"])
    if saved["choices"] is not None:
        Choices.from_dict(saved["choices"])
    _check_accumulated(trainer, saved["accumulated"])
    if saved["meters"] is not None:
        trainer._meters().load_state_dict(saved["meters"])
    _check_buffers(trainer, optimizer)
    before, own = collect(trainer), {name: getattr(trainer, name) for name in OWN}
    try:
        _write(trainer, saved)
    except BaseException:
        _write(trainer, before)
        for name, value in own.items():
            setattr(trainer, name, value)
        raise


def _whole(name: str, value, high: int = 2**63) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < high:
        raise ValueError(f"Trainer: state has {name}={shown(value)}: expected an integer from 0 to {high - 1}")


def _check_log(rows) -> None:
    if not isinstance(rows, (list, tuple)) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("Trainer: state's log must be a list of dicts")
    for name, value in ((name, value) for row in rows for name, value in row.items()):
        if isinstance(value, int) and not -2**63 <= value < 2**63:
            raise ValueError(f"Trainer: state's log has {name}={shown(value)}: expected an integer of 64 bits")
    MetricLog(rows)


def _check_buffers(trainer: Trainer, optimizer: dict) -> None:
    parameters = dict(trainer.module.named_parameters())
    names = trainer.optimizer.buffer_names
    state, counts = optimizer["state"], optimizer.get("counts", {})
    if not isinstance(state, dict) or not all(isinstance(buffers, dict) for buffers in state.values()):
        raise ValueError("Trainer: state's optimizer must have under state a dict of dicts, by parameter")
    if not isinstance(counts, dict):
        raise ValueError("Trainer: state's optimizer must have under counts a dict of integers, by parameter")
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
    for name, count in counts.items():
        if name not in parameters:
            raise ValueError(f"Trainer: state has a count for {name!r}, which this network has no parameter for")
        _whole(f"counts[{name!r}]", count)


def _check_accumulated(trainer: Trainer, accumulated: dict) -> None:
    parameters = dict(trainer.module.named_parameters())
    if not isinstance(accumulated, dict) or set(accumulated) != {"steps", "sums"} or \
            not isinstance(accumulated["sums"], dict):
        raise ValueError("Trainer: state's accumulated must be a dict of steps and sums")
    steps = accumulated["steps"]
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or not 0 <= steps < trainer._tape.accumulate:
        raise ValueError(f"Trainer: state has {shown(steps)} accumulated steps, this trainer accumulate="
                         f"{trainer._tape.accumulate}")
    for name, array in accumulated["sums"].items():
        if name not in parameters or np.shape(array) != parameters[name].shape:
            raise ValueError(f"Trainer: state has accumulated gradients of shape {np.shape(array)} for {name!r}, which this "
                             "network has not")
        if np.asarray(array).dtype.kind not in "fiu":
            raise TypeError(f"Trainer: state has accumulated gradients of dtype {np.asarray(array).dtype} for {name!r}: "
                            "expected float32")


def _write(trainer: Trainer, saved: dict) -> None:
    trainer.module.load_state_dict(saved["model"])
    if trainer.average is not None:
        trainer.average.load_state_dict(saved["average"])
    trainer.optimizer.load_options(saved["optimizer"]["rule"])
    named = list(trainer.module.named_parameters())
    rules = dict(zip([name for name, _ in named], trainer.optimizer.assign(named), strict=True))
    if trainer.schedule is not None:
        trainer.schedule.load_state_dict(saved["schedule"])
    tape = trainer._tape
    for learnt in tape.learnt.values():
        learnt.reset()
    optimizer, sums = saved["optimizer"], saved["accumulated"]["sums"]
    steps = int(optimizer["steps"])
    for name, parameter in named:
        buffers = optimizer["state"].get(name, {})
        states = rules[name].recipe(parameter.shape).states if rules[name] else ()
        if buffers and not set(states) <= set(buffers):
            raise ValueError(f"Trainer: state lacks {', '.join(key for key in states if key not in buffers)} for {name!r}")
        updates = optimizer["counts"].get(name, 0) if "counts" in optimizer else steps
        if buffers or updates or name in sums:
            learnt = tape.recall(parameter)
            learnt.hyper.steps, learnt.hyper.begun = int(updates), bool(buffers)
            for key, array in buffers.items():
                learnt.buffer(key)[...] = array  # in place: plans hold their addresses
            if name in sums:
                learnt.total[...] = sums[name]
                learnt.summing.steps = 1
    tape.restart(steps, int(saved["accumulated"]["steps"]))
    trainer._running = None
    if saved["meters"] is not None:
        trainer._running = trainer._meters()
        trainer._running.load_state_dict(saved["meters"])
    trainer.epoch = int(saved["epoch"])
    trainer.log = MetricLog(saved["log"])
    trainer._resumed, trainer._last = saved["began"], 0
    trainer._loader_state = saved["loader"]
    if saved["choices"] is not None:
        trainer._use(Choices.from_dict(saved["choices"]))
