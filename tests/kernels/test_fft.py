"""Convolution by Fourier transforms: the transforms against numpy.fft in float64, all passes against the float64 reference.

Inputs, outputs, packed weights and spectra end at a guard page and start as NaN.
"""

import math

import numpy as np
import pytest
import reference as ref

from fastconv.kernels import fft, layout

from .guarded import gaps, guarded, images, pixels
from .problems import Case, run

WIDTH = fft.width()
EPS = 2.0**-24


class Problem(Case):
    """A Case of stride 1 with the sizes of its transforms, and padding by pairs where it is not symmetric."""

    def __init__(self, n, c, k, size, kernel, sizes, padding=0, dilation=1, groups=1, count=None, tile=None):
        dims = len(size)
        pairs = padding if isinstance(padding, list) else [(p, p) for p in
                                                           (padding if isinstance(padding, tuple) else (padding,) * dims)]
        super().__init__(n, c, k, size, kernel, 1, 0, dilation, groups)
        self.pairs, self.low = pairs, tuple(low for low, _ in pairs)
        self.out = tuple(s + low + high - d * (r - 1) for s, (low, high), d, r in
                         zip(size, pairs, self.dilation, kernel, strict=True))
        self.y_shape = (n, k, *self.out)
        self.attributes = (self.stride, pairs, self.dilation, groups)
        self.sizes, self.count, self.tile = sizes, count, tile

    def plan(self, tile=None):
        three = self.three
        tile = tile or self.tile
        return fft.plan(groups=self.groups, channels=self.c // self.groups, filters=self.k // self.groups,
                        input=three(self.size, 1), output=three(self.out, 1), kernel=three(self.kernel, 1),
                        dilation=three(self.dilation, 1), low=three(self.low, 0), sizes=three(self.sizes, 1),
                        tile=tile and three(tile, 1))

    def strides(self):
        per, taps = self.c // self.groups, self.taps
        return fft.weight_strides(self.three(self.kernel, 1), group=self.k // self.groups * per * taps, filter=per * taps,
                                  channel=taps)


PROBLEMS = {
    "5x5": Problem(2, 5, 7, (9, 10), (5, 5), (8, 12), padding=2),
    "9x9": Problem(2, 3, WIDTH + 3, (23, 21), (9, 9), (16, 24), padding=4),
    "one tile": Problem(3, WIDTH + 1, 2 * WIDTH, (7, 7), (5, 5), (12, 12), padding=2),
    "3x3": Problem(1, 4, 4, (12, 13), (3, 3), (8, 8)),
    "1x1 of an image": Problem(2, 3, 5, (7, 9), (7, 9), (12, 16)),
    "one pixel": Problem(2, 5, 6, (1, 1), (3, 5), (4, 8), padding=(1, 2)),
    "kernel over image": Problem(2, 4, 3, (3, 2), (9, 7), (20, 16), padding=(6, 5)),
    "asymmetric": Problem(2, 3, 4, (11, 9), (4, 5), (8, 12), padding=[(3, 0), (1, 2)]),
    "padding over kernel": Problem(1, 2, 3, (4, 5), (3, 3), (8, 12), padding=(5, 4)),
    # one tile whose samples wrap around: padding on padding
    "wrapped": Problem(2, 3, 4, (6, 7), (5, 9), (8, 12), padding=(2, 4)),
    "wrapped, padding in front": Problem(1, 3, 4, (6, 7), (5, 9), (12, 16), padding=[(4, 0), (8, 0)]),
    "wrapped, padding over image": Problem(1, 2, 3, (3, 1), (3, 3), (8, 8), padding=[(0, 2), (3, 3)]),
    "dilation": Problem(1, 4, 6, (19, 23), (3, 4), (12, 24), dilation=(2, 3), padding=(2, 1)),
    "rows": Problem(2, 3, 5, (9, 30), (1, 9), (1, 20), padding=(0, 4)),
    "columns": Problem(2, 3, 5, (30, 9), (9, 1), (20, 1), padding=(4, 0)),
    "1d": Problem(2, 5, 6, (140,), (33,), (64,), padding=16),
    "1d long": Problem(1, 3, 4, (700,), (129,), (320,), padding=[(128, 0)]),
    "3d": Problem(2, 3, 5, (7, 9, 11), (3, 5, 3), (8, 12, 8), padding=(1, 2, 1)),
    "3d planes": Problem(1, 3, 4, (6, 5, 9), (5, 1, 3), (8, 1, 8), padding=(2, 0, 1)),
    "groups": Problem(2, 3 * (WIDTH // 2 + 1), 9, (9, 8), (5, 3), (12, 8), padding=(2, 1), groups=3),
    "wide groups": Problem(1, 2 * (WIDTH + 1), 2 * (WIDTH + 2), (9, 8), (5, 5), (12, 8), padding=2, groups=2),
    "multiplier": Problem(1, 3, 6, (9, 8), (5, 5), (12, 8), padding=2, groups=3),
    "depthwise": Problem(2, 2 * WIDTH + 3, 2 * WIDTH + 3, (17, 19), (7, 7), (16, 16), padding=3, groups=2 * WIDTH + 3),
    "depthwise narrow": Problem(2, 3, 3, (17, 19), (7, 5), (12, 20), padding=(3, 2), groups=3),
    "depthwise large": Problem(1, WIDTH, WIDTH, (14, 14), (31, 31), (48, 48), padding=15, groups=WIDTH),
    "depthwise 1d": Problem(2, 5, 5, (90,), (17,), (40,), padding=[(16, 0)], groups=5),
    "depthwise dilation": Problem(1, 4, 4, (15, 15), (5, 5), (24, 24), padding=4, dilation=2, groups=4),
    "depthwise 3d": Problem(1, 4, 4, (5, 6, 7), (3, 3, 3), (8, 8, 8), padding=1, groups=4),
    # ranges of tiles: around the register tile, and more than one
    **{f"{n} tiles": Problem(1, 3, 5, (9, 8 * n), (3, 5), (12, 12), padding=(1, 2), tile=(9, 8)) for n in
       (1, 2, 3, 4, 5, 6, 7, 8, 13, 14, 15, 29)},
    "ranges": Problem(3, 5, 6, (20, 21), (5, 5), (12, 12), padding=2, count=5),
    "ranges of one": Problem(2, 3, 6, (9, 13), (5, 5), (12, 12), padding=2, count=1),
    "channels": Problem(1, 3 * WIDTH + 2, 3, (6, 7), (3, 3), (8, 8), padding=1),
    "filters": Problem(1, 2, 3 * WIDTH + 2, (6, 7), (3, 3), (8, 8), padding=1),
}
NAMES = list(PROBLEMS)
DEPTHWISE = [name for name in NAMES if PROBLEMS[name].plan()["depthwise"]]
DENSE = [name for name in NAMES if name not in DEPTHWISE]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def ranges(p, g, batch):
    total = g["tiles"] * batch
    count = min(p.count or total, total) or 1
    return count, range(0, max(1, total), count)


def forward(p, x, w, threads=1, bias=None, residual=None, act=None, a=0.0, b=0.0, extra=3, g=None, strides=None, n=None,
            out=None):
    """The forward pass; with another plan and strides, any other convolution of its shape."""
    g, strides = g or p.plan(), strides or p.strides()
    batch = x.shape[0]
    k, out = g["groups"] * g["filters"], out or p.out
    ldx, ldy = x.shape[1] + extra, k + 2 * extra
    x_flat, w_flat, packed = pixels(x, ldx), guarded(w.shape), guarded(fft.packed_floats(g))
    w_flat[...] = w
    run(fft.weight(g, strides, w=w_flat.ctypes.data, packed=packed.ctypes.data), 1, threads)
    pixel_count = batch * math.prod(out)
    y = guarded(max(0, pixel_count * ldy - (ldy - k)))
    keywords = {"act": act, "act_a": a, "act_b": b}
    if bias is not None:
        bias_flat = guarded(k)
        bias_flat[:] = bias
        keywords["bias"] = bias_flat.ctypes.data
    if residual is not None:
        residual_flat = pixels(residual, k + 1)
        keywords.update(residual=residual_flat.ctypes.data, ldr=k + 1)
    common = {"x": x_flat.ctypes.data, "ldx": ldx, "y": y.ctypes.data, "ldy": ldy, **keywords}
    if g["depthwise"]:
        run(fft.depthwise(g, strides, packed=packed.ctypes.data, w=w_flat.ctypes.data, **common), batch, threads, n)
    else:
        direct, zeros = guarded(fft.direct_floats(g)), guarded(g["channels"])
        zeros[:] = 0
        run(layout.pack_weight(w_flat.ctypes.data, direct.ctypes.data, **fft.direct_packing(g, strides)), 1, 1)
        common.update(direct=direct.ctypes.data, zeros=zeros.ctypes.data)
        count, firsts = ranges(p, g, batch)
        for first in firsts:
            part = {"first": first, "count": count}
            xs, ys = (guarded(fft.spectrum_floats(g, which, count)) for which in "xy")
            run(fft.transform(g, x=x_flat.ctypes.data, ldx=ldx, spectrum=xs.ctypes.data, **part), batch, threads, n)
            run(fft.product(g, x=xs.ctypes.data, packed=packed.ctypes.data, y=ys.ctypes.data, **part), batch, threads, n)
            run(fft.inverse(g, spectrum=ys.ctypes.data, **common, **part), batch, threads, n)
    if pixel_count and n is None:
        assert np.isnan(gaps(y, pixel_count, k, ldy)).all()
    return images(y, (batch, k, *out), ldy)


def backward_data(p, w, gy, threads=1):
    """A convolution of the gradient with the flipped weights."""
    per, filters, three = p.c // p.groups, p.k // p.groups, p.three
    low = tuple((r - 1) * d - v for r, d, v in zip(p.kernel, p.dilation, p.low, strict=True))
    g = fft.plan(groups=p.groups, channels=filters, filters=per, input=three(p.out, 1), output=three(p.size, 1),
                 kernel=three(p.kernel, 1), dilation=three(p.dilation, 1), low=three(low, 0), sizes=three(p.sizes, 1))
    strides = fft.weight_strides(three(p.kernel, 1), group=filters * per * p.taps, filter=p.taps, channel=per * p.taps,
                                 flip=True)
    return forward(p, gy, w, threads, g=g, strides=strides, out=p.size)


def backward_weight(p, x, gy, threads=1, parts=1, extra=3):
    g, strides, batch = p.plan(), p.strides(), x.shape[0]
    ldx, ldy = p.c + extra, p.k + 2 * extra
    x_flat, gy_flat, dw = pixels(x, ldx), pixels(gy, ldy), guarded((parts, *p.w_shape))
    common = {"x": x_flat.ctypes.data, "ldx": ldx, "gy": gy_flat.ctypes.data, "ldy": ldy, "dw": dw.ctypes.data}
    if g["depthwise"]:
        run(fft.depthwise_weight(g, strides, parts=parts, part_stride=dw[0].size, **common), batch, threads)
        return dw.astype(np.float64).sum(axis=0)
    sums = guarded(fft.packed_floats(g))
    count, firsts = ranges(p, g, batch)
    for first in firsts:
        part = {"first": first, "count": count}
        xs, ys = (guarded(fft.spectrum_floats(g, which, count)) for which in "xy")
        run(fft.transform(g, x=x_flat.ctypes.data, ldx=ldx, spectrum=xs.ctypes.data, **part), batch, threads)
        run(fft.transform_gradient(g, gy=gy_flat.ctypes.data, ldy=ldy, spectrum=ys.ctypes.data, **part), batch, threads)
        run(fft.product_weight(g, x=xs.ctypes.data, gy=ys.ctypes.data, sums=sums.ctypes.data, add=first > 0, **part), batch,
            threads)
    run(fft.inverse_weight(g, strides, sums=sums.ctypes.data, **common), batch, threads)
    return dw[0]


def bound(g, *operands):
    """What a transform, a product and a transform back may lose, relative to the operands' norms: the error of an FFT grows
    with the logarithm of its size, that of the sums over channels like a random walk."""
    size = math.prod(a["size"] for a in g["axes"])
    return 4 * EPS * math.log2(size) * math.prod(float(np.linalg.norm(o.astype(np.float64))) for o in operands)


# ---- transforms -------------------------------------------------------------------------------------------------------


def spectrum(x, sizes, threads=1):
    """The spectrum of whole images through f32_fft_transform, as (frequencies..., channels) complex128."""
    size = x.shape[2:]
    three = (1,) * (3 - len(size))
    kernel = tuple(1 if s == 1 else 2 for s in sizes)
    g = fft.plan(groups=1, channels=x.shape[1], filters=1, input=(*three, *size), output=(*three, *size),
                 kernel=(*three, *kernel), dilation=(1, 1, 1), low=(0, 0, 0), sizes=(*three, *sizes),
                 tile=(*three, *size))
    flat, out = pixels(x, x.shape[1]), guarded(fft.spectrum_floats(g, "x", 1))
    run(fft.transform(g, x=flat.ctypes.data, ldx=x.shape[1], spectrum=out.ctypes.data, first=0, count=1), 1, threads)
    blocks = fft.blocks(x.shape[1])
    values = out.reshape(g["frequencies"], -1)[:, : blocks * 2 * WIDTH].reshape(g["frequencies"], blocks, 2, WIDTH)
    values = (values[:, :, 0] + 1j * values[:, :, 1].astype(np.complex128)).reshape(g["frequencies"], -1)
    shape = [a["size"] for a in g["axes"]]
    return values.reshape(*shape[:2], shape[2] // 2 + 1, -1)[..., : x.shape[1]]


@pytest.mark.parametrize("size", [*(n for n in fft.sizes() if n <= 256), 320, 384, 500, 512, 972, 1024, 1536, 4096, 10000,
                                  fft.LARGEST])
def test_real_transform(size, rng):
    x = rng.standard_normal((1, WIDTH + 1, size), np.float32)
    truth = np.moveaxis(np.fft.rfft(x[0].astype(np.float64)), 0, -1)
    got = spectrum(x, (size,))[0, 0] / 2  # the kernels leave the factor to the weights
    assert np.linalg.norm(got - truth) <= EPS * (1 + 0.5 * math.log2(size)) * np.linalg.norm(truth)


@pytest.mark.parametrize("size", [n for n in fft.sizes() if n <= 128] + [243 * 4, 2048])
def test_complex_transform(size, rng):
    """Along the other axes: columns of a plane."""
    x = rng.standard_normal((1, 3, size, 4), np.float32)
    truth = np.moveaxis(np.fft.rfft2(x[0].astype(np.float64)), 0, -1)
    got = spectrum(x, (size, 4))[0] / 2
    assert np.linalg.norm(got - truth) <= EPS * (2 + 0.5 * math.log2(size)) * np.linalg.norm(truth)


@pytest.mark.parametrize("sizes", [(8, 12, 20), (4, 4, 4), (12, 40, 8)])
def test_three_dimensions(sizes, rng):
    x = rng.standard_normal((1, 5, *(s - 1 for s in sizes)), np.float32)
    truth = np.moveaxis(np.fft.rfftn(x[0].astype(np.float64), sizes, axes=(1, 2, 3)), 0, -1)
    got = spectrum(x, sizes) / 2
    assert np.linalg.norm(got - truth) <= EPS * (2 + 0.5 * math.log2(math.prod(sizes))) * np.linalg.norm(truth)


def test_radices():
    assert fft.radices(7) is None and fft.radices(22) is None
    for size in fft.sizes():
        for n in (size, size // 2):
            assert math.prod(fft.radices(n)) == n and set(fft.radices(n)) <= {2, 3, 4, 5, 8}


# ---- passes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_forward(name, rng):
    p = PROBLEMS[name]
    x, w = (rng.standard_normal(s, np.float32) for s in (p.x_shape, p.w_shape))
    one, two = (forward(p, x, w, threads, extra=extra) for threads, extra in ((1, 0), (2, 3)))
    np.testing.assert_array_equal(one, two)
    truth = ref.conv(x, w, None, *p.attributes)
    if name in DEPTHWISE:
        for c in range(p.c):  # a channel's error is its own
            assert np.abs(one[:, c] - truth[:, c]).max() <= bound(p.plan(), x[:, c], w[c])
    else:
        assert np.abs(one - truth).max() <= bound(p.plan(), x, w)
    length = p.taps * p.c // p.groups
    assert ref.rel_l2(one, truth) <= EPS * 4 * math.sqrt(max(length, 32))


@pytest.mark.parametrize("name", NAMES)
def test_backward_data(name, rng):
    p = PROBLEMS[name]
    gy, w = (rng.standard_normal(s, np.float32) for s in (p.y_shape, p.w_shape))
    one, two = (backward_data(p, w, gy, threads) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    truth = ref.conv_backward_data(p.x_shape, w, gy, *p.attributes)
    assert np.abs(one - truth).max() <= bound(p.plan(), gy, w)


@pytest.mark.parametrize("name", NAMES)
def test_backward_weight(name, rng):
    p = PROBLEMS[name]
    x, gy = (rng.standard_normal(s, np.float32) for s in (p.x_shape, p.y_shape))
    truth = ref.conv_backward_weight(x, p.w_shape, gy, *p.attributes)
    for parts in (1, 3) if name in DEPTHWISE else (1,):
        one, two = (backward_weight(p, x, gy, threads, parts, extra) for threads, extra in ((1, 0), (2, 3)))
        np.testing.assert_array_equal(one, two)
        assert np.abs(one - truth).max() <= bound(p.plan(), x, gy)


@pytest.mark.parametrize("name", ["9x9", "groups", "depthwise", "1d", "3d", "multiplier"])
def test_adjoint(name, rng):
    p = PROBLEMS[name]
    x, w, gy = (rng.standard_normal(s, np.float32) for s in (p.x_shape, p.w_shape, p.y_shape))
    y, gx, dw = forward(p, x, w), backward_data(p, w, gy), backward_weight(p, x, gy)
    assert ref.adjoint_gap(y, gy, x, gx) <= 16 * EPS
    assert ref.adjoint_gap(y, gy, w, dw) <= 16 * EPS


@pytest.mark.parametrize("name", ["9x9", "groups", "depthwise", "filters", "wide groups"])
@pytest.mark.parametrize("act", [None, "relu", "clip", "leaky_relu"])
def test_epilogue(name, act, rng):
    p = PROBLEMS[name]
    x, w, residual = (rng.standard_normal(s, np.float32) for s in (p.x_shape, p.w_shape, p.y_shape))
    bias = rng.standard_normal(p.k, np.float32)
    a, b = {None: (0, 0), "relu": (0, 0), "clip": (-2, 3.5), "leaky_relu": (0.25, 0)}[act]
    for with_bias, with_residual in ((True, True), (True, False), (False, True)):
        y = ref.conv(x, w, bias if with_bias else None, *p.attributes) + (residual if with_residual else 0)
        y = {None: lambda v: v, "relu": lambda v: np.maximum(v, 0), "clip": lambda v: np.clip(v, -2, 3.5),
             "leaky_relu": lambda v: np.where(v < 0, v / 4, v)}[act](y)
        got = forward(p, x, w, 2, bias if with_bias else None, residual if with_residual else None, act, a, b)
        assert np.abs(got - y).max() <= bound(p.plan(), x, w) + 2 * EPS * np.abs(y).max()


@pytest.mark.parametrize("name", ["9x9", "one tile", "ranges", "depthwise", "1d", "groups", "7 tiles"])
def test_an_image_does_not_depend_on_its_batch(name, rng):
    p = PROBLEMS[name]
    x, w = rng.standard_normal((9, *p.x_shape[1:]), np.float32), rng.standard_normal(p.w_shape, np.float32)
    y = forward(p, x, w, 2)
    for i in (0, 5, 8):
        np.testing.assert_array_equal(forward(p, x[i:i + 1], w)[0], y[i])
    order = np.random.default_rng(0).permutation(9)
    np.testing.assert_array_equal(forward(p, x[order], w, 2), y[order])


@pytest.mark.parametrize("name", ["9x9", "ranges", "depthwise"])
def test_a_smaller_batch_replays_the_plan(name, rng):
    p = PROBLEMS[name]
    x, w = rng.standard_normal((4, *p.x_shape[1:]), np.float32), rng.standard_normal(p.w_shape, np.float32)
    whole = forward(p, x, w)
    for n in (0, 1, 3):
        got = forward(p, x, w, 2, n=n)
        np.testing.assert_array_equal(got[:n], whole[:n])
        assert np.isnan(got[n:]).all()


@pytest.mark.parametrize("name", ["9x9", "depthwise"])
def test_empty_batch(name):
    p = PROBLEMS[name]
    x, gy = np.zeros((0, *p.x_shape[1:]), np.float32), np.zeros((0, *p.y_shape[1:]), np.float32)
    assert forward(p, x, np.ones(p.w_shape, np.float32)).shape == gy.shape
    np.testing.assert_array_equal(backward_weight(p, x, gy), np.zeros(p.w_shape))


# ---- infinities, NaN and overflow ---------------------------------------------------------------------------------------


def same(got, truth, within):
    """Equal infinities and NaN, and close elsewhere."""
    np.testing.assert_array_equal(np.isnan(got), np.isnan(truth))
    infinite = np.isinf(truth)
    np.testing.assert_array_equal(got[infinite], truth[infinite])
    finite = np.isfinite(truth)
    assert np.isfinite(got[finite]).all() and np.abs(got[finite] - truth[finite]).max(initial=0) <= within


NOT_FINITE = ["9x9", "groups", "depthwise", "depthwise narrow", "1d", "3d", "multiplier", "one pixel", "ranges"]


def spoil(rng, array, value):
    """The array with a few entries that are not finite, and what it is without them."""
    clean = array.copy()
    flat = array.reshape(-1)
    at = rng.choice(flat.size, max(1, flat.size // 400), replace=False)
    flat[at] = value
    clean.reshape(-1)[at] = 0
    return array, clean


@pytest.mark.parametrize("name", NOT_FINITE)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_not_finite(name, value, rng):
    """As by the definition, in all passes: what an infinity does not reach is as good as without it."""
    p = PROBLEMS[name]
    x, w, gy = (rng.standard_normal(s, np.float32) for s in (p.x_shape, p.w_shape, p.y_shape))
    g = p.plan()
    bad, clean = spoil(rng, x.copy(), value)
    same(forward(p, bad, w, 2), ref.conv(bad, w, None, *p.attributes), bound(g, clean, w))
    same(backward_weight(p, bad, gy, 2), ref.conv_backward_weight(bad, p.w_shape, gy, *p.attributes), bound(g, clean, gy))
    bad, clean = spoil(rng, w.copy(), value)
    same(forward(p, x, bad, 2), ref.conv(x, bad, None, *p.attributes), bound(g, x, clean))
    bad, clean = spoil(rng, gy.copy(), value)
    same(backward_weight(p, x, bad, 2), ref.conv_backward_weight(x, p.w_shape, bad, *p.attributes), bound(g, x, clean))


@pytest.mark.parametrize("name", NOT_FINITE)
def test_largest_values(name, rng):
    """A tile's sum overflows in the transform where the convolution's own sums are far from it."""
    p = PROBLEMS[name]
    signs = rng.integers(0, 2, p.x_shape).astype(np.float32) * 2 - 1
    x, w = np.float32(3.3e38) * signs, np.zeros(p.w_shape, np.float32)
    w[..., :1] = 2.0**-10
    truth = ref.conv(x, w, None, *p.attributes)
    got = forward(p, x, w, 2)
    assert np.abs(got - truth).max() <= 4 * EPS * math.sqrt(p.taps * p.c) * np.abs(truth).max()
