"""Accuracy, running averages, and the log of a training."""

import csv
import io
import json
import math
import numbers

import numpy as np

from fastconv._arrays import refuse_masked
from fastconv._atomic import write_atomic
from fastconv._values import shown


def accuracy(logits, target):
    """Share of the samples whose largest logit is that of their class.

    Parameters
    ----------
    logits : array_like
        (N, C) or (N, C, d1, d2, ...), real numbers.
    target : array_like of int
        (N,) or (N, d1, d2, ...), from 0 to C - 1.

    Returns
    -------
    float
        0 to 1. Of equal logits the first counts as the largest, as in ``argmax``; a sample with a NaN among its logits
        is wrong.

    Raises
    ------
    ValueError
        Shapes that do not fit, no samples, or a target outside 0 to C - 1.
    TypeError
        A target that is not of integers.
    """
    return top_k(logits, target, 1)


def top_k(logits, target, k=5):
    """Share of the samples whose class is among those of the `k` largest logits.

    Parameters
    ----------
    logits, target : array_like
        As for `accuracy`.
    k : int, default 5
        1 to C.

    Returns
    -------
    float
        0 to 1. Of equal logits the first count as the larger ones; a sample with a NaN among its logits is wrong.

    Raises
    ------
    ValueError, TypeError
        As for `accuracy`, and a `k` outside 1 to C.
    """
    for name, value in (("logits", logits), ("target", target)):
        refuse_masked("top_k", name, value)
    logits, target = np.asarray(logits), np.asarray(target)
    if logits.ndim < 2 or target.shape != logits.shape[:1] + logits.shape[2:]:
        raise ValueError(
            f"top_k: logits of shape {logits.shape} must be (N, C, ...) and target (N, ...), got {target.shape}"
        )
    if logits.dtype.kind not in "fiu":
        raise TypeError(f"top_k: logits must be numbers, got {logits.dtype}")
    if target.dtype.kind not in "iu":
        raise TypeError(f"top_k: target must be integers, got {target.dtype}")
    if target.size == 0:
        raise ValueError(f"top_k: target of shape {target.shape} has no samples")
    classes = logits.shape[1]
    if target.min() < 0 or target.max() >= classes:
        raise ValueError(f"top_k: target goes from {target.min()} to {target.max()}, must be in 0..{classes - 1}")
    if not isinstance(k, (int, np.integer)) or not 1 <= k <= classes:
        raise ValueError(f"top_k: k={shown(k)} must be an int from 1 to {classes}")
    index = np.expand_dims(target, 1).astype(np.intp)
    own = np.take_along_axis(logits, index, axis=1)
    place = np.arange(classes).reshape(1, classes, *[1] * (target.ndim - 1))
    before = ((logits > own) | ((logits == own) & (place < index))).sum(axis=1)
    right = (before < k) & ~np.isnan(logits).any(axis=1)
    return float(np.count_nonzero(right) / right.size)


class RunningAverage:
    """The average of values that come in batches of different sizes.

    Attributes
    ----------
    count : int
        Samples so far.
    total : float
        Their sum.
    average : float
        NaN while there are none.
    """

    def __init__(self):
        self.reset()

    def reset(self):
        """Forget everything."""
        self.restore(0.0, 0)

    def restore(self, total, count):
        """Goes on from the sum of `count` samples."""
        self.total, self.count = float(total), int(count)

    def update(self, value, n=1):
        """Add the average `value` of `n` samples (an int of at least 0)."""
        if n < 0:
            raise ValueError(f"RunningAverage: n={n} must be at least 0")
        if n:
            self.total += float(value) * n
            self.count += int(n)

    @property
    def average(self):
        return self.total / self.count if self.count else math.nan


class MetricLog:
    """Rows of named values, one per epoch or whatever is logged.

    Parameters
    ----------
    rows : iterable of dict, optional
        Rows to begin with.

    Attributes
    ----------
    rows : list of dict
        Names to None, bool, int, float or str; rows may have different names.
    """

    def __init__(self, rows=()):
        self.rows = []
        for row in rows:
            self.append(row)

    def append(self, row=None, **values):
        """Add a row: a dict, keyword arguments, or both. NumPy's scalars become Python's.

        Raises
        ------
        TypeError
            A name that is not str, or a value that is not None, bool, int, float or str.
        """
        self.rows.append({name: _plain(name, value) for name, value in {**(row or {}), **values}.items()})

    def columns(self):
        """Return all names, in the order in which they first appeared."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def column(self, name):
        """Return the values of one name, a list as long as the log; None where a row has none."""
        return [row.get(name) for row in self.rows]

    def to_csv(self, path):
        """Write a CSV file: a line of names, then one per row; an empty field where a row has no value."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns(), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        with write_atomic(path) as file:
            file.write(text.getvalue().encode())

    def to_json(self, path):
        """Write a JSON file: a list of objects. NaN and infinity become null, JSON has neither."""
        rows = [{name: _finite(value) for name, value in row.items()} for row in self.rows]
        with write_atomic(path) as file:
            file.write((json.dumps(rows, indent=1, allow_nan=False) + "\n").encode())

    def __len__(self):
        return len(self.rows)

    def __iter__(self):
        return iter(self.rows)

    def __getitem__(self, index):
        return self.rows[index]

    def __repr__(self):
        return f"MetricLog({len(self.rows)} rows of {', '.join(self.columns()) or 'nothing'})"


def _plain(name, value):
    if not isinstance(name, str):
        raise TypeError(f"MetricLog: names must be str, got {type(name).__name__}")
    if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0:
        value = value.item()
    if value is not None and not isinstance(value, (str, bool, int, float)):
        if not isinstance(value, numbers.Real):
            raise TypeError(f"MetricLog: {name!r} must be None, bool, int, float or str, got {type(value).__name__}")
        value = float(value)
    return value


def _finite(value):
    return None if isinstance(value, float) and not math.isfinite(value) else value
