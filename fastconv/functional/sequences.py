"""Connectionist temporal classification: a loss of sequences without an alignment."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.functional.indexing import gather
from fastconv.functional.joining import cat, stack
from fastconv.functional.losses import chosen, floats, reduced, shape_of
from fastconv.functional.parametric import clamp, where
from fastconv.functional.pointwise import eq, exp, logical_and, logical_or, ne
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.functional.reduction import cast
from fastconv.functional.reduction import sum as total
from fastconv.functional.statistics import logsumexp
from fastconv.functional.structure import reshape, squeeze, unsqueeze
from fastconv.graph.ir import Tensor, apply
from fastconv.ops.arguments import flag, integer
from fastconv.ops.views import tensor

__all__: list[str] = []
NEVER = -1e30  # the logarithm of what cannot be


def _logs(*shape: int):
    def make(g):
        x = g.standard_normal(shape).astype(np.float32)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    return array(make)


def _whole(values):
    return array(lambda g: np.array(values, np.int64))


_PAIR = (_logs(9, 2, 5), _whole([[1, 2, 2, 4], [3, 1, 4, 1]]), _whole([9, 7]), _whole([4, 2]))


@function(name="ctc_loss", samples=lambda: [sample(*_PAIR, reduction=r) for r in ("mean", "sum", "none")] + [
              sample(_logs(6, 2, 4), _whole([[0, 1], [1, 0]]), _whole([6, 5]), _whole([2, 0]), blank=3),
              sample(_logs(3, 2, 4), _whole([[1, 1, 1], [1, 2, 3]]), _whole([3, 3]), _whole([3, 3]), zero_infinity=True)],
          wrong=lambda: [wrong(ValueError, "blank=5", *_PAIR, blank=5),
                         wrong(ValueError, "log_probs of shape (9, 5)", _logs(9, 5), *_PAIR[1:]),
                         wrong(ValueError, "target_lengths of shape (3,)", *_PAIR[:3], _whole([1, 2, 3]))])
def of_padded(log_probs: Array, targets: Array, input_lengths: Array, target_lengths: Array, blank: int = 0,
              reduction: str = "mean", zero_infinity: bool = False) -> Array:
    """:func:`ctc_loss` of targets in rows, one per sequence, and lengths as arrays."""
    op = "ctc_loss"
    reduction, zero = chosen(op, reduction), flag(op, "zero_infinity", zero_infinity)
    (log_probs,), targets = floats(op, log_probs=log_probs), tensor(op, "targets", targets)
    if log_probs.ndim != 3:
        fail(op, f"log_probs of shape {shape_of(log_probs)}: expected (T, N, C)")
    steps, n, classes = shape_of(log_probs)
    blank = integer(op, "blank", blank)
    if not 0 <= blank < classes:
        fail(op, f"blank={blank}: expected 0 to {classes - 1}, a class")
    if targets.ndim != 2 or shape_of(targets)[0] != n:
        fail(op, f"targets of shape {shape_of(targets)}: expected ({n}, S), a row for each sequence")
    lengths = []
    for name, value in (("input_lengths", input_lengths), ("target_lengths", target_lengths)):
        value = tensor(op, name, value)
        if shape_of(value) != (n,):
            fail(op, f"{name} of shape {shape_of(value)}: expected ({n},)")
        if value.dtype == "float32":
            fail(op, f"{name} has dtype float32: expected integers", TypeError)
        lengths.append(cast(value, "int64"))
    taken, given = unsqueeze(lengths[0], 1), unsqueeze(lengths[1], 1)
    count = 2 * shape_of(targets)[1] + 1
    targets = cast(targets, "int64")
    place = np.arange(count)
    inside = targets if count == 1 else where(np.arange(count // 2) < given, targets, blank)
    labels = cat([reshape(stack([inside * 0 + blank, inside], -1), (n, count - 1)), lengths[0].reshape(n, 1) * 0 + blank], 1)
    skips = None
    if count > 2:
        before = cat([labels[:, :2] * 0 + blank, labels[:, :-2]], 1)
        skips = logical_and(ne(labels, before), place % 2 == 1)
    never = where(ne(labels[:, :1], labels[:, :1]), 0.0, NEVER)  # (N, 1)
    state: Any = None
    probability: Any = 0.0
    for t in range(steps):
        emitted = gather.record.body(log_probs[t], 1, labels)  # type: ignore[attr-defined]
        if state is None:
            state = where(place < 2, emitted, NEVER)
        else:
            ways = [state, cat([never, state[:, :-1]], 1)] if count > 1 else [state]
            if skips is not None:
                ways.append(where(skips, cat([never, never, state[:, :-2]], 1), NEVER))
            state = where(taken > t, logsumexp(stack(ways, -1), -1) + emitted, state)
        kept = where(taken > t, total(exp(log_probs[t]), 1, True), 0.0)
        probability = probability + kept
    ends = where(logical_or_ends(place, given), state, NEVER)
    loss = -logsumexp(ends, 1)
    possible = loss < 1e29
    loss = where(possible, loss, 0.0 if zero else float("inf"))
    # PyTorch's gradient is that behind a log-softmax: of the sum of probabilities, which is 1, too
    probability = squeeze(probability, 1)
    loss = loss + where(possible, probability - apply("detach", [probability]), 0.0)
    if reduction == "mean":
        loss = loss / clamp(cast(lengths[1], "float32"), min=1.0)
    return reduced(loss, reduction)


def logical_or_ends(place: np.ndarray, given: Tensor):
    """Where a sequence may end: at its last label or the blank behind it."""
    return logical_or(eq(given * 2, place), eq(given * 2 - 1, place))


def ctc_loss(log_probs, targets, input_lengths, target_lengths, blank: int = 0, reduction: str = "mean",
             zero_infinity: bool = False):
    """Connectionist temporal classification: minus the logarithm of the probability of a sequence, over all alignments.

    Parameters
    ----------
    log_probs : array (T, N, C), or (T, C) of one sequence, float32
        Logarithms of the probabilities of classes at each time.
    targets : array (N, S) of integers, or (sum of target_lengths,), one behind the other
        Classes of each sequence, none of them blank.
    input_lengths, target_lengths : sequence or array of N integers, or one
        How many times and targets of each sequence count.
    blank : int, default 0
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides each by its target length first.
    zero_infinity : bool, default False
        0 for sequences that fit no alignment, in place of infinity.

    Returns
    -------
    ndarray, float32
        A scalar array, or (N,), () for one sequence. The gradient is that behind a log-softmax, as PyTorch's.

    References
    ----------
    A. Graves et al., "Connectionist temporal classification", ICML 2006.
    """
    op, one = "ctc_loss", len(getattr(log_probs, "shape", ())) == 2
    lengths = []
    for name, value in (("input_lengths", input_lengths), ("target_lengths", target_lengths)):
        if not isinstance(value, Tensor):
            value = np.asarray(value)
            if value.dtype.kind not in "iu":
                fail(op, f"{name} has dtype {value.dtype}: expected integers", TypeError)
            value = value.reshape(-1).astype(np.int64)
        lengths.append(value)
    if one:
        log_probs = unsqueeze(log_probs, 1) if isinstance(log_probs, Tensor) else np.asarray(log_probs)[:, None]
    rows = len(getattr(targets, "shape", ()))
    if not isinstance(lengths[0], Tensor) and not isinstance(log_probs, Tensor) and np.ndim(log_probs) == 3:
        if lengths[0].size and (lengths[0].max() > len(log_probs) or lengths[0].min() < 0):
            fail(op, f"input_lengths has {lengths[0].max()}: expected 0 to {len(log_probs)}")
    if rows == 1 and not isinstance(targets, Tensor) and not isinstance(lengths[1], Tensor):
        flat, counts = np.asarray(targets), lengths[1]
        if counts.size and counts.min() < 0 or counts.sum() > flat.size or not one and counts.sum() != flat.size:
            fail(op, f"target_lengths adds up to {counts.sum()}: targets of shape {flat.shape}")
        targets = np.zeros((len(counts), int(counts.max(initial=0))), flat.dtype)
        for i, (start, size) in enumerate(zip(np.cumsum(counts) - counts, counts, strict=True)):
            targets[i, :size] = flat[start:start + size]
    elif rows == 1:
        targets = unsqueeze(targets, 0) if isinstance(targets, Tensor) else np.asarray(targets)[None]
    if not isinstance(lengths[1], Tensor) and not isinstance(targets, Tensor) and np.ndim(targets) == 2 and lengths[1].size:
        if lengths[1].max() > targets.shape[1] or lengths[1].min() < 0:
            fail(op, f"target_lengths has {lengths[1].max()}: expected 0 to {targets.shape[1]}")
    loss = of_padded(log_probs, targets, lengths[0], lengths[1], blank, reduction, zero_infinity)
    return loss if not one or reduction != "none" else squeeze(loss, 0) if isinstance(loss, Tensor) else loss[0]
