"""Layers that resample, in engines and trainings, beside PyTorch where it is installed: batches, fusion with what is around
them, channels-last and dense inputs; what a region of no image gives."""

import numpy as np
import pytest
from reference import sampling

import fastconv as fc
import fastconv.functional as F
from fastconv import nn

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
SIZES = [(None, 2.0, "nearest", None), ((11, 9), None, "bilinear", False), (None, 1.5, "bicubic", True),
         ((3, 4), None, "area", None)]


class Net(nn.Module):
    """A decoder's step: convolution, upsampling, what came before beside it, convolution."""

    def __init__(self, size, scale, mode, align):
        super().__init__()
        self.first = nn.Conv2d(3, 20, 3, padding=1)
        self.up = nn.Upsample(size, scale, mode, align)
        self.second = nn.Conv2d(20, 4, 3, padding=1)

    def forward(self, x):
        return self.second(fc.functional.relu(self.up(fc.functional.relu(self.first(x)))))


@pytest.mark.parametrize(("size", "scale", "mode", "align"), SIZES)
def test_upsample_in_a_network(size, scale, mode, align):
    net = Net(size, scale, mode, align)
    x = np.random.default_rng(0).standard_normal((3, 3, 8, 6)).astype(np.float32)
    first, second = (torch.nn.Conv2d(*s, 3, padding=1).double() for s in ((3, 20), (20, 4)))
    for theirs, ours in ((first, net.first), (second, net.second)):
        theirs.weight.data = torch.tensor(np.asarray(ours.weight.data)).double()
        theirs.bias.data = torch.tensor(np.asarray(ours.bias.data)).double()
    up = torch.nn.functional.interpolate(first(torch.tensor(x).double()).relu(), size, scale, mode, align)
    want = second(up.relu())
    engine = fc.compile(net, (3, 3, 8, 6))
    out = engine(x)
    np.testing.assert_allclose(out, want.detach(), atol=2e-5)
    for i in range(3):
        np.testing.assert_array_equal(engine(x[i:i + 1]), out[i:i + 1])
    trained = fc.compile(net, (3, 3, 8, 6), training=True)
    gy = np.random.default_rng(1).standard_normal(want.shape).astype(np.float32)
    trained(x)
    trained.backward(gy)
    want.backward(torch.tensor(gy).double())
    np.testing.assert_allclose(net.first.weight.grad, first.weight.grad, atol=2e-4)


def test_uint8():
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 20, 30)).astype(np.uint8)
    for mode, more in (("nearest", {}), ("bilinear", {}), ("bicubic", {"antialias": True})):
        out = F.interpolate(x, (31, 17), mode=mode, **more)
        want = torch.nn.functional.interpolate(torch.tensor(x).double(), (31, 17), mode=mode, **more).numpy()
        assert out.dtype == np.uint8 and np.abs(out - np.clip(want, 0, 255)).max() <= 0.501


def test_layers_of_regions():
    x = np.random.default_rng(0).standard_normal((2, 5, 8, 10)).astype(np.float32)
    rois = np.array([[0, 1, 1, 9, 7], [1, 0, 2, 4, 6]], np.float32)
    gy = np.zeros((2, 5, 3, 3))
    align = fc.compile(nn.RoIAlign(3, 0.5, 2, True), {"input": x.shape, "rois": rois.shape})
    np.testing.assert_allclose(align(x, rois), sampling.roi_align(x, rois, (3, 3), 0.5, 2, True, "avg", gy)[0], atol=1e-5)
    pool = fc.compile(nn.RoIPool(3, 0.5), {"input": x.shape, "rois": rois.shape})
    np.testing.assert_array_equal(pool(x, rois), sampling.roi_pool(x, rois, (3, 3), 0.5, gy)[0].astype(np.float32))
    rois[1, 0] = 2
    assert np.isnan(F.roi_align(x, rois, 3)[1]).all() and np.isfinite(F.roi_align(x, rois, 3)[0]).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (2, 5)])
def test_regions_of_position_sensitive_maps(size):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 4 * size[0] * size[1], 9, 13)).astype(np.float32)
    rois = np.concatenate([rng.integers(0, 3, (30, 1)), rng.uniform(-6, 30, (30, 4))], 1).astype(np.float32)
    gy = rng.standard_normal((30, 4, *size)).astype(np.float32)
    for name, args in (("ps_roi_align", (2,)), ("ps_roi_align", (-1,)), ("ps_roi_pool", ())):
        want, gx = getattr(sampling, name)(x, rois, size, 0.5, *args, gy)
        y, (got, _) = F.vjp(lambda x, rois, name=name, args=args: getattr(F, name)(x, rois, size, 0.5, *args), [x, rois], gy)
        np.testing.assert_allclose(y, want, atol=1e-5)
        np.testing.assert_allclose(got, gx, atol=2e-5 * (1 + np.abs(gx).max()))
    x, rois = x[:2], rois[rois[:, 0] < 2][:2]  # compiled inputs have one batch
    layers = [nn.PSRoIAlign(size, 0.5, 2), nn.PSRoIPool(size, 0.5)]
    for layer, want in zip(layers, (F.ps_roi_align(x, rois, size, 0.5, 2), F.ps_roi_pool(x, rois, size, 0.5)), strict=True):
        np.testing.assert_array_equal(fc.compile(layer, {"input": x.shape, "rois": rois.shape})(x, rois), want)



def test_layers_say_what_they_are():
    assert repr(nn.Upsample(scale_factor=2)) == "Upsample(scale_factor=2, mode='nearest')"
    assert repr(nn.UpsamplingBilinear2d((4, 5))) == "UpsamplingBilinear2d(size=(4, 5), mode='bilinear')"
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 5)).astype(np.float32)
    for ours, theirs in ((nn.UpsamplingNearest2d(scale_factor=2), torch.nn.UpsamplingNearest2d(scale_factor=2)),
                         (nn.UpsamplingBilinear2d((7, 3)), torch.nn.UpsamplingBilinear2d((7, 3)))):
        np.testing.assert_allclose(fc.compile(ours, x.shape)(x), theirs(torch.tensor(x)), atol=1e-5)
