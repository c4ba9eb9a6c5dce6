"""The command line: ``python -m fastconv train lenet5`` and its companions.

Exit codes: 0 done; 1 bad data, model or file, a package that is missing, or a training that failed; 2 wrong usage;
130 interrupted. An error is one line on stderr, with --debug a traceback.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import sys
import tempfile
import time

MODEL, CURVE = "lenet5.safetensors", "lenet5-curve.png"
SIZE = 32  # the side of LeNet-5's input
MOST_PIXELS = 4096  # the longest side to which predict resizes an image because a model file says so


class UsageError(Exception):
    """An argument that does not fit: exit code 2."""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv=None) -> int:
    """Runs a command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        if getattr(arguments, "threads", None):
            from fastconv.kernels.threads import set_num_threads

            try:
                set_num_threads(arguments.threads)
            except ValueError as error:
                raise UsageError(f"--threads {arguments.threads}: {error}") from error
        arguments.run(arguments)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        print(f"fastconv {arguments.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if arguments.debug:
            raise
        kind = "" if isinstance(error, (UsageError, ValueError, OSError, ImportError, FloatingPointError)) else \
            f"{type(error).__name__}: "
        text = " ".join(str(error).split()) or "no message; --debug shows where"
        print(f"fastconv {arguments.command}: error: {kind}{text}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _parser() -> argparse.ArgumentParser:
    from fastconv._version import __version__

    parser = _Parser(prog="fastconv", description="Convolutional networks on CPUs.", epilog=__doc__.split("\n\n")[1])
    parser.add_argument("--version", action="version", version=f"fastconv {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", parser_class=_Parser)

    train = _command(commands, "train", run_train, "train LeNet-5 on images of up to 32x32, and save it")
    train.add_argument("network", choices=["lenet5"])
    train.add_argument("--data", metavar="PATH", help="an .npz file, or a folder with the four IDX files of MNIST (default: "
                       "the sample of MNIST that comes with fastconv)")
    train.add_argument("--epochs", type=_whole, default=10, metavar="N", help="default 10")
    train.add_argument("--batch-size", type=_whole, default=32, metavar="N", help="default 32")
    train.add_argument("--lr", type=_positive, default=0.05, metavar="X", help="the highest learning rate of the cycle "
                       "(default 0.05)")
    train.add_argument("--seed", type=_seed, default=0, metavar="N", help="of initial values, order and shifts (default 0)")
    train.add_argument("--out", default=".", metavar="DIR", help=f"an existing folder for {MODEL} and {CURVE}")

    predict = _command(commands, "predict", run_predict, "say what a trained network sees in images")
    predict.add_argument("model")
    predict.add_argument("images", nargs="+", metavar="image")

    bench = _command(commands, "bench", run_bench, "time a network")
    bench.add_argument("model", help="a model file, or the name of a network")
    bench.add_argument("--batch-size", type=_whole, default=1, metavar="N", help="default 1")

    _command(commands, "config", run_config, "print what fastconv runs on, and why", threads=False)
    return parser


def _command(commands, name, run, help, threads=True):
    command = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
    command.set_defaults(run=run)
    if threads:
        command.add_argument("--threads", type=_whole, metavar="N", help="results do not depend on it")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.add_argument("--debug", action="store_true", help="show a traceback with an error")
    return command


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} must be an integer of at least 1")
    return int(text)


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 2**64:
        raise argparse.ArgumentTypeError(f"{text!r} must be an integer from 0 to 2**64 - 1")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return value


# ---- train --------------------------------------------------------------------------------------------------------


def run_train(arguments) -> None:
    """Trains LeNet-5; everything that can be wrong is checked before the first step."""
    from fastconv._extra import require
    from fastconv.kernels._runtime import isa_info
    from fastconv.kernels.threads import get_num_threads

    model, curve = (_target(arguments.out, name) for name in (MODEL, CURVE))
    require("safetensors", "saving the network")
    try:
        require("matplotlib", "the learning curve")
    except ImportError as error:
        print(f"fastconv train: no curve: {error}", file=sys.stderr)
        curve = None
    data, preprocessing = _data(arguments.data)
    if not arguments.json:
        where = arguments.data or "the MNIST sample"
        print(f"LeNet-5 on {where}: {len(data[0])} training and {len(data[2])} test images, "
              f"{get_num_threads()} threads, {isa_info()['isa']}", flush=True)
    start = time.perf_counter()
    trainer, result = train_lenet5(data, preprocessing, arguments.epochs, arguments.batch_size, arguments.lr,
                                   arguments.seed, verbose=True)
    seconds = time.perf_counter() - start
    trainer.save(model, preprocessing)
    if curve is not None:
        from fastconv.train.curve import plot_curve

        plot_curve(trainer.log, curve, f"LeNet-5: {100 * result['accuracy']:.2f} % of the test images")
    if arguments.json:
        print(json.dumps({
            "network": "lenet5", "accuracy": result["accuracy"], "loss": result["loss"], "epochs": arguments.epochs,
            "batch_size": arguments.batch_size, "lr": arguments.lr, "seed": arguments.seed, "seconds": round(seconds, 3),
            "threads": get_num_threads(), "isa": isa_info()["isa"], "model": model, "curve": curve,
            "log": trainer.log.rows}))
        return
    print(f"test accuracy {100 * result['accuracy']:.2f} % after {arguments.epochs} epochs in {seconds:.1f} s")
    print(f"saved {model}" + (f" and {curve}" if curve else ""))
    print(_what_next(model, arguments.data))


def train_lenet5(data, preprocessing: dict, epochs: int = 10, batch_size: int = 32, lr: float = 0.05, seed: int = 0,
                 verbose: bool | None = None):
    """Trains LeNet-5 on (train_x, train_y, test_x, test_y); returns the trainer, and loss and accuracy of the test set.

    SGD with momentum under one cycle of the learning rate, images shifted by up to a pixel.
    """
    from fastconv import data as datasets
    from fastconv import nn, optim, zoo
    from fastconv.graph.random import manual_seed
    from fastconv.train.trainer import Trainer

    train_x, train_y, test_x, test_y = data
    train, test = (datasets.to_float(x, preprocessing["mean"], preprocessing["std"], preprocessing["pad"])
                   for x in (train_x, test_x))
    manual_seed(seed)
    network = zoo.lenet5(len(preprocessing["classes"]), train.shape[1])
    loader = datasets.DataLoader(datasets.ArrayDataset(train, train_y), batch_size, shuffle=True, seed=seed,
                                 augment=datasets.RandomShift(1))
    optimizer = optim.SGD(lr=lr, momentum=0.9, weight_decay=5e-4)
    schedule = optim.OneCycleLR(optimizer, lr, epochs=epochs, steps_per_epoch=len(loader))
    trainer = Trainer(network, nn.CrossEntropyLoss(), optimizer, schedule=schedule)
    trainer.fit(loader, epochs, validation=(test, test_y), verbose=verbose)
    row = trainer.log[-1]
    return trainer, {"loss": row["val_loss"], "accuracy": row["val_accuracy"]}


def _data(path):
    """Arrays for training, and what the network's input needs."""
    from fastconv.data import load_image_dataset, mnist_sample

    data = mnist_sample() if path is None else load_image_dataset(path)
    images, labels = data[:2]
    height, width = images.shape[1:3]
    if height > SIZE or width > SIZE or height % 2 or width % 2:
        raise ValueError(f"{path!r}: images of {height}x{width}: LeNet-5 takes even sizes up to {SIZE}x{SIZE}")
    channels = 1 if images.ndim == 3 else images.shape[3]
    pixels = images.reshape(-1, channels)
    mean, std = (getattr(pixels, name)(axis=0, dtype="float64") / 255 for name in ("mean", "std"))
    if not std.all():
        raise ValueError(f"{path!r}: all pixels of the training images are equal")
    return data, {
        "mean": mean.round(6).tolist(), "std": std.round(6).tolist(), "size": [height, width],
        "pad": [(SIZE - height) // 2, (SIZE - width) // 2], "classes": [str(c) for c in range(int(labels.max()) + 1)],
    }


def _target(folder: str, name: str) -> str:
    if not os.path.isdir(folder):
        raise UsageError(f"--out {folder!r}: " + ("not a folder" if os.path.exists(folder) else "no such folder"))
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"--out {folder!r}: cannot write there ({error.strerror})") from error
    path = os.path.normpath(os.path.join(folder, name))
    if os.path.isdir(path):
        raise UsageError(f"--out {folder!r}: {name} is a folder there")
    return path


def _what_next(model: str, data) -> str:
    images = "fc.data.mnist_sample()" if data is None else f"fc.data.load_image_dataset({data!r})"
    return f"""
predict in Python:
    import fastconv as fc
    net = fc.load({model!r})
    engine = fc.compile(net, (1, {'1' if data is None else 'net.network["arguments"]["in_channels"]'}, {SIZE}, {SIZE}))
    p = net.preprocessing
    images, labels = {images}[2:]
    x = fc.data.to_float(images[:10], p["mean"], p["std"], p["pad"])
    print(engine(x).argmax(axis=1), labels[:10])
predict from image files (light on dark, as in MNIST), and time it:
    python -m fastconv predict {shlex.quote(model)} IMAGE...
    python -m fastconv bench {shlex.quote(model)}"""


# ---- predict ------------------------------------------------------------------------------------------------------


def run_predict(arguments) -> None:
    """Prints the class of each image and its probability."""
    import numpy as np

    from fastconv.data import to_float
    from fastconv.graph.engine import compile

    network, (channels, _, _), preprocessing = _load(arguments.model)
    if not preprocessing:
        raise ValueError(f"{arguments.model!r} does not say what its input needs: save it with preprocessing=")
    _check_preprocessing(arguments.model, preprocessing)
    images = np.stack([_image(path, channels, preprocessing["size"]) for path in arguments.images])
    x = to_float(images, preprocessing["mean"], preprocessing["std"], preprocessing["pad"])
    logits = compile(network, x.shape)(x).astype(np.float64)
    if not np.isfinite(logits).all():
        raise ValueError(f"{arguments.model!r}: what the network computes is not finite")
    if logits.shape[1] != len(preprocessing["classes"]):
        raise ValueError(f"{arguments.model!r}: the network has {logits.shape[1]} classes, its preprocessing names "
                         f"{len(preprocessing['classes'])}")
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    best = [{"image": path, "class": preprocessing["classes"][share.argmax()], "probability": float(share.max())}
            for path, share in zip(arguments.images, shares, strict=True)]
    if arguments.json:
        print(json.dumps({"predictions": best}))
        return
    for row in best:
        print(f"{row['image']}: {row['class']} ({100 * row['probability']:.1f} %)")


def _check_preprocessing(model: str, preprocessing) -> None:
    """What the file says must be what to_float and predict need; its numbers are checked by to_float."""
    if not isinstance(preprocessing, dict) or not {"mean", "std", "size", "pad", "classes"} <= set(preprocessing):
        raise ValueError(f"{model!r}: its preprocessing must have mean, std, size, pad and classes")
    size, pad = preprocessing["size"], preprocessing["pad"]
    for name, value, low in (("size", size, 1), ("pad", pad if isinstance(pad, list) else [pad, pad], 0)):
        if not isinstance(value, list) or len(value) != 2 or \
                not all(type(side) is int and low <= side <= MOST_PIXELS for side in value):
            raise ValueError(f"{model!r}: its preprocessing has {name}={value!r}: expected two integers from {low} to "
                             f"{MOST_PIXELS}")
    if not isinstance(preprocessing["classes"], list):
        raise ValueError(f"{model!r}: its preprocessing has classes={preprocessing['classes']!r}: expected a list of names")


def _image(path: str, channels: int, size):
    """An image file as uint8 (H, W, C), resized where it has another size."""
    import numpy as np

    from fastconv._extra import require

    image = require("PIL.Image", "predict")
    with open(path, "rb") as file:
        try:
            picture = image.open(file).convert("L" if channels == 1 else "RGB")
        except (OSError, ValueError, SyntaxError, image.DecompressionBombError) as error:
            raise ValueError(f"{path!r} is not an image that can be read ({error})") from error
    height, width = size
    if picture.size != (width, height):
        picture = picture.resize((width, height), image.Resampling.BILINEAR)
    return np.asarray(picture, np.uint8).reshape(height, width, channels)


def _load(model: str):
    """A network from a file or by its name, the shape of its input, and its preprocessing."""
    from fastconv import zoo
    from fastconv.interop.native import load

    if model in zoo.NETWORKS and not os.path.exists(model):
        network = zoo.create(model)
        network.preprocessing = None
    else:
        network = load(model)
    size = SIZE if network.network["name"] == "lenet5" else 224
    return network, (network.network["arguments"]["in_channels"], size, size), network.preprocessing


# ---- bench and config ---------------------------------------------------------------------------------------------


def run_bench(arguments) -> None:
    """Prints the median time of a run over about a second."""
    import numpy as np

    from fastconv.graph.engine import compile
    from fastconv.kernels._runtime import isa_info
    from fastconv.kernels.threads import get_num_threads

    network, shape, _ = _load(arguments.model)
    shape = (arguments.batch_size, *shape)
    engine = compile(network, shape)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    y = engine(x)
    times, end = [], time.perf_counter() + 1
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        engine(x, out=y)
        times.append(time.perf_counter() - start)
    median = sorted(times)[len(times) // 2]
    facts = {"model": arguments.model, "input": list(shape), "milliseconds": 1000 * median, "runs": len(times),
             "images_per_second": arguments.batch_size / median, "threads": get_num_threads(), "isa": isa_info()["isa"]}
    if arguments.json:
        print(json.dumps(facts))
    else:
        print(f"{arguments.model}, input {'x'.join(map(str, shape))}: {1000 * median:.4g} ms (median of {len(times)} runs), "
              f"{arguments.batch_size / median:.4g} images/s, {facts['threads']} threads, {facts['isa']}")


def run_config(arguments) -> None:
    """Prints what show_config() prints."""
    from fastconv.config import facts, show_config

    if arguments.json:
        print(json.dumps(facts()))
    else:
        show_config()
