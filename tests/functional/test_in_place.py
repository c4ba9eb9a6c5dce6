"""Activations that are written into their input."""

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv import nn
from fastconv.functional import in_place

GIVEN = {"threshold_": {"threshold": 0.25, "value": -2.0}, "hardtanh_": {"min_val": -0.5, "max_val": 0.75},
         "elu_": {"alpha": 0.5}, "celu_": {"alpha": 2.0}, "leaky_relu_": {"negative_slope": 0.125}}


@pytest.mark.parametrize("name", [name for name in in_place.__all__ if name != "rrelu_"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3, 5, 7), (3, 4100)])
def test_values_are_those_of_the_function_and_lie_in_the_input(name, shape):
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    wanted = getattr(F, name[:-1])(x.copy(), **GIVEN.get(name, {}))
    assert getattr(F, name)(x, **GIVEN.get(name, {})) is x
    np.testing.assert_array_equal(x, wanted)


@pytest.mark.parametrize("name", in_place.__all__)
def test_a_view_is_written_where_it_lies(name):
    whole = np.random.default_rng(0).standard_normal((6, 8), dtype=np.float32)
    before, view = whole.copy(), whole[::2, 1:5]
    getattr(F, name)(view, **GIVEN.get(name, {}))
    np.testing.assert_array_equal(view, getattr(F, name[:-1])(before[::2, 1:5], **GIVEN.get(name, {})))
    np.testing.assert_array_equal(whole[1::2], before[1::2])


@pytest.mark.parametrize("name", in_place.__all__)
def test_in_a_forward(name):
    class Net(nn.Module):
        def forward(self, x):
            return getattr(F, name)(x, **GIVEN.get(name, {}))

    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4), dtype=np.float32)
    before = x.copy()
    np.testing.assert_array_equal(fc.compile(Net().eval(), x.shape)(x), getattr(F, name[:-1])(x, **GIVEN.get(name, {})))
    np.testing.assert_array_equal(x, before)  # what a caller gives to an engine stays


@pytest.mark.parametrize("name", in_place.__all__)
def test_what_is_no_array_is_refused(name):
    with pytest.raises((TypeError, ValueError), match=name[:-1]):
        getattr(F, name)("text", **GIVEN.get(name, {}))
    x = np.ones(3, np.float32)
    x.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        getattr(F, name)(x, **GIVEN.get(name, {}))
    np.testing.assert_array_equal(x, 1)
