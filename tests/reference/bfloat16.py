"""bfloat16 by arithmetic on float64 values, not on bits."""

import numpy as np

LARGEST = (2 - 2.0**-7) * 2.0**127


def round_bfloat16(x):
    """The nearest bfloat16, ties to even, as float64.

    A finite value stays finite (the largest bfloat16 at most); below 2**-126 it becomes a zero of its sign.
    """
    x = np.asarray(x, np.float64)
    fraction, exponent = np.frexp(x)
    y = np.ldexp(np.rint(np.ldexp(fraction, 8)), exponent - 8)  # 8 significant bits
    y = np.where(np.isfinite(x), np.clip(y, -LARGEST, LARGEST), x)
    return np.where(np.abs(x) < 2.0**-126, np.copysign(0.0, x), y)


def split_bfloat16(x, planes):
    """x as ``planes`` bfloat16 values, each the nearest to what the ones before it left; float64, first axis the plane."""
    rest, out = np.asarray(x, np.float64), []
    for _ in range(planes):
        out.append(round_bfloat16(rest))
        with np.errstate(invalid="ignore"):
            rest = rest - out[-1]
    return np.stack(out)
