"""Programs of elementwise instructions against float64, at whatever instruction set FASTCONV_ISA asks for."""

import math

import numpy as np
import pytest
from fastconv.kernels._runtime import Memory, StepList

from fastconv.kernels import elementwise
from fastconv.kernels import map as kernels

from .guarded import guarded

TINY = np.float32(1.17549435e-38)
INF, NAN = math.inf, math.nan


def operand(array):
    return array.ctypes.data, tuple(s // array.itemsize for s in array.strides), str(array.dtype)


def run(program, results, inputs, outputs, shape, threads=1, batch=None, planned=None):
    """Runs on arrays of any strides; inputs that are tuples are operands already."""
    views = [x if isinstance(x, tuple) else np.broadcast_to(x, shape) for x in inputs]
    given = [x if isinstance(x, tuple) else operand(x) for x in views]
    step = kernels.map(shape=shape, inputs=given, outputs=[operand(y) for y in outputs], program=program, results=results,
                       batched=batch is not None)
    steps = StepList([step], planned or max(1, batch or 1))
    steps.set_batch(1 if batch is None else batch)
    steps.run(threads)


def one(name, *inputs, threads=1):
    shape = np.broadcast_shapes(*(np.shape(x) for x in inputs))
    y = guarded(shape)
    run([(name, *range(len(inputs)))], [len(inputs)], inputs, [y], shape, threads)
    return y


def flushed(x):
    """Denormal floats as zeros of their sign."""
    return np.where(np.abs(x) < TINY, np.copysign(np.float32(0), x), x).astype(np.float32)


SPECIAL = flushed(np.array(
    [0, -0.0, 1, -1, 0.5, -0.5, 0.75, 2, -2, 3, -3, 8, 10, 100, INF, -INF, NAN, 1e-45, TINY, -TINY, 1e-30, -1e-30,
     3.4e38, -3.4e38, 88.7, -103, 89.5, 0.6931472, 1.5, -1.5, 2.5, -2.5, 3.5, 1 - 2**-24, -1 + 2**-24, 1 + 2**-23,
     8388607.5, 8388609, 2**24, 1e10, 3.1415927, 1.5707964, 20, -20, 0.7071068, 1048575.9, 1048576.1], np.float32))


def everywhere():
    """Floats from all of their range, more of them where functions change."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 20000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    bits = bits[~np.isnan(bits)]
    powers = 10.0 ** rng.uniform(-20, 20, 4000)
    x = np.concatenate([SPECIAL, bits, np.linspace(-12, 12, 6001), np.linspace(-110, 110, 4001),
                        np.linspace(-1.001, 1.001, 4001), powers, -powers])
    with np.errstate(invalid="ignore"):
        return flushed(x.astype(np.float32))


def digamma(x):
    if x <= 0 and (x == int(x) or math.isinf(x)):
        return math.copysign(INF, -x) if x == 0 else NAN
    if x < 0:
        r = math.remainder(x, 1)
        return digamma(1 - x) - math.pi / math.tan(math.pi * r)
    total = 0.0
    while x < 50:
        total -= 1 / x
        x += 1
    return total + math.log(x) - 1 / (2 * x) - 1 / (12 * x * x) + 1 / (120 * x**4) if x < 1e30 else math.log(x)


def trigamma(x):
    if x != x or x == -INF:
        return NAN
    if x <= 0 and x == int(x):
        return INF
    if x < 0:
        return (math.pi / math.sin(math.pi * math.remainder(x, 1))) ** 2 - trigamma(1 - x)
    total = 0.0
    while x < 50:
        total += 1 / (x * x)
        x += 1
    return total + 1 / x + 1 / (2 * x * x) + 1 / (6 * x**3) - 1 / (30 * x**5) if x < 1e30 else 1 / x


def erfinv(x):
    if not abs(x) < 1:
        return math.copysign(INF, x) if abs(x) == 1 else NAN
    if abs(x) < 1e-3:
        return math.sqrt(math.pi) / 2 * (x + math.pi / 12 * x**3)
    low, high = 0.0, 6.0  # erfc is exact near 1, where erf is not
    for _ in range(80):
        y = (low + high) / 2
        less = math.erf(y) < abs(x) if abs(x) < 0.5 else math.erfc(y) > 1 - abs(x)
        low, high = (y, high) if less else (low, y)
    return math.copysign(low, x)


def lgamma(x):
    if x == -INF or (x <= 0 and x == int(x)):
        return INF
    return math.lgamma(x)


def elementwise_of(function):
    def each(x):
        return np.array([NAN if v != v else function(v) for v in x.ravel().tolist()]).reshape(x.shape)

    return each


UNARY = {
    "copy": lambda x: x, "neg": np.negative, "abs": np.abs, "floor": np.floor, "ceil": np.ceil, "round": np.rint,
    "trunc": np.trunc,
    "sign": lambda x: np.where(np.isnan(x), 0, np.sign(x)), "frac": lambda x: x - np.trunc(x), "reciprocal": lambda x: 1 / x,
    "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "square": np.square, "relu": lambda x: np.maximum(x, 0),
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "softplus": lambda x: np.logaddexp(0, x),
    "silu": lambda x: x / (1 + np.exp(-x)), "expm1_negative": lambda x: np.expm1(np.minimum(x, 0)),
    "normal_cdf": elementwise_of(lambda x: math.erfc(-x / 2**0.5) / 2),
    "erf": elementwise_of(math.erf), "erfc": elementwise_of(math.erfc), "erfinv": elementwise_of(erfinv),
    "lgamma": elementwise_of(lgamma), "digamma": elementwise_of(digamma), "trigamma": elementwise_of(trigamma),
    "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite, "signbit": np.signbit, "logical_not": np.logical_not,
}


def python_remainder(x, z):
    m = np.fmod(x, z)
    return np.where((m != 0) & ((m < 0) != (z < 0)), m + z, m)


BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "div_trunc": lambda x, z: np.trunc(x / z),
    "fmod": np.fmod, "remainder": python_remainder, "pow": np.power, "maximum": np.maximum, "minimum": np.minimum,
    "fmax": np.fmax,
    "fmin": np.fmin, "atan2": np.arctan2, "hypot": np.hypot, "copysign": np.copysign, "eq": np.equal, "ne": np.not_equal,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "logical_and": np.logical_and,
    "logical_or": np.logical_or, "logical_xor": np.logical_xor,
}
#: Units in the last place; what is a bound on the absolute error, in it.
LIMIT = {"exp": 2, "log": 2, "tanh": 2, "sigmoid": 3, "silu": 3.5, "expm1_negative": 2, "rsqrt": 1.6}
ABSOLUTE = {"normal_cdf": 1e-7, "silu": 3e-37}
TESTED_ELSEWHERE = {"shift_left", "shift_right", "fma", "div_floor", "nextafter", "where", "clamp", "bitwise_and",
                    "bitwise_or", "bitwise_xor"}
ACTIVATIONS = {"elu", "hardsigmoid", "hardswish", "gelu", "gelu_tanh", "leaky_relu"}  # in test_elementwise.py
ACTIVATIONS |= {f"{name}_backward" for name in (*ACTIVATIONS, "relu", "sigmoid", "silu", "tanh")}


def close(got, want, limit, absolute=0.0):
    """Whether every float is within so many units in the last place of the float64; denormal ones may be zero."""
    with np.errstate(all="ignore"):
        rounded = flushed(want.astype(np.float32))
        unit = np.spacing(np.maximum(np.abs(rounded), TINY)).astype(np.float64)
        error = np.abs(got.astype(np.float64) - want)
    good = (got == rounded) | (np.isnan(got) & np.isnan(rounded)) | (error <= limit * unit) | (error <= absolute)
    return good | ((np.abs(want) <= 1.0001 * TINY) & (np.abs(got) <= TINY))


def test_every_instruction_is_tested():
    assert set(kernels.OPERANDS) == {*UNARY, *BINARY, *TESTED_ELSEWHERE, *ACTIVATIONS}
    assert all(kernels.OPERANDS[name] == 1 for name in UNARY) and all(kernels.OPERANDS[name] == 2 for name in BINARY)


@pytest.mark.parametrize("name", UNARY)
def test_unary(name):
    x = everywhere()
    if name in ("lgamma", "digamma", "trigamma"):  # towards -infinity the reference loses its poles
        x = x[~(x < -1e4) | (x == -INF)]
        x = x[x != -INF] if name != "lgamma" else x
    with np.errstate(all="ignore"):
        want = np.asarray(UNARY[name](x.astype(np.float64)), np.float64)
    got = one(name, x)
    good = close(got, want, LIMIT.get(name, 0.51), ABSOLUTE.get(name, 0.0))
    if name in ("lgamma", "digamma", "trigamma"):  # next to a root, the reference's own error
        with np.errstate(invalid="ignore"):
            good |= np.abs(got - want) < 1e-12 * np.maximum(1, np.abs(x))
    bad = np.flatnonzero(~good)
    assert bad.size == 0, [(x[i], got[i], want[i]) for i in bad[:5]]
    if name in ("abs", "neg", "round", "floor", "ceil", "trunc", "sin", "tan", "asin", "atan", "sinh", "tanh", "asinh",
                "atanh", "expm1", "log1p", "erf", "erfinv", "sqrt", "copy"):
        signs = np.signbit(one(name, np.array([0, -0.0], np.float32)))
        want = {"abs": [False, False], "neg": [True, False]}.get(name, [False, True])
        np.testing.assert_array_equal(signs, want)


@pytest.mark.parametrize("name", BINARY)
def test_binary(name):
    rng = np.random.default_rng(1)
    x = everywhere()
    first = np.concatenate([np.repeat(SPECIAL, len(SPECIAL)), x, x[rng.permutation(x.size)]])
    second = np.concatenate([np.tile(SPECIAL, len(SPECIAL)), x[rng.permutation(x.size)],
                             rng.integers(-9, 10, x.size).astype(np.float32)])
    a, b = first.astype(np.float64), second.astype(np.float64)
    with np.errstate(all="ignore"):
        want = np.asarray(BINARY[name](a, b), np.float64)
        if name == "div_trunc":  # of the quotient in float32
            want = np.trunc(flushed(first / second)).astype(np.float64)
    got = one(name, first, second)
    bad = np.flatnonzero(~close(got, want, 0.51))
    assert bad.size == 0, [(first[i], second[i], got[i], want[i]) for i in bad[:5]]


def test_floor_division():
    rng = np.random.default_rng(2)
    x = np.concatenate([np.repeat(SPECIAL, len(SPECIAL)), rng.integers(-1000, 1000, 5000), rng.standard_normal(5000)])
    z = np.concatenate([np.tile(SPECIAL, len(SPECIAL)), rng.integers(-9, 10, 5000), rng.standard_normal(5000)])
    x, z = x.astype(np.float32), z.astype(np.float32)
    got = one("div_floor", x, z)
    with np.errstate(all="ignore"):
        a, b = x.astype(np.float64), z.astype(np.float64)
        want = np.where(b == 0, a / b, np.floor_divide(a, b))
    some = np.isfinite(a) & np.isfinite(b) & (np.abs(want) < 2**52)
    np.testing.assert_array_equal(got[some], want[some].astype(np.float32))
    assert np.isnan(got[np.isnan(a) | np.isnan(b) | np.isinf(a) & (b != 0)]).all()


def test_choice_and_bits():
    x, z = everywhere()[:3000], everywhere()[1000:4000]
    condition = np.arange(3000) % 3 == 0
    np.testing.assert_array_equal(one("where", condition, x, z), np.where(condition, x, z))
    np.testing.assert_array_equal(one("clamp", x, np.float32(-2), np.float32(3)), np.clip(x, -2, 3))
    ordinary = np.abs(x) < 1e38
    with np.errstate(all="ignore"):
        step = np.nextafter(x, z)
    far = (np.abs(x) > 2 * TINY) & (np.abs(step) > 2 * TINY)
    np.testing.assert_array_equal(one("nextafter", x, z)[far], step[far])
    from_zero = one("nextafter", np.float32([0, 0, 1, NAN]), np.float32([1, -1, 1, 0]))
    np.testing.assert_array_equal(from_zero, [TINY, -TINY, 1, NAN])
    i, j = np.arange(-1500, 1500, dtype=np.int32), (np.arange(3000, dtype=np.int32) * 7919) % 4099
    for name, function in (("bitwise_and", np.bitwise_and), ("bitwise_or", np.bitwise_or), ("bitwise_xor", np.bitwise_xor)):
        np.testing.assert_array_equal(one(name, i, j), function(i, j))
    a, b, c = x[ordinary], z[ordinary], condition[ordinary]
    exact = np.random.default_rng(0).integers(-500, 500, (3, 777)).astype(np.float32)
    np.testing.assert_array_equal(one("fma", *exact), exact[0] * exact[1] + exact[2])
    np.testing.assert_array_equal(one("where", c, a, b), np.where(c, a, b))


def test_denormals_come_out_as_zeros_of_their_sign():
    x = np.float32([1e-40, -1e-40])
    for name in ("abs", "neg", "relu", "round", "mul", "maximum", "sin", "tanh", "expm1"):
        y = one(name, x, np.float32(1)) if kernels.OPERANDS[name] == 2 and name == "mul" else (
            one(name, x, np.float32([-5, -5])) if name == "maximum" else one(name, x))
        np.testing.assert_array_equal(y, [0, 0])


# ---- where operands lie -------------------------------------------------------------------------------------------
# The block: 2048 elements of one instruction or chain, 1024 of several, 512 of many; whole vectors: 16, 8 and 4 floats,
# twice that.

def integers(shape, seed=0):
    return np.random.default_rng(seed).integers(-200, 200, shape).astype(np.float32)


def ends(x):
    """The same values, before a page that nobody may touch."""
    y = guarded(x.shape)
    y[...] = x
    return y


LAYOUTS = {
    "one element": lambda: ((), integers(()), integers(())),
    "flat": lambda: ((5, 7), integers((5, 7)), integers((5, 7), 1)),
    "one less than a unit": lambda: ((31,), integers(31), integers(31, 1)),
    "a unit": lambda: ((32,), integers(32), integers(32, 1)),
    "longer than a block": lambda: ((2049,), integers(2049), integers(2049, 1)),
    "several tiles": lambda: ((3, 20001), integers((3, 20001)), integers((3, 20001), 1)),
    "a row per channel": lambda: ((999, 24), integers((999, 24)), integers(24, 1)),
    "three channels": lambda: ((4000, 3), integers((4000, 3)), integers(3, 1)),
    "rows of 49": lambda: ((6, 33, 49), integers((6, 33, 49)), integers((33, 1), 1)),
    "long rows, one value each": lambda: ((7, 3000), integers((7, 3000)), integers((7, 1), 1)),
    "a gate": lambda: ((5, 49, 64), integers((5, 49, 64)), integers((5, 1, 64), 1)),
    "a mask": lambda: ((5, 300, 6), integers((5, 300, 6)), integers((5, 300, 1), 1)),
    "both repeated": lambda: ((70, 90), integers((70, 1)), integers((1, 90), 1)),
    "all repeated": lambda: ((3, 40, 50), integers(()), integers((1, 1, 1), 1)),
    "turned": lambda: ((75, 130), integers((130, 75)).T, integers((75, 130), 1)),
    "turned in a batch": lambda: ((3, 37, 50), integers((3, 50, 37)).transpose(0, 2, 1), integers((37, 50), 1)),
    "turned, narrow": lambda: ((200, 5), integers((5, 200)).T, integers((200, 5), 1)),
    "channels last": lambda: ((2, 5, 6, 7), integers((2, 6, 7, 5)).transpose(0, 3, 1, 2), integers((2, 5, 6, 7), 1)),
    "every second": lambda: ((40, 60), integers((80, 120))[::2, ::2], integers((40, 60), 1)),
    "gaps": lambda: ((200, 24), integers((200, 40))[:, :24], integers((200, 24), 1)),
    "backwards": lambda: ((40, 70), integers((40, 70))[::-1, ::-1], integers((40, 70), 1)),
    "eight dimensions": lambda: ((2, 3, 2, 3, 2, 3, 2, 3), integers((2, 1, 2, 1, 2, 1, 2, 1)),
                                 integers((1, 3, 1, 3, 1, 3, 1, 3), 1)),
    "eight dimensions turned": lambda: ((2, 3, 2, 3, 2, 3, 2, 3), integers((3, 2, 3, 2, 3, 2, 3, 2)).transpose(),
                                        integers((2, 3, 2, 3, 2, 3, 2, 3), 1)),
    "nothing": lambda: ((3, 0, 4), integers((3, 0, 4)), integers((1, 0, 4), 1)),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("long", [False, True])
def test_layouts(name, long):
    shape, x, z = LAYOUTS[name]()
    z = ends(z)
    program = [("sub", 0, 1), ("mul", 2, 2.0), ("add", 3, 0), ("abs", 4)] if long else [("sub", 0, 1)]
    want = np.broadcast_to(np.abs(2 * (x - z) + x) if long else x - z, shape)
    outputs = [guarded(shape)]
    big = np.full(tuple(2 * e + 1 for e in shape), np.nan, np.float32)
    outputs.append(big[(*(slice(0, 2 * e, 2) for e in shape), ...)])                    # gaps
    outputs.append(np.full(shape[::-1], np.nan, np.float32).transpose())                # turned
    if len(shape) > 1:
        wide = np.full((*shape[:-1], shape[-1] + 5), np.nan, np.float32)
        outputs.append(wide[..., : shape[-1]])
    for y in outputs:
        for threads in (1, 2):
            y[...] = np.nan
            run(program, [len(program) + 1], [x, z], [y], shape, threads)
            np.testing.assert_array_equal(y, want)
    assert np.isnan(big).sum() == big.size - want.size


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "int8", "bool"])
@pytest.mark.parametrize("count", [5, 33, 5000])
def test_dtypes(dtype, count):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2 if dtype == "bool" else 100, (count, 2)).astype(dtype)
    f = integers(count)
    for view in (np.ascontiguousarray(x[:, 0]), x[:, 0], x[::-1, 1]):
        y = guarded(count)
        run([("add", 0, 1)], [2], [view, f], [y], (count,))
        np.testing.assert_array_equal(y, view.astype(np.float32) + f)
    values = (rng.standard_normal(count) * 50).astype(np.float32)
    for y in (np.full(count, 7).astype(dtype), np.full(2 * count, 7).astype(dtype)[::2]):
        run([("mul", 0, 1.0)], [1], [values], [y], (count,))
        np.testing.assert_array_equal(y, values != 0 if dtype == "bool" else values.astype(np.int64).astype(dtype))


def test_many_operands_and_results():
    shape = (50, 70)
    inputs = [ends(integers(s, i)) for i, s in enumerate([shape, (70,), (50, 1), ()] * 6)]
    program = [("add", 0, 1)]
    for i in range(2, 24):
        program.append(("add" if i % 2 else "sub", 24 + i - 2, i))
    program += [("gt", 24 + 22, 0.0), ("neg", 24 + 10)]
    want = inputs[0] + inputs[1]
    half = None
    for i in range(2, 24):
        want = want + inputs[i] if i % 2 else want - inputs[i]
        half = want.copy() if i == 11 else half
    outputs = [guarded(shape), np.zeros(shape, bool), guarded(shape), guarded(shape), guarded(shape)]
    run(program, [24 + 22, 24 + 23, 24 + 24, 0, 24 + 22], inputs, outputs, shape, 2)
    for got, expected in zip(outputs, [want, want > 0, -half, inputs[0], want], strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_value_behind_many_others():
    """More values at once than registers are given back: each is read again at the end."""
    x = ends(integers(3000))
    program = [("add", 0, float(i)) for i in range(20)]
    at = 1
    for i in range(1, 20):
        program.append(("maximum" if i % 2 else "minimum", at if i == 1 else len(program), 1 + i))
    y = guarded(x.shape)
    run(program, [len(program)], [x], [y], x.shape)
    want = x + 0
    for i in range(1, 20):
        want = np.maximum(want, x + i) if i % 2 else np.minimum(want, x + i)
    np.testing.assert_array_equal(y, want)


def test_constants():
    y = guarded(100)
    run([("copy", 2.5)], [0], [], [y], (100,))
    np.testing.assert_array_equal(y, np.full(100, 2.5))
    run([("div", 1.0, 0.0), ("div", 1.0, -0.0), ("add", 1, 0)], [2], [np.float32(0)], [y], (100,))
    assert np.isnan(y).all() or (y == -INF).all()
    program = [("copysign", 1.0, -0.0), ("copysign", 1.0, 0.0), ("sub", 1, 0.0), ("add", 1, NAN)]
    run(program, [1], [np.float32(0)], [y], (100,))
    np.testing.assert_array_equal(y, np.full(100, -1))


def test_in_place():
    x, z = ends(integers((300, 24))), ends(integers(24, 1))
    want = (x + z) * 2, x - z
    y = guarded((300, 24))
    run([("add", 0, 1), ("mul", 2, 2.0), ("sub", 0, 1)], [3, 4], [x, z], [x, y], x.shape)
    np.testing.assert_array_equal(x, want[0])
    np.testing.assert_array_equal(y, want[1])


@pytest.mark.parametrize("shape", [(4, 3, 50), (4, 1, 7), (3, 5, 2000), (4, 16, 16)])
def test_batches(shape):
    """Any batch up to the planned one; an image has its bits alone and in a batch; nothing behind the batch is written."""
    x, per_image, per_channel = integers(shape), integers((shape[0], 1, 1), 1), integers((shape[1], 1), 2)
    program = [("mul", 0, 1), ("add", 3, 2), ("sigmoid", 4)]
    whole = guarded(shape)
    run(program, [5], [x, per_image, per_channel], [whole], shape, 2, batch=shape[0])
    single = np.full(shape, np.nan, np.float32)
    for i in range(shape[0]):
        run(program, [5], [x[i:i + 1], per_image[i:i + 1], per_channel], [single[i:i + 1]], (1, *shape[1:]))
    np.testing.assert_array_equal(single, whole)
    for n in range(shape[0] + 1):
        y = np.full(shape, np.nan, np.float32)
        run(program, [5], [x, per_image, per_channel], [y], shape, 2, batch=n, planned=shape[0])
        np.testing.assert_array_equal(y[:n], whole[:n])
        assert np.isnan(y[n:]).all()


def test_merged_or_alone():
    """A chain in one program has the bits of its instructions one by one."""
    x, z = np.random.default_rng(0).standard_normal((2, 3001)).astype(np.float32)
    chain = ["tanh", "exp", "sigmoid", "square", "log1p", "sin", "erf", "rsqrt"]
    y = x
    for name in chain:
        y = one("mul", one(name, y), z) if name == "sin" else one(name, y)
    program, at = [], 0
    for name in chain:
        program.append((name, at))
        at = 1 + len(program)
        if name == "sin":
            program.append(("mul", at, 1))
            at = 1 + len(program)
    merged = guarded(x.shape)
    run(program, [at], [x, z], [merged], x.shape, 2)
    np.testing.assert_array_equal(merged, y)


@pytest.mark.parametrize("count", [7, 33, 128, 160, 161, 777, 5000])
@pytest.mark.parametrize("still", [0, 1, 2])
def test_chains(still, count):
    """What stays in registers from one instruction to the next, as each operand of each instruction, beside the instructions
    one by one; at eights of vectors and at what is left of them; with the last operands one value each."""
    rng = np.random.default_rng(count)
    given = [rng.permutation(np.resize(SPECIAL, count)) for _ in range(3)]
    if still:
        given[-still:] = [np.float32(-1.5), np.float32(2.25)][-still:]
    for name, operands in kernels.OPERANDS.items():
        for slot in range(operands):
            others = iter((1, 2))
            line = (name, *(3 if k == slot else next(others) for k in range(operands)))
            program = [("sub", 1, 0), line, ("add", 4, 0)]
            y, known = guarded(count), [*given, one("sub", given[1], given[0])]
            run(program, [5], given, [y], (count,))
            want = one("add", one(name, *(known[i] for i in line[1:])), given[0])
            np.testing.assert_array_equal(y, want, err_msg=f"{name}, operand {slot}")


def test_long_chains():
    """Random programs: chains that end where a value is read twice, is a result, or is made by what has no link; results of
    the middle; registers that are written again; in place; any threads."""
    names = [n for n in ("add", "sub", "mul", "maximum", "where", "fma", "neg", "lt", "exp", "clamp", "relu", "tanh")]
    for seed in range(60):
        rng = np.random.default_rng(seed)
        count, length, inputs = int(rng.integers(1, 9000)), int(rng.integers(2, 40)), int(rng.integers(1, 4))
        x = [rng.standard_normal(count).astype(np.float32) for _ in range(inputs)]
        program, values = [], list(x)
        for _ in range(length):
            name, last = str(rng.choice(names)), len(values) - 1
            operands = [float(rng.integers(-2, 3)) if rng.random() < 0.3 else int(rng.integers(0, last + 1))
                        for _ in range(kernels.OPERANDS[name])]
            if rng.random() < 0.8:
                operands[int(rng.integers(len(operands)))] = last
            program.append((name, *operands))
            read = [np.full(count, o, np.float32) if isinstance(o, float) else values[o] for o in operands]
            values.append(one(name, *read))
        others = rng.choice(length - 1, int(rng.integers(0, min(3, length))), replace=False)
        results = [inputs + length - 1, *(inputs + int(i) for i in others)]
        for threads in (1, 2):
            outputs = [guarded(count) for _ in results]
            run(program, results, x, outputs, (count,), threads)
            for y, at in zip(outputs, results, strict=True):
                np.testing.assert_array_equal(y, values[at], err_msg=f"seed {seed}")
        run(program, results[:1], x, [x[0]], (count,))
        np.testing.assert_array_equal(x[0], values[results[0]], err_msg=f"seed {seed}, in place")


# (shape, axes, order of the dimensions in memory of the first input; of the second, which is repeated along the others)
FOLDED = {
    "a row": ((5000,), (0,), (0,), (0,)),
    "rows": ((7, 1024), (1,), (0, 1), (0, 1)),
    "rows in pieces, one value each": ((5, 2049), (1,), (0, 1), (0,)),
    "short rows": ((100, 33), (1,), (0, 1), (1,)),
    "everything": ((6, 5, 40), (0, 1, 2), (0, 1, 2), (1,)),
    "outer and inner": ((9, 4, 65), (0, 2), (0, 1, 2), (2,)),
    "channels last, channels": ((3, 64, 5, 6), (1,), (0, 2, 3, 1), (0, 2, 3)),
    "channels last, everything": ((3, 40, 5, 6), (0, 1, 2, 3), (0, 2, 3, 1), (1,)),
    "kept in another order": ((4, 50, 3), (1,), (2, 0, 1), (0, 2)),
}


def memory_of(x, order):
    """The same values with the dimensions in this order in memory."""
    return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("operation", kernels.FOLDS)
@pytest.mark.parametrize("name", FOLDED)
def test_folds(name, operation, batched):
    """Sums of integers are exact; what is folded further on, here by NumPy, is the reduction."""
    shape, axes, order, present = FOLDED[name]
    kept = [d for d in range(len(shape)) if d not in axes]
    if batched and 0 in axes:
        pytest.skip("the batch is reduced: the graph is right for it alone")
    x = memory_of(integers(shape), order)
    z = np.broadcast_to(integers([s if d in present else 1 for d, s in enumerate(shape)], 1), shape)
    given = [operand(x), operand(z)]
    *_, parts = kernels.folded(shape, [g[1] for g in given], axes, batched)
    rows = [shape[d] for d in kept]
    function = {"sum": np.sum, "max": np.max, "min": np.min}[operation]
    want = function(x.astype(np.float64) * z + 1, axis=axes)
    for n in [shape[0]] if not batched else [shape[0], 1]:
        found = []
        for threads in (1, 2):
            part = guarded((*rows, parts))
            program = [("mul", 0, 1), ("add", 2, 1.0)]
            step = kernels.map(shape=shape, inputs=given, outputs=[(part.ctypes.data, (0,) * len(shape), "float32")],
                               program=program, results=[3], batched=batched, fold=(operation, axes))
            steps = StepList([step], shape[0] if batched else 1)
            steps.set_batch(n if batched else 1)
            steps.run(threads)
            found.append(part[:n] if batched else part)
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_array_equal(function(found[0].astype(np.float64), axis=-1), want[:n] if batched else want)


def test_folds_know_nan_and_infinities():
    for count in (32, 40, 300, 5000):
        x = np.random.default_rng(0).standard_normal((6, count)).astype(np.float32)
        x[1, -1], x[2, 0], x[3, count // 2], x[4, 7] = NAN, INF, -INF, NAN
        for operation, function in (("max", np.max), ("min", np.min), ("sum", np.sum)):
            *_, parts = kernels.folded(x.shape, [operand(x)[1]], (1,), False)
            part = guarded((6, parts))
            step = kernels.map(shape=x.shape, inputs=[operand(x)], outputs=[(part.ctypes.data, (0, 0), "float32")],
                               program=[("copy", 0)], results=[1], fold=(operation, (1,)))
            StepList([step], 1).run(1)
            np.testing.assert_allclose(function(part, axis=1), function(x.astype(np.float64), axis=1), rtol=2e-6, atol=2e-5)


def test_what_does_not_lie_along_a_row_is_not_folded():
    assert kernels.folded((4, 64, 5, 6), [(1920, 1, 384, 64)], (2, 3), True) is None  # channels last
    assert kernels.folded((40, 31), [(31, 1)], (1,), False) is None  # too short
    assert kernels.folded((40, 100), [(0, 0)], (1,), False) is None
    assert kernels.folded((40, 100), [(100, 1)], (), False) is None


def test_random_numbers():
    """Uniform numbers by their number alone: the same in any order, for any threads, in parts."""
    state = Memory(16)
    np.frombuffer(state, np.uint64)[:] = 7, 3
    shape = (40, 50, 30)
    strides = tuple(s // 4 for s in np.empty(shape, np.float32).strides)

    def draw(shape, strides, stream=0, threads=1, order="C"):
        y = np.full(shape, np.nan, np.float32, order=order)
        run([("copy", 0)], [1], [(state.address, strides, "random", stream)], [y], shape, threads)
        return y

    whole = draw(shape, strides)
    assert whole.min() >= 0 and whole.max() < 1 and abs(whole.mean() - 0.5) < 0.005 and len(np.unique(whole)) > 50000
    np.testing.assert_array_equal(draw(shape, strides, threads=2), whole)
    np.testing.assert_array_equal(draw(shape, strides, order="F"), whole)
    np.testing.assert_array_equal(draw(shape, (30, 0, 1)), np.broadcast_to(whole.reshape(-1, 30)[:40, None], shape))
    np.testing.assert_array_equal(draw((5, 7, 9), (7, 1, 0)), np.repeat(whole.ravel()[:35], 9).reshape(5, 7, 9))
    assert (draw(shape, strides, stream=1) != whole).mean() > 0.99
    np.frombuffer(state, np.uint64)[1] = 4
    assert (draw(shape, strides) != whole).mean() > 0.99
    # those of the dropout kernel: an element is dropped below p
    x, y = np.ones(6000, np.float32), guarded(6000)
    step = elementwise.dropout(x=x.ctypes.data, y=y.ctypes.data, pixels=6000, channels=1, ldx=1, ldy=1, stream=0, p=0.25,
                               state=state.address)
    StepList([step], 1).run(1)
    np.testing.assert_array_equal(y == 0, draw((6000,), (1,)) < 0.25)


def test_wrong_programs_are_refused():
    x = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="add has 2 operands, not 1"):
        run([("add", 0)], [1], [x], [x], (3,))
