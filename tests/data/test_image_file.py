"""Image files of strangers: formats that start programs, claims, damage; wide grey, and how the camera was held."""

import os
import struct
import subprocess
import zlib

import numpy as np
import pytest

from fastconv.data import ImageFolder, image_file, read_image

image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
RNG = np.random.default_rng(0)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n0 setgray 0 0 8 8 rectfill showpage\n%%EOF\n"


@pytest.fixture
def programs(monkeypatch):
    """No program may be started."""
    def started(*arguments, **keywords):
        raise AssertionError(f"a program was started: {arguments}")

    for name in ("Popen", "run", "call", "check_call", "check_output"):
        monkeypatch.setattr(subprocess, name, started)
    monkeypatch.setattr(os, "system", started)


@pytest.mark.parametrize("name", ["cat.png", "cat.eps", "cat.jpg"])
def test_postscript_reaches_no_interpreter(tmp_path, programs, name):
    (tmp_path / name).write_bytes(EPS)
    with pytest.raises(ValueError, match=f"{name}' is not an image that can be read .not a BMP, GIF"):
        read_image(tmp_path / name)


def test_only_the_listed_formats_are_opened(tmp_path, monkeypatch):
    """Whatever else Pillow can write, it does not read for us, under whatever name."""
    image.init()
    monkeypatch.setattr(image, "EXTENSION", dict(image.EXTENSION))  # writing SPIDER makes .png one of its endings
    values = image.fromarray(RNG.integers(0, 255, (16, 16, 3), np.uint8))
    tried = []
    for kind in sorted(image.SAVE):
        path = tmp_path / f"{kind}.png"
        try:
            values.save(path, format=kind)
        except Exception:
            continue  # this format, or this build of Pillow, cannot hold it
        tried.append(kind)
        if kind in (*image_file.FORMATS, "MPO"):  # MPO: JPEG files of several pictures, as cameras write them
            assert read_image(path).shape == (16, 16, 3)
        elif kind != "DIB":  # begins as no format does
            with pytest.raises(ValueError, match="not a BMP, GIF"):
                read_image(path)
    assert {"BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "TGA", "PCX"} <= set(tried)


def _png(width, height, data=b""):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("width, height", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (1, 2**28), (2**31 - 1, 1), (0, 5)])
def test_claimed_sizes(tmp_path, width, height):
    (tmp_path / "a.png").write_bytes(_png(width, height))
    (tmp_path / "a.ppm").write_bytes(b"P6 %d %d 255\n" % (width, height))
    (tmp_path / "a.gif").write_bytes(b"GIF89a" + struct.pack("<HH", min(width, 65535), min(height, 65535)) + b"\0\0\0;")
    for ending in ("png", "ppm", "gif"):
        with pytest.raises(ValueError, match="is not an image that can be read"):
            read_image(tmp_path / f"a.{ending}")


def test_more_pixels_than_are_read(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(_png(100, 100, bytes(101 * 100)))
    assert read_image(tmp_path / "a.png").shape == (100, 100, 3)
    monkeypatch.setattr(image, "MAX_IMAGE_PIXELS", None)  # whatever the process has set for others
    monkeypatch.setattr(image_file, "MOST_PIXELS", 9999)
    with pytest.raises(ValueError, match="100x100 pixels, more than 9,999"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("error", [MemoryError(), subprocess.CalledProcessError(1, "gs"), struct.error("short"), KeyError(5),
                                   RecursionError("deep"), EOFError()])
def test_whatever_a_decoder_raises_names_the_file(tmp_path, monkeypatch, error):
    (tmp_path / "a.png").write_bytes(_png(2, 2, bytes(6)))

    def fail(*arguments, **keywords):
        raise error

    monkeypatch.setattr(image.Image, "convert", fail)
    with pytest.raises(ValueError, match="a.png' is not an image that can be read"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_of_many_frames_the_first(tmp_path, kind):
    frames = [image.fromarray(np.full((8, 8, 3), 40 * i, np.uint8)) for i in range(5)]
    try:
        frames[0].save(tmp_path / "a", format=kind, save_all=True, append_images=frames[1:])
    except (KeyError, OSError) as error:
        pytest.skip(f"this Pillow writes no {kind}: {error}")
    assert int(read_image(tmp_path / "a").max()) <= 3


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL", "ignore:.*:ResourceWarning")  # Pillow's, of what it finds
def test_damaged_and_cut_files(tmp_path):
    """Each format cut anywhere, and with bytes changed anywhere: an array or the named error."""
    values = RNG.integers(0, 255, (24, 20, 3), np.uint8)
    path = tmp_path / "damaged"
    for kind in image_file.FORMATS:
        try:
            image.fromarray(values).save(path, format=kind)
        except (KeyError, OSError):
            continue  # a Pillow without WebP
        whole = path.read_bytes()
        for _ in range(120):
            damaged = bytearray(whole)
            for place in RNG.integers(0, len(whole), RNG.integers(0, 4)):
                damaged[place] = RNG.integers(0, 256)
            for place in RNG.integers(0, min(len(whole), 64), RNG.integers(0, 3)):
                damaged[place] = RNG.integers(0, 256)
            path.write_bytes(damaged[: RNG.integers(0, len(whole)) if RNG.random() < 0.3 else None])
            try:
                got = read_image(path, size=(4, 4))
            except ValueError as error:
                assert "damaged' is not an image that can be read" in str(error)
            else:
                assert got.shape == (4, 4, 3) and got.dtype == np.uint8


# --- grey of more than 8 bits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["pgm", "png", "tif"])
def test_sixteen_bits(tmp_path, ending):
    values = RNG.integers(0, 65536, (5, 7), np.uint16)
    path = tmp_path / f"a.{ending}"
    if ending == "pgm":
        path.write_bytes(b"P5\n# a comment\n7 5\n65535\n" + values.astype(">u2").tobytes())
    else:
        image.fromarray(values).save(path)
    np.testing.assert_array_equal(read_image(path, 1)[..., 0], values >> 8)
    np.testing.assert_array_equal(read_image(path, 3)[..., 2], values >> 8)


@pytest.mark.parametrize("top", [4095, 1000, 300])
@pytest.mark.parametrize("plain", [False, True])
def test_grey_maps_whose_white_is_anything(tmp_path, top, plain):
    values = RNG.integers(0, top + 1, (5, 7), np.uint16)
    content = b" ".join(b"%d" % v for v in values.ravel()) if plain else values.astype(">u2").tobytes()
    (tmp_path / "a.pgm").write_bytes(b"%s 7 5 %d\n" % (b"P2" if plain else b"P5", top) + content)
    expected = np.round(values / top * 65535).astype(int) >> 8
    np.testing.assert_array_equal(read_image(tmp_path / "a.pgm", 1)[..., 0], expected)


def _tiff(values, bits, photometric, order="<"):
    """An uncompressed grey TIFF of one strip."""
    height, width = values.shape
    if bits == 16:
        data = values.astype(f"{order}u2").tobytes()
    else:  # 12 bits: two pixels in three bytes
        pairs = values.reshape(-1, 2).astype(int)
        data = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
        data = data.astype(np.uint8).tobytes()
    entries = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8),
               (277, 3, 1), (278, 4, height), (279, 4, len(data))]
    ifd = struct.pack(f"{order}H", len(entries))
    for tag, kind, value in entries:
        ifd += struct.pack(f"{order}HHI", tag, kind, 1)
        ifd += struct.pack(f"{order}I", value) if kind == 4 else struct.pack(f"{order}HH", value, 0)
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(f"{order}I", 8 + len(data)) + data + ifd + bytes(4)


@pytest.mark.parametrize("bits, photometric, order", [(16, 1, "<"), (16, 1, ">"), (16, 0, "<"), (12, 1, "<")])
def test_grey_tiff(tmp_path, bits, photometric, order):
    values = RNG.integers(0, 1 << bits, (5, 8), np.uint16)
    (tmp_path / "a.tif").write_bytes(_tiff(values, bits, photometric, order))
    expected = values >> (bits - 8)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 1)[..., 0], expected if photometric else 255 - expected)


# --- the orientation ----------------------------------------------------------------------------------------------------

UPRIGHT = {1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1],
           5: lambda x: x.transpose(1, 0, 2), 6: lambda x: np.rot90(x, -1), 7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
           8: lambda x: np.rot90(x, 1)}  # as EXIF 2.32, section 4.6.4, defines the rows and columns that are stored


@pytest.mark.parametrize("ending", ["png", "tif", "jpg", "webp"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 65535])
def test_photographs_are_turned_upright(tmp_path, ending, orientation):
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :16], stored[:8, 16:], stored[8:, :16] = 250, 170, 90  # a grey for each quarter: JPEG keeps them apart
    path = tmp_path / "oriented" / f"a.{ending}"
    path.parent.mkdir()
    exif = image.Exif()
    exif[274] = orientation
    keywords = {"webp": {"lossless": True}, "jpg": {"quality": 100}}.get(ending, {})
    try:
        image.fromarray(stored).save(path, exif=exif, **keywords)
    except (KeyError, OSError) as error:
        pytest.skip(f"this Pillow writes no {ending}: {error}")
    expected = UPRIGHT.get(orientation, UPRIGHT[1])(stored)
    for got, right in ((read_image(path), expected), (read_image(path, apply_exif_orientation=False), stored),
                       (ImageFolder(tmp_path)[0][0], expected),
                       (ImageFolder(tmp_path, apply_exif_orientation=False)[0][0], stored)):
        assert got.shape == right.shape
        assert np.abs(got.astype(int) - right).max() < 20


def test_a_damaged_note_does_not_spoil_the_picture(tmp_path):
    stored = RNG.integers(0, 255, (8, 8, 3), np.uint8)
    image.fromarray(stored).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), stored)


def test_the_flag_is_a_flag(tmp_path):
    for wrong in (1, None, "no"):
        with pytest.raises(TypeError, match="apply_exif_orientation="):
            read_image(tmp_path / "a.png", apply_exif_orientation=wrong)
        with pytest.raises(TypeError, match="apply_exif_orientation="):
            ImageFolder(tmp_path, apply_exif_orientation=wrong)


# --- links --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def linked(tmp_path):
    for name in ("photos/cat", "photos/dog/far", "elsewhere/deep"):
        (tmp_path / name).mkdir(parents=True)
        image.fromarray(RNG.integers(0, 255, (4, 4, 3), np.uint8)).save(tmp_path / name / "a.png")
    return tmp_path


def test_linked_folders_are_followed(linked):
    (linked / "photos/bird").symlink_to(linked / "elsewhere", target_is_directory=True)
    (linked / "photos/cat/more").symlink_to(linked / "elsewhere", target_is_directory=True)
    (linked / "photos/cat/loop").symlink_to(linked / "photos/cat", target_is_directory=True)
    (linked / "photos/dog/far/up").symlink_to("../..", target_is_directory=True)
    data = ImageFolder(linked / "photos")
    names = [(data.classes[label], os.path.relpath(path, linked / "photos")) for path, label in data.samples]
    assert ("bird", "bird/deep/a.png") in names and ("cat", "cat/more/deep/a.png") in names
    cats = [os.path.realpath(linked / "photos" / path) for name, path in names if name == "cat"]
    assert len(cats) == len(set(cats)) == 2  # each once, in spite of the loop
    assert all(read_image(path).shape == (4, 4, 3) for path, _ in data.samples)


@pytest.mark.parametrize("where", ["bird", "cat/more", "cat/lost.png", "cat/itself"])
def test_links_that_lead_nowhere_do_not_vanish(linked, where):
    (linked / "photos" / where).symlink_to("itself" if where == "cat/itself" else "/nowhere/at/all")
    with pytest.raises(FileNotFoundError, match=f"{where}' is a link to"):
        ImageFolder(linked / "photos")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_folders_that_may_not_be_read_do_not_vanish(linked):
    os.chmod(linked / "photos/dog/far", 0)
    try:
        with pytest.raises(PermissionError, match="far"):
            ImageFolder(linked / "photos")
    finally:
        os.chmod(linked / "photos/dog/far", 0o700)
