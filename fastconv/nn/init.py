"""Initial values of parameters, as ``torch.nn.init``: each function fills its argument in place and returns it.

Numbers come from the generator that :func:`fastconv.manual_seed` seeds, or from the one given.
"""

from __future__ import annotations

import math
from contextlib import contextmanager

import numpy as np

from fastconv._values import shown
from fastconv.graph.parameter import Data, Parameter, allocated, written
from fastconv.graph.random import default_generator
from fastconv.nn._check import LARGEST, integer, number

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

GAINS = {"linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3,
         "relu": math.sqrt(2), "selu": 3 / 4}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Factor that keeps the variance through a nonlinearity; ``param`` is leaky_relu's slope (default 0.01)."""
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else float(param)) ** 2))
    if nonlinearity not in GAINS:
        raise ValueError(f"calculate_gain: nonlinearity={shown(nonlinearity)}: expected leaky_relu, {', '.join(GAINS)}")
    return GAINS[nonlinearity]


def fans(tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in / groups, taps...)."""
    shape = tensor.shape
    if len(shape) < 2:
        raise ValueError(f"init: fan_in and fan_out need at least 2 dimensions, not shape={shape}")
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def _without_memory(tensor) -> bool:
    """Whether it is a parameter that gets all values from elsewhere: see :func:`fastconv.graph.parameter.unallocated`."""
    return isinstance(tensor, Parameter) and not allocated(tensor)


@contextmanager
def _edit(name: str, tensor):
    if isinstance(tensor, Parameter):
        with tensor.edit() as array:
            yield array
    elif isinstance(tensor, Data):
        with written(tensor) as array:
            yield array
    elif isinstance(tensor, np.ndarray) and tensor.dtype == np.float32 and tensor.flags.carray:
        yield tensor
    else:
        raise TypeError(f"{name}: tensor is a {type(tensor).__name__}: expected a Parameter, or a writable, C-contiguous "
                        "float32 array")


def uniform_(tensor, a: float = 0.0, b: float = 1.0, generator: np.random.Generator | None = None):
    """Uniform on [a, b)."""
    if _without_memory(tensor):
        return tensor
    if not a <= b:
        raise ValueError(f"uniform_: a={a}, b={b}: a must not exceed b")
    with _edit("uniform_", tensor) as array:
        (generator or default_generator()).random(out=array, dtype=np.float32)
        array *= np.float32(b - a)
        array += np.float32(a)
    return tensor


def normal_(tensor, mean: float = 0.0, std: float = 1.0, generator: np.random.Generator | None = None):
    """Normal distribution."""
    if _without_memory(tensor):
        return tensor
    if not std >= 0:
        raise ValueError(f"normal_: std={std} must be at least 0")
    with _edit("normal_", tensor) as array:
        (generator or default_generator()).standard_normal(out=array, dtype=np.float32)
        array *= np.float32(std)
        array += np.float32(mean)
    return tensor


def trunc_normal_(tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0,
                  generator: np.random.Generator | None = None):
    """Normal distribution, given that the value lies in [a, b]."""
    if _without_memory(tensor):
        return tensor
    if not std > 0:
        raise ValueError(f"trunc_normal_: std={std} must be positive")
    if not a < b:
        raise ValueError(f"trunc_normal_: a={a}, b={b}: a must be less than b")
    generator = generator or default_generator()
    from statistics import NormalDist  # with its rational numbers, a fifth of the time that fastconv.nn takes to import

    normal = NormalDist()
    low, high = (a - mean) / std, (b - mean) / std
    side = -1.0 if low > 0 else 1.0  # work in the lower tail: the cumulative distribution near 1 has no digits left
    if side < 0:
        low, high = -high, -low
    with _edit("trunc_normal_", tensor) as array:
        left, right = normal.cdf(low), normal.cdf(high)
        if right - left > 0.05:  # drawing again those outside is much faster than inverting the distribution
            values = generator.standard_normal(array.size)
            while (outside := np.flatnonzero((values < low) | (values > high))).size:
                values[outside] = generator.standard_normal(outside.size)
        elif left < right:
            share = left + (right - left) * (1 - generator.random(array.size))  # in (left, right], so never 0
            values = np.fromiter(map(normal.inv_cdf, share), np.float64, array.size)
        else:
            raise ValueError(f"trunc_normal_: a={a}, b={b} is too far from mean={mean} with std={std}")
        values = np.clip(values * side * std + mean, a, b).reshape(array.shape)
        array[...] = np.clip(values.astype(np.float32), _inside(a, 1), _inside(b, -1))
    return tensor


def _inside(bound: float, direction: int) -> np.float32:
    """The float32 nearest to a bound that does not lie outside it."""
    value = np.float32(bound)
    if np.isfinite(value) and (float(value) - bound) * direction < 0:
        value = np.nextafter(value, np.float32(direction * np.inf))
    return value


def constant_(tensor, val: float):
    """One value everywhere."""
    if _without_memory(tensor):
        return tensor
    with _edit("constant_", tensor) as array:
        array[...] = val
    return tensor


def zeros_(tensor):
    """Zeros."""
    return constant_(tensor, 0.0)


def ones_(tensor):
    """Ones."""
    return constant_(tensor, 1.0)


def xavier_uniform_(tensor, gain: float = 1.0, generator: np.random.Generator | None = None):
    """Uniform with standard deviation ``gain * sqrt(2 / (fan_in + fan_out))`` (Glorot and Bengio, 2010)."""
    bound = gain * math.sqrt(6 / max(1, sum(fans(tensor))))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor, gain: float = 1.0, generator: np.random.Generator | None = None):
    """Normal with standard deviation ``gain * sqrt(2 / (fan_in + fan_out))`` (Glorot and Bengio, 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / max(1, sum(fans(tensor)))), generator)


def kaiming_uniform_(tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                     generator: np.random.Generator | None = None):
    """Uniform with standard deviation ``gain / sqrt(fan)`` (He et al., 2015); ``a`` is leaky_relu's slope."""
    bound = math.sqrt(3) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                    generator: np.random.Generator | None = None):
    """Normal with standard deviation ``gain / sqrt(fan)`` (He et al., 2015); ``a`` is leaky_relu's slope."""
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity), generator)


def _kaiming_std(name: str, tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"{name}: mode={shown(mode)}: expected 'fan_in' or 'fan_out'")
    fan = fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(1, fan))


def eye_(tensor):
    """Ones on the diagonal of a matrix, zeros elsewhere."""
    if len(tensor.shape) != 2:
        raise ValueError(f"eye_: tensor of shape {tuple(tensor.shape)}: expected 2 dimensions")
    if _without_memory(tensor):
        return tensor
    with _edit("eye_", tensor) as array:
        array[...] = np.eye(*array.shape)
    return tensor


def dirac_(tensor, groups: int = 1):
    """A convolution's weight that copies as many channels as it can: 1 in the middle of filter i at channel i, by groups."""
    shape = tuple(tensor.shape)
    if not 3 <= len(shape) <= 5:
        raise ValueError(f"dirac_: tensor of shape {shape}: expected 3 to 5 dimensions")
    groups = integer("dirac_", "groups", groups, 1)
    if shape[0] % groups:
        raise ValueError(f"dirac_: groups={groups} does not divide the {shape[0]} filters of shape {shape}")
    if _without_memory(tensor):
        return tensor
    with _edit("dirac_", tensor) as array:
        array[...] = 0
        per, middle = shape[0] // groups, tuple(s // 2 for s in shape[2:])
        for group in range(groups):
            for i in range(min(per, shape[1])):
                at = group * per + i, i, *middle
                array[at] = 1
    return tensor


def orthogonal_(tensor, gain: float = 1.0, generator: np.random.Generator | None = None):
    """Rows, or columns where they are fewer, of length ``gain`` at right angles, the dimensions behind the first as one
    (Saxe et al., 2013); from normal deviates by a QR decomposition."""
    shape = tuple(tensor.shape)
    if len(shape) < 2:
        raise ValueError(f"orthogonal_: tensor of shape {shape}: expected at least 2 dimensions")
    gain = number("orthogonal_", "gain", gain, -LARGEST, LARGEST)
    if _without_memory(tensor):
        return tensor
    rows, columns = shape[0], math.prod(shape[1:])
    flat = np.empty((rows, columns), np.float32)
    normal_(flat, generator=generator)
    q, r = np.linalg.qr(np.asarray(flat if rows >= columns else flat.T, np.float64))
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    with _edit("orthogonal_", tensor) as array:
        array[...] = (gain * (q if rows >= columns else q.T)).reshape(shape)
    return tensor


def sparse_(tensor, sparsity: float, std: float = 0.01, generator: np.random.Generator | None = None):
    """Normal deviates in a matrix, of which a share ``sparsity`` of each column, rounded up, is 0 (Martens, 2010)."""
    if len(tensor.shape) != 2:
        raise ValueError(f"sparse_: tensor of shape {tuple(tensor.shape)}: expected 2 dimensions")
    sparsity = number("sparse_", "sparsity", sparsity, 0, 1)
    normal_(tensor, 0.0, std, generator)
    if _without_memory(tensor):
        return tensor
    with _edit("sparse_", tensor) as array:
        rows, columns = array.shape
        draw = np.empty((columns, rows), np.float32)
        uniform_(draw, generator=generator)
        places = np.argsort(draw, axis=1)[:, :math.ceil(sparsity * rows)]
        array[places, np.arange(columns)[:, None]] = 0
    return tensor


def layer_defaults(weight: Parameter, bias: Parameter | None) -> None:
    """PyTorch's initial values of convolutions and Linear: uniform within 1 / sqrt(fan_in), weight and bias alike."""
    kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        bound = 1 / math.sqrt(max(1, fans(weight)[0]))
        uniform_(bias, -bound, bound)
