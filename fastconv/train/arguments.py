"""What a trainer is given: checked, and data made into loaders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real

import numpy as np

from fastconv._values import shown
from fastconv.data import ArrayDataset, DataLoader
from fastconv.engine.options import check_count


def check_trainer(module, loss: Callable, optimizer, schedule, seed: int, clip_grad_norm: float | None,
                  clip_grad_value: float | None) -> None:
    """The arguments of a trainer that are its own."""
    if not hasattr(module, "symbolic") or isinstance(module, type):
        raise TypeError(f"Trainer: module is a {type(module).__name__}: expected an nn.Module")
    check_loss(loss)
    check_rule(optimizer)
    optimizer.assign(module.named_parameters())  # patterns that fit nothing are an error now
    check_schedule_of(schedule, optimizer)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise ValueError(f"Trainer: seed={shown(seed)}: expected an integer from 0 to 2**64 - 1")
    for name, value in (("clip_grad_norm", clip_grad_norm), ("clip_grad_value", clip_grad_value)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, Real) or not value > 0):
            raise ValueError(f"Trainer: {name}={shown(value)}: expected a number above 0")


def check_average(average) -> None:
    if average is not None and not (hasattr(average, "update_parameters") and hasattr(average, "load_state_dict")):
        raise TypeError(f"Trainer: average is a {type(average).__name__}: expected an AveragedModel of "
                        "fastconv.optim.swa_utils")


def check_loss(loss) -> None:
    if not callable(loss):
        raise TypeError(f"Trainer: loss is a {type(loss).__name__}: expected a loss such as nn.CrossEntropyLoss()")


def check_rule(optimizer) -> None:
    if not hasattr(optimizer, "recipe") or not hasattr(optimizer, "assign") or isinstance(optimizer, type):
        raise TypeError(f"Trainer: optimizer is a {type(optimizer).__name__}: expected an update rule of "
                        "fastconv.optim, such as SGD(lr=0.05, momentum=0.9)")


def check_schedule_of(schedule, optimizer) -> None:
    if schedule is not None and getattr(schedule, "optimizer", None) is not optimizer:
        raise ValueError(f"Trainer: schedule={type(schedule).__name__} must be made for this trainer's optimizer")


def check_fit(train, epochs: int, batch_size: int | None, callbacks: Sequence[Callable], checkpoint,
              checkpoint_every: int | None) -> None:
    """The arguments of :meth:`Trainer.fit`."""
    check_count("Trainer.fit", "epochs", epochs)
    if not isinstance(callbacks, (list, tuple)):
        raise TypeError(f"Trainer.fit: callbacks is a {type(callbacks).__name__}: expected a list or tuple of callables")
    if checkpoint_every is not None:
        check_count("Trainer.fit", "checkpoint_every", checkpoint_every)
        if checkpoint is None:
            raise ValueError(f"Trainer.fit: checkpoint_every={checkpoint_every} without checkpoint=: where to?")
    for callback in callbacks:
        if not callable(callback):
            raise TypeError(f"Trainer.fit: callbacks has a {type(callback).__name__}: expected callables")
    if isinstance(train, DataLoader) and batch_size is not None:
        raise ValueError(f"Trainer.fit: batch_size={batch_size} was given, but train is a DataLoader and has one")


def check_schedule(schedule, updates: int, epochs: int) -> None:
    """So many updates and epochs are not more than a schedule goes on for."""
    last_step = getattr(schedule, "last_step", None)
    total = getattr(schedule, "total_steps", None) if last_step is None else last_step()
    if total is None:
        return
    count, what = (updates, "updates") if schedule.interval == "step" else (epochs, "epochs")
    if schedule.last_epoch + count > total:
        raise ValueError(f"Trainer.fit: {count} {what} after {schedule.last_epoch} are more than the schedule's "
                         f"total_steps={total}")


def loader_of(name: str, data, batch_size: int, seed: int, shuffle: bool = False) -> DataLoader:
    """A loader over data, which may be one already; it has a batch."""
    if isinstance(data, (tuple, list)) and len(data) > 1 and hasattr(data[0], "shape") and \
            not any(isinstance(a, (dict, str)) for a in data):
        data = ArrayDataset(*(_field(name, i, a) for i, a in enumerate(data)))
    if not isinstance(data, DataLoader):
        kind = f"{type(data).__module__}.{type(data).__qualname__}"
        if type(data).__name__ == "DataLoader":
            raise TypeError(f"Trainer: {name} is a {kind}, another library's: give its dataset and batch_size=, or "
                            "fastconv.data.DataLoader(loader.dataset, batch_size)")
        if not hasattr(data, "__len__") or not hasattr(data, "__getitem__") or hasattr(data, "shape"):
            raise TypeError(f"Trainer: {name} is a {kind.removeprefix('builtins.')}: expected a DataLoader of fastconv, a "
                            "dataset with __len__ and __getitem__, or arrays (x, y)")
        data = DataLoader(data, batch_size, shuffle=shuffle, seed=seed)
    if len(data) == 0:
        raise ValueError(f"Trainer: {name} has no batch")
    return data


def _field(name: str, number: int, value):
    """An array of some data; labels may be a list of numbers."""
    if hasattr(value, "shape"):
        return value
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"Trainer: {name}[{number}] is a {type(value).__name__} of items of different shapes: expected an "
                         "array") from error
    if array.dtype.kind not in "biuf" or not array.ndim:
        raise TypeError(f"Trainer: {name}[{number}] is {shown(value)}: expected an array, or a list of numbers")
    return array.astype(np.float32) if array.dtype == np.float64 else array
