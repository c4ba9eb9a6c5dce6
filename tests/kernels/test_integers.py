"""Programs, reductions and scans of whole numbers against NumPy's of int64, which wrap round as well; for equality."""

import numpy as np
import pytest
from fastconv.kernels._runtime import StepList

from fastconv.kernels import map as kernels
from fastconv.kernels import reduce

from . import guarded as memory
from .reduce_problems import operand, strided


def guarded(shape, dtype):
    return memory.guarded(shape, 77, dtype)


LEAST, MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
EDGES = np.array([0, 1, -1, 2, -2, 3, 7, -7, 2**24 + 1, -2**24 - 1, 2**31, -2**31, 2**53 + 1, MOST, LEAST, MOST - 1,
                  LEAST + 1])


def wrapped(values):
    """Python's integers, which have no end, as int64."""
    return np.array([(v + 2**63) % 2**64 - 2**63 for v in values], np.int64)


def power(x, z):
    def one(p, e):
        return pow(p, e, 2**64) if e >= 0 else 1 if p == 1 else (-1) ** (e % 2) if p == -1 else 0

    return wrapped(map(one, x.tolist(), z.tolist()))


def shift(x, z, left):
    places = np.minimum(z, 64).tolist()
    return wrapped(p << e if left else p >> e for p, e in zip(x.tolist(), places, strict=True))


MEANT = {
    "copy": lambda x: x, "add": np.add, "sub": np.subtract, "mul": np.multiply, "fma": lambda x, z, w: x * z + w,
    "pow": power, "maximum": np.maximum, "minimum": np.minimum, "fmax": np.maximum, "fmin": np.minimum, "eq": np.equal,
    "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor, "logical_not": np.logical_not,
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor,
    "where": lambda x, z, w: np.where(x != 0, z, w), "clamp": lambda x, z, w: np.minimum(np.maximum(x, z), w),
    "isnan": np.zeros_like, "isinf": np.zeros_like, "isfinite": np.ones_like, "signbit": lambda x: x < 0,
    "neg": np.negative, "abs": np.abs, "sign": np.sign, "floor": lambda x: x, "ceil": lambda x: x, "round": lambda x: x,
    "trunc": lambda x: x, "square": np.square, "relu": lambda x: np.maximum(x, 0),
}
DIVISIONS = {
    "div_trunc": lambda x, z: np.where((x < 0) == (z < 0), 1, -1) * (np.abs(x) // np.abs(z)), "div_floor": np.floor_divide,
    "fmod": np.fmod, "remainder": np.remainder}
SHIFTS = {"shift_left": True, "shift_right": False}


def run(program, result, inputs, y, shape, threads=1, zero=None):
    views = [np.broadcast_to(x, shape) for x in inputs]
    step = kernels.map(shape=shape, inputs=[operand(x) for x in views], outputs=[operand(y)], program=program,
                       results=[result], whole=True, zero=0 if zero is None else zero.ctypes.data)
    StepList([step], 1).run(threads)


def one(name, *inputs, zero=None, dtype=np.int64):
    shape = np.broadcast_shapes(*(x.shape for x in inputs))
    y = guarded(shape, dtype)
    run([(name, *range(len(inputs)))], len(inputs), inputs, y, shape, zero=zero)
    return y


def test_every_instruction_is_tested():
    assert kernels.WHOLE == {*MEANT, *DIVISIONS, *SHIFTS} and kernels.WHOLE <= set(kernels.OPERANDS)


@pytest.mark.parametrize("name", MEANT)
def test_instructions(name):
    count = kernels.OPERANDS[name]
    rng = np.random.default_rng(0)
    grids = [g.ravel() for g in np.meshgrid(*[EDGES] * count)]
    inputs = [np.concatenate([g, rng.integers(LEAST, MOST, 3000), rng.integers(-9, 9, 3000)]) for g in grids]
    with np.errstate(all="ignore"):
        want = np.asarray(MEANT[name](*inputs)).astype(np.int64)
    np.testing.assert_array_equal(one(name, *inputs), want)
    small = [x.astype(np.int32) for x in inputs]
    if name in ("add", "sub", "mul", "square", "neg", "bitwise_xor", "fma"):  # the low bits
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(one(name, *small, dtype=np.int32), MEANT[name](*small))


@pytest.mark.parametrize("name", DIVISIONS)
def test_divisions(name):
    rng = np.random.default_rng(0)
    x, z = (g.ravel() for g in np.meshgrid(EDGES, EDGES))
    x, z = (np.concatenate([a, rng.integers(LEAST, MOST, 2000), rng.integers(-40, 40, 2000)]) for a in (x, z))
    zero, null = np.zeros(2, np.int64), z == 0
    got = one(name, x, z, zero=zero)
    assert zero.tolist() == [1, 0] and not got[null].any()
    keep = ~null & ~((x == LEAST) & (z != 1)) & (z != LEAST)  # |LEAST| is no int64 of NumPy's
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(got[keep], DIVISIONS[name](x[keep], z[keep]))
    assert one(name, np.array([LEAST]), np.array([-1]))[0] == (LEAST if name.startswith("div") else 0)
    zero[:] = 0
    one(name, x[~null], z[~null], zero=zero)
    assert not zero.any()


@pytest.mark.parametrize("name", SHIFTS)
def test_shifts(name):
    x, z = (g.ravel() for g in np.meshgrid(EDGES, np.arange(-3, 70)))
    z = np.where(z < 0, 69, z)
    np.testing.assert_array_equal(one(name, x, z), shift(x, z, SHIFTS[name]))
    np.testing.assert_array_equal(one(name, x, np.full_like(x, -1)), shift(x, np.full_like(x, 69), SHIFTS[name]))


@pytest.mark.parametrize("dtypes", [("int64", "int64"), ("int32", "int64"), ("uint8", "int8"), ("bool", "uint8"),
                                    ("int64", "bool")])
@pytest.mark.parametrize("shape, order, flips", [
    ((1,), None, ()), ((0, 3), None, ()), ((2049,), None, (0,)), ((700, 3), None, ()), ((3, 700), (1, 0), ()),
    ((5, 6, 7, 8), (0, 2, 3, 1), (1,)), ((2, 3, 5000), None, ()), ((4, 16, 33), (2, 1, 0), ())])
def test_layouts(shape, order, flips, dtypes):
    rng = np.random.default_rng(0)
    x, z = (strided(rng.integers(-2**62, 2**62, shape).astype(dtype), order if i else None, 1, flips)
            for i, dtype in enumerate(dtypes))
    row = rng.integers(-9, 9, shape[-1:])
    program = [("mul", 0, 2.0), ("add", 3, 1), ("sub", 4, 2), ("add", 5, -3.0)]
    with np.errstate(all="ignore"):
        want = (x.astype(np.int64) * 2 + z.astype(np.int64) - row - 3)
    for out in (np.int64, np.int32, np.uint8, bool):
        kept = None
        for threads in (1, 2):
            y = guarded(shape, out)
            run(program, 6, [x, z, row], y, shape, threads)
            np.testing.assert_array_equal(y, want.astype(out))
            assert kept is None or np.array_equal(kept, y)
            kept = y
    y = guarded(shape, np.int64)
    if len(shape) > 1:  # with a batch of the run
        views = [np.broadcast_to(v, shape) for v in (x, z, row)]
        step = kernels.map(shape=(1, *shape[1:]), inputs=[operand(v) for v in views], outputs=[operand(y)], program=program,
                           results=[6], whole=True, batched=True)
        steps = StepList([step], max(1, shape[0]))
        steps.set_batch(shape[0])
        steps.run(2)
        np.testing.assert_array_equal(y, want)


NUMPY = {"sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min}


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "int8", "bool"])
@pytest.mark.parametrize("shape, axes, order, flips", [
    ((7,), (0,), None, ()), ((1, 1), (1,), None, ()), ((3, 5000), (1,), None, ()), ((300, 33), (0,), None, ()),
    ((300, 130), (0,), None, (0,)), ((17, 2, 17, 1), (0, 2, 3), None, ()), ((2, 17, 40, 5), (0, 2, 3), (0, 2, 3, 1), ()),
    ((6, 7, 8), (1,), None, (0, 1)), ((6, 7, 8), (0, 2), (2, 1, 0), ()), ((40, 9), (1,), (1, 0), ()),
    ((2, 3), (), None, ())])
def test_reductions(shape, axes, order, flips, dtype):
    rng = np.random.default_rng(0)
    x = strided(rng.integers(-2**62, 2**62, shape).astype(dtype), order, 1, flips)
    kept = tuple(s for d, s in enumerate(shape) if d not in axes)
    for name, meant in NUMPY.items():
        out = np.int64 if name in ("sum", "prod") else x.dtype
        with np.errstate(all="ignore"):
            want = meant(x, axis=axes, dtype=np.int64) if name in ("sum", "prod") else meant(x, axis=axes)
        for threads in (1, 2):
            y = guarded(kept, out)
            under = np.expand_dims(y, axes) if axes else y
            step = reduce.reduce(shape=shape, axes=axes, operation=f"whole_{name}", x=operand(x), y=operand(under))
            StepList([step], 1).run(threads)
            np.testing.assert_array_equal(y, want, f"{name}")
    if len(axes) == 1:
        for name, meant in (("argmax", np.argmax), ("argmin", np.argmin)):
            y, y2 = guarded(kept, np.int64), guarded(kept, x.dtype)
            step = reduce.reduce(shape=shape, axes=axes, operation=f"whole_{name}", x=operand(x),
                                 y=operand(np.expand_dims(y, axes)), y2=operand(np.expand_dims(y2, axes)))
            StepList([step], 1).run(2)
            np.testing.assert_array_equal(y, meant(x, axis=axes[0]), name)
            np.testing.assert_array_equal(y2, NUMPY[name[3:]](x, axis=axes))


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("shape, axis, order, flips", [
    ((7,), 0, None, ()), ((3, 500), 1, None, ()), ((300, 33), 0, None, ()), ((2, 17, 40, 5), 2, (0, 2, 3, 1), ()),
    ((6, 7, 8), 1, None, (0, 1)), ((3, 0), 1, None, ())])
def test_scans(shape, axis, order, flips, dtype):
    rng = np.random.default_rng(0)
    x = strided(rng.integers(-2**62, 2**62, shape).astype(dtype), order, 1, flips)
    for name, meant in (("cumsum", np.cumsum), ("cumprod", np.cumprod), ("cummax", np.maximum.accumulate),
                        ("cummin", np.minimum.accumulate)):
        extreme = name in ("cummax", "cummin")
        for backwards in (False, True):
            turned = np.flip(x, axis) if backwards else x
            with np.errstate(all="ignore"):
                want = meant(turned, axis) if extreme else meant(turned, axis, dtype=np.int64)
            want = np.flip(want, axis) if backwards else want
            y = guarded(shape, x.dtype if extreme else np.int64)
            y2 = np.full(shape, -7, np.int64) if extreme else None
            step = reduce.scan(shape=shape, axis=axis, operation=name, x=operand(x), y=operand(y),
                               y2=None if y2 is None else operand(y2), backwards=backwards, whole=True)
            StepList([step], 1).run(2)
            np.testing.assert_array_equal(y, want, name)
            if extreme and x.size:
                np.testing.assert_array_equal(np.take_along_axis(x, y2, axis), want)
