"""Augmentation: values against definitions, uint8 and float32, both orders of dimensions; what goes along with an image;
bits against threads and against the rest of the batch; what is refused."""

import inspect

import numpy as np
import pytest
from everywhere import again
from fastconv.kernels._runtime import isa_info
from reference import augmentation as ref

import fastconv as fc
from fastconv import data
from fastconv.data import augment
from fastconv.data.augment.geometry import affine_matrices
from fastconv.data.augment.plan import Plan

RNG = np.random.default_rng


@pytest.mark.parametrize("isa", isa_info()["available"])
def test_everywhere(isa):
    again(isa, __file__)


def images(dtype, channels=3, size=(13, 18), count=4, seed=0):
    values = RNG(seed).integers(0, 256, (count, channels, *size))
    values[0, :, :3] = 77  # a flat part
    return values.astype(np.uint8) if dtype == np.uint8 else (values / 255).astype(np.float32)


def planned(x, add):
    """The images through what `add` adds to a plan, both orders of dimensions, on one thread and two, each image alone."""
    def run(x, order):
        plan = Plan(x.shape, 255.0 if x.dtype == np.uint8 else 1.0, RNG(0))
        add(plan)
        return plan.run(x, order)
    before = fc.get_num_threads()
    try:
        fc.set_num_threads(1)
        out = run(x, (0, 1, 2, 3))
        fc.set_num_threads(2)
        np.testing.assert_array_equal(run(x, (0, 1, 2, 3)), out)
        last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(run(last, (0, 2, 3, 1)), out)
        np.testing.assert_array_equal(run(x[::-1, :, ::-1][::-1, :, ::-1], (0, 1, 2, 3)), out)
        np.testing.assert_array_equal(run(x.repeat(2, 3)[..., ::2], (0, 1, 2, 3)), out)  # nothing lies side by side
        np.testing.assert_array_equal(run(x[..., ::-1].copy()[..., ::-1], (0, 2, 3, 1)), out)
    finally:
        fc.set_num_threads(before)
    return out


def close(out, want, dtype, slack=0):
    """Within rounding: of bytes a few may be rounded or cut off the other way."""
    off = np.abs(out.astype(np.float64) - want)
    if dtype == np.uint8:
        assert off.max() <= 1 + slack and (off > 0.5 + slack).sum() <= max(2, 0.02 * off.size), off.max()
    else:
        assert off.max() < 2e-5


DTYPES = [np.uint8, np.float32]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 4, 6])
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("border", ["constant", "edge", "reflect", "symmetric"])
def test_warp(mode, border, channels, dtype):
    x = images(dtype, channels)
    fill = 40.0 if dtype == np.uint8 else 0.25
    matrices = affine_matrices((13, 18), [3, -40, 170, 0], ([1, 0, -3, 30], [0, 2, 5, -41]), [1, 0.4, 1.7, 1],
                               ([0, 9, 0, 0], 0))
    for size in ((13, 18), (20, 67), (1, 1)):
        out = planned(x, lambda plan: plan.warp(matrices, size, mode, fill, border))  # noqa: B023
        want = np.stack([ref.warp(i.astype(np.float64), m, size, mode, border, fill)
                         for i, m in zip(x, matrices, strict=True)])
        if dtype == np.uint8:
            want = np.clip(np.floor(want + 0.5), 0, 255)
        if mode == "nearest":  # where a coordinate lies between two pixels, either
            assert (out != want).mean() < 0.02
        else:
            close(out, want, dtype) if dtype == np.uint8 else np.testing.assert_allclose(out, want, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_flips_and_shifts_are_exact(dtype):
    x = images(dtype)
    pipeline = data.Compose([data.RandomHorizontalFlip(1.0), data.RandomVerticalFlip(1.0), data.Pad((2, 3), 0, "reflect"),
                             data.CenterCrop((13, 18))])
    np.testing.assert_array_equal(pipeline(x, 0), x[:, :, ::-1, ::-1])
    np.testing.assert_array_equal(data.Pad((1, 2, 3, 4), 9)(x, 0),
                                  np.pad(x, ((0, 0), (0, 0), (2, 4), (1, 3)), constant_values=9))
    for mode in ("reflect", "symmetric", "edge"):
        want = np.pad(x, ((0, 0), (0, 0), (5, 5), (5, 5)), mode)
        np.testing.assert_array_equal(data.Pad(5, padding_mode=mode)(x, 0), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("op", "parameters"), [
    ("brightness", (1.37,)), ("brightness", (0.43,)), ("contrast", (1.7,)), ("contrast", (0.2,)), ("saturation", (0.0,)),
    ("saturation", (1.77,)), ("hue", (0.2,)), ("hue", (-0.45,)), ("gray", ()), ("invert", ()), ("solarize", (0.5,)),
    ("posterize", (3,)), ("posterize", (8,)), ("autocontrast", ()), ("equalize", ()), ("sharpness", (1.93,)),
    ("sharpness", (0.0,))])
def test_values(op, parameters, channels, dtype):
    for size in ((13, 18), (2, 5), (40, 33)):
        x, top = images(dtype, channels, size), 255.0 if dtype == np.uint8 else 1.0
        parameters = (round(parameters[0] * top),) if op == "solarize" and top > 1 else parameters
        chosen = np.array([0, 2, 3])
        out = planned(x, lambda plan: plan.values(op, chosen, *parameters))  # noqa: B023
        np.testing.assert_array_equal(out[1], x[1])
        want = np.stack([getattr(ref, op)(i.astype(np.float64), top, *parameters) for i in x[chosen]])
        close(out[chosen], want, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 6])
def test_blur_and_resize(channels, dtype):
    x, top = images(dtype, channels, (24, 31)), 255.0 if dtype == np.uint8 else 1.0
    out = planned(x, data.GaussianBlur((5, 9), 1.3).draw)
    close(out, np.stack([ref.blur(i, top, (5, 9), 1.3) for i in x]), dtype)
    boxes = np.array([[0, 0, 24, 31], [3, 5, 10, 20], [23, 30, 1, 1], [2, 0, 20, 3]])
    for size, mode in (((9, 12), "bilinear"), ((40, 50), "bilinear"), ((7, 40), "bicubic")):
        out = planned(x, lambda plan: plan.resize(boxes, size, mode, True))  # noqa: B023
        want = np.stack([ref.resized(i, top, b, size, mode == "bicubic") for i, b in zip(x, boxes, strict=True)])
        close(out, want, dtype)


def moved(x, rows, columns, border, fill):
    """x, (N, C, H, W), at these rows and columns."""
    def places(at, size):
        cycle = {"constant": [*range(size)], "edge": [*range(size)], "reflect": [*range(size), *range(size - 2, 0, -1)],
                 "symmetric": [*range(size), *range(size - 1, -1, -1)]}[border]
        if border in ("constant", "edge"):
            return np.clip(at, 0, size - 1), (at >= 0) & (at < size) | (border == "edge")
        return np.array(cycle)[at % len(cycle)], np.ones(len(at), bool)
    (r, some), (c, more) = places(rows, x.shape[2]), places(columns, x.shape[3])
    out = x[:, :, r][:, :, :, c]
    out[:, :, ~(some[:, None] & more)] = fill
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("border", ["constant", "edge", "reflect", "symmetric"])
def test_what_only_moves_is_exact(border, channels, dtype):
    """Flips and shifts, at the beginning and behind another step, by every way of reading a row: single pixels, 4 and 16."""
    fill = 9.0 if dtype == np.uint8 else 0.25
    for size, shift, out in (((5, 37), (0, 0), (5, 37)), ((5, 37), (2, -3), (6, 40)), ((4, 53), (-9, 20), (7, 51)),
                             ((3, 6), (1, 1), (2, 4)), ((2, 5), (1, -4), (1, 6)), ((2, 1), (0, -1), (3, 3))):
        x = images(dtype, channels, size, 2)
        for down in (1, -1):
            for along in (1, -1):
                matrix = np.array([[along, 0, shift[1] + size[1] * (along < 0)], [0, down, shift[0] + size[0] * (down < 0)],
                                   [0, 0, 1]], np.float64)
                rows = shift[0] + down * np.arange(out[0]) + (size[0] - 1) * (down < 0)
                columns = shift[1] + along * np.arange(out[1]) + (size[1] - 1) * (along < 0)
                want = moved(x, rows, columns, border, fill)
                first = planned(x, lambda plan: plan.warp(matrix, out, "bilinear", fill, border))  # noqa: B023
                np.testing.assert_array_equal(first, want)

                def then(plan):
                    plan.values("invert", plan.everyone)
                    plan.values("invert", plan.everyone)
                    plan.warp(matrix, out, "bilinear", fill, border)  # noqa: B023
                if dtype == np.uint8:
                    np.testing.assert_array_equal(planned(x, then), want)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_bytes_to_floats(channels):
    """Rows of 16 pixels and what is left, written as bytes and as floats of another scale."""
    for size in ((3, 5), (2, 16), (3, 39)):
        x = images(np.uint8, channels, size)
        factor, addend = np.linspace(0.5, 2, channels), np.linspace(-3, 3, channels)
        out = planned(x, lambda plan: plan.affine(factor, addend))  # noqa: B023
        assert out.dtype == np.float32
        np.testing.assert_allclose(out, x * factor[:, None, None] + addend[:, None, None], rtol=1e-6, atol=1e-5)
        np.testing.assert_array_equal(planned(x, lambda plan: None), x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_rectangles_are_exact(channels, dtype):
    """Alone, behind a flip, behind a step; two of them, cut off, of nothing."""
    x = images(dtype, channels, (9, 21), 3)
    value = np.linspace(1, 9, channels) if dtype == np.uint8 else np.linspace(0.125, 0.75, channels).astype(np.float32)
    for rectangles in ([(2, 3, 4, 11)], [(7, 19, 8, 8), (0, 0, 1, 2)], [(1, 1, 0, 5)], [(0, 0, 9, 21)], [(-2, -3, 4, 5)]):
        want = x.copy()
        for top, left, height, width in rectangles:
            settled = np.round(value) if dtype == np.uint8 else value
            want[:, :, max(0, top):max(0, top + height), max(0, left):max(0, left + width)] = settled[:, None, None]

        def erase(plan):
            for rectangle in rectangles:  # noqa: B023
                plan.values("erase", plan.everyone, *rectangle, np.tile(value, (3, 1)))  # noqa: B023
        np.testing.assert_allclose(planned(x, erase), want, atol=0 if dtype == np.uint8 else 1e-6)

        def flipped(plan):
            plan.warp(np.array([[-1.0, 0, 21], [0, 1, 0], [0, 0, 1]]), (9, 21))
            erase(plan)  # noqa: B023
        np.testing.assert_array_equal(planned(x[..., ::-1], flipped), planned(x, erase))

        def inverted(plan):
            plan.values("posterize", plan.everyone, 8)
            erase(plan)  # noqa: B023
        if dtype == np.uint8:
            np.testing.assert_array_equal(planned(x, inverted), want)


def test_erasing_and_normalising():
    x = images(np.uint8, 3, (20, 20), 50)
    out = data.RandomErasing(1.0, value=(1, 2, 3))(x, 3)
    erased = (out == np.array([1, 2, 3])[:, None, None]).all(axis=1)
    assert all(0 < e.sum() < 400 for e in erased)
    for image, new, hole in zip(x, out, erased, strict=True):
        rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
        assert hole[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1].mean() > 0.99
        np.testing.assert_array_equal(new[:, ~hole], image[:, ~hole])
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    out = data.Normalize(mean, std)(x, 0)
    assert out.dtype == np.float32
    want = (x / 255.0 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    np.testing.assert_allclose(out, want, atol=1e-5)
    np.testing.assert_array_equal(data.Compose([data.ToDtype(), data.Normalize(mean, std)])(x, 0), out)


def test_geometry_is_one_warp():
    plan = Plan((2, 3, 32, 32), 255.0, RNG(0))
    for transform in (data.RandomCrop(32, 4), data.RandomHorizontalFlip(1.0),
                      data.RandomAffine(10, interpolation="bilinear"), data.RandomRotation(5, "bilinear")):
        transform.draw(plan)
    plan.flush(plan.everyone)
    assert len(plan.events) == 1


def test_what_goes_along():
    """A bright pixel, its mask, a box and a point at its centre stay together."""
    n, size = 12, 41
    x, mask = np.zeros((n, 1, size, size), np.float32), np.zeros((n, size, size), np.int64)
    rng = RNG(1)
    at = rng.integers(14, 27, (n, 2))
    for i, (row, column) in enumerate(at):
        x[i, 0, row - 2:row + 3, column - 2:column + 3] = 1
        mask[i, row - 2:row + 3, column - 2:column + 3] = 7
    points = at[:, None, ::-1] + 0.5
    boxes = np.concatenate([points - 2.5, points + 2.5], axis=-1)
    pipeline = data.Compose([data.RandomAffine(30, (0.1, 0.1), (0.9, 1.4), 8, "bilinear"), data.RandomHorizontalFlip(),
                             data.RandomResizedCrop((50, 60), (0.7, 1.0))],
                            fields={"x": "image", "m": "mask", "b": "boxes", "p": "keypoints"})
    out = pipeline({"x": x, "y": np.arange(n), "m": mask, "b": boxes, "p": points}, 5)
    assert list(out) == ["x", "y", "m", "b", "p"] and out["m"].dtype == np.int64 and set(np.unique(out["m"])) <= {0, 7}
    seen = 0
    for i in range(n):
        px, py = out["p"][i, 0]
        if not (8 < px < 52 and 8 < py < 42):
            continue
        seen += 1
        rows, columns = np.nonzero(out["m"][i])
        assert abs(rows.mean() + 0.5 - py) < 0.7 and abs(columns.mean() + 0.5 - px) < 0.7
        weight = out["x"][i, 0]
        assert abs((weight * (np.arange(50)[:, None] + 0.5)).sum() / weight.sum() - py) < 0.3
        x1, y1, x2, y2 = out["b"][i, 0]
        assert x1 <= columns.min() + 1 and x2 >= columns.max() and y1 <= rows.min() + 1 and y2 >= rows.max()
        assert (x2 - x1) < 2.2 * (columns.max() - columns.min() + 2)
    assert seen >= 6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transform", [data.RandAugment(), data.TrivialAugmentWide(interpolation="bilinear"),
                                       data.ColorJitter(0.4, 0.4, 0.4, 0.1),
                                       data.Compose([data.RandomPerspective(), data.RandomGrayscale(0.5)])])
def test_policies_are_seeded(transform, dtype):
    x = images(dtype, 3, (32, 33), 40)
    first = transform(x, 3)
    np.testing.assert_array_equal(transform(x, RNG(3)), first)
    assert not np.array_equal(transform(x, 4), first)
    assert first.shape == x.shape and first.dtype == x.dtype
    assert dtype == np.uint8 or (0 <= first.min() and first.max() <= 1.0001)
    changed = (first != x).any(axis=(1, 2, 3))
    assert 10 < changed.sum()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_mixing(layout):
    x = np.arange(6, dtype=np.float32)[:, None, None, None] * np.ones((6, 3, 10, 12), np.float32) / 8
    x = x if layout == "NCHW" else x.transpose(0, 2, 3, 1)
    labels = np.arange(6)
    for transform in (data.MixUp(num_classes=6), data.CutMix(num_classes=6)):
        out, soft = data.Compose([transform], layout=layout)((x, labels), 1)
        share = soft[0, 0]
        want = share * np.eye(6) + (1 - share) * np.roll(np.eye(6), 1, axis=0)
        np.testing.assert_allclose(soft, want, atol=1e-6)
        np.testing.assert_allclose(out.mean(axis=(1, 2, 3)), want @ np.arange(6) / 8, atol=1e-5)
        assert soft.dtype == np.float32 and out.dtype == np.float32
        if isinstance(transform, data.CutMix):
            assert set(np.unique(out)) <= set(np.unique(x))
    with pytest.raises(ValueError, match="num_classes=None"):
        data.MixUp()((x, labels), 0)
    with pytest.raises(ValueError, match="labels from 0 to 5: expected 0 to 2"):
        data.CutMix(num_classes=3)((x, labels), 0)


def test_in_a_loader():
    """The same for any prefetch, and resumed in the middle."""
    dataset = data.ArrayDataset(images(np.uint8, 3, (16, 16), 20), np.arange(20))
    augment = data.Compose([data.RandomCrop(16, 2), data.RandAugment(), data.Normalize(0.5, 0.5)])
    batches = [[b[0] for b in data.DataLoader(dataset, 6, shuffle=True, prefetch=p, augment=augment)] for p in (0, 2)]
    for a, b in zip(*batches, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: data.RandomAffine("x"), TypeError, "degrees must be a number"),
    (lambda: data.RandomAffine(5, translate=(2, 0)), ValueError, "translate=2 must be from 0 to 1"),
    (lambda: data.RandomAffine(5, scale=(2, 1)), ValueError, "the first must not be larger"),
    (lambda: data.RandomAffine(5, interpolation="cubic"), ValueError, "interpolation='cubic'"),
    (lambda: data.RandomCrop(0), ValueError, "size=0 must be at least 1"),
    (lambda: data.Pad((1, 2, 3)), ValueError, "padding="),
    (lambda: data.ColorJitter(hue=0.7), ValueError, "hue=0.7 must be from 0 to 0.5"),
    (lambda: data.GaussianBlur(4), ValueError, "kernel_size=4: expected an odd int"),
    (lambda: data.RandAugment(magnitude=31), ValueError, "magnitude=31 must be below"),
    (lambda: data.RandomPosterize(9), ValueError, "bits=9 must be from 0 to 8"),
    (lambda: data.Compose([1]), TypeError, "expected a list of transforms"),
    (lambda: data.Compose([], fields=("label",)), ValueError, "expected 'image' once"),
    (lambda: data.Compose([], layout="HWC"), ValueError, "layout='HWC'"),
    (lambda: data.RandomCrop(9)(np.zeros((1, 3, 8, 8), np.uint8)), ValueError, "larger than images of"),
    (lambda: data.RandomVerticalFlip()(np.zeros((1, 3, 8, 8))), TypeError, "dtype float64: expected uint8 or float32"),
    (lambda: data.ColorJitter(0.1)(np.zeros((1, 2, 8, 8), np.uint8)), ValueError, "2 channels: expected 1 or 3"),
    (lambda: data.Normalize((0.1, 0.2), 1)(np.zeros((1, 3, 8, 8), np.uint8)), ValueError, "for images of 3 channels"),
    (lambda: data.RandomVerticalFlip()(np.zeros((1, 3, 8, 8), np.uint8), "x"), TypeError, "rng='x'"),
])
def test_refusals(make, error, message):
    with pytest.raises(error, match=message):
        make()


ALL = [getattr(augment, name) for name in augment.__all__ if name != "Transform"]
NEEDED = {"degrees": 5, "padding": 1, "size": 4, "pixels": 1, "threshold": 5, "bits": 3, "sharpness_factor": 1.0,
          "kernel_size": 3, "mean": 0.1, "std": 0.2, "transforms": []}


@pytest.mark.parametrize(("owner", "argument"), [(o, name) for o in ALL for name in inspect.signature(o).parameters])
def test_garbage_is_refused(owner, argument):
    parameters = inspect.signature(owner).parameters
    needed = {name: NEEDED[name] for name in parameters if name in NEEDED}
    for value in (np.nan, "x", b"3", object(), 1j, {}, [[1]], *([None] if parameters[argument].default is not None else [])):
        if value == {} and argument == "fields":
            continue
        with pytest.raises((TypeError, ValueError), match=rf"{owner.__name__}: .*{argument}"):
            owner(**{**needed, argument: value})


def test_values_to_fill_in():
    with pytest.raises(ValueError, match="2 values to fill in"):
        data.Pad(1, (1, 2))(np.zeros((1, 3, 8, 8), np.uint8), 0)


def test_an_empty_batch():
    pipeline = data.Compose([data.RandomResizedCrop(5), data.RandAugment(), data.Normalize(0.5, 0.5)])
    assert pipeline(np.zeros((0, 3, 8, 8), np.uint8), 0).shape == (0, 3, 5, 5)
