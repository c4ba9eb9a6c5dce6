"""``fastconv predict``."""

from __future__ import annotations

import json
import os

from fastconv._arguments import command, exif, whole
from fastconv._text import printable

BATCH = 32


def add(commands) -> None:
    parser = command(commands, "predict", run, "say what a trained network sees in images")
    parser.add_argument("model", help="a model file of fastconv train")
    parser.add_argument("images", nargs="+", metavar="image", help="image files, or folders of them")
    parser.add_argument("--top", type=whole, default=1, metavar="K", help="the K likeliest classes (default 1)")
    exif(parser, "as the model was trained")


def run(arguments) -> None:
    """Prints the likeliest classes of each image, and their probabilities."""
    from fastconv._extra import require
    from fastconv._model import compiled, logits_of, open_trained, upright
    from fastconv.train.progress import progress

    require("PIL.Image", "predict")
    model = open_trained(arguments.model)
    paths = _paths(arguments.images)
    engine = compiled(model, min(BATCH, len(paths)), arguments)
    classes, rows = model.preprocessing["classes"], []
    with progress(len(paths), "images", leave=False) as bar:
        for start in range(0, len(paths), BATCH):
            some = paths[start: start + BATCH]
            logits = logits_of(model, engine, _read(some, model, upright(model, arguments.exif)))
            rows += [_row(path, classes, values, arguments.top) for path, values in zip(some, logits, strict=True)]
            bar.update(len(some))
    if arguments.json:
        print(json.dumps({"model": arguments.model, "predictions": rows}))
        return
    for row in rows:
        print(f"{printable(row['image'])}: " + ", ".join(
            f"{printable(best['class'])} ({100 * best['probability']:.1f} %)" for best in row["top"]))


def _paths(given: list[str]) -> list[str]:
    """Files as they are, folders as the images in them."""
    from fastconv.data.folder import list_images

    paths: list[str] = []
    for path in given:
        found = list_images(path) if os.path.isdir(path) else [path]
        if not found:
            raise ValueError(f"{path!r}: no image in this folder")
        paths += found
    return paths


def _read(paths: list[str], model, exif: bool):
    import numpy as np

    from fastconv.data import read_image

    return np.stack([read_image(path, model.shape[0], model.preprocessing["size"], exif) for path in paths])


def _row(path: str, classes: list[str], logits, top: int) -> dict:
    import numpy as np

    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable")[:top]
    best = [{"class": classes[i], "probability": float(shares[i])} for i in order]
    return {"image": path, **best[0], "top": best}
