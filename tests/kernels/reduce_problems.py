"""Reductions of views by their kernels, and what they should give, in float64."""

import numpy as np
from fastconv.kernels._runtime import StepList

from fastconv.kernels import reduce as kernels
from fastconv.kernels.reduce_way import OPERATIONS, RESULTS, TWO_RESULTS, way

from .guarded import guarded


def strided(x, order=None, gaps=1, flips=()):
    """The same values in memory of their own: dimensions from outermost to innermost in this order, ``gaps`` elements apart,
    some of them backwards."""
    order = list(range(x.ndim)) if order is None else list(order)
    shape = [x.shape[d] for d in order]
    count = max(1, x.size * gaps)
    memory = guarded((count,)) if x.dtype == np.float32 else np.zeros(count, x.dtype)
    view = memory[gaps - 1::gaps][:x.size].reshape(shape).transpose(np.argsort(order))
    view = view[tuple(slice(None, None, -1) if d in flips else slice(None) for d in range(x.ndim))]
    view[...] = x
    return view


def operand(view):
    """What a step factory takes for a view."""
    return view.ctypes.data, tuple(s // view.itemsize for s in view.strides), str(view.dtype)


def results(operation, shape, axes):
    kept = tuple(1 if d in axes else s for d, s in enumerate(shape))
    dtype = RESULTS.get(OPERATIONS[operation][2], "float32")
    y = guarded(kept) if dtype == "float32" else np.full(kept, 77, dtype)
    return y, guarded(kept) if operation in TWO_RESULTS else None


def run(operation, x, axes, z=None, batched=False, n=None, threads=1, planned=None, **keywords):
    """The results of a reduction of views, kept dimensions as 1; ``planned``: the shape that the steps are made for."""
    n = n if n is not None else x.shape[0] if x.ndim else 1
    shape = tuple(planned or x.shape)
    axes = tuple(axes)
    y, y2 = results(operation, ((n, *x.shape[1:]) if batched else x.shape), axes)
    keywords = dict(shape=shape, axes=axes, operation=operation, x=operand(x), batched=batched, y=operand(y),
                    z=None if z is None else operand(z), y2=None if y2 is None else operand(y2), **keywords)
    plan = way(**{k: v for k, v in keywords.items() if k not in ("p", "correction", "eps")})
    part = guarded((plan.part_floats,)) if plan.part_floats else None
    steps = [kernels.reduce(part=0 if part is None else part.ctypes.data, **keywords)]
    if part is not None:
        steps.append(kernels.merge(part=part.ctypes.data, **keywords))
    steps = StepList(steps, shape[0] if batched else 1)
    steps.set_batch(n if batched else 1)
    steps.run(threads)
    return (y, y2) if y2 is not None else y


def expected(operation, x, axes, z=None, p=2.0, correction=0.0, eps=0.0):
    """In float64 (or what the operation gives), by NumPy."""
    axes = tuple(axes)
    x = x.astype(np.float64)
    keep = {"axis": axes, "keepdims": True}
    count = int(np.prod([x.shape[d] for d in axes]))
    if operation in ("argmax", "argmin"):
        rest = [d for d in range(x.ndim) if d not in axes]
        flat = x.transpose(*rest, *axes).reshape(*[x.shape[d] for d in rest], count)
        at = getattr(np, operation)(flat, axis=-1)  # NaN first, as in PyTorch
        shape = [1 if d in axes else s for d, s in enumerate(x.shape)]
        return at.reshape(shape), getattr(x, operation[3:])(**keep)
    with np.errstate(all="ignore"):
        mean = x.sum(**keep) / np.float64(count)
        m2 = ((x - mean) ** 2).sum(**keep)
        if operation == "logsumexp":
            top = x.max(**keep, initial=-np.inf)
            top = np.where(np.isfinite(top), top, 0.0)
            return top + np.log(np.exp(x - top).sum(**keep))
        return {"sum": lambda: x.sum(**keep), "mean": lambda: mean,
                "dot": lambda: (x * z.astype(np.float64)).sum(**keep),
                "squares": lambda: (x * x).sum(**keep), "norm": lambda: np.sqrt((x * x).sum(**keep)),
                "rms": lambda: 1 / np.sqrt((x * x).sum(**keep) / np.float64(count) + eps),
                "abs_sum": lambda: abs(x).sum(**keep), "powers": lambda: (abs(x) ** p).sum(**keep),
                "norm_p": lambda: (abs(x) ** p).sum(**keep) ** (1 / p),
                "abs_max": lambda: abs(x).max(**keep), "abs_min": lambda: abs(x).min(**keep),
                "prod": lambda: x.prod(**keep), "max": lambda: x.max(**keep), "min": lambda: x.min(**keep),
                "moments": lambda: (mean, m2), "var": lambda: (m2 / np.float64(max(0.0, count - correction)), mean),
                "std": lambda: (np.sqrt(m2 / np.float64(max(0.0, count - correction))), mean),
                "rstd": lambda: (1 / np.sqrt(m2 / np.float64(count) + eps), mean),
                "any": lambda: (x != 0).any(**keep), "all": lambda: (x != 0).all(**keep),
                "count_nonzero": lambda: (x != 0).sum(**keep),
                "nansum": lambda: np.nansum(x, **keep), "numbers": lambda: (x == x).sum(**keep)}[operation]()
