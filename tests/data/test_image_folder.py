"""ImageFolder and read_image against Pillow itself."""

import numpy as np
import pytest

from fastconv.data import DataLoader, ImageFolder, read_image, to_float

image = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    """Three classes with 2, 1 and 3 images of one size, and what must not count."""
    for name, count in (("zebra", 2), ("ant", 1), ("Bee", 3)):
        (tmp_path / name / "more").mkdir(parents=True)
        for i in range(count):
            where = tmp_path / name / ("more" if i == 2 else "") / f"{i}.PNG"
            image.fromarray(RNG.integers(0, 255, (6, 5, 3), np.uint8)).save(where)
        (tmp_path / name / "readme.txt").write_text("")
        (tmp_path / name / ".hidden.png").write_text("")
    (tmp_path / ".git").mkdir()
    (tmp_path / "list.csv").write_text("")
    return tmp_path


def test_classes_and_samples(folder):
    data = ImageFolder(folder)
    assert data.classes == ["Bee", "ant", "zebra"] and len(data) == 6
    assert data.labels.tolist() == [0, 0, 0, 1, 2, 2] and data.labels.dtype == np.int64
    assert [path for path, _ in data.samples[:3]] == [str(folder / "Bee" / n) for n in ("0.PNG", "1.PNG", "more/2.PNG")]
    for i, (path, label) in enumerate(data.samples):
        x, y = data[i]
        assert y == label and x.dtype == np.uint8
        np.testing.assert_array_equal(x, np.asarray(image.open(path)))
    again = ImageFolder(folder, classes=["zebra", "nothing", "Bee", "ant"])
    assert again.labels.tolist() == [0, 0, 2, 2, 2, 3]
    assert data.subset([4, 0]).samples == [data.samples[4], data.samples[0]] and len(data) == 6


def test_in_batches(folder):
    data = ImageFolder(folder, channels=1, size=(4, 8))
    [(x, y)] = DataLoader(data, 6, transform=lambda batch: (to_float(batch[0]), batch[1]))
    assert x.shape == (6, 1, 4, 8) and x.dtype == np.float32 and y.tolist() == [0, 0, 0, 1, 2, 2]
    grey = image.open(data.samples[3][0]).convert("L").resize((8, 4), image.Resampling.BILINEAR)
    np.testing.assert_array_equal(x[3, 0], (np.asarray(grey) / 255).astype(np.float32))


def test_modes(tmp_path):
    values = RNG.integers(0, 255, (3, 4), np.uint8)
    path = tmp_path / "a.png"
    for picture in (image.fromarray(values), image.fromarray(values.astype(np.uint16) << 8)):
        picture.save(path)
        np.testing.assert_array_equal(read_image(path, 1), values[..., None])
        np.testing.assert_array_equal(read_image(path), np.repeat(values[..., None], 3, 2))
    image.fromarray(values).convert("RGBA").save(path)
    assert read_image(path).shape == (3, 4, 3)
    image.fromarray(values.astype(np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="pixels of mode 'F', 32 bits each"):
        read_image(tmp_path / "a.tif")


def test_refusals(folder, tmp_path):
    with pytest.raises(FileNotFoundError):
        ImageFolder(tmp_path / "none")
    with pytest.raises(NotADirectoryError):
        ImageFolder(folder / "list.csv")
    with pytest.raises(ValueError, match="has no folders"):
        ImageFolder(folder / "ant" / "more")
    with pytest.raises(ValueError, match="'zebra', which is none of the 2 classes"):
        ImageFolder(folder, classes=["Bee", "ant"])
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="empty' has no image"):
        ImageFolder(folder)
    for channels in (2, 4, "3"):
        with pytest.raises(ValueError, match="channels="):
            ImageFolder(folder, channels=channels)
        with pytest.raises(ValueError, match="channels="):
            read_image(folder / "ant" / "0.PNG", channels)
    with pytest.raises(IsADirectoryError, match="is a directory, not an image"):
        read_image(folder)
    with pytest.raises(ValueError, match="is not an image that can be read"):
        read_image(folder / "list.csv")
