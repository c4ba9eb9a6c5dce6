"""``fastconv run``."""

from __future__ import annotations

import argparse
import json
import math
import os
from typing import Any

from fastconv._arguments import UsageError, command, exif, extent, whole
from fastconv._atomic import open_regular
from fastconv._text import printable

CHANNELS = (1, 3)


def per_channel(text: str) -> list[float]:
    """One number, or one per channel, with commas between."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(map(math.isfinite, found)):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number, or one per channel such as 0.5,0.5,0.5")
    return found


def add(commands) -> None:
    parser = command(commands, "run", run, "run a model on photographs or arrays")
    parser.add_argument("model", help="an ONNX model or a model file of fastconv")
    parser.add_argument("inputs", nargs="+", metavar="input", help="image files, folders of them, or .npy arrays: one for "
                        "each of the model's inputs, with NAME= in front where it has several")
    parser.add_argument("--labels", metavar="FILE", help="names of the classes, a line each")
    parser.add_argument("--top", type=whole, default=5, metavar="K", help="of scores, the K largest (default 5)")
    parser.add_argument("--resize", type=extent, metavar="SIZE", help="height and width of the pictures (default: what the "
                        "model takes)")
    parser.add_argument("--scale", type=float, default=None, metavar="S", help="pixels are multiplied by this first "
                        "(default 1/255)")
    parser.add_argument("--mean", type=per_channel, metavar="M",
                        help="then this is subtracted: one number, or one per channel")
    parser.add_argument("--std", type=per_channel, metavar="D", help="then divided by this")
    parser.add_argument("--bgr", action="store_true", help="blue first, as OpenCV has it")
    parser.add_argument("--batch-size", type=whole, default=16, metavar="N", help="default 16, or the model's own")
    parser.add_argument("--output", metavar="FILE", help="write the outputs as arrays, by name: .npz")
    exif(parser, "yes")


def run(arguments) -> None:
    """Prints what the model says of each picture, or of its arrays."""
    from fastconv.interop.native import load

    if not os.path.exists(arguments.model):
        raise FileNotFoundError(f"{arguments.model!r}: No such file")
    network = load(arguments.model).eval()
    if arguments.output and not arguments.output.lower().endswith(".npz"):
        raise UsageError(f"--output {arguments.output}: expected a file .npz")
    if any(path.lower().endswith(".npy") for path in arguments.inputs):
        names, outputs, rows = _arrays(network, arguments)
    else:
        names, outputs, rows = _pictures(network, arguments)
    if arguments.output:
        import numpy as np

        from fastconv._atomic import write_atomic

        with write_atomic(arguments.output) as file:
            np.savez(file, **dict(zip(names, outputs, strict=True)))
    if arguments.json:
        print(json.dumps({"model": arguments.model, "results": rows}))
        return
    for row in rows:
        head = f"{printable(row['input'])}: "
        if "top" in row:
            print(head + ", ".join(f"{printable(str(one['class']))} ({100 * one['probability']:.1f} %)"
                                   for one in row["top"]))
        else:
            print(head + "; ".join(f"{printable(o['name'])} {tuple(o['shape'])} {o['dtype']}, {o['min']:.6g} to "
                                   f"{o['max']:.6g}, mean {o['mean']:.6g}" for o in row["outputs"]))


def _engine(network, shapes: dict, arguments):
    from fastconv._arguments import choices_of
    from fastconv.engine.engine import compile

    return compile(network, shapes if len(shapes) > 1 else next(iter(shapes.values())), precision=arguments.precision,
                   algorithm=choices_of(arguments.tuned))


def _names(network, count: int) -> list[str]:
    known = getattr(network, "output_names", None)
    if known and len(known) == count:
        return list(known)
    return ["output"] if count == 1 else [f"output{i}" for i in range(count)]


def _leaves(result) -> list:
    if isinstance(result, dict):
        return [leaf for value in result.values() for leaf in _leaves(value)]
    return [leaf for value in result for leaf in _leaves(value)] if isinstance(result, (tuple, list)) else [result]


def _arrays(network, arguments) -> tuple[list[str], list, list[dict]]:
    """Runs the model once on arrays from files."""
    import numpy as np

    known = [i.name for i in getattr(network, "inputs", [])] or ["input"]
    given: dict[str, Any] = {}
    for i, word in enumerate(arguments.inputs):
        name, _, path = word.rpartition("=") if "=" in word and word.split("=")[0] in known else ("", "", word)
        name = name or (known[i] if i < len(known) else "")
        if name not in known or name in given:
            raise UsageError(f"input {word!r}: the model takes {', '.join(known)}")
        try:
            given[name] = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path!r} is not a .npy file of numbers ({error})") from None
    if len(given) < len(known):
        raise UsageError(f"{len(given)} inputs given: the model takes {', '.join(known)}")
    kinds = {i.name: i.dtype for i in getattr(network, "inputs", [])}
    arrays = [given[n].astype(kinds.get(n, "float32")) if given[n].dtype.kind in "fiub" else given[n] for n in known]
    engine = _engine(network, {n: (a.shape, a.dtype.name) for n, a in zip(known, arrays, strict=True)}, arguments)
    outputs = _leaves(engine(*arrays))
    names = _names(network, len(outputs))
    return names, outputs, [{"input": ", ".join(arguments.inputs), "outputs": _described(names, outputs)}]


def _described(names: list[str], outputs: list) -> list[dict]:
    return [{"name": n, "shape": list(o.shape), "dtype": o.dtype.name,
             **({"min": float(o.min()), "max": float(o.max()), "mean": float(o.mean())} if o.size else
                {"min": 0.0, "max": 0.0, "mean": 0.0})} for n, o in zip(names, outputs, strict=True)]


def picture_shape(network, resize: tuple[int, int] | None) -> tuple[bool, int, tuple[int, int]]:
    """Whether a model takes channels last, how many, and the height and width of its pictures."""
    inputs = getattr(network, "inputs", None)
    if not inputs:
        from fastconv._recipes import recipe

        known = recipe(getattr(network, "network", {}).get("name", type(network).__name__))
        channels = next((m.in_channels for m in network.modules() if hasattr(m, "in_channels")), 3)
        return False, channels, resize or (known.size, known.size)
    if len(inputs) > 1:
        raise ValueError(f"the model takes {', '.join(i.name for i in inputs)}: give it .npy arrays")
    shape = inputs[0].shape
    if shape is None or len(shape) != 4:
        raise ValueError(f"the model takes {inputs[0].name} of shape {shape}: no pictures; give it .npy arrays")
    last = shape[1] not in CHANNELS and shape[3] in CHANNELS
    channels = shape[3] if last else shape[1]
    if channels not in CHANNELS:
        raise ValueError(f"the model takes {inputs[0].name} of shape {shape}: pictures have 1 or 3 channels")
    size = shape[1:3] if last else shape[2:]
    if resize is not None:
        if any(s is not None and s != r for s, r in zip(size, resize, strict=True)):
            raise UsageError(f"--resize {resize[0]}x{resize[1]}: the model takes pictures of {size[0]}x{size[1]} alone")
        return last, channels, resize
    if None in size:
        raise UsageError("the model takes pictures of any size: --resize says which")
    return last, channels, size


def _pictures(network, arguments) -> tuple[list[str], list, list[dict]]:
    import numpy as np

    from fastconv._extra import require
    from fastconv._model import check_preprocessing, pads
    from fastconv.cli.predict import _paths
    from fastconv.data import read_image
    from fastconv.train.progress import progress

    require("PIL.Image", "run")
    p = getattr(network, "preprocessing", None) or {}
    if p:
        check_preprocessing(arguments.model, p)
    last, channels, size = picture_shape(network, arguments.resize or (tuple(p["size"]) if "size" in p else None))
    scale = 1 / 255 if arguments.scale is None else arguments.scale
    mean, std = (np.asarray(given if given is not None else p.get(key, default), np.float32)
                 for key, given, default in (("mean", arguments.mean, 0.0), ("std", arguments.std, 1.0)))
    for name, value in (("mean", mean), ("std", std)):
        if value.size not in (1, channels):
            raise UsageError(f"--{name} has {value.size} numbers: the model's pictures have {channels} channels")
    if not (std > 0).all():
        raise UsageError("--std must be above 0")
    border = pads(p) if "pad" in p else (0, 0)
    labels = _labels(arguments.labels, p)
    paths = _paths(arguments.inputs)
    made = getattr(network, "inputs", None)
    fixed = made[0].shape[0] if made and made[0].shape else None
    batch = fixed or min(arguments.batch_size, len(paths))
    engine, results, rows = None, [], []
    with progress(len(paths), "images", leave=False) as bar:
        for start in range(0, len(paths), batch):
            some = paths[start: start + batch]
            x = np.stack([read_image(path, channels, size, arguments.exif is not False) for path in some])
            x = np.pad(x, ((0, 0), *((side, side) for side in border), (0, 0))) if any(border) else x
            x = (x[..., ::-1] if arguments.bgr else x).astype(np.float32) * np.float32(scale)
            x = (x - mean) / std
            x = np.ascontiguousarray(x if last else np.moveaxis(x, -1, 1))
            short = (fixed or len(x)) - len(x)  # a model of one batch gets the last picture again
            x = np.concatenate([x, np.repeat(x[-1:], short, 0)]) if short > 0 else x
            engine = engine or _engine(network, {"input": x.shape}, arguments)
            outputs = [np.array(o[: len(some)]) if o.ndim and len(o) == len(x) else np.array(o) for o in _leaves(engine(x))]
            names = _names(network, len(outputs))
            results.append(outputs)
            rows += [_row(path, names, outputs, i, labels, arguments.top) for i, path in enumerate(some)]
            bar.update(len(some))
    joined = [np.concatenate(parts) if parts[0].ndim else parts[0] for parts in zip(*results, strict=True)]
    return names, joined, rows


def _labels(path: str | None, preprocessing: dict) -> list[str]:
    if path is None:
        return list(preprocessing.get("classes", []))
    with open_regular(path) as file:
        names = [line.rstrip("\r\n") for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    if not names:
        raise ValueError(f"--labels {path}: no names in this file")
    return names


def _row(path: str, names: list[str], outputs: list, i: int, labels: list[str], top: int) -> dict:
    """Classes, where the model gives a row of scores for each picture; else what its outputs are like."""
    import numpy as np

    scores = outputs[0][i] if len(outputs) == 1 and outputs[0].ndim >= 2 and outputs[0].shape[0] > i else None
    if scores is None or scores.size < 2 or scores.size != max(scores.shape) or not np.isfinite(scores).all():
        return {"input": path, "outputs": _described(names, [o[i: i + 1] if o.ndim and len(o) > i else o for o in outputs])}
    scores = scores.reshape(-1).astype(np.float64)
    if scores.min() < 0 or abs(scores.sum() - 1) > 1e-3:  # not probabilities yet
        scores = np.exp(scores - scores.max())
        scores /= scores.sum()
    if labels and len(labels) != len(scores):
        raise ValueError(f"{len(labels)} labels: the model gives {len(scores)} scores")
    order = np.argsort(-scores, kind="stable")[:top]
    return {"input": path, "top": [{"class": labels[k] if labels else int(k), "probability": float(scores[k])}
                                   for k in order]}
