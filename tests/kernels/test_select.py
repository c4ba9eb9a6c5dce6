"""Sorting, searching and suppression against their definitions, at whatever instruction set FASTCONV_ISA asks for."""

import numpy as np
import pytest

from fastconv.kernels import select

from .strided import operand, placed, run

DTYPES = ["float32", "int64", "int32", "uint8", "int8", "bool"]
LENGTHS = [1, 2, 3, 40, 41, 100, 1000, 5000]


def values(rng, shape, dtype):
    """Many equal ones; of float32 also zeros of both signs, infinities, denormals and NaN."""
    if dtype == "float32":
        x = np.round(rng.standard_normal(shape) * 8).astype(np.float32)
        special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, -np.nan], np.float32)
        return np.where(rng.random(shape) < 0.2, special[rng.integers(0, len(special), shape)], x).astype(np.float32)
    if dtype == "bool":
        return rng.random(shape) < 0.5
    info = np.iinfo(dtype)
    x = rng.integers(max(info.min, -9), 9, shape)
    return np.where(rng.random(shape) < 0.1, rng.integers(info.min, info.max, shape, dtype), x).astype(dtype)


def order(x, axis, descending):
    """Positions by value: equal ones as they lie, NaN as the largest."""
    x = np.moveaxis(x, axis, -1)
    if not descending:
        found = np.argsort(x, -1, kind="stable")
    else:
        found = x.shape[-1] - 1 - np.argsort(x[..., ::-1], -1, kind="stable")[..., ::-1]
    return np.moveaxis(found, -1, axis)


def bits(x):
    return x.view(np.int32) if x.dtype == np.float32 else x


def sort(what, x, axis, lie=None, threads=2, **keywords):
    x = placed(x, lie)
    count = {"sort": x.shape[axis], "topk": keywords.get("count")}.get(what, 1)
    shape = (*x.shape[:axis], count, *x.shape[axis + 1:])
    v, i = placed(np.empty(shape, x.dtype), None, 1), placed(np.empty(shape, np.int64), lie, -7)
    run([select.sort(what, x=operand(x), values=operand(v), indices=operand(i), shape=x.shape, dim=axis, **keywords)],
        threads)
    return v, i


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sort(dtype, descending):
    rng = np.random.default_rng(0)
    for length in LENGTHS:
        for shape, axis, lie in [((length,), 0, None), ((3, length, 2), 1, (2, 0, 1)), ((length, 5), 0, None)]:
            x = values(rng, shape, dtype)
            want = order(x, axis, descending)
            for threads in (1, 2):
                v, i = sort("sort", x, axis, lie, threads, descending=descending)
                np.testing.assert_array_equal(i, want)
                np.testing.assert_array_equal(bits(v), bits(np.take_along_axis(x, want, axis)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("length", "count"), [(1, 1), (7, 0), (8, 1), (50, 6), (50, 7), (50, 50), (3000, 1), (3000, 16),
                                               (3000, 17), (3000, 150), (3000, 151), (3000, 2999)])
def test_topk(length, count, dtype):
    rng = np.random.default_rng(1)
    for descending in (False, True):
        x = values(rng, (4, length, 3), dtype)
        want = order(x, 1, descending)[:, :count]
        v, i = sort("topk", x, 1, count=count, descending=descending)
        np.testing.assert_array_equal(i, want)
        np.testing.assert_array_equal(bits(v), bits(np.take_along_axis(x, want, 1)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_topk_of_dense_lines(dtype):
    """Blocks of values that are left out together; what might be less is where it is looked for last."""
    rng = np.random.default_rng(7)
    for length, count in ((31, 1), (32, 1), (33, 2), (64, 3), (300, 5), (2000, 40)):
        x = values(rng, (6, length), dtype)
        x[1], x[2] = np.sort(x[1]), np.sort(x[2])[::-1]  # all of them may be; none
        if dtype == "float32":
            x[3], x[4], x[5] = 1e-40, -0.0, np.nan
            x[3, -1], x[3, 0], x[4, -2:] = -1e-40, 2e-40, (0.0, 1e-45)
            x[5, ::7] = -np.nan
        for descending in (False, True):
            want = order(x, 1, descending)[:, :count]
            for threads in (1, 2):
                v, i = sort("topk", x, 1, threads=threads, count=count, descending=descending)
                np.testing.assert_array_equal(i, want)
                np.testing.assert_array_equal(bits(v), bits(np.take_along_axis(x, want, 1)))


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_kth_of_keys_that_differ_in_one_byte(dtype):
    """Places found byte by byte, down to entries that are all equal."""
    rng = np.random.default_rng(8)
    for low, high in ((0, 3), (0, 300), (-(2**20), 2**20)):
        x = rng.integers(low, high, (3, 2000)).astype(dtype)
        if dtype == "int64":
            x[1] *= 2**40
        for k in (0, 1, 999, 1000, 1999):
            v, i = sort("kth", x, 1, k=k)
            np.testing.assert_array_equal(i, order(x, 1, False)[:, k: k + 1])
            np.testing.assert_array_equal(v, np.take_along_axis(x, i, 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_kth(dtype):
    rng = np.random.default_rng(2)
    for length in LENGTHS[:-1]:
        x = values(rng, (2, length), dtype)
        for k in {0, length // 2, length - 1}:
            v, i = sort("kth", x, 1, k=k)
            np.testing.assert_array_equal(i, order(x, 1, False)[:, k: k + 1])
            np.testing.assert_array_equal(bits(v), bits(np.take_along_axis(x, i, 1)))


@pytest.mark.parametrize("what", ["median", "nanmedian"])
def test_median(what):
    rng = np.random.default_rng(3)
    for length in LENGTHS[:-1]:
        for chance in (0, 0.02, 0.6, 1):
            x = np.round(rng.standard_normal((5, length)) * 4).astype(np.float32)
            x[rng.random(x.shape) < chance] = np.nan
            v, i = sort(what, x, 1)
            for line, value, at in zip(x, v[:, 0], i[:, 0], strict=True):
                there = line[~np.isnan(line)]
                if len(there) == 0 or (what == "median" and len(there) < length):
                    assert np.isnan(value)
                    assert at == np.isnan(line).argmax()
                else:
                    assert value == np.sort(there)[(len(there) - 1) // 2] == line[at]
        x = rng.integers(-5, 5, (3, length))
        np.testing.assert_array_equal(sort(what, x, 1)[0][:, 0], np.sort(x, 1)[:, (length - 1) // 2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_mode(dtype):
    rng = np.random.default_rng(4)
    for length in LENGTHS[:-1]:
        x = values(rng, (3, length), dtype)
        v, i = sort("mode", x, 1)
        for line, value, at in zip(x, v[:, 0], i[:, 0], strict=True):
            found, counts = np.unique(line, return_counts=True, equal_nan=False)
            want = found[counts.argmax()]
            assert value == want or (np.isnan(value) and np.isnan(want))
            if not value != value:
                assert at == np.flatnonzero(line == want)[-1]


def test_lines_of_nothing_and_batches():
    run([select.sort(x=(0, (0, 1), "float32"), values=(0, (0, 1), "float32"), shape=(3, 0), dim=1)])
    rng = np.random.default_rng(5)
    x = placed(rng.standard_normal((5, 60)).astype(np.float32))
    for n in (0, 2, 5):
        v = placed(np.empty(x.shape, np.float32), None, np.nan)
        run([select.sort(x=operand(x), values=operand(v), shape=x.shape, dim=1, batched=True)], n=n, planned=5)
        np.testing.assert_array_equal(v[:n], np.sort(x[:n], 1))
        assert np.isnan(v[n:]).all()


# --- searching -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("right", [False, True])
def test_searchsorted(dtype, right):
    rng = np.random.default_rng(6)
    for length in (0, 1, 2, 17, 1000):
        for count in (1, 5, 2049):
            lines = np.sort(rng.integers(0, 2 if dtype == "bool" else 50, (3, length)).astype(dtype), 1)
            v = rng.integers(0, 2 if dtype == "bool" else 60, (3, count)).astype(dtype)
            want = np.array([np.searchsorted(a, b, "right" if right else "left") for a, b in zip(lines, v, strict=True)])
            shuffle = np.argsort(rng.random((3, length)), 1)
            mixed = np.take_along_axis(lines, shuffle, 1)  # line[j] = mixed[sorter[j]]
            sorter = placed(np.argsort(shuffle, 1))
            for x, by in [(placed(lines), None), (placed(mixed), sorter)]:
                for out in ("int64", "int32"):
                    given, y = placed(v), placed(np.empty((3, count), out), None, -1)
                    keywords = {"sorter": (by.ctypes.data, (length, 0), "int64")} if by is not None else {}
                    run([select.searchsorted(x=(x.ctypes.data, (length, 0), dtype), v=operand(given), y=operand(y),
                                             shape=v.shape, length=length, line=(1, 1), right=right, **keywords)])
                    np.testing.assert_array_equal(y, want)


def test_nan_as_pytorch_finds_it():
    x, v = placed(np.array([1, 2, np.nan], np.float32)), placed(np.array([0, 2, 3, np.nan], np.float32))
    for right, want in [(False, [0, 1, 3, 3]), (True, [0, 3, 3, 3])]:
        y = placed(np.empty(4, np.int64), None, -1)
        run([select.searchsorted(x=(x.ctypes.data, (0,), "float32"), v=operand(v), y=operand(y), shape=(4,), length=3,
                                 line=(1, 0), right=right)])
        assert y.tolist() == want


# --- suppression ---------------------------------------------------------------------------------------------------


def suppressed(boxes, scores, threshold, classes):
    left, keep = [i for i in np.argsort(-scores, kind="stable")], []
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    while left:
        i, *left = left
        keep.append(i)
        rest = np.array(left, int)
        w = np.maximum(np.minimum(boxes[i, 2], boxes[rest, 2]) - np.maximum(boxes[i, 0], boxes[rest, 0]), 0)
        h = np.maximum(np.minimum(boxes[i, 3], boxes[rest, 3]) - np.maximum(boxes[i, 1], boxes[rest, 1]), 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            over = (w * h / (area[i] + area[rest] - w * h)).astype(np.float32) > np.float64(threshold)
        left = list(rest[~(over & (classes[i] == classes[rest]))])
    return keep


@pytest.mark.parametrize("count", [0, 1, 2, 16, 17, 33, 300])
@pytest.mark.parametrize("many", [1, 5])
def test_nms(count, many):
    rng = np.random.default_rng(count)
    for threshold in (0.0, 0.3, 1 / 3, 0.5, 0.9, 1.0):
        corner, size = rng.integers(0, 20, (count, 2)), rng.integers(0, 12, (count, 2))  # small fractions, some equal
        boxes = placed(np.concatenate([corner, corner + size], 1).astype(np.float32))
        scores = placed((rng.integers(0, 40, count) / 40).astype(np.float32))
        classes = placed(rng.integers(-many, 0, count) * 2**40)
        for given in ([classes] if many > 1 else [classes, None]):
            keep, kept = placed(np.full(count, -1)), placed(np.zeros(1, np.int64))
            run([select.nms(boxes=boxes.ctypes.data, scores=scores.ctypes.data, keep=keep.ctypes.data, kept=kept.ctypes.data,
                            count=count, threshold=threshold, classes=0 if given is None else given.ctypes.data)])
            assert keep[:kept[0]].tolist() == suppressed(boxes, scores, threshold, classes)
