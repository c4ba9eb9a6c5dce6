"""algorithm="depthwise_rows" as users meet it: filters over grey and colour images, where it is chosen, refusals."""

import numpy as np
import pytest
import reference as R

import fastconv as fc
import fastconv.functional as F


class Filter(fc.nn.Module):
    """A depthwise convolution; with ``join``, activated after a residual, between others in a concatenation."""

    def __init__(self, channels, kernel, join=False):
        super().__init__()
        self.filter = fc.nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
        self.same = fc.nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        self.join = join

    def forward(self, x):
        if not self.join:
            return self.filter(x)
        same = self.same(x)
        return F.cat([same, F.relu(self.filter(x) + same), same], 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_filter_over_an_image_is_along_rows(channels):
    net = Filter(channels, 5)
    x = np.random.default_rng(channels).standard_normal((2, channels, 40, 50), np.float32)
    engine = fc.compile(net, x.shape)
    assert "depthwise_rows" in {row.algorithm for row in engine.steps()}
    assert R.rel_l2(engine(x), R.conv(x, net.filter.weight.data, None, 1, 2, 1, channels)) < 3e-7


def test_into_a_concatenation_with_a_residual():
    """Where pixels of the output and of the residual lie apart."""
    net = Filter(3, 3, join=True)
    x = np.random.default_rng(1).standard_normal((2, 3, 12, 13), np.float32)
    engine = fc.compile(net, x.shape, algorithm="depthwise_rows")
    rows = [row for row in engine.steps() if row.algorithm == "depthwise_rows"]
    assert {row.path for row in rows} == {"filter", "same"}
    same = x * net.same.weight.data.reshape(1, 3, 1, 1)
    exact = np.maximum(R.conv(x, net.filter.weight.data, None, 1, 1, 1, 3) + same, 0)
    np.testing.assert_array_equal(engine(x)[:, :3], same)
    np.testing.assert_array_equal(engine(x)[:, 6:], same)
    assert R.rel_l2(engine(x)[:, 3:6], exact) < 3e-7


@pytest.mark.parametrize(("shape", "groups", "stride", "words"), [
    ((8, 8, 3, 3), 1, 1, "one input channel and one filter per group"), ((16, 1, 3, 3), 8, 1, "one input channel"),
    ((8, 1, 3, 3), 8, 2, "only for stride 1 along the row"),
])
def test_what_it_refuses(shape, groups, stride, words):
    with pytest.raises(ValueError, match=words):
        F.conv2d(np.ones((1, 8, 9, 9), np.float32), np.ones(shape, np.float32), groups=groups, stride=stride,
                 algorithm="depthwise_rows")


def test_more_channels_than_a_row_is_for():
    with pytest.raises(ValueError, match="at most 31 channels"):
        F.conv2d(np.ones((1, 32, 9, 9), np.float32), np.ones((32, 1, 3, 3), np.float32), groups=32,
                 algorithm="depthwise_rows")
