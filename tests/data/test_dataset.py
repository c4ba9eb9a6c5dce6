"""Datasets, and how items become a batch."""


import numpy as np
import pytest

from fastconv import data
from fastconv.data import ArrayDataset

# --- ArrayDataset ----------------------------------------------------------------------------------------------------


def pairs(count=10):
    return ArrayDataset(np.arange(3 * count, dtype=np.float32).reshape(count, 3), np.arange(count))


def test_array_dataset_indexing():
    dataset = pairs()
    assert len(dataset) == 10
    row, label = dataset[-1]
    assert row.tolist() == [27, 28, 29] and label == 9
    assert np.shares_memory(dataset[2:5][0], dataset.arrays[0])
    assert dataset[2:5][1].tolist() == [2, 3, 4]
    assert dataset[[3, 3, 0]][1].tolist() == [3, 3, 0]
    assert dataset[np.array([9, -1], dtype=np.int8)][1].tolist() == [9, 9]
    assert dataset[np.arange(10) > 7][1].tolist() == [8, 9]
    assert dataset[[]][0].shape == (0, 3)
    assert repr(dataset) == "ArrayDataset(float32[10, 3], int64[10])"


def test_array_dataset_gives_c_order_from_any_order():
    source = np.asfortranarray(np.arange(24).reshape(4, 3, 2))
    (rows,) = ArrayDataset(source)[[2, 0]]
    assert rows.flags.c_contiguous and (rows == source[[2, 0]]).all()


def test_array_dataset_takes_dlpack_and_lists():
    class Foreign:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **arguments):
            return self.array.__dlpack__(**arguments)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    source = np.arange(4.0)
    dataset = ArrayDataset(Foreign(source), [1, 2, 3, 4])
    assert np.shares_memory(dataset.arrays[0], source)
    assert dataset[1] == (1.0, 2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ArrayDataset(), ValueError, "at least one array"),
        (lambda: ArrayDataset(np.zeros((4, 2)), np.zeros(5)), ValueError, "array 1 has 5 rows but array 0 has 4"),
        (lambda: ArrayDataset(3.0), ValueError, "array 0 is a single value"),
        (lambda: ArrayDataset(np.array([None])), TypeError, "array 0 holds Python objects"),
        (lambda: pairs()[10], IndexError, "out of bounds"),
        (lambda: pairs()[[0, 10]], IndexError, "out of bounds"),
        (lambda: pairs()[[0.5]], IndexError, "must be an int, a slice or a 1-D array"),
        (lambda: pairs()[True], IndexError, "must be an int, a slice or a 1-D array"),
        (lambda: pairs()[[[0]]], IndexError, r"shape \(1, 1\)"),
        (lambda: pairs()[np.ones(9, bool)], IndexError, "mask of 9 bools does not fit 10"),
    ],
)
def test_array_dataset_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_default_collate():
    images, floats, ints, halves = data.default_collate([(np.zeros((2, 3), np.uint8), 0.5, 7, np.float16(1))] * 2)
    assert images.shape == (2, 2, 3) and images.dtype == np.uint8
    assert floats.dtype == np.float32 and ints.dtype == np.int64 and halves.dtype == np.float16
    assert data.default_collate([1, 2])[0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        ([(np.zeros(3), 1), (np.zeros(4), 1)], ValueError, r"field 0 of item 1 has shape \(4,\) but .* \(3,\)"),
        ([(1, 2), (1,)], ValueError, "item 1 has 1 fields but item 0 has 2"),
        (["a", "b"], TypeError, "field 0 must be an array or a number, got str"),
        ([{"x": "a"}], TypeError, "field 'x' must be an array or a number, got str"),
        ([{"x": 1}, {"y": 1}], ValueError, r"item 1 has the fields \['y'\] but item 0 has \['x'\]"),
        ([{1, 2}], TypeError, "got set; give the DataLoader a collate_fn"),
    ],
)
def test_default_collate_errors(items, error, message):
    with pytest.raises(error, match=message):
        data.default_collate(items)
