"""Arithmetic of integers is exact to the last of 64 bits, in functions and networks, merged with floats or not."""

import numpy as np
import pytest

import fastconv as fc
from fastconv import functional as F

RNG = np.random.default_rng(5)
DTYPES = [np.int64, np.int32, np.int8, np.uint8]


def some(dtype, shape=(3, 70)):
    ends = np.iinfo(dtype)
    return RNG.integers(ends.min, ends.max, shape, dtype=dtype, endpoint=True)


LOGIC = {name: getattr(np, name) for name in ("logical_and", "logical_or", "logical_xor")}
COMPARED = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}
CLOSED = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "maximum": np.maximum, "minimum": np.minimum,
          "fmax": np.fmax, "fmin": np.fmin, "bitwise_and": np.bitwise_and,
          "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor}


@pytest.mark.parametrize("dtype", [*DTYPES, np.bool_])
@pytest.mark.parametrize("shape", [(1,), (7,), (4099,), (3, 70), (40_000,), (5, 3, 1025)])
def test_runs_are_taken_as_they_lie(dtype, shape):
    """One instruction over runs of one dtype, of any length, over what is no run, and over a number."""
    x, z = (some(dtype, shape) if dtype != np.bool_ else RNG.random(shape) < 0.5 for _ in range(2))
    x.flat[: x.size // 2] = z.flat[: x.size // 2]  # equal ones among them
    apart = np.repeat(z, 2, -1)[..., ::2]
    for name, function in {**LOGIC, **COMPARED, **CLOSED}.items():
        if dtype == np.bool_ and name == "sub":
            continue
        for a, b in ((x, z), (x, apart), (x[..., ::-1], z), (x, z.flat[0]), (x, z[..., :1])):
            if not np.shape(b) and name not in COMPARED and name not in ("add", "sub", "mul"):  # PyTorch has them for these
                continue
            got, want = getattr(F, name)(a, b), function(a, b)
            assert got.dtype == want.dtype and got.shape == want.shape, name
            np.testing.assert_array_equal(got, want, name)
    np.testing.assert_array_equal(F.logical_not(x), np.logical_not(x))
    np.testing.assert_array_equal(F.logical_not(apart), np.logical_not(z))
    for number in (0, 1, 255, 256, -1, 2**31, 2**40):  # some that the dtype has, some that it has not
        wide = x.astype(np.int64)
        for name, function in COMPARED.items():
            np.testing.assert_array_equal(getattr(F, name)(x, number), function(wide, number), f"{name} {number}")
        if dtype not in (np.bool_, np.int64):
            np.testing.assert_array_equal(F.add(x, number), (wide + number).astype(dtype), f"add {number}")
            np.testing.assert_array_equal(F.mul(x, number), (wide * number).astype(dtype), f"mul {number}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("ignore:overflow")
def test_element_by_element(dtype):
    x, z = some(dtype), some(dtype)
    d = np.where(z == 0, dtype(1), z)
    least, most = int(x.min()) // 2, int(x.max()) // 2
    for name, want, *args in (
            ("add", x + z, x, z), ("sub", x - z, x, z), ("mul", x * z, x, z), ("add", x + z[0], x, z[0]),
            ("maximum", np.maximum(x, z), x, z), ("minimum", np.minimum(x, z), x, z), ("neg", -x, x), ("abs", abs(x), x),
            ("square", x * x, x), ("pow", x**3, x, 3), ("eq", x == z, x, z), ("lt", x < z, x, z), ("ge", x >= z, x, z),
            ("bitwise_and", x & z, x, z), ("bitwise_or", x | z, x, z), ("bitwise_xor", x ^ z, x, z), ("bitwise_not", ~x, x),
            ("bitwise_left_shift", x << dtype(3), x, np.full_like(x, 3)), ("floor_divide", x // d, x, d),
            ("bitwise_right_shift", x >> dtype(3), x, np.full_like(x, 3)), ("remainder", x % d, x, d),
            ("fmod", np.fmod(x, d), x, d), ("where", np.where(x > 3, x, z), x > 3, x, z), ("sign", np.sign(x), x),
            ("clamp", np.clip(x, least, most), x, least, most), ("floor", x, x), ("round", x, x),
            ("addcmul", x + z * d, x, z, d), ("masked_fill", np.where(x > 3, dtype(most), x), x, x > 3, most),
            ("remainder", x % 7, x, 7), ("eq", x == int(x[0, 0]), x, int(x[0, 0])),
            ("add", x + dtype(most), x, most), ("sub", dtype(most) - x, most, x)):
        got = getattr(F, name)(*args)
        assert got.dtype == want.dtype, name
        np.testing.assert_array_equal(got, want, name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("ignore:overflow")
def test_along_dimensions(dtype):
    x = some(dtype, (4, 33, 17))
    for dim in (0, 1, 2):
        np.testing.assert_array_equal(F.sum(x, dim), x.sum(dim, dtype=np.int64))
        np.testing.assert_array_equal(F.prod(x, dim), x.prod(dim, dtype=np.int64))
        np.testing.assert_array_equal(F.cumsum(x, dim), x.cumsum(dim, dtype=np.int64))
        np.testing.assert_array_equal(F.cumprod(x, dim), x.cumprod(dim, dtype=np.int64))
        np.testing.assert_array_equal(F.argmax(x, dim), x.argmax(dim))
        for name, meant in (("amax", np.max), ("amin", np.min)):
            got = getattr(F, name)(x, dim)
            assert got.dtype == dtype
            np.testing.assert_array_equal(got, meant(x, dim))
        values, places = F.cummax(x, dim)
        assert values.dtype == dtype
        np.testing.assert_array_equal(values, np.maximum.accumulate(x, dim))
        np.testing.assert_array_equal(np.take_along_axis(x, places, dim), values)
        values, places = F.min(x, dim)
        np.testing.assert_array_equal(np.take_along_axis(x, np.expand_dims(places, dim), dim).squeeze(dim), values)
    np.testing.assert_array_equal(F.sum(x), x.sum(dtype=np.int64))
    np.testing.assert_array_equal(F.sum(x[:0], 0), np.zeros((33, 17), np.int64))
    np.testing.assert_array_equal(F.prod(x[:0], 0), np.ones((33, 17), np.int64))
    assert F.sum(x, dtype="float32").dtype == np.float32


def test_numbers_of_all_64_bits():
    x = np.array([2**62 + 1, -(2**62) - 3, 5], np.int64)
    np.testing.assert_array_equal(F.add(x, 2**61 + 1), x + (2**61 + 1))
    np.testing.assert_array_equal(F.eq(x, 2**62 + 1), [True, False, False])
    np.testing.assert_array_equal(F.clamp(x, max=2**62 - 1), np.minimum(x, 2**62 - 1))
    with pytest.raises(ValueError, match="other=9223372036854775808: expected an integer of 64 bits"):
        F.add(x, 2**63)


@pytest.mark.parametrize("name", ["floor_divide", "remainder", "fmod"])
def test_no_quotient_for_zero(name):
    x = np.arange(5)
    with pytest.raises(ZeroDivisionError, match=f"{name}: a divisor is 0"):
        getattr(F, name)(x, x)
    with pytest.raises(ZeroDivisionError, match=f"{name}: a divisor is 0"):
        getattr(F, name)(x, 0)
    assert getattr(F, name)(x, x + 1).dtype == np.int64  # and the next is as if nothing had been
    assert getattr(F, name)(x.astype(np.float32), 2.0).dtype == np.float32


def test_in_networks():
    """Chains that would be one program with floats: what is compared, and what is counted, keeps its digits."""

    class Net(fc.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = fc.nn.Embedding(8, 3)

        def forward(self, ids, gate):
            pad = F.eq(ids, 2**24 + 1)
            kept = F.where(pad.unsqueeze(-1), 0.0, self.table(ids % 8)) * gate
            return kept, (ids * 3 + 1).sum(1), (ids // 2 > 2**23) & ~pad, kept.sum()

    net = Net()
    ids = np.array([[2**24, 2**24 + 1, 2**24 + 2], [2**40 + 1, 7, 2**24 + 3]])
    gate = RNG.standard_normal((2, 3, 1)).astype(np.float32)
    engine = fc.compile(net, [(ids.shape, "int64"), gate.shape], training=True)
    kept, sums, truths, total = engine(ids, gate)
    pad = ids == 2**24 + 1
    np.testing.assert_array_equal(kept, np.where(pad[..., None], 0, net.table.weight.data[ids % 8]) * gate)
    np.testing.assert_array_equal(sums, (ids * 3 + 1).sum(1))
    np.testing.assert_array_equal(truths, (ids // 2 > 2**23) & ~pad)
    engine.backward(np.ones_like(kept), None, None, np.zeros((), np.float32))
    want = np.zeros((8, 3), np.float32)
    np.add.at(want, ids % 8, np.where(pad[..., None], 0, gate) + np.zeros((2, 3, 3), np.float32))
    np.testing.assert_allclose(net.table.weight.grad, want, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (4099,), (3, 70), (70, 3), (5, 1025, 2), (2, 3, 70_001)])
def test_extremes_of_runs(dtype, shape):
    """Side by side, beside one another and apart, the ends of the dtype among them."""
    x = some(dtype, shape)
    for y in (x, np.repeat(x, 2, -1)[..., ::2], x[..., ::-1], np.asfortranarray(x), np.full_like(x, np.iinfo(dtype).min),
              np.full_like(x, np.iinfo(dtype).max)):
        for axis in (*range(x.ndim), tuple(range(x.ndim))):
            for name, function in (("amax", np.max), ("amin", np.min)):
                got, want = getattr(F, name)(y, axis), function(y, axis)
                assert got.dtype == want.dtype
                np.testing.assert_array_equal(got, want, f"{name} {axis}")
        values, places = F.max(y, 0)
        np.testing.assert_array_equal(values, y.max(0))
        np.testing.assert_array_equal(places, y.argmax(0))
