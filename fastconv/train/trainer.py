"""The training loop: batches through the training tape, metrics, schedules, validation."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastconv._text import note
from fastconv.data import DataLoader
from fastconv.engine.batches import Batches, as_input, leaves, rebuilt, taken
from fastconv.engine.engine import Engine, compile
from fastconv.engine.options import alike, check_count, check_options
from fastconv.engine.training import LossTape, TrainingTape
from fastconv.lowering.choices import Choices
from fastconv.train import state
from fastconv.train.arguments import (
    check_average,
    check_fit,
    check_loss,
    check_rule,
    check_schedule,
    check_schedule_of,
    check_trainer,
    loader_of,
)
from fastconv.train.checkpoint import Saver, load_checkpoint, save_checkpoint
from fastconv.train.meters import Meters
from fastconv.train.metrics import MetricLog
from fastconv.train.model import save
from fastconv.train.progress import epoch_line, progress, silent

log = logging.getLogger("fastconv")


class Trainer:
    """Trains a module: :meth:`fit` is the loop, :meth:`step` one step for a loop of one's own.

    A trainer can be pickled and copied, with its module and all that :meth:`state_dict` holds; the copy plans its steps
    again. The random generator of dropout is the process's and stays there.

    Parameters
    ----------
    module : nn.Module
        Its parameters are trained in place. A module in evaluation mode is set to training mode; submodules that were
        set to evaluation mode by themselves stay in it. What changes later (``eval()``, ``requires_grad``, a layer or a
        parameter replaced, an attribute set), the next step obeys: as in PyTorch, except that new parameters are trained
        without being handed to the optimiser. Its state of a parameter, its number of updates included, is the
        parameter's own, and stays while that is frozen.
    loss : callable
        ``loss(prediction, target)`` over symbolic tensors, such as :class:`fastconv.nn.CrossEntropyLoss`; a scalar. It may
        take several targets, and the prediction is what ``forward`` returns, tuples and dicts included.
    optimizer : object
        An update rule of :mod:`fastconv.optim`.
    schedule : object, optional
        A schedule of :mod:`fastconv.optim` over this optimizer; stepped after each update or each epoch, as its
        ``interval`` says. One that ``needs_metric`` gets the validation loss (with ``mode="max"`` the first metric), or
        that of the training where there is no validation.
    metrics : str, callable, or sequence of them, default ("accuracy",)
        "accuracy" and "top5" (any number) for targets of class indices, left out for others; or functions
        ``f(prediction, *targets) -> float`` over arrays, under their own names.
    clip_grad_norm, clip_grad_value : float, optional
        Gradient clipping before each update, as PyTorch's functions of these names.
    accumulate : int, default 1
        Gradients of so many steps are averaged for one update. Steps that are left over at the end of an epoch count
        for the first update of the next one.
    algorithm, precision, threads
        As for :func:`fastconv.compile`.
    seed : int, default 0
        Of the shuffling, where :meth:`fit` makes the loader. Parameters and dropout follow ``fastconv.manual_seed``.
    average : fastconv.optim.swa_utils.AveragedModel, optional
        Follows the module after each update; kept in checkpoints.

    Attributes
    ----------
    log : MetricLog
        A row for each epoch so far.
    epoch, steps : int
        Epochs and updates done.
    began : int
        Rows that the log had when this :meth:`fit`, or the last one, began; of a training that was resumed, when it first
        began. What comes from there on is what callbacks judge.
    notes : dict
        Anything that JSON can hold; kept in checkpoints, for :func:`fastconv.train.checkpoint.read_notes`.
    kept : dict
        Arrays by name, such as the state of the best epoch so far; kept in checkpoints.

    Raises
    ------
    TypeError, ValueError
        For wrong arguments, naming the rule.
    """

    def __init__(self, module, loss: Callable, optimizer, *, schedule=None, metrics: Any = ("accuracy",),
                 clip_grad_norm: float | None = None, clip_grad_value: float | None = None, accumulate: int = 1,
                 algorithm=None, precision: str = "highest", threads: int | None = None, seed: int = 0, average=None):
        check_average(average)
        check_trainer(module, loss, optimizer, schedule, seed, clip_grad_norm, clip_grad_value)
        check_options("Trainer", precision, algorithm, threads)
        self._module, self._schedule, self.average = module, schedule, average
        self.seed, self.epoch, self.log = seed, 0, MetricLog()
        self.notes: dict = {}
        self.kept: dict[str, np.ndarray] = {}
        self._metrics = metrics
        self._options = {"algorithm": algorithm, "precision": precision, "threads": threads}
        if not module.training:
            module.train()
        self._tape = TrainingTape(module.symbolic(True), loss, optimizer, clip_norm=clip_grad_norm,
                                  clip_value=clip_grad_value, accumulate=accumulate, **self._options)
        self._meters()  # what is wrong with the metrics is an error now
        self._evaluation: LossTape | None = None
        self._engine: Engine | None = None
        self._reader: DataLoader | None = None
        self._loader_state: dict | None = None
        self._running: Meters | None = None  # of an epoch that is under way
        self.began = self._last = 0  # of the fit under way: its first row, and the number of epochs that it goes to
        self._resumed: int | None = None  # the first row of a fit that was under way when the loaded state was saved
        self._stopped = False

    # ---- what it is made of ---------------------------------------------------------------------------------------

    @property
    def module(self):
        """The network; its layers may be replaced, frozen and set to evaluation mode at any time."""
        return self._module

    @property
    def loss(self) -> Callable:
        """The loss; another one counts from the next step on."""
        return self._tape.loss

    @loss.setter
    def loss(self, loss: Callable) -> None:
        check_loss(loss)
        self._tape.change_loss(loss)
        self._evaluation = None

    @property
    def optimizer(self):
        """The update rule; another one begins without state, as in PyTorch."""
        return self._tape.rule

    @optimizer.setter
    def optimizer(self, optimizer) -> None:
        check_rule(optimizer)
        if optimizer is self._tape.rule:
            return
        if self._schedule is not None:
            raise ValueError(f"Trainer: optimizer={type(optimizer).__name__}: the schedule is of another optimizer: set "
                             "schedule = None first, then one made for the new optimizer")
        self._tape.reset_rule(optimizer)

    @property
    def schedule(self):
        """The schedule, or None."""
        return self._schedule

    @schedule.setter
    def schedule(self, schedule) -> None:
        check_schedule_of(schedule, self.optimizer)
        self._schedule = schedule

    # ---- training -------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """Updates done."""
        return self._tape.steps

    def step(self, *batch) -> float:
        """One step of training.

        Parameters
        ----------
        *batch : array
            The inputs, float32 ``(N, C, ...)``, then the targets: class indices of any integer dtype, or float32. How many
            of each follows from what the network's ``forward`` and the loss take. Or one dict of them, by the names of
            these arguments.

        Returns
        -------
        float
            The loss of this batch, before the update.

        Raises
        ------
        TypeError, ValueError
            A wrong dtype, shape or class index; nothing has run then.
        FloatingPointError
            The loss is infinite or not a number; the parameters are those from before this step.
        """
        updates = self._tape.steps
        try:
            loss = self._tape.step(*self._ordered("step", batch))
        except FloatingPointError as error:
            raise FloatingPointError(
                f"Trainer: {error} (learning rate {self.optimizer.lr:g}): the parameters are those from before this step; "
                "a smaller learning rate or clip_grad_norm=1 may help, or the data are not finite") from None
        if self._tape.steps > updates:
            if self.average is not None:
                self.average.update_parameters(self.module)
            if self.schedule is not None and self.schedule.interval == "step":
                self.schedule.step()
        return loss

    def fit(self, train, epochs: int, validation=None, batch_size: int | None = None, callbacks: Sequence[Callable] = (),
            verbose: bool | None = None, checkpoint=None, checkpoint_every: int | None = None) -> MetricLog:
        """Trains for so many epochs.

        Parameters
        ----------
        train : DataLoader, Dataset, (x, y), (x, m, mask, cls), or a dict
            Batches; or samples or arrays, which are shuffled anew for each epoch. Inputs come first, then targets, as many
            as the network's ``forward`` and the loss take; in a dict they have the names of these arguments.
        epochs : int
            How many, counted from here: a second call goes on.
        validation : DataLoader, Dataset or (x, y), optional
            Evaluated after each epoch.
        batch_size : int, default 32 (validation: 256)
            Of what is not a DataLoader.
        callbacks : sequence of callable
            Called with the trainer and the epoch's row (a dict) after each epoch; may call :meth:`stop`. One with a method
            ``on_fit_begin(trainer)`` is asked before the first step, one with ``on_fit_end(trainer)`` is told when the
            epochs are over, or stopped, but not when an exception ends them.
        verbose : bool, optional
            None: a progress bar on a terminal, nothing elsewhere. True: also a line on stderr after each epoch. False:
            nothing.
        checkpoint : path, optional
            Where :meth:`save_checkpoint` writes after each epoch, and when Ctrl-C or SIGTERM ends the training: these then
            wait for the end of the step under way, and SIGTERM raises SystemExit(143).
        checkpoint_every : int, optional
            Also after so many steps.

        Returns
        -------
        MetricLog
            A row per epoch, earlier calls' first: epoch, loss and metrics (averages over the epoch's steps), ``val_loss``
            and ``val_`` metrics, lr (of the last update) and seconds (without validation).

        Raises
        ------
        TypeError, ValueError
            For wrong arguments and data.
        FloatingPointError
            When the loss is infinite or not a number; the parameters are those from before that step.
        KeyboardInterrupt
            The network, the optimizer and :attr:`log` are then usable as they are.
        """
        check_fit(train, epochs, batch_size, callbacks, checkpoint, checkpoint_every)
        verbose = None if verbose is None else bool(verbose)
        loader = self._loader("train", train, 32 if batch_size is None else batch_size, shuffle=True)
        if loader is not train:
            loader.set_epoch(self.epoch)
        own_validation = validation is not None and not isinstance(validation, DataLoader)
        if validation is not None:
            validation = self._loader("validation", validation, 256 if batch_size is None else batch_size)
        done = 0  # batches of the epoch that is under way
        if self._loader_state is not None:
            loader.load_state_dict(self._loader_state)
            done = -(-self._loader_state["position"] // loader.batch_size)
        else:
            self._running = None  # of an epoch that was cut short, and begins anew
        check_schedule(self.schedule, (self._tape.accumulated + len(loader) * int(epochs) - done) // self._tape.accumulate,
                       int(epochs))
        for callback in callbacks:
            getattr(callback, "on_fit_begin", lambda trainer: None)(self)
        if own_validation and int(epochs):
            self.evaluate(validation)  # a wrong shape or class index in it is an error now, not after an epoch of training
        if not self.module.training:
            log.warning("Trainer.fit: the network is in evaluation mode, and is trained so: normalisations keep their "
                        "statistics, dropout is off; net.train() sets it back")
        self._tape.plan_for(min(loader.batch_size, len(loader.dataset)))  # also where it resumes at the last, smaller batch
        self._reader, self._loader_state, self._stopped = loader, None, False
        self.began = len(self.log) if self._resumed is None else min(self._resumed, len(self.log))
        self._resumed, self._last = None, self.epoch + int(epochs)
        saver = Saver(self, checkpoint, checkpoint_every)
        try:
            with saver:
                self._fit(loader, self._last, validation, callbacks, verbose, saver)
        finally:
            saver.restore()  # a signal may have come as the block was left
        return self.log

    def _fit(self, loader, last: int, validation, callbacks: Sequence[Callable], verbose: bool | None, saver: Saver) -> None:
        while self.epoch < last and not self._stopped:
            row = self._fit_epoch(loader, last, verbose, saver)
            if validation is not None:
                row.update({f"val_{name}": value for name, value in self.evaluate(validation).items()})
            row["lr"], row["seconds"] = row.pop("lr"), row.pop("seconds")
            self.log.append(row)
            self._end_epoch(row)
            if verbose:
                note(epoch_line(row, last))
            for callback in callbacks:
                callback(self, row)
            if self.epoch >= last or self._stopped:
                for callback in callbacks:
                    getattr(callback, "on_fit_end", lambda trainer: None)(self)
            saver.after_epoch()

    def stop(self) -> None:
        """Lets :meth:`fit` end after the epoch under way; for callbacks."""
        self._stopped = True

    def _fit_epoch(self, loader: DataLoader, last: int, verbose: bool | None, saver: Saver) -> dict:
        """Trains for an epoch, or what is left of it; returns its row without validation."""
        meters = self._running = self._running or self._meters()
        start = time.perf_counter()
        show = silent if verbose is False else progress
        with show(loader, f"epoch {self.epoch + 1}/{last}", leave=not verbose) as bar:
            for batch in bar:
                meters.lr = self.optimizer.lr
                batch = self._ordered("step", batch)
                loss = self.step(*batch)
                meters.update(loss, self._tape.predictions(), *self._tape.targets(batch))
                bar.set_postfix(meters.texts(), refresh=False)
                saver.after_step()
        self.epoch, self._running = self.epoch + 1, None
        return {"epoch": self.epoch, **meters.averages(), "lr": meters.lr, "seconds": time.perf_counter() - start}

    def _end_epoch(self, row: dict) -> None:
        schedule = self.schedule
        if schedule is None or schedule.interval != "epoch":
            return
        if not getattr(schedule, "needs_metric", False):
            schedule.step()
            return
        names = ["loss"]
        if getattr(schedule, "mode", "min") == "max":
            names = self._meters().names() or names
        schedule.step(row.get(f"val_{names[0]}", row.get(names[0])))

    # ---- evaluation -----------------------------------------------------------------------------------------------

    def evaluate(self, data, batch_size: int | None = None) -> dict[str, float]:
        """Loss and metrics of data, the network in evaluation mode.

        Parameters
        ----------
        data : DataLoader, Dataset or (x, y)
        batch_size : int, default 256
            Of what is not a DataLoader.

        Returns
        -------
        dict
            "loss" and the metrics: averages of the batches, weighted with their sizes. What the network makes of a sample
            does not depend on the batch size; the average of losses may in its last digits.
        """
        loader = self._loader("data", data, 256 if batch_size is None else batch_size)
        if self._evaluation is None:
            self._evaluation = LossTape(self.module.symbolic(False), self.loss, **self._many())
        meters = self._meters()
        for batch in loader:
            batch = self._ordered("evaluate", batch)
            meters.update(self._evaluation.run(*batch), self._evaluation.predictions(), *self._evaluation.targets(batch))
        return meters.averages()

    def predict(self, *inputs, batch_size: int = 256):
        """What the network, in evaluation mode, makes of its inputs.

        Parameters
        ----------
        *inputs : array
            float32 ``(N, C, ...)``, as many as the network's ``forward`` takes.
        batch_size : int, default 256
            How many go through the network at once.

        Returns
        -------
        ndarray
            ``(N, ...)``, a new array; nested as ``forward`` returns them where it returns several.
        """
        if len(inputs) > 1 and isinstance(inputs[-1], (int, np.integer)):  # predict(x, 64)
            inputs, batch_size = inputs[:-1], inputs[-1]
        names = ["x"] if len(inputs) == 1 else [f"input {i}" for i in range(len(inputs))]
        arrays = [as_input("Trainer.predict", name, x) for name, x in zip(names, inputs, strict=True)]
        takes = taken(self.module)
        if not arrays or not takes.least <= len(arrays) <= takes.most:
            raise TypeError(f"Trainer.predict: {len(arrays)} inputs given: the network takes {takes}")
        for name, x in zip(names, arrays, strict=True):
            if x.ndim < 2:
                raise ValueError(f"Trainer.predict: {name} of shape {x.shape} has {x.ndim} dimensions: expected (N, C, ...)")
            if len(x) != len(arrays[0]):
                raise ValueError(f"Trainer.predict: {name} of shape {x.shape}: its batch differs from the first input's, "
                                 f"{len(arrays[0])}")
        check_count("Trainer.predict", "batch_size", batch_size)
        count, size = len(arrays[0]), int(batch_size)
        if self._engine is None:
            shapes = [(min(max(count, 1), size), *x.shape[1:]) for x in arrays]
            specs = [s if x.dtype == np.float32 else (s, "int64") for s, x in zip(shapes, arrays, strict=True)]
            self._engine = compile(self.module, specs if len(specs) > 1 else specs[0], **self._many())
        first = self._engine(*(x[:size] for x in arrays))
        if count <= size:
            return first
        parts = leaves(first)
        outs = [np.empty((count, *part.shape[1:]), np.float32) for part in parts]
        for out, part in zip(outs, parts, strict=True):
            if len(part) != size:
                raise TypeError(f"Trainer.predict: the network returns an array of shape {part.shape} for a batch of {size}:"
                                " use fastconv.compile")
            out[:size] = part
        for start in range(size, count, size):
            here = slice(start, start + size)
            self._engine(*(x[here] for x in arrays), out=[out[here] for out in outs])
        return rebuilt(first, iter(outs))

    def tune(self, input_shape, save=None, *, rounds: int = 5, progress: Callable | None = None) -> Choices:
        """Times every algorithm on the network's training passes for one shape of batch and trains on with the fastest.

        Parameters
        ----------
        input_shape : tuple of int, or sequence of tuples
            Shape of a batch ``(N, C, ...)``; another batch size is another problem.
        save, rounds, progress
            As for :meth:`fastconv.Engine.tune`.

        Returns
        -------
        Choices
            Also kept in :meth:`state_dict`, so that a resumed training computes the same bits.
        """
        engine = compile(self.module, input_shape, training=True, **self._options)
        engine.tune(save, rounds=rounds, progress=progress)
        choices = engine.algorithm if isinstance(engine.algorithm, Choices) else Choices()
        self._use(choices)
        return choices

    def _many(self) -> dict:
        """Options for a data set that goes by in batches of any size."""
        return {**self._options, "choose_for": alike(self._options["algorithm"])}

    def _use(self, algorithm) -> None:
        """Plans everything again with these algorithms."""
        self._options["algorithm"] = algorithm
        self._tape.replan(algorithm)
        self._evaluation = self._engine = None

    # ---- files and state ------------------------------------------------------------------------------------------

    def save(self, path, preprocessing: dict | None = None) -> None:
        """Writes the network to a safetensors file, from which :func:`fastconv.load` rebuilds those of the zoo.

        Parameters
        ----------
        path : str or os.PathLike
        preprocessing : dict, optional
            As for :func:`fastconv.train.model.save`.
        """
        save(self.module, path, preprocessing)

    def save_checkpoint(self, path) -> None:
        """Writes all that training goes on from, the random generator included, to a safetensors file.

        It is written under a temporary name, flushed to the disk and renamed: a full disk or a crash leaves the old one.

        Raises
        ------
        OSError
            The file cannot be written; an existing one is as it was.
        """
        save_checkpoint(self, path)

    def load_checkpoint(self, path) -> None:
        """Takes over a checkpoint; the next :meth:`fit`, on the same data, goes on with the same bits.

        Raises
        ------
        FileNotFoundError
            No such file.
        ValueError
            Not a checkpoint, or one of another network, rule or schedule. The trainer is then as it was.
        """
        load_checkpoint(self, path)

    def state_dict(self) -> dict:
        """All that training goes on from: plain dicts, lists, numbers and copies of arrays.

        Keys: "format", "model" (the module's state), "optimizer" ("rule", "steps", and "state": for each parameter's name
        its buffers), "schedule" and "loader" (None where there is none), "epoch", "log" (rows), "meters" (of an
        epoch that is under way), "accumulated" (gradients that wait for an update), "choices" (measured algorithms, None
        where there are none), "average" (the state of the average, None where there is none).
        """
        return state.collect(self)

    def load_state_dict(self, saved: dict) -> None:
        """Takes over a :meth:`state_dict`; the next :meth:`fit` goes on where its loader was.

        Raises
        ------
        ValueError, TypeError
            The state is of another network, rule or schedule. The trainer is then as it was.
        """
        state.restore(self, saved)

    def __getstate__(self) -> dict:
        # plans hold addresses: what a copy needs is what the trainer was made of and what it has learnt
        tape = self._tape
        made_of = {"module": self.module, "loss": self.loss, "optimizer": self.optimizer, "schedule": self.schedule,
                   "metrics": self._metrics, "clip_grad_norm": tape.clip_norm, "clip_grad_value": tape.clip_value,
                   "accumulate": tape.accumulate, "seed": self.seed, "average": self.average, **self._options}
        modes = [module.training for module in self.module.modules()]
        return {"made_of": made_of, "modes": modes, "state": self.state_dict(), "notes": self.notes,
                "kept": self.kept}

    def __setstate__(self, saved: dict) -> None:
        self.__init__(**saved["made_of"])  # type: ignore[misc]
        for module, mode in zip(self.module.modules(), saved["modes"], strict=True):
            module.training = mode
        self.load_state_dict(saved["state"])
        self.notes, self.kept = saved["notes"], saved["kept"]

    # ---- helpers --------------------------------------------------------------------------------------------------

    def _ordered(self, op: str, batch) -> tuple:
        """A batch as inputs and targets in order: one that has names by these."""
        if isinstance(batch, (tuple, list)) and len(batch) == 1 and isinstance(batch[0], Mapping):
            batch = batch[0]
        return Batches(self.module, self.loss).order(op, batch) if isinstance(batch, Mapping) else tuple(batch)

    def _loader(self, name: str, data, batch_size: int, shuffle: bool = False) -> DataLoader:
        """A loader over what may be one already, arrays, or arrays by name."""
        if isinstance(data, Mapping):
            data = self._ordered(name, data)
        return loader_of(name, data, batch_size, self.seed, shuffle)

    def _meters(self) -> Meters:
        return Meters(self._metrics, getattr(self.loss, "ignore_index", None))
