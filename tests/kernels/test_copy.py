"""Copies between views against NumPy's assignments: bits, conversions, sums; what lies between elements stays."""

import numpy as np
import pytest

from fastconv.kernels import copy

from .guarded import guarded
from .problems import run
from .test_layout import VIEWS, numbers, point, view_of

DTYPES = {"float32": np.float32, "int64": np.int64, "int32": np.int32, "uint8": np.uint8, "int8": np.int8, "bool": np.bool_}


def whole(nbytes):
    """Bytes of which the last is the last before a page that nobody may touch."""
    return guarded((nbytes + 3) // 4, 0.0).view(np.uint8)[(-nbytes) % 4:]


def view(shape, order, steps, signs, dtype, rng, repeats=()):
    """(memory, view of it): the dimensions in memory in this order, the last the densest, ``steps`` elements apart."""
    dtype = np.dtype(dtype)
    strides, stride, first = [0] * len(shape), 1, 0
    for d in reversed(order):
        if d in repeats:
            continue
        stride *= steps[d]
        strides[d] = stride * signs[d]
        first += (shape[d] - 1) * stride if signs[d] < 0 else 0
        stride *= shape[d]
    size = 1 + sum((n - 1) * abs(s) for n, s in zip(shape, strides, strict=True)) if all(shape) else 0
    memory = whole(size * dtype.itemsize)
    if size:
        values = rng.integers(0, 2, size) if dtype.kind == "b" else rng.integers(-100, 100, size)
        memory[...] = np.frombuffer(values.astype(dtype).tobytes(), np.uint8)
    flat = memory.view(dtype)
    flat = flat[first:] if size else flat
    return memory, np.lib.stride_tricks.as_strided(flat, shape, [s * dtype.itemsize for s in strides])


def operand(array):
    return array.ctypes.data, [s // array.itemsize for s in array.strides], array.dtype.name


def check(x, memory, y, threads=1, batched=False, n=None):
    """Runs y = x; all of y's memory is what NumPy makes of it."""
    before = memory.copy()
    run(copy.copy(x=operand(x), y=operand(y), shape=y.shape, batched=batched), y.shape[0] if batched else 1, threads, n)
    got = memory.copy()
    memory[...] = before
    if n is not None:
        x, y = x[:n], y[:n]
    y[...] = x
    np.testing.assert_array_equal(got, memory)


def test_random_views():
    rng = np.random.default_rng(1)
    for case in range(3000):
        rank = int(rng.integers(0, 9))
        most = {0: 1, 1: 3000, 2: 90, 3: 24, 4: 9, 5: 6, 6: 4, 7: 3, 8: 3}[rank]
        shape = tuple(int(v) for v in rng.integers(1, most + 1, rank))
        if rank and case % 50 == 0:
            shape = (*shape[:-1], 0)
        dtype = str(rng.choice(list(DTYPES)))
        order, other = rng.permutation(rank), rng.permutation(rank) if case % 2 else np.arange(rank)
        steps = rng.choice([1, 1, 1, 2, 3, 5], rank)
        signs, far = rng.choice([1, 1, -1], rank), rng.choice([1, 1, 1, 2], rank)
        repeats = [d for d in range(rank) if rng.random() < 0.15]
        _, x = view(shape, order, steps, signs, DTYPES[dtype], rng, repeats)
        memory, y = view(shape, other, far, rng.choice([1, 1, -1], rank), DTYPES[dtype], rng)
        check(x, memory, y, threads=1 + case % 2, batched=bool(rank and case % 3 == 0 and shape[0]))


# Shapes whose loops end inside and behind a vector, a block, a piece; rows of one, a few and many streams.
TURNED = [(1, 2), (2, 9), (3, 64), (4, 4), (5, 33), (8, 1000), (9, 17), (15, 16), (16, 15), (17, 31), (16, 16), (33, 64),
          (64, 2048), (100, 300), (257, 70), (512, 512), (1030, 40), (1500, 20)]


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8"])
@pytest.mark.parametrize("shape", TURNED)
def test_transposed(shape, dtype):
    rng = np.random.default_rng(0)
    for sign in ((1, 1), (-1, 1), (1, -1)):
        for outer in (1, 3):
            _, x = view((outer, *shape), (0, 2, 1), (1, 1, 1), (1, *sign), dtype, rng)
            memory, y = view((outer, *shape), (0, 1, 2), (1, 1, 1), (1, 1, 1), dtype, rng)
            check(x, memory, y, threads=outer)


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "int8"])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 63, 65, 255, 1025, 70000])
def test_rows(length, dtype):
    """Dense rows, rows with gaps, every second to fifth element, reversed, one repeated element."""
    rng = np.random.default_rng(0)
    rows = max(2, min(300, 100000 // length))
    for steps, sign, gap, repeats in ((1, 1, 1, ()), (2, 1, 1, ()), (3, 1, 2, ()), (4, 1, 1, ()), (5, 1, 1, ()),
                                      (1, -1, 1, ()), (1, 1, 1, (1,)), (1, 1, 3, (0,)), (1, 1, 1, (0, 1))):
        _, x = view((rows, length), (0, 1), (1, steps), (1, sign), dtype, rng, repeats)
        memory, y = view((rows, length), (0, 1), (gap, 1), (1, 1), dtype, rng)
        check(x, memory, y, threads=2)
        memory, y = view((rows, length), (0, 1), (1, steps), (1, sign), dtype, rng)
        check(x, memory, y)


@pytest.mark.parametrize("make", [
    lambda x: x, lambda x: x.T, lambda x: x[::-1, ::-1], lambda x: np.broadcast_to(x[:1], x.shape),
    lambda x: np.broadcast_to(x[:, :1], x.shape), lambda x: np.broadcast_to(x[:1, :1], x.shape)])
def test_past_the_caches(make):
    """More than 8 MiB: stores past the caches, from places that are and are not aligned."""
    rng = np.random.default_rng(0)
    x = make(rng.integers(0, 1000, (1600, 1600)).astype(np.float32))
    for odd in (0, 3):
        memory = whole(4 * (x.size + odd))
        check(x, memory, memory.view(np.float32)[odd:].reshape(x.shape), threads=2)


@pytest.mark.parametrize(("rows", "columns"), [
    (1600, 1616), (1601, 1607), (4000, 560), (560, 4000), (70, 34000), (34000, 70), (64, 33000), (33000, 64), (257, 8400),
    (12, 180000), (180000, 12)])
@pytest.mark.parametrize("planes", [1, 3])
def test_turned_past_the_caches(planes, rows, columns):
    """Pieces that begin with lines of either side, rows aligned alike, each in its own way, one behind the other."""
    rng = np.random.default_rng(0)
    columns = -(-columns // planes) if columns > rows else columns
    rows = -(-rows // planes) if rows > columns else rows
    values = rng.integers(0, 100000, planes * rows * columns + 16).astype(np.float32)
    for odd, other in ((0, 0), (4, 4), (0, 7), (15, 0), (12, 1)):
        x = values[odd:odd + planes * rows * columns].reshape(planes, rows, columns).transpose(0, 2, 1)
        memory = whole(4 * (x.size + other))
        check(x, memory, memory.view(np.float32)[other:].reshape(x.shape), threads=2)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_small_elements_become_larger_ones(dtype):
    """Pixels of two or four elements move as one; where they lie at odd places, they do not."""
    rng = np.random.default_rng(0)
    for last in (2, 4, 8):
        for odd in (0, 1):
            shape = (33, 40, last)
            values = rng.integers(0, 100, 33 * 40 * last + odd).astype(dtype)[odd:].reshape(40, 33, last).transpose(1, 0, 2)
            memory, y = view(shape, (0, 1, 2), (1, 1, 1), (1, 1, 1), dtype, rng)
            check(values, memory, y)


def test_a_smaller_batch_leaves_the_rest():
    rng = np.random.default_rng(0)
    for n in (0, 1, 3):
        for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
            _, x = view((5, 40, 30), order, (1, 1, 1), (1, 1, 1), "float32", rng)
            memory, y = view((5, 40, 30), (0, 2, 1), (1, 1, 1), (1, 1, 1), "float32", rng)
            check(x, memory, y, 2, True, n)


# ---- conversions ----------------------------------------------------------------------------------------------------------


def expected(values, to):
    """By the definition, in Python's integers."""
    source = values.dtype.name
    if to == "bool":
        return values != 0
    if source == "float32" and to != "float32":
        def whole_number(v, bits):
            lost = not np.isfinite(v) or not -2.0**(bits - 1) <= v < 2.0**(bits - 1)
            return -2**(bits - 1) if lost else int(v)
        bits = 32 if to == "int32" else 64
        numbers = [whole_number(float(v), bits) for v in values]
    else:
        numbers = [v.item() for v in values]
    if to == "float32":
        return np.array(numbers).astype(np.float32)
    size = 8 * np.dtype(to).itemsize
    wrapped = [int(v) % 2**size for v in numbers]
    return np.array(wrapped, np.uint64).astype(f"uint{size}").view(to)


FLOATS = [0.0, -0.0, 0.4, -0.4, 0.999, -1.0, 1.5, -1.5, 2.5, 127.9, 128.0, -128.9, -129.0, 255.9, 256.0, 300.7, -300.7,
          65537.0, 16777217.0, 2147483520.0, 2147483648.0, -2147483648.0, -2147484000.0, 4e9, 1e12, -1e12, 9.2e18, 9.3e18,
          -9.3e18, 1e30, np.inf, -np.inf, np.nan, 1e-40, -1e-45, 3e-38]
INTEGERS = [0, 1, -1, 2, 127, 128, -128, -129, 255, 256, 300, -300, 65537, 16777217, -16777219, 2**31 - 1, -2**31]


@pytest.mark.parametrize("to", DTYPES)
@pytest.mark.parametrize("source", DTYPES)
def test_cast(source, to):
    values = FLOATS if source == "float32" else [0, 1] if source == "bool" else \
        INTEGERS + ([2**53 + 1, -2**62, 2**63 - 1] if source == "int64" else [])
    values = np.array(values, np.float64 if source == "float32" else np.int64).astype(source)
    rng = np.random.default_rng(0)
    for count in (1, 3, 16, 63, 700, 40000):
        x = np.resize(values, count)
        true = expected(x[:len(values)], to)
        for make in (lambda a: a, lambda a: np.repeat(a, 3)[::3], lambda a: a[::-1].copy()[::-1]):
            taken = make(x)
            memory, y = view((count,), (0,), (1,), (1,), to, rng)
            run(copy.copy(x=operand(taken), y=operand(y), shape=(count,)), 1, 2)
            np.testing.assert_array_equal(y, np.resize(true, count))
            memory, y = view((count,), (0,), (2,), (-1,), to, rng)
            before = memory.copy()
            run(copy.copy(x=operand(taken), y=operand(y), shape=(count,)), 1, 1)
            np.testing.assert_array_equal(y, np.resize(true, count))
            y[...] = before.view(to)[::2][::-1]
            np.testing.assert_array_equal(memory, before)


def test_casts_of_views():
    rng = np.random.default_rng(3)
    for case in range(400):
        rank = int(rng.integers(1, 5))
        shape = tuple(int(v) for v in rng.integers(1, 14, rank))
        source, to = rng.choice(list(DTYPES), 2)
        _, x = view(shape, rng.permutation(rank), rng.choice([1, 2], rank), rng.choice([1, -1], rank), DTYPES[source], rng)
        x = np.abs(x) if case % 2 and source != "bool" else x
        _, y = view(shape, rng.permutation(rank), rng.choice([1, 2], rank), rng.choice([1, -1], rank), DTYPES[to], rng)
        run(copy.copy(x=operand(x), y=operand(y), shape=shape), 1, 1 + case % 2)
        np.testing.assert_array_equal(y, expected(x.ravel(), to).reshape(shape))


# ---- sums -----------------------------------------------------------------------------------------------------------------


def add(x, y, threads, batched=False, n=None):
    run(copy.add(x=operand(x), y=operand(y), shape=x.shape, batched=batched), x.shape[0] if batched else 1, threads, n)


@pytest.mark.parametrize("shape, strides, size", [
    ((50,), (1,), 50), ((70, 9), (9, 1), 630), ((70, 9), (1, 70), 630),  # each place once
    ((70, 9), (0, 1), 9), ((70, 9), (1, 0), 70), ((7, 9, 11), (0, 1, 0), 9), ((40, 30), (0, 0), 1),  # sums
    ((6, 100, 3), (300, 1, 1), 1800), ((6, 100, 5), (300, 2, 1), 1800), ((100, 5), (2, 3), 220),  # windows that overlap
    ((9000,), (1,), 9000), ((3, 9000), (0, 1), 9000), ((30000, 3), (1, 0), 30000), ((64, 64), (65, 1), 4200)])
def test_add(shape, strides, size):
    rng = np.random.default_rng(0)
    start = rng.integers(-50, 50, size).astype(np.float32)
    for order in (range(len(shape)), reversed(range(len(shape)))):
        _, x = view(shape, list(order), (1,) * len(shape), (1,) * len(shape), "float32", rng)
        places = sum(np.arange(n).reshape([-1] + [1] * (len(shape) - 1 - d)) * s
                     for d, (n, s) in enumerate(zip(shape, strides, strict=True)))
        true = start.astype(np.float64)
        np.add.at(true, places, x)
        for threads in (1, 2):
            y = guarded(size)
            y[...] = start
            run(copy.add(x=operand(x), y=(y.ctypes.data, strides, "float32"), shape=shape), 1, threads)
            np.testing.assert_array_equal(y, true)  # integers: whatever the order


def test_add_has_one_order():
    """The same bits for any number of threads and any batch around an image."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 40, 60, 5)).astype(np.float32)
    strides = (64 * 40, 64, 1, 1)
    def sums(x, threads, n=None):
        y = np.zeros((x.shape[0], 40, 64), np.float32)
        run(copy.add(x=operand(x), y=(y.ctypes.data, strides, "float32"), shape=x.shape, batched=True), len(x), threads, n)
        return y
    whole_batch = sums(x, 1)
    np.testing.assert_array_equal(sums(x, 2), whole_batch)
    np.testing.assert_array_equal(sums(x, 2, 3)[:3], whole_batch[:3])
    assert not sums(x, 2, 3)[3].any()
    for i in range(4):
        np.testing.assert_array_equal(sums(x[i:i + 1], 2)[0], whole_batch[i])
    one = np.zeros(1, np.float32)
    run(copy.add(x=operand(x[0, 0]), y=(one.ctypes.data, (0, 0), "float32"), shape=(60, 5)), 1, 1)
    in_order = np.float32(0)
    for v in x[0, 0].ravel():
        in_order += v
    assert one[0] == in_order


def test_add_wants_floats():
    x = np.zeros(3, np.int64)
    with pytest.raises(TypeError, match="expected float32"):
        copy.add(x=operand(x), y=operand(x), shape=(3,))
    with pytest.raises(ValueError, match="at most 8"):
        copy.copy(x=(0, (1,) * 9, "uint8"), y=(0, (1,) * 9, "uint8"), shape=(1,) * 9)


# ---- users' arrays --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 2, 3, 4, 5), (3, 1, 1, 1, 1), (2, 7, 1, 1, 9), (1, 1, 2, 6, 5), (2, 40, 2, 3, 3)])
@pytest.mark.parametrize("view", VIEWS)
def test_strided(shape, view):
    x = view_of(numbers(shape), view)
    for threads, batch in ((1, 1), (2, 5)):  # the extents do not follow the batch of the run
        buffer = guarded(x.size)
        run(copy.strided(point(x, False), buffer.ctypes.data, shape=shape), batch, threads)
        np.testing.assert_array_equal(buffer.reshape(shape), x)
        back = view_of(numbers(shape), view)
        back[...] = np.nan
        run(copy.strided(point(back, False), buffer.ctypes.data, shape=shape, reverse=True), batch, threads)
        np.testing.assert_array_equal(back, x)
