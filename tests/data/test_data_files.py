"""The files that images come from: IDX, npz, the embedded sample; and what becomes of their pixels."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastconv import data

# --- IDX -------------------------------------------------------------------------------------------------------------


def idx(code=8, sizes=(2, 3), values=b"abcdef", magic=b"\0\0"):
    return magic + bytes([code, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + values


@pytest.mark.parametrize("name", ["a", "a.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", ">i4", "f4", ">f8"])
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (0, 3)])
def test_idx_round_trip(tmp_path, name, dtype, shape):
    array = np.random.default_rng(0).integers(-100, 100, shape).astype(dtype)
    data.save_idx(tmp_path / name, array)
    loaded = data.load_idx(tmp_path / name)
    assert loaded.dtype == array.dtype.newbyteorder("=") and loaded.shape == shape and (loaded == array).all()
    assert loaded.flags.c_contiguous and loaded.flags.writeable
    assert ((tmp_path / name).read_bytes()[:2] == b"\x1f\x8b") == (name == "a.gz")


def test_idx_bytes_are_those_of_the_format(tmp_path):
    data.save_idx(tmp_path / "a", np.array([[1, -2]], dtype=np.int16))
    assert (tmp_path / "a").read_bytes() == b"\0\0\x0b\x02\0\0\0\x01\0\0\0\x02\0\x01\xff\xfe"
    data.save_idx(tmp_path / "a", np.arange(6, dtype=np.uint8).reshape(2, 3).T)  # any memory order, and it replaces
    assert (tmp_path / "a").read_bytes() == idx(sizes=(3, 2), values=bytes([0, 3, 1, 4, 2, 5]))


BAD_IDX = [
    (b"", "truncated, 0 bytes where a magic number needs 4"),
    (b"\0\0\x08", "truncated, 3 bytes"),
    (idx(magic=b"PK"), "bad magic number 0x504b0802"),
    (idx(code=7), "unknown type code 0x07"),
    (idx(sizes=(), values=b"a"), "0 dimensions, must be from 1 to 32"),
    (idx(sizes=(1,) * 33, values=b"a"), "33 dimensions"),
    (idx()[:9], "truncated, 5 bytes where 2 sizes need 8"),
    (idx(values=b"abcde"), "need 6 bytes but the file holds 5"),
    (idx(values=b"abcdefg"), "trailing bytes after the 6 bytes"),
    (idx(code=0x0E, values=b"abcdef"), "need 48 bytes but the file holds 6"),
    (idx(sizes=(2**32 - 1,) * 3), "too large to address"),
    (idx(sizes=(0, 2**32 - 1, 2**32 - 1), values=b""), "too large to address"),
    (idx(sizes=(2**32 - 1, 1000)), "need 4294967295000 bytes"),
]


@pytest.mark.parametrize(("content", "message"), BAD_IDX)
def test_malformed_idx(tmp_path, content, message):
    path = tmp_path / "bad.idx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="bad.idx") as caught:
        data.load_idx(path)
    assert message in str(caught.value)
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match="bad.idx"):
        data.load_idx(path)


def test_malformed_gzip(tmp_path):
    path = tmp_path / "bad.gz"
    good = gzip.compress(idx())
    for content in (
        good[:-1],
        good[:12],
        good[:2],
        good + b"x",
        good[:-5] + b"\0" + good[-4:],
        b"\x1f\x8b" + bytes(30),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="bad.gz.*gzip"):
            data.load_idx(path)
    path.write_bytes(gzip.compress(idx(sizes=(2**31,))))
    with pytest.raises(ValueError, match="the gzip data cannot hold more than"):
        data.load_idx(path)
    path.write_bytes(gzip.compress(idx(sizes=(1000,))))
    with pytest.raises(ValueError, match="need 1000 bytes, got 6"):
        data.load_idx(path)


def test_idx_missing_or_directory(tmp_path):
    with pytest.raises(FileNotFoundError):
        data.load_idx(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        data.load_idx(tmp_path)


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros(3, np.int64), TypeError, "dtype int64 is not one of uint8"),
        (np.zeros(3, bool), TypeError, "dtype bool"),
        (np.uint8(3), ValueError, "0 dimensions"),
        (np.zeros((2**32, 0), np.uint8), ValueError, "no size may exceed 4294967295"),
    ],
)
def test_save_idx_errors(tmp_path, array, error, message):
    with pytest.raises(error, match=message):
        data.save_idx(tmp_path / "a", array)
    assert list(tmp_path.iterdir()) == []


# --- image datasets --------------------------------------------------------------------------------------------------


def image_parts(shape=(4, 4), train=6, test=3):
    rng = np.random.default_rng(0)
    return {
        "train_images": rng.integers(0, 256, (train, *shape), np.uint8),
        "train_labels": (np.arange(train) % 3).astype(np.uint8),
        "test_images": rng.integers(0, 256, (test, *shape), np.uint8),
        "test_labels": (np.arange(test) % 3).astype(np.uint8),
    }


def check_images(loaded, parts):
    for got, (name, wanted) in zip(loaded, parts.items(), strict=True):
        assert got.dtype == (np.int64 if "labels" in name else np.uint8)
        assert got.flags.c_contiguous and (got == wanted).all()


IDX_NAMES = ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"]


@pytest.mark.parametrize("mark", "-.")
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_directory_of_idx_files(tmp_path, mark, ending):
    parts = image_parts()
    for name, array in zip(IDX_NAMES, parts.values(), strict=True):
        stem, kind = name.rsplit("-", 1)
        data.save_idx(tmp_path / f"{stem}{mark}{kind}-ubyte{ending}", array)
    check_images(data.load_image_dataset(tmp_path), parts)
    (tmp_path / f"t10k-labels{mark}idx1-ubyte{ending}").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        data.load_image_dataset(tmp_path)
    for name in ("t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte", "t10k-labels-idx1-ubyte.gz"):
        assert name in str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_npz(tmp_path, save, shape):
    parts = image_parts(shape)
    path = tmp_path / "a.npz"
    save(path, **parts, other=np.zeros(3))
    check_images(data.load_npz(path), parts)
    check_images(data.load_image_dataset(str(path)), parts)
    names = dict(zip(["x_train", "y_train", "x_test", "y_test"], parts.values(), strict=True))
    names["y_train"] = names["y_train"][:, None].astype(">i4")  # as CIFAR-10 is often stored
    names["x_train"] = np.asfortranarray(names["x_train"])
    save(path, **names)
    check_images(data.load_npz(path), parts)


def bad_npz(**changes):
    parts = {**image_parts(), **changes}
    return {name: array for name, array in parts.items() if array is not None}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            bad_npz(test_labels=None),
            "needs the arrays train_images, .* or x_train, .*; it has test_images, train_images",
        ),
        (bad_npz(train_labels=np.zeros(5, np.uint8)), "6 training images but 5 labels"),
        (bad_npz(test_labels=np.full(3, -1)), "test labels go from -1 to -1"),
        (bad_npz(train_labels=np.full(6, 2**63, np.uint64)), "must be in 0..2"),
        (bad_npz(test_labels=np.array([0, 1, 3])), "test label 3 must be below 3, what the training labels make"),
        (bad_npz(train_labels=np.zeros(6)), "training labels must be integers .* got float64"),
        (bad_npz(train_labels=np.zeros((6, 2), int)), r"training labels must be .* of shape \(6, 2\)"),
        (bad_npz(test_images=np.zeros((3, 4, 5), np.uint8)), r"shape \(4, 4\) but test images have \(4, 5\)"),
        (bad_npz(test_images=np.zeros((3, 4, 4))), "test images must be uint8 .* got float64"),
        (bad_npz(test_images=np.zeros((3, 4), np.uint8)), r"test images must be .* got uint8 of shape \(3, 4\)"),
        (bad_npz(train_images=np.zeros((0, 4, 4), np.uint8)), "and not empty"),
        (bad_npz(test_labels=np.array([0, None, 1])), "test_labels.npy holds pickled Python objects"),
        ({}, "it has none"),
    ],
)
def test_bad_npz(tmp_path, arrays, message):
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="bad.npz") as caught:
        data.load_npz(path)
    assert caught.match(message)


def test_number_of_classes(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **image_parts())
    data.load_image_dataset(path, classes=3)
    with pytest.raises(ValueError, match="training label 2 must be below 2, the number of classes"):
        data.load_image_dataset(path, classes=2)
    with pytest.raises(ValueError, match="classes=0"):
        data.load_npz(path, classes=0)


def test_file_that_is_no_npz(tmp_path):
    path = tmp_path / "foreign.npz"
    for content in (b"", b"not a zip", b"PK\x03\x04" + bytes(40)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="foreign.npz.*not an npz file, or truncated"):
            data.load_npz(path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ValueError, match="not an npz"):
        data.load_npz(tmp_path / "one.npy")
    for missing in (tmp_path / "none.npz", tmp_path / "none"):
        with pytest.raises(FileNotFoundError):
            data.load_image_dataset(missing)


def test_npz_member_that_claims_more_than_it_holds(tmp_path):
    path = tmp_path / "liar.npz"
    header = io.BytesIO()
    shape = (2**40, 2**10)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w") as archive:
        for name in image_parts():
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(10))
    with pytest.raises(ValueError, match="1125899906842624 bytes, but holds 10"):
        data.load_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name in image_parts():
            archive.writestr(f"{name}.npy", b"no array")
    with pytest.raises(ValueError, match="train_images.npy is not an array"):
        data.load_npz(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        for name in image_parts():
            archive.writestr(f"{name}.npy", b"no array")
    with pytest.raises(ValueError, match="train_images.npy is compressed by method 12"):
        data.load_npz(path)


def small_npz():
    file = io.BytesIO()
    np.savez_compressed(file, **image_parts())
    return file.getvalue()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_give_valueerror(tmp_path_factory, draw):
    """Whatever is cut off or overwritten: the right arrays, or a ValueError that names the file."""
    content, load = draw.draw(
        st.sampled_from(
            [(small_npz(), data.load_npz), (idx(), data.load_idx), (gzip.compress(idx(), mtime=0), data.load_idx)]
        )
    )
    content = bytearray(content)
    for _ in range(draw.draw(st.integers(0, 3))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    if draw.draw(st.booleans()):
        del content[draw.draw(st.integers(0, len(content))) :]
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    try:
        load(path)
    except ValueError as error:
        assert "damaged'" in str(error)


def test_mnist_sample():
    train_x, train_y, test_x, test_y = data.mnist_sample()
    assert train_x.shape == (10000, 28, 28) and test_x.shape == (2000, 28, 28) and train_x.dtype == np.uint8
    assert np.bincount(train_y).tolist() == [1000] * 10 and np.bincount(test_y).tolist() == [200] * 10
    assert train_y.dtype == np.int64
    # Digits and not noise: the nearest class mean already tells most of them apart.
    means = np.stack([train_x[train_y == digit].mean(axis=0).ravel() for digit in range(10)])
    flat = test_x.reshape(len(test_x), -1).astype(np.float64)
    nearest = ((means**2).sum(axis=1) - 2 * flat @ means.T).argmin(axis=1)
    assert (nearest == test_y).mean() > 0.75
    # No test image is a training image.
    assert not {image.tobytes() for image in train_x} & {image.tobytes() for image in test_x}


# --- to_float --------------------------------------------------------------------------------------------------------


def test_to_float_grey():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    out = data.to_float(images)
    assert out.shape == (1, 1, 16, 16) and out.dtype == np.float32 and out.flags.c_contiguous
    assert (out.ravel() == (np.arange(256) / 255).astype(np.float32)).all()
    out = data.to_float(images, 0.1307, 0.3081, pad=2)
    assert out.shape == (1, 1, 20, 20)
    assert (out[0, 0, 2:-2, 2:-2].ravel() == ((np.arange(256) / 255 - 0.1307) / 0.3081).astype(np.float32)).all()
    border = np.ones((20, 20), bool)
    border[2:-2, 2:-2] = False
    assert (out[0, 0][border] == np.float32(-0.1307 / 0.3081)).all()


def test_to_float_colour():
    images = np.random.default_rng(0).integers(0, 256, (600, 3, 5, 3), np.uint8)
    mean, std = [0.1, 0.2, 0.3], [0.5, 1.0, 2.0]
    out = data.to_float(images, mean, std, pad=(1, 0))
    wanted = ((images / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    assert out.shape == (600, 3, 5, 5) and (out[:, :, 1:-1] == wanted).all()
    assert (out[:, :, 0] == np.float32(-np.divide(mean, std))[:, None]).all()
    assert data.to_float(images[:0]).shape == (0, 3, 3, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((2, 4, 4)),), TypeError, "images must be uint8, got float64"),
        ((np.zeros((4, 4), np.uint8),), ValueError, r"got shape \(4, 4\)"),
        ((np.zeros((2, 4, 4), np.uint8), 0.0, 0.0), ValueError, "std=.*0.0.* must be above 0"),
        ((np.zeros((2, 4, 4), np.uint8), np.nan), ValueError, "mean=nan must be finite"),
        ((np.zeros((2, 4, 4), np.uint8), [0.1, 0.2]), ValueError, r"mean has shape \(2,\), must be a number or one"),
        ((np.zeros((2, 4, 4), np.uint8), 0.0, 1.0, -1), ValueError, "pad=-1 must be"),
        ((np.zeros((2, 4, 4), np.uint8), 0.0, 1.0, 1.5), ValueError, "pad=1.5 must be"),
        ((np.zeros((2, 4, 4), np.uint8), 0.0, 1.0, (1, 2, 3)), ValueError, r"pad=\(1, 2, 3\) must be"),
    ],
)
def test_to_float_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        data.to_float(*arguments)
