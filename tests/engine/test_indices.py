"""Indices that are made or read outside a kernel, at sizes at which NumPy works in pieces."""

import numpy as np
import pytest
import reference as R

import fastconv as fc
import fastconv.functional as F
from fastconv import nn
from fastconv.data import ArrayDataset

MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
ADAPTIVE = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}
PIECE = 8192  # elements: NumPy's buffer; every shape below has more outputs

WINDOWS = [  # shape, keywords
    ((5, 2000, 7), {"kernel_size": 7}),
    ((3, 3000, 300), {"kernel_size": 300}),  # more taps than a byte counts
    ((3, 30, 301), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ((32, 512, 7, 7), {"kernel_size": 7}),  # the last extent of the output is 1
    ((5, 600, 5, 6), {"kernel_size": (2, 6), "stride": (1, 6)}),
    ((5, 600, 6, 5), {"kernel_size": (6, 2), "stride": (6, 1)}),
    ((9, 1000, 3, 3), {"kernel_size": 3, "padding": 1, "stride": 4, "dilation": 1, "ceil_mode": True}),
    ((2, 40, 18, 14), {"kernel_size": (3, 2), "stride": 1, "dilation": (2, 3)}),
    ((9, 1000, 2, 3, 4), {"kernel_size": (2, 3, 4)}),
    ((3, 800, 4, 3, 5), {"kernel_size": (1, 2, 5), "stride": 1}),
    ((2, 70, 5, 6, 7), {"kernel_size": 3, "stride": (1, 2, 1), "padding": 1}),
]


@pytest.mark.parametrize("shape, keywords", WINDOWS, ids=[f"{s}-{k['kernel_size']}" for s, k in WINDOWS])
def test_indices_of_a_max_pool(shape, keywords):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected = R.max_pool(x, **keywords)
    values, indices = MAX[len(shape) - 2](x, **keywords, return_indices=True)
    assert values.size > PIECE
    np.testing.assert_array_equal(indices, expected.indices)
    np.testing.assert_array_equal(values, expected.values)
    taken = np.take_along_axis(x.reshape(*shape[:2], -1), indices.reshape(*shape[:2], -1), axis=2)
    np.testing.assert_array_equal(taken.reshape(values.shape), values)


@pytest.mark.parametrize("shape, out", [((5, 2000, 7), 1), ((5, 900, 7), 3), ((32, 512, 7, 7), 1), ((9, 500, 6, 7), (3, 1)),
                                        ((9, 1000, 3, 4, 2), 1), ((5, 300, 5, 4, 3), (2, 3, 1))])
def test_indices_of_an_adaptive_max_pool(shape, out):
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    values, indices = ADAPTIVE[len(shape) - 2](x, out, return_indices=True)
    assert values.size > PIECE
    expected_values, expected = R.adaptive_max_pool(x, out)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(values, expected_values)


@pytest.mark.parametrize("bad", [-5, 4, 2**40])
def test_indices_that_are_outside_are_refused_again_and_again(bad):
    """Also by a call that is kept, and only by that one which has such an index."""
    x, good = np.arange(12, dtype=np.float32).reshape(4, 3), np.array([3, 0, 1])
    wrong = np.array([3, bad, 1])
    for _ in range(3):
        np.testing.assert_array_equal(F.index_select(x, 0, good), x[good])
        with pytest.raises(IndexError, match=f"{bad}"):
            F.index_select(x, 0, wrong)
        np.testing.assert_array_equal(F.embedding(good, x), x[good])
        with pytest.raises(IndexError, match=f"{bad}"):
            F.embedding(wrong, x)


def test_labels_that_do_not_fit_are_named():
    x = np.zeros((2, 3), np.float32)
    labels = np.array([0, 2**64 - 100], np.uint64)  # as int64 it is -100, the default ignore_index
    with pytest.raises(ValueError, match="cross_entropy: target holds 18446744073709551516: expected integers below"):
        F.cross_entropy(x, labels)
    model = nn.Linear(3, 3)
    trainer = fc.Trainer(model, nn.CrossEntropyLoss(), fc.optim.SGD(0.1))
    before = model.weight.data.copy()
    for _ in range(2):  # a fresh plan, and one that is there
        with pytest.raises(ValueError, match="step: target holds 18446744073709551516: expected integers below"):
            trainer.step(x, labels)
        np.testing.assert_array_equal(model.weight.data, before)
        trainer.step(x, np.array([0, 2], np.uint64))
        before = model.weight.data.copy()


def test_rows_of_a_dataset_by_unsigned_numbers():
    data = ArrayDataset(np.arange(12).reshape(6, 2))
    for dtype in (np.uint8, np.uint64, np.int64, np.int16):
        np.testing.assert_array_equal(data[np.array([5, 0], dtype)][0], [[10, 11], [0, 1]])
    with pytest.raises(IndexError, match="row 18446744073709551615 is not in 0..5"):
        data[np.array([0, 2**64 - 1], np.uint64)]
