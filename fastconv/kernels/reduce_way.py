"""How a reduction is done, and what can be asked of it."""

from __future__ import annotations

from dataclasses import dataclass

from fastconv.kernels.axes import axes_of, collapsed, count, forward, ordered

SUM, DOT, PROD, MAX, MIN, ARGMAX, ARGMIN, LOGSUMEXP, MOMENTS = range(9)
PLAIN, ABS, POWER, NONZERO, NAN_TO_ZERO, NUMBER = range(6)
VALUE, MEAN, SQRT, ROOT, INDEX, COUNT, TRUTH, VAR, STD, RSTD = range(10)
ONE_BY_ONE, SIDE_BY_SIDE, TURNED = range(3)

# (reduction, what is done to x before it, what becomes of it)
OPERATIONS = {
    "sum": (SUM, PLAIN, VALUE),
    "mean": (SUM, PLAIN, MEAN),
    "dot": (DOT, PLAIN, VALUE),                    # of x and z
    "squares": (DOT, PLAIN, VALUE),                # of x and x, as the next two
    "norm": (DOT, PLAIN, SQRT),
    "rms": (DOT, PLAIN, RSTD),                     # 1 / sqrt(mean of squares + eps)
    "abs_sum": (SUM, ABS, VALUE),
    "powers": (SUM, POWER, VALUE),                 # of |x|^p, as the next
    "norm_p": (SUM, POWER, ROOT),
    "abs_max": (MAX, ABS, VALUE),
    "abs_min": (MIN, ABS, VALUE),
    "prod": (PROD, PLAIN, VALUE),
    "max": (MAX, PLAIN, VALUE),
    "min": (MIN, PLAIN, VALUE),
    "argmax": (ARGMAX, PLAIN, INDEX),              # y2: the maximum
    "argmin": (ARGMIN, PLAIN, INDEX),
    "logsumexp": (LOGSUMEXP, PLAIN, VALUE),
    "moments": (MOMENTS, PLAIN, VALUE),            # y: mean, y2: sum of squared distances from it
    "var": (MOMENTS, PLAIN, VAR),                  # y2: the mean, as the next two
    "std": (MOMENTS, PLAIN, STD),
    "rstd": (MOMENTS, PLAIN, RSTD),                # 1 / sqrt(variance + eps)
    "any": (MAX, NONZERO, TRUTH),
    "all": (MIN, NONZERO, TRUTH),
    "count_nonzero": (SUM, NONZERO, COUNT),
    "nansum": (SUM, NAN_TO_ZERO, VALUE),
    "numbers": (SUM, NUMBER, VALUE),               # how many are not NaN
}
# of whole numbers, in int64: y of int64 for sums and products, else of the dtype of x, as is y2 of the last two
WHOLE = {f"whole_{name}": OPERATIONS[name] for name in ("sum", "prod", "max", "min", "argmax", "argmin")}
ALL = {**OPERATIONS, **WHOLE, "root": (SUM, PLAIN, SQRT)}  # of sums of squares
TWO_RESULTS = ("argmax", "argmin", "moments", "var", "std", "rstd", "whole_argmax", "whole_argmin")
RESULTS = {INDEX: "int64", COUNT: "int64", TRUTH: "bool"}  # the dtype of y; else float32, as that of y2, but for WHOLE

RUN, BLOCK = 256, 4096       # as in reduce.inl.h
BESIDE, COPIED = 1024, 256    # results side by side at most; where rows are copied together
SHORT = 32                   # reduced elements up to which results are turned side by side
WORK, MOST, LONGEST = 16384, 256, 1 << 24  # elements of a range at least; ranges of one step; elements of a range at most


@dataclass
class Way:
    """How a reduction is done: its axes, in which order its elements are taken, and into which ranges they are cut."""

    kept: list
    reduced: list
    moved: list
    order: int
    lanes: int
    pack: int
    spread: int
    parts: int
    per_part: int
    fields: int

    @property
    def part_floats(self):
        """Floats of the states of the ranges."""
        return self.parts * self.fields * count(self.kept) if self.parts > 1 else 0


def way(*, shape, axes, operation, x, z=None, y=None, y2=None, batched=False) -> Way:
    """The way of a reduction over ``axes`` of ``shape``; operands are (address, strides per dimension, dtype).

    Strides, dtypes and the planned shape decide; where the batch is kept, not how many images it has.
    """
    reduction, before, _ = ALL[operation]
    none = (0,) * len(shape)
    strides = [x[1], z[1] if z else none, y[1] if y else none, y2[1] if y2 else none]
    reduced = axes_of(shape, [d for d in range(len(shape)) if d in axes], [*strides[:2], none, none], batched)
    kept = axes_of(shape, [d for d in range(len(shape)) if d not in axes], strides, batched)
    arg = reduction in (ARGMAX, ARGMIN)
    moved = [a + b for a, b in zip(forward(kept) or [0] * 4, (not arg and forward(reduced)) or [0] * 4, strict=True)]
    kept = collapsed(ordered(kept))
    reduced = collapsed(reduced if arg else ordered(reduced))
    first = kept[-1] if kept else None
    order, spread = which(kept, reduced, x[2]), 1
    if not arg and operation not in WHOLE and spreads(kept, reduced, z is not None):
        order, spread = SIDE_BY_SIDE, reduced.pop().extent
    elements, lanes, pack = count(reduced), 1, 1
    if order != ONE_BY_ONE:
        assert first is not None
        unit = spread > 1 or first.strides[0] == 1
        lies = unit and x[2] == "float32" and before == PLAIN and (
            not z or (z[2] == "float32" and (spread > 1 or first.strides[1] == 1)))
        most = max(1, (BESIDE if lies else COPIED) // spread)
        lanes = -(-first.extent // max(1, -(-first.extent // most)))
        lanes = lanes if spread > 1 else max(16, -(-lanes // 16) * 16)
        if packs(first, reduced, order, z is not None) and spread == 1:
            pack = max(1, min(COPIED // first.extent, elements // 64))
            lanes = first.extent if pack > 1 else lanes
    parts, per_part = cut(kept, elements, first.extent if first and order != ONE_BY_ONE else 1, lanes, pack, spread)
    return Way(kept, reduced, moved, order, lanes, pack, spread, parts, per_part, 2 if reduction >= ARGMAX else 1)


def packs(first, reduced, order, two) -> bool:
    """Whether rows of results lie one behind the other, and are short."""
    return (order == SIDE_BY_SIDE and len(reduced) == 1 and first.extent <= COPIED // 2 and not first.per_image
            and all(first.strides[i] == 1 and reduced[0].strides[i] == first.extent for i in range(1 + two)))


def spreads(kept, reduced, two) -> bool:
    """Whether a few elements of each result, and the results, lie side by side, and there are more of them elsewhere."""
    if not kept or len(reduced) < 2:
        return False
    k, r = kept[-1], reduced[-1]
    return (1 < r.extent <= COPIED // 2 and not r.per_image and count(reduced[:-1]) >= 16
            and all(r.strides[i] == 1 and k.strides[i] == r.extent for i in range(1 + two)))


def which(kept, reduced, dtype) -> int:
    """In which order the elements are taken: by what lies side by side, and how much of it."""
    if not kept or not reduced:
        return SIDE_BY_SIDE if kept else ONE_BY_ONE
    k, r = kept[-1], reduced[-1]
    if r.strides[0] == 1:
        short = (count(reduced) <= SHORT or r.extent < SHORT) and k.extent >= 8 and dtype == "float32"
        return TURNED if short else ONE_BY_ONE
    near = [abs(s) or float("inf") for s in (k.strides[0], r.strides[0])]
    return SIDE_BY_SIDE if near[0] <= near[1] and k.extent > 1 else ONE_BY_ONE


def cut(kept, elements, inner, lanes, pack, spread) -> tuple:
    """(ranges, elements of each) of every result, so that there are tiles for many threads."""
    width = min(inner, lanes)
    tiles = max(1, count(kept, fixed=True) // max(1, width))
    width *= spread
    unit = RUN * pack if width > 1 else BLOCK
    per = max(-(-WORK // max(1, width)), -(-elements // max(1, MOST // tiles)))
    per = min(-(-per // unit) * unit, LONGEST)
    return max(1, -(-elements // per)), per
