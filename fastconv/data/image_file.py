"""Image files, opened in this one place. Needs Pillow."""

import contextlib
import os

import numpy as np

from fastconv._atomic import open_regular
from fastconv._extra import require
from fastconv._values import shown

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Pillow goes by what a file contains, not by its name, and some of its formats start programs (EPS), or are rarely tried.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 2 * 89_478_485  # where Pillow, too, begins to refuse: 680 MiB of RGB as it keeps them
_ORIENTATION, _BITS, _PHOTOMETRIC = 274, 258, 262  # tags of TIFF, the first also of EXIF


@contextlib.contextmanager
def open_image(path):
    """Open an image file; its header is read, its pixels are not yet.

    Parameters
    ----------
    path : str or os.PathLike
        A BMP, GIF, JPEG, PNG, PBM, PGM, PPM, TIFF or WebP file, known by its content.

    Yields
    ------
    PIL.Image.Image
        The first frame. Whatever Pillow raises within the block becomes a ValueError.

    Raises
    ------
    OSError
        The file cannot be opened.
    ValueError
        Not an image, of another format, truncated, damaged, of more than 178,956,970 pixels or of more memory than there
        is: the file is named.
    ImportError
        Pillow is not installed.
    """
    image = require("PIL.Image", "reading an image")
    name = os.fsdecode(path)
    if os.path.isdir(name):
        raise IsADirectoryError(f"read_image: {name!r} is a directory, not an image")
    with open_regular(name) as file:
        try:
            try:
                picture = image.open(file, formats=FORMATS)
            except image.UnidentifiedImageError:
                raise ValueError("not a BMP, GIF, JPEG, PBM, PGM, PNG, PPM, TIFF or WebP image, or damaged") from None
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError(f"{picture.width}x{picture.height} pixels, more than {MOST_PIXELS:,}")
            yield picture
        except Exception as error:  # decoders raise what they meet in a damaged file: struct.error, KeyError, MemoryError
            what = "out of memory" if isinstance(error, MemoryError) else str(error) or type(error).__name__
            raise ValueError(f"{name!r} is not an image that can be read ({what})") from error


def read_image(path, channels=3, size=None, apply_exif_orientation=True):
    """Read an image file.

    Parameters
    ----------
    path : str or os.PathLike
        A BMP, GIF, JPEG, PNG, PBM, PGM, PPM, TIFF or WebP file, known by its content; of several frames the first. Grey of
        9 to 16 bits is scaled to 8.
    channels : {1, 3}, default 3
        Grey or RGB; what the file has is converted.
    size : (int, int), optional
        Height and width to which it is resized, bilinear with antialiasing, without keeping its proportions.
    apply_exif_orientation : bool, default True
        Whether it is turned upright, as cameras note it in the file and programs show it. False: the pixels as they are
        stored.

    Returns
    -------
    numpy.ndarray
        uint8, (H, W, channels).

    Raises
    ------
    OSError
        The file cannot be opened.
    ValueError
        Not an image, of another format, truncated, damaged, of more than 178,956,970 pixels or of 32-bit pixels.
    ImportError
        Pillow is not installed.

    Notes
    -----
    No other format of Pillow's is ever tried: some start programs, as PostScript does, whatever the file's name.
    """
    check_channels("read_image", channels)
    check_flag("read_image", "apply_exif_orientation", apply_exif_orientation)
    with open_image(path) as picture:
        orientation = _orientation(picture)
        picture.load()
        turned = picture.format == "TIFF" and _ORIENTATION not in picture.tag_v2  # Pillow itself may do so, of TIFF alone
        picture = _in_8_bits(picture).convert("L" if channels == 1 else "RGB")
        if turned != bool(apply_exif_orientation):
            picture = _turned(picture, orientation, back=turned)
        if size is not None and picture.size != (size[1], size[0]):
            picture = picture.resize((size[1], size[0]), require("PIL.Image", "reading an image").Resampling.BILINEAR)
        return np.asarray(picture, np.uint8).reshape(picture.height, picture.width, channels)


def check_channels(who, channels):
    """A ValueError unless it is 1 or 3."""
    if channels not in (1, 3):
        raise ValueError(f"{who}: channels={shown(channels)} must be 1 or 3")


def check_flag(who, name, value):
    """A TypeError unless it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{who}: {name}={shown(value)} must be True or False")


def has_colours(picture):
    """Whether the mode of an open image is of colours."""
    return picture.mode not in ("1", "L", "LA", "La", "I", "F") and not picture.mode.startswith("I;16")


def _in_8_bits(picture):
    """Grey of more bits by its upper eight: Pillow's own conversion would cut values off at 255."""
    wide = picture.mode.startswith("I;16")
    if not wide and (picture.mode != "I" or picture.format not in ("PNG", "PPM")):  # of these two, mode I is of 16 bits
        if picture.mode in ("I", "F"):
            raise ValueError(f"pixels of mode {picture.mode!r}, 32 bits each: convert it to 8 bits")
        return picture
    values, bits = np.asarray(picture), 16
    if wide and picture.format == "TIFF":
        bits = int(picture.tag_v2.get(_BITS, (16,))[0])
        if picture.tag_v2.get(_PHOTOMETRIC) == 0:  # white is 0, which Pillow heeds for 8 bits alone
            values = (1 << bits) - 1 - values
    return require("PIL.Image", "reading an image").fromarray((values >> (bits - 8)).clip(0, 255).astype(np.uint8))


def _orientation(picture):
    """How the camera was held, 1 to 8; 1 is upright, and where nothing sensible is said."""
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # the note is damaged, the picture need not be
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turned(picture, orientation, back):
    """Upright, or from upright ``back`` to how it is stored."""
    names = (None, "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
    name = names[{6: 8, 8: 6}.get(orientation, orientation) - 1 if back else orientation - 1]
    if name is None:
        return picture
    return picture.transpose(getattr(require("PIL.Image", "reading an image").Transpose, name))
