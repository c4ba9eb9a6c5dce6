"""``fastconv evaluate``."""

from __future__ import annotations

import json
from math import fsum

from fastconv._arguments import UsageError, command, exif, whole
from fastconv._text import printable

MANY = 10  # with more classes than this, top-5 accuracy says something


def add(commands) -> None:
    parser = command(commands, "evaluate", run, "measure a trained network on labelled images: loss, accuracy, confusions")
    parser.add_argument("model", help="a model file of fastconv train")
    parser.add_argument("--data", metavar="PATH", help="as for fastconv train; of an image folder without train/, test/ "
                        "or val/ all images (default, of a model of digits: the sample of MNIST that comes with fastconv)")
    parser.add_argument("--split", choices=("test", "validation", "train"), help="which images (default: test, where "
                        "there are none validation, where there are none all)")
    parser.add_argument("--batch-size", type=whole, default=64, metavar="N", help="results do not depend on it (default 64)")
    exif(parser, "as the model was trained")


def run(arguments) -> None:
    """Prints loss, accuracy and the commonest confusions; with --json the whole confusion matrix."""
    import numpy as np

    from fastconv._model import compiled, logits_of, open_trained, upright
    from fastconv.cli import _data
    from fastconv.data import ArrayDataset, DataLoader
    from fastconv.train.progress import progress

    model = open_trained(arguments.model)
    p = model.preprocessing
    if arguments.data is None and p["classes"] != [str(i) for i in range(10)]:
        raise UsageError(f"--data: which images? Without it the digits of MNIST are meant, and the classes of "
                         f"{arguments.model!r} are {', '.join(map(printable, p['classes'][:8]))}"
                         f"{', ...' if len(p['classes']) > 8 else ''}")
    data = _data.read(arguments.data, tuple(p["size"]), channels=model.shape[0], classes=p["classes"],
                      exif=upright(model, arguments.exif))
    if tuple(data.size) != tuple(p["size"]) or data.channels != model.shape[0]:
        raise ValueError(f"{data.name!r}: images of {'x'.join(map(str, data.size))} with {data.channels} channel(s): the "
                         f"model takes {'x'.join(map(str, p['size']))} with {model.shape[0]}")
    parts = {"test": data.test, "validation": data.validation, "train": data.train} if data.parted else {"all": data.train}
    name = arguments.split or next(name for name, part in parts.items() if part is not None)
    part = parts.get(name)
    if part is None:
        raise ValueError(f"{data.name!r} has no {name} images")
    batch = min(arguments.batch_size, len(part))
    engine = compiled(model, batch, arguments)
    dataset = part.folder if part.folder is not None else ArrayDataset(part.images, part.labels)
    count = len(p["classes"])
    confusion, losses, among = np.zeros((count, count), np.int64), [], 0
    with progress(DataLoader(dataset, batch), "images", leave=False) as batches:
        for images, labels in batches:
            logits = logits_of(model, engine, images if images.ndim == 4 else images[..., np.newaxis])
            own = logits[np.arange(len(labels)), labels]
            highest = logits.max(axis=1)
            losses += (np.log(np.exp(logits - highest[:, np.newaxis]).sum(axis=1)) + highest - own).tolist()
            np.add.at(confusion, (labels, logits.argmax(axis=1)), 1)
            among += int(((logits > own[:, np.newaxis]).sum(axis=1) < 5).sum())
    right, total = int(np.trace(confusion)), len(part)
    result = {"model": arguments.model, "data": data.name, "split": name, "images": total, "loss": fsum(losses) / total,
              "accuracy": right / total, **({"top5": among / total} if count > MANY else {}), "classes": p["classes"],
              "confusion": confusion.tolist()}
    if arguments.json:
        print(json.dumps(result))
        return
    top = f", top-5 accuracy {100 * result['top5']:.2f} %" if "top5" in result else ""
    print(printable(f"{arguments.model} on {data.name}: {total} {name} images"))
    print(f"accuracy {100 * result['accuracy']:.2f} %{top}, loss {result['loss']:.4f}")
    wrong = confusion - np.diag(np.diag(confusion))
    for place in np.argsort(-wrong, axis=None, kind="stable")[:5]:
        true, said = divmod(int(place), count)
        if wrong[true, said]:
            print(printable(f"    {p['classes'][true]} taken for {p['classes'][said]}: {wrong[true, said]} of "
                            f"{confusion[true].sum()}"))
