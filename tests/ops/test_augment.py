"""Augmentation: what is drawn belongs to the batch's place, and a shift moves pixels and nothing else."""

import numpy as np
import pytest

from fastconv.data import ArrayDataset, DataLoader, RandomHorizontalFlip, RandomShift


def drawn(loader):
    return [batch[0].tolist() for batch in loader]


def noise(batch, rng):
    return (batch[0] + rng.random(len(batch[0])),)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_numbers_belong_to_the_place_and_not_to_the_history(prefetch):
    data = ArrayDataset(np.zeros(10))
    loader = DataLoader(data, 4, seed=5, prefetch=prefetch, augment=noise)
    first, second = drawn(loader), drawn(loader)
    assert len({value for batch in (*first, *second) for value in batch}) == 20  # never the same number twice
    resumed = DataLoader(data, 4, augment=noise)
    resumed.load_state_dict({"seed": 5, "epoch": 1, "position": 4})
    assert drawn(resumed) == second[1:]
    assert drawn(DataLoader(data, 4, seed=6, augment=noise)) != first


def test_the_shuffle_is_that_of_a_loader_without_augmentation():
    data = ArrayDataset(np.arange(10.0))
    plain = DataLoader(data, 4, shuffle=True, seed=3)
    assert drawn(DataLoader(data, 4, shuffle=True, seed=3, augment=lambda batch, rng: batch)) == drawn(plain)


def test_transform_comes_after_augment():
    loader = DataLoader(ArrayDataset(np.zeros(3)), 3, augment=lambda b, rng: (b[0] + 1,), transform=lambda b: (b[0] * 10,))
    assert drawn(loader) == [[10.0, 10.0, 10.0]]


def test_augment_must_be_callable():
    with pytest.raises(TypeError, match="augment must be callable or None, got int"):
        DataLoader(ArrayDataset(np.zeros(3)), augment=1)


def test_shift_by_definition():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 3, 5, 7)).astype(np.float32)
    labels = np.arange(200)
    before = images.copy()
    shifted, same = RandomShift(2)((images, labels), np.random.default_rng(1))
    np.testing.assert_array_equal(images, before)
    assert same is labels and shifted.dtype == np.float32 and shifted.shape == images.shape
    seen = set()
    for image, out in zip(images, shifted, strict=True):
        found = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if np.array_equal(out, image[:, np.clip(np.arange(5) + dy, 0, 4)][:, :, np.clip(np.arange(7) + dx, 0, 6)])
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) == 25


@pytest.mark.parametrize(("pixels", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("1", TypeError)])
def test_shift_refuses(pixels, error):
    with pytest.raises(error, match="RandomShift: pixels"):
        RandomShift(pixels)


def test_shift_wants_pictures():
    with pytest.raises(ValueError, match=r"images of shape \(4, 5\) must be \(N, C, H, W\)"):
        RandomShift(1)((np.zeros((4, 5)),), np.random.default_rng(0))


def test_flip_mirrors_about_half():
    images = np.arange(400 * 2 * 3 * 4, dtype=np.float32).reshape(400, 2, 3, 4)
    labels, before = np.arange(400), images.copy()
    out, same = RandomHorizontalFlip()((images, labels), np.random.default_rng(0))
    mirrored = (out == images[..., ::-1]).all(axis=(1, 2, 3))
    assert ((out == images).all(axis=(1, 2, 3)) != mirrored).all() and 140 < mirrored.sum() < 260
    assert same is labels and np.array_equal(images, before)
    assert np.array_equal(RandomHorizontalFlip(0)((images,), np.random.default_rng(0))[0], images)
    assert np.array_equal(RandomHorizontalFlip(1)((images,), np.random.default_rng(0))[0], images[..., ::-1])


def test_flip_refuses():
    for p, error in (("x", TypeError), (True, TypeError), (-0.1, ValueError), (1.1, ValueError), (float("nan"), ValueError)):
        with pytest.raises(error, match="RandomHorizontalFlip: p"):
            RandomHorizontalFlip(p)
    with pytest.raises(ValueError, match="must be \\(N, C, H, W\\)"):
        RandomHorizontalFlip()((np.zeros((2, 3)),), np.random.default_rng(0))


@pytest.mark.parametrize("augment", [RandomShift(1), RandomHorizontalFlip()])
def test_a_batch_with_names_is_refused(augment):
    with pytest.raises(TypeError, match=f"{type(augment).__name__}: the batch is a dict of x, y: expected a tuple"):
        augment({"x": np.zeros((2, 1, 4, 4), np.float32), "y": np.zeros(2)}, np.random.default_rng(0))
