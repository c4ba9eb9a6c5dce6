"""Batches of a dataset, shuffled, and prepared in the background."""

import operator
import warnings
from typing import Any

import numpy as np

from fastconv._arrays import lent, refuse_masked
from fastconv._values import shown
from fastconv.kernels.locks import Lock

from .dataset import ArrayDataset
from .prefetch import Worker


class DataLoader:
    """Iterate over a dataset in batches.

    Each iteration is one epoch and gives tuples of C-contiguous arrays that nobody else refers to. With
    ``shuffle=True`` the order is a permutation drawn from ``numpy.random.Generator(Philox)`` keyed by (seed, epoch), so
    an epoch's order depends on nothing that was drawn before. Epochs are counted from 0, one per iteration.

    Parameters
    ----------
    dataset : ArrayDataset or object with ``__len__`` and ``__getitem__``
        An ArrayDataset is indexed with a whole batch at once. Any other object is asked for single items by int, which
        `collate_fn` puts together.
    batch_size : int, default 1
        Samples per batch.
    shuffle : bool, default False
        A new order each epoch.
    seed : int, default 0
        0 to 2**64 - 1.
    drop_last : bool, default False
        Leave out a last batch that is smaller than the others.
    prefetch : int, default 2
        How many batches a background thread prepares ahead; 0 prepares each when it is asked for, without a thread.
    collate_fn : callable, optional
        Makes a tuple of arrays of a list of items; `default_collate` where it is None. Not used for an ArrayDataset.
    augment : callable, optional
        Called with each batch (a tuple of arrays it may change in place) and a ``numpy.random.Generator`` of that batch's
        own, keyed by (seed, epoch, position), in the background thread; returns the batch to go on with. What is drawn
        depends on nothing that was drawn before, so an epoch that is resumed goes on with the same numbers.
    transform : callable, optional
        Called after `augment` with each batch (a tuple of arrays it may change in place), in order, in the background
        thread; returns the batch that is handed out: a tuple, a list or a single array.

    Raises
    ------
    TypeError, ValueError
        At construction, naming argument, value and rule. What the dataset, `collate_fn` or `transform` raise in the
        background is raised where the batch is asked for, and ends the iteration.
    RuntimeError
        One of them raised StopIteration, which would pass for the end of the epoch; the items are named.

    Examples
    --------
    >>> for images, labels in DataLoader(ArrayDataset(x, y), batch_size=64, shuffle=True):
    ...     ...
    """

    def __init__(
        self, dataset, batch_size=1, shuffle=False, seed=0, drop_last=False, prefetch=2, *,
        collate_fn=None, augment=None, transform=None,
    ):  # fmt: skip
        for name in ("__len__", "__getitem__"):
            if not hasattr(dataset, name):
                raise TypeError(
                    f"DataLoader: dataset must have __len__ and __getitem__, {type(dataset).__name__} has no {name}"
                )
        for name, function in (("collate_fn", collate_fn), ("augment", augment), ("transform", transform)):
            if function is not None and not callable(function):
                raise TypeError(f"DataLoader: {name} must be callable or None, got {type(function).__name__}")
        self.dataset = dataset
        self.batch_size = _whole("batch_size", batch_size, 1)
        self.shuffle = _flag("shuffle", shuffle)
        self.seed = _whole("seed", seed, 0, 2**64 - 1)
        self.drop_last = _flag("drop_last", drop_last)
        self.prefetch = _whole("prefetch", prefetch, 0)
        self.collate_fn = collate_fn
        self.augment = augment
        self.transform = transform
        self._epoch = 0
        self._position = 0
        self._guard: Lock | None = Lock("DataLoader")
        self._reader: object = None  # stands for the iteration that the epoch and the position speak of

    @property
    def epoch(self):
        """int: the epoch under way, or the next one where none is."""
        return self._epoch

    def __len__(self):
        """Return the number of batches in a whole epoch."""
        samples = len(self.dataset)
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def __iter__(self):
        """Begin an epoch: the next one, or after `load_state_dict` the rest of the one that was saved."""
        if self._reader is not None:  # the iteration before was left early
            self._epoch, self._position = self._epoch + 1, 0
        self._reader = object()
        return _Batches(self, self._reader)

    def __getstate__(self):
        # A copy, here or in another process, begins with the state but has no iteration under way.
        return {**self.__dict__, "_guard": None, "_reader": None}

    def set_epoch(self, epoch):
        """Let the next iteration be epoch number `epoch` (an int from 0), from its beginning."""
        epoch = _whole("epoch", epoch, 0, 2**64 - 1)
        self._epoch, self._position, self._reader = epoch, 0, None

    def state_dict(self):
        """Return ``{"seed", "epoch", "position"}``: where a new iteration would have to go on.

        `position` counts the samples of the epoch in the batches that were handed out; batches that are only prepared
        do not count. After the last batch it is the end of that epoch until the loop itself has ended.
        """
        return {"seed": self.seed, "epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state):
        """Take over a `state_dict`: the next iteration gives the batches that were still to come.

        Raises
        ------
        ValueError
            A key is missing or unknown, or a value is outside its range. Nothing has been changed then.
        """
        seed, epoch, position = check_state(state, len(self.dataset))
        self.seed, self._epoch, self._position, self._reader = seed, epoch, position, None

    def _lock(self):
        """The lock under which batches are made: a dataset is never asked by two threads of one loader at once.

        The thread of an iteration that was left early may still be at its last batch when the next one begins.
        """
        if self._guard is None:
            self._guard = Lock("DataLoader")
        return self._guard

    def _deliver(self, reader, position):
        if reader is self._reader:
            self._position = position

    def _finish(self, reader):
        if reader is self._reader:
            self._epoch, self._position, self._reader = self._epoch + 1, 0, None


class _Batches:
    """One iteration over a DataLoader."""

    def __init__(self, loader, reader):
        if loader._lock().mine:
            raise RuntimeError("DataLoader: iterated over by its own dataset, collate_fn, augment or transform")
        self._loader = loader
        self._reader = reader
        self._prefetch = loader.prefetch
        samples = len(loader.dataset)
        self._order = None
        if loader.shuffle:
            key = np.array([loader.seed, loader.epoch], dtype=np.uint64)
            self._order = np.random.Generator(np.random.Philox(key=key)).permutation(samples)
        starts = range(loader._position, samples, loader.batch_size)
        self._spans = [(start, min(start + loader.batch_size, samples)) for start in starts]
        if loader.drop_last and self._spans and self._spans[-1][1] - self._spans[-1][0] < loader.batch_size:
            self._spans.pop()
        self._taken = 0
        self._submitted = 0
        self._closed = False
        self._worker: Any = None  # a prefetch.Worker, while there is one
        augment = loader.augment and _Augment(loader.augment, loader.seed, loader.epoch)
        self._arguments = (loader.dataset, self._order, loader.collate_fn or default_collate, augment, loader.transform)
        self._fill()

    def __iter__(self):
        return self

    def __next__(self):
        if self._closed:
            raise StopIteration
        if self._taken == len(self._spans):
            self.close()
            self._loader._finish(self._reader)
            raise StopIteration
        try:
            batch = self._take()
        except BaseException:  # KeyboardInterrupt too: whoever catches it shall not keep a thread
            self.close()
            raise
        self._loader._deliver(self._reader, self._spans[self._taken][1])
        self._taken += 1
        return batch

    def _take(self):
        if self._worker is not None and not self._worker.usable:  # forked: the parent keeps its thread, this begins its own
            self._worker, self._submitted = None, self._taken
            self._fill()
        if self._prefetch == 0:
            return _make_batch(self._loader._lock(), *self._arguments, self._spans[self._taken])
        batch = self._worker.take()
        self._fill(1)
        return batch

    def _fill(self, taken=0):
        """Have `prefetch` batches under way beyond those taken."""
        wanted = min(self._taken + taken + self._prefetch, len(self._spans))
        while self._submitted < wanted:
            if self._worker is None:
                try:
                    self._worker = Worker()
                except RuntimeError as error:  # a limit on processes or memory
                    warnings.warn(f"DataLoader: no background thread ({error}): batches are prepared as they are asked for",
                                  RuntimeWarning, stacklevel=3)
                    self._prefetch = 0
                    return
            self._worker.submit(_make_batch, self._loader._lock(), *self._arguments, self._spans[self._submitted])
            self._submitted += 1

    def close(self):
        """End the iteration; its thread ends after the batch that it is at."""
        self._closed = True
        if self._worker is not None:
            self._worker.close()


def default_collate(items):
    """Stack items to a batch.

    Parameters
    ----------
    items : list
        Samples of a dataset: arrays or numbers, or tuples or dicts of them, all of the same shapes. Python floats become
        float32, Python ints int64, NumPy's own scalars and arrays keep their dtype.

    Returns
    -------
    tuple of numpy.ndarray, or dict of them
        One array per field, the samples along the first dimension.

    Raises
    ------
    ValueError
        Items with different shapes or numbers of fields.
    TypeError
        Items that are no numbers, such as str or dict.
    """
    if items and all(isinstance(item, dict) for item in items):
        return _collate_named(items)
    rows = [tuple(item) if isinstance(item, (tuple, list)) else (item,) for item in items]
    for place, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise ValueError(f"default_collate: item {place} has {len(row)} fields but item 0 has {len(rows[0])}")
    return tuple(_stack([row[field] for row in rows], field) for field in range(len(rows[0])))


def _collate_named(items):
    for place, item in enumerate(items):
        if item.keys() != items[0].keys():
            raise ValueError(
                f"default_collate: item {place} has the fields {shown(sorted(map(str, item)))} "
                f"but item 0 has {shown(sorted(map(str, items[0])))}"
            )
    return {name: _stack([item[name] for item in items], repr(name)) for name in items[0]}


def _stack(values, field):
    arrays = [_number_array(value, field) for value in values]
    for place, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"default_collate: field {field} of item {place} has shape {array.shape} "
                f"but that of item 0 has shape {arrays[0].shape}; a batch needs equal shapes"
            )
    return np.stack(arrays)


def _number_array(value, field):
    if type(value) is float:
        return np.asarray(value, dtype=np.float32)
    refuse_masked("default_collate", f"field {field}", value)
    array = lent(value) if hasattr(value, "__dlpack__") and not hasattr(value, "__array__") else np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise TypeError(
            f"default_collate: field {field} must be an array or a number, got {type(value).__name__}; "
            "give the DataLoader a collate_fn for such items"
        )
    return array


class _Augment:
    """Calls `function` with a batch and the generator of its place in the epoch."""

    def __init__(self, function, seed, epoch):
        self._function = function
        self._key = np.array([seed, epoch], dtype=np.uint64)

    def __call__(self, batch, start):
        # The shuffle has the counters whose third word is 0; a batch has 2**128 numbers of its own.
        counter = np.array([0, 0, 1, start], dtype=np.uint64)
        return self._function(batch, np.random.Generator(np.random.Philox(key=self._key, counter=counter)))


def _make_batch(lock, dataset, order, collate, augment, transform, span):
    start, stop = span
    rows = range(start, stop) if order is None else order[start:stop].tolist()
    with lock:
        batch = _read_batch(dataset, order, collate, start, rows)
        if augment is not None:
            batch = _call("augment", rows, augment, batch, start)
        if transform is not None:
            batch = _call("transform", rows, transform, batch)
    if isinstance(batch, dict):
        return {name: _call("an array", rows, np.ascontiguousarray, part) for name, part in batch.items()}
    if not isinstance(batch, (tuple, list)):
        batch = (batch,)
    return tuple([_call("an array", rows, np.ascontiguousarray, part) for part in batch])


def _read_batch(dataset, order, collate, start, rows):
    if isinstance(dataset, ArrayDataset) and type(dataset).__getitem__ is ArrayDataset.__getitem__:
        if order is None:
            # A copy: a batch that is changed in place must not change the dataset.
            return tuple(np.array(part, order="C") for part in dataset[start : start + len(rows)])
        return dataset[order[start : start + len(rows)]]
    return _call("collate_fn", rows, collate, [_call("the dataset", (row,), _item, dataset, row) for row in rows])


def _item(dataset, row):
    return dataset[row]


def _call(what, rows, function, *arguments):
    """Call what was handed in; a StopIteration of its own would end the epoch as if it were complete."""
    try:
        return function(*arguments)
    except StopIteration as error:
        items = "item " if len(rows) == 1 else "items "
        items += ", ".join(map(str, rows[:8])) + (", ..." if len(rows) > 8 else "")
        raise RuntimeError(f"DataLoader: {what} raised StopIteration for {items}: next() of an exhausted "
                           "iterator?") from error


def check_state(state, samples=2**63 - 1):
    """Return the seed, the epoch and the position of a loader's state; TypeError or ValueError where it is none."""
    if not isinstance(state, dict) or set(state) != {"seed", "epoch", "position"}:
        raise ValueError(f"DataLoader: state must have the keys seed, epoch, position, got {sorted(map(str, state))}")
    seed, epoch = (_whole(name, state[name], 0, 2**64 - 1) for name in ("seed", "epoch"))
    return seed, epoch, _whole("position", state["position"], 0, samples)


def _flag(name, value):
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"DataLoader: {name}={shown(value)} must be True or False")
    return bool(value)


def _whole(name, value, low, high=None):
    try:
        number = None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"DataLoader: {name} must be an int, got {type(value).__name__}")
    if number < low or (high is not None and number > high):
        rule = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"DataLoader: {name}={number} must be {rule}")
    return number
