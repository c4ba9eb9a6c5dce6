"""Gather and scatter against their definitions in NumPy, at whatever instruction set FASTCONV_ISA asks for."""

import numpy as np
import pytest

from fastconv.kernels import gather

from .strided import operand, placed, run

DTYPES = ["float32", "int64", "int32", "uint8", "int8", "bool"]
BLANK = {"float32": np.nan, "bool": True}


def values(rng, shape, dtype):
    return rng.integers(0 if dtype in ("uint8", "bool") else -9, 2 if dtype == "bool" else 9, shape).astype(dtype)


def along(x, index, dim, strides_of=None):
    """The operand of x with no stride along dim, and how far apart its elements lie there."""
    address, strides, dtype = operand(x)
    return (address, strides[:dim] + (0,) + strides[dim + 1:], dtype), strides[dim]


# --- gather --------------------------------------------------------------------------------------------------------


def take_along(x, index, dim, order, threads=2, wrap=False, bad=0):
    x, index = placed(x, order), placed(index)
    y = placed(np.empty(index.shape, x.dtype), order, BLANK.get(str(x.dtype), 99))
    source, step = along(x, index, dim)
    run([gather.gather(x=source, y=operand(y), shape=index.shape, bad=bad,
                       indices=[(operand(index), x.shape[dim], step, wrap)])], threads)
    return y


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wide", ["int64", "int32"])
def test_along_a_dimension(dtype, wide):
    rng = np.random.default_rng(0)
    for shape, length, dim, order in [((5, 7, 3), 4, 1, (0, 1, 2)), ((5, 7, 3), 9, 0, (2, 0, 1)), ((1,), 3, 0, (0,)),
                                      ((2, 3, 4, 5), 6, 3, (3, 2, 1, 0)), ((4, 1, 33), 1, 2, (0, 1, 2))]:
        x = values(rng, shape, dtype)
        index = rng.integers(0, shape[dim], (*shape[:dim], length, *shape[dim + 1:])).astype(wide)
        np.testing.assert_array_equal(take_along(x, index, dim, order), np.take_along_axis(x, index, dim))
        np.testing.assert_array_equal(take_along(x, index - shape[dim], dim, order, wrap=True),
                                      np.take_along_axis(x, index, dim))


@pytest.mark.parametrize(("rows", "width", "count"), [
    (7, 1, 5), (7, 3, 5), (9, 16, 40), (9, 17, 40), (9, 64, 600), (9, 65, 600), (3, 16384, 4), (3, 16385, 4), (2, 40000, 3)])
@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8"])
def test_rows(rows, width, count, dtype):
    """Rows copied as they lie: by vectors, by memcpy, in pieces."""
    rng = np.random.default_rng(1)
    table, index = placed(values(rng, (rows, width), dtype)), placed(rng.integers(0, rows, count))
    results = []
    for threads in (1, 2):
        y = placed(np.empty((count, width), dtype), None, BLANK.get(dtype, 99))
        run([gather.gather(x=(table.ctypes.data, (0, 1), dtype), y=operand(y), shape=y.shape,
                           indices=[((index.ctypes.data, (1, 0), "int64"), rows, width, False)])], threads)
        results.append(y)
    np.testing.assert_array_equal(results[0], table[index])
    np.testing.assert_array_equal(results[1], table[index])


def test_single_elements_of_several_tiles():
    rng = np.random.default_rng(2)
    x, index = rng.standard_normal(1000).astype(np.float32), rng.integers(-1000, 1000, (3, 16385))
    for order in [(0, 1), (1, 0)]:
        there, at = placed(x), placed(index, order)
        y = placed(np.empty(index.shape, np.float32), None, np.nan)
        run([gather.gather(x=(there.ctypes.data, (0, 0), "float32"), y=operand(y), shape=index.shape,
                           indices=[(operand(at), 1000, 1, True)])])
        np.testing.assert_array_equal(y, x[index])


@pytest.mark.parametrize("wide", ["int64", "int32"])
@pytest.mark.parametrize(("shape", "length", "dim"), [
    ((40, 3), 700, 0), ((3, 40), 700, 1), ((5, 9, 30), 30, 2), ((5, 9, 30), 300, 2), ((2, 600, 7), 600, 1),
    ((1000,), 900, 0)])
def test_blocks_of_indices(shape, length, dim, wide):
    """All of a block inside the table; some from the end; one outside; short rows together."""
    rng = np.random.default_rng(11)
    x = rng.standard_normal(shape).astype(np.float32)
    index = rng.integers(0, shape[dim], (*shape[:dim], length, *shape[dim + 1:])).astype(wide)
    want = np.take_along_axis(x, index, dim)
    for threads in (1, 2):
        np.testing.assert_array_equal(take_along(x, index, dim, None, threads), want)
    some = np.where(rng.random(index.shape) < 0.01, index - shape[dim], index).astype(wide)
    np.testing.assert_array_equal(take_along(x, some, dim, None, wrap=True), want)
    order = tuple(reversed(range(len(shape))))  # not one after another
    np.testing.assert_array_equal(take_along(x, some, dim, order, wrap=True), want)
    for value in (shape[dim], -1 - shape[dim], np.iinfo(wide).min, np.iinfo(wide).max):
        wrong, bad = some.copy(), np.zeros(2, np.int64)
        at = tuple(rng.integers(0, n) for n in index.shape)
        wrong[at] = value
        got = take_along(x, wrong, dim, None, wrap=True, bad=bad.ctypes.data)
        assert bad.tolist() == [1, value]
        assert got[at] == 0
        got[at] = want[at]
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("width", [1, 3, 17, 70])
def test_rows_by_indices_from_the_end(width):
    rng = np.random.default_rng(12)
    for dtype in ("float32", "int64", "uint8"):
        table = placed(values(rng, (300, width), dtype))
        for index in (rng.integers(-300, 300, 1000), rng.integers(0, 300, 1000).astype(np.int32)):
            for outside in (False, True):
                at, bad = placed(index.copy()), np.zeros(2, np.int64)
                want = table[index].copy()
                if outside:
                    at[700] = 300
                    want[700] = 0
                y = placed(np.empty((1000, width), dtype), None, BLANK.get(dtype, 99))
                run([gather.gather(x=(table.ctypes.data, (0, 1), dtype), y=operand(y), shape=y.shape, bad=bad.ctypes.data,
                                   indices=[((at.ctypes.data, (1, 0), str(at.dtype)), 300, width, True)])])
                np.testing.assert_array_equal(y, want)
                assert bad.tolist() == ([1, 300] if outside else [0, 0])


def test_several_indices():
    rng = np.random.default_rng(3)
    x = placed(rng.standard_normal((5, 6, 7, 8)).astype(np.float32))
    i, k = placed(rng.integers(-5, 5, (4, 1))), placed(rng.integers(0, 7, (1, 3)).astype(np.int32))
    expected = x[i, :, k]  # NumPy puts the indexed dimensions in front
    y = placed(np.empty(expected.shape, np.float32), None, np.nan)
    shape = (4, 3, 6, 8)
    run([gather.gather(x=(x.ctypes.data, (0, 0, 56, 1)[:2] + (56, 1), "float32"), y=operand(y), shape=shape, indices=[
        ((i.ctypes.data, (1, 0, 0, 0), "int64"), 5, 336, True), ((k.ctypes.data, (0, 1, 0, 0), "int32"), 7, 8, False)])])
    np.testing.assert_array_equal(y, expected)


def test_no_index_is_a_copy():
    x = placed(np.arange(120, dtype=np.int64).reshape(2, 3, 4, 5))
    for order in [(3, 1, 0, 2), (1, 0, 3, 2)]:
        view = x.transpose(order)[::-1, :, ::2]
        y = placed(np.empty(view.shape, np.int64), None, -1)
        run([gather.gather(x=operand(view), y=operand(y), shape=view.shape)])
        np.testing.assert_array_equal(y, view)


@pytest.mark.parametrize("value", [-1, 5, 2**40, -2**63, 2**63 - 1])
def test_outside_is_never_read(value):
    x = placed(np.arange(1, 6, dtype=np.float32))
    for where, strides in [((3, 1), (1, 0)), ((3, 4), (4, 1))]:  # rows, single elements
        index = placed(np.full(where, 2))
        index[1] = value
        bad = np.zeros(2, np.int64)
        y = placed(np.empty((3, 4), np.float32), None, np.nan)
        run([gather.gather(x=(x.ctypes.data, (0, 0), "float32"), y=operand(y), shape=(3, 4), bad=bad.ctypes.data, indices=[
            ((index.ctypes.data, strides, "int64"), 5, 1, False)])])
        assert bad.tolist() == [1, value]
        np.testing.assert_array_equal(y, [[3] * 4, [0] * 4, [3] * 4])
    good = np.zeros(2, np.int64)
    take_along(x, np.array([0, 4, -5]), 0, (0,), wrap=True, bad=good.ctypes.data)
    assert good.tolist() == [0, 0]


def test_a_table_of_nothing():
    y = placed(np.empty(3, np.float32), None, np.nan)
    index, bad = placed(np.zeros(3, np.int64)), np.zeros(2, np.int64)
    run([gather.gather(x=(0, (0,), "float32"), y=operand(y), shape=(3,), bad=bad.ctypes.data,
                       indices=[(operand(index), 0, 1, True)])])
    assert y.tolist() == [0, 0, 0]
    assert bad.tolist() == [1, 0]
    run([gather.gather(x=(0, (0,), "float32"), y=(0, (1,), "float32"), shape=(0,),
                       indices=[((0, (1,), "int64"), 0, 1, False)])])


def test_batches():
    """A batch smaller than the planned one, none at all; the batch beside another dimension, or alone."""
    rng = np.random.default_rng(4)
    table = placed(rng.standard_normal((11, 5)).astype(np.float32))
    for inner in (1, 6):
        index = placed(rng.integers(0, 11, (4, inner)))
        for n in (0, 1, 3, 4):
            y = placed(np.empty((4, inner, 5), np.float32), None, np.nan)
            run([gather.gather(x=(table.ctypes.data, (0, 0, 1), "float32"), y=operand(y), shape=(4, inner, 5), batched=True,
                               indices=[((index.ctypes.data, (inner, 1, 0), "int64"), 11, 5, False)])], n=n, planned=4)
            np.testing.assert_array_equal(y[:n], table[index[:n]])
            assert np.isnan(y[n:]).all()


# --- scatter -------------------------------------------------------------------------------------------------------

COMBINE = {"set": lambda y, v: v, "add": lambda y, v: y + v, "mul": lambda y, v: y * v, "max": np.maximum, "min": np.minimum}


def expected(y, index, source, dim, op, skip=None):
    """One element after another, in the order of the source."""
    y, combine = y.copy(), COMBINE[op]
    with np.errstate(over="ignore"):
        for at in np.ndindex(*source.shape):
            if index[at] != skip:
                target = (*at[:dim], index[at], *at[dim + 1:])
                y[target] = combine(y[target], source[at])
    return y


def scattered(y, index, source, dim, op, order=None, threads=2, skip=None):
    y, source, index = placed(y, order), placed(source, order), placed(index)
    target, step = along(y, index, dim)
    run([gather.scatter(x=operand(source), y=target, shape=source.shape, how=op, skip=skip,
                        indices=[(operand(index), y.shape[dim], step, False)])], threads)
    return y


@pytest.mark.parametrize("op", COMBINE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_scatter_along_a_dimension(op, dtype):
    if dtype == "bool" and op != "set":
        dtype = "uint8"
    rng = np.random.default_rng(5)
    for shape, length, dim, order in [((4, 5, 6), 9, 1, (0, 1, 2)), ((4, 5, 6), 7, 2, (0, 1, 2)), ((3,), 8, 0, (0,)),
                                      ((4, 5, 6), 7, 0, (2, 0, 1)), ((2, 3, 17), 5, 1, (2, 1, 0))]:
        y = values(rng, shape, dtype)
        source = values(rng, (*shape[:dim], length, *shape[dim + 1:]), dtype)
        index = rng.integers(0, shape[dim], source.shape)
        np.testing.assert_array_equal(scattered(y, index, source, dim, op, order), expected(y, index, source, dim, op))
        np.testing.assert_array_equal(scattered(y, index, source, dim, op, order, skip=1),
                                      expected(y, index, source, dim, op, skip=1))


def rows(table, index, source, op, threads):
    y, source, index = placed(table), placed(source), placed(index)
    width = table.shape[1]
    run([gather.scatter(x=operand(source), y=(y.ctypes.data, (0, 1), "float32"), shape=source.shape, how=op,
                        indices=[((index.ctypes.data, (1, 0), "int64"), len(table), width, False)])], threads)
    return y


@pytest.mark.parametrize("op", ["add", "max", "set"])
@pytest.mark.parametrize(("targets", "count", "width"), [
    (3, 5, 1), (5, 70000, 1), (50, 3000, 7), (50, 3000, 16), (40, 2000, 33), (2, 300, 300), (7, 60, 2000), (1, 9, 9000)])
def test_rows_in_pieces_and_ranges(targets, count, width, op):
    """Tiles by pieces of the rows, by ranges of the targets, by both; bits as one thread's, and as a loop's."""
    rng = np.random.default_rng(6)
    table = rng.standard_normal((targets, width)).astype(np.float32)
    index, source = rng.integers(0, targets, count), rng.standard_normal((count, width)).astype(np.float32)
    want = table.copy()
    for i, row in zip(index, source, strict=True):
        want[i] = COMBINE[op](want[i], row)
    for threads in (1, 2):
        np.testing.assert_array_equal(rows(table, index, source, op, threads), want)


def test_many_free_positions():
    """Groups of units, one after another; a column each."""
    rng = np.random.default_rng(7)
    y, source = np.zeros((700, 6, 9), np.float32), rng.standard_normal((700, 5, 9)).astype(np.float32)
    index = rng.integers(0, 6, source.shape)
    want = expected(y, index, source, 1, "add")
    for threads in (1, 2):
        np.testing.assert_array_equal(scattered(y, index, source, 1, "add", threads=threads), want)


def test_nan_wins():
    y = np.array([1, np.nan, 3, 4], np.float32)
    for op in ("max", "min"):
        got = rows(y[None].repeat(40, 1).reshape(1, -1), np.zeros(1, int), np.full((1, 160), np.nan, np.float32), op, 1)
        assert np.isnan(got).all()
        got = scattered(y, np.array([0, 1, 2]), np.array([np.nan, 7, -7], np.float32), 0, op)
        assert np.isnan(got[:2]).all()
        assert got[2:].tolist() == [{"max": 3, "min": -7}[op], 4]


@pytest.mark.parametrize("op", COMBINE)
@pytest.mark.parametrize(("shape", "length", "dim"), [
    ((50,), 1000, 0), ((20, 3), 700, 0), ((20, 300), 90, 0), ((4, 30), 600, 1), ((3, 5, 40), 33, 1)])
def test_blocks_of_targets(shape, length, dim, op):
    """Blocks of indices that are inside, from the end, one outside; columns in pieces; the longer one as the row."""
    rng = np.random.default_rng(13)
    y = rng.integers(-3, 3, shape).astype(np.float32)
    source = rng.choice([-2.0, -1.0, 1.0, 2.0], (*shape[:dim], length, *shape[dim + 1:])).astype(np.float32)
    source *= np.where(rng.random(source.shape) < 0.5, 1, 0.5).astype(np.float32) if op == "mul" else 1
    index = rng.integers(0, shape[dim], source.shape)
    for wide in (np.int64, np.int32):
        for wrap, outside in ((False, False), (True, False), (True, True)):
            at = np.where(rng.random(index.shape) < 0.05, index - shape[dim], index) if wrap else index
            at, taken = at.astype(wide), np.ones(index.shape, bool)
            if outside:
                at.flat[at.size // 2] = shape[dim]
                taken.flat[at.size // 2] = False
            want = y.copy()
            with np.errstate(over="ignore"):
                for place in np.argwhere(taken):
                    target = (*place[:dim], index[tuple(place)], *place[dim + 1:])
                    want[target] = COMBINE[op](want[target], source[tuple(place)])
            for threads in (1, 2):
                got, bad = placed(y), np.zeros(2, np.int64)
                given, there = placed(source), placed(at)
                target, step = along(got, at, dim)
                run([gather.scatter(x=operand(given), y=target, shape=source.shape, how=op, bad=bad.ctypes.data,
                                    indices=[(operand(there), shape[dim], step, wrap)])], threads)
                np.testing.assert_array_equal(got, want)
                assert bad.tolist() == ([1, shape[dim]] if outside else [0, 0])


def test_several_indices_collide_in_order():
    rng = np.random.default_rng(8)
    i, j = rng.integers(0, 3, (50, 4)), rng.integers(-4, 4, (50, 4)).astype(np.int32)
    source = rng.standard_normal((50, 4)).astype(np.float32)
    y, want = np.zeros((3, 4), np.float32), np.zeros((3, 4), np.float32)
    np.add.at(want, (i, j), source)
    target, first, second, given = placed(y), placed(i), placed(j), placed(source)
    run([gather.scatter(x=operand(given), y=(target.ctypes.data, (0, 0), "float32"), shape=source.shape, how="add",
                        indices=[(operand(first), 3, 4, False), (operand(second), 4, 1, True)])])
    np.testing.assert_array_equal(target, want)


def test_outside_is_never_written():
    y, index, source = placed(np.zeros(4, np.float32)), placed(np.array([1, 4, -1, 3])), placed(np.ones(4, np.float32))
    bad = np.zeros(2, np.int64)
    run([gather.scatter(x=operand(source), y=(y.ctypes.data, (0,), "float32"), shape=(4,), how="add", bad=bad.ctypes.data,
                        indices=[(operand(index), 4, 1, False)])], 1)
    assert y.tolist() == [0, 1, 0, 1]
    assert bad.tolist() == [1, -1]


def test_a_smaller_batch():
    rng = np.random.default_rng(9)
    index, source = placed(rng.integers(0, 6, (4, 3))), placed(rng.standard_normal((4, 3, 5)).astype(np.float32))
    for n in (0, 2, 4):
        y, want = placed(np.zeros((6, 5), np.float32)), np.zeros((6, 5), np.float32)
        np.add.at(want, index[:n], source[:n])
        run([gather.scatter(x=operand(source), y=(y.ctypes.data, (0, 0, 1), "float32"), shape=(4, 3, 5), how="add",
                            batched=True, indices=[((index.ctypes.data, (3, 1, 0), "int64"), 6, 5, False)])], n=n, planned=4)
        np.testing.assert_array_equal(y, want)
