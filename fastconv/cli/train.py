"""``fastconv train``."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import time
from collections.abc import Callable

from fastconv._arguments import UsageError, choices_of, command, exif, extent, positive, seed, share, whole
from fastconv._recipes import fill, recipe
from fastconv._text import note, printable

SETTINGS = ("network", "epochs", "batch_size", "lr", "seed", "precision", "augment", "input_size", "validation_split",
            "exif", "init", "freeze")
FOUND = ("data", "channels", "mean", "std")  # also in a checkpoint's notes: what was read from data and weights
HELD_OUT = 0.1  # of the training images, where there are no others
MANY = 10  # with more classes than this, top-5 accuracy says something
LEARNED_BY_HEART = 20_000  # parameters for each image: with more, a network from scratch learns little else
SMALL = 64  # pixels a side, of which networks for 224 leave two
AUGMENTATIONS = ("none", "shift", "shift+flip")


def add(commands) -> None:
    parser = command(commands, "train", run, "train a network on labelled images, and save it")
    option = parser.add_argument
    option("network", help="a network of fastconv.zoo: lenet5, alexnet, vgg16, resnet18, resnet50, mobilenet_v2 and others "
           "(a wrong name lists them)")
    option("--data", metavar="PATH", help="an .npz file, a folder with the four IDX files of MNIST, or an image folder: "
           "class/image.png, or train/class/image.png beside test/ or val/ (default: the sample of MNIST that comes with "
           "fastconv)")
    option("--epochs", type=whole, metavar="N", help="in all, those before --resume included (default 10 for lenet5, "
           "else 30; up to twice as many where fewer than 600 batches are to come)")
    option("--batch-size", type=whole, metavar="N", help="default 32; 16 with fewer than 256 training images, "
           "8 with fewer than 128")
    option("--lr", type=positive, metavar="X", help="the highest learning rate of the cycle (default 0.05; 0.01 for "
           "networks without normalisation: alexnet, vgg; less for smaller batches and fewer than 600 of them in all, a "
           "fifth with --init)")
    option("--seed", type=seed, metavar="N", help="of initial values, order and augmentation (default 0)")
    option("--augment", choices=AUGMENTATIONS, help="random shifts, by a pixel (lenet5) or an eighth of the side, and "
           "mirrored images (default: shift for lenet5 and for grey images, else shift+flip)")
    option("--input-size", type=extent, metavar="SIZE", help="height and width: image files are resized to it (default "
           "224), arrays padded (default: their own size); lenet5 takes 32 alone")
    option("--validation-split", type=share, metavar="X", help="this share of the training images is held out and "
           "evaluated after each epoch, the test images once at the end (default: the test images after each epoch; 0.1 "
           "where there are none)")
    exif(parser, "--exif")
    option("--init", metavar="WEIGHTS", help="begin from the weights in a file: a model of fastconv, safetensors, .npz, or "
           ".pt and .pth of PyTorch, by name; for other classes the last layer begins anew")
    option("--freeze", action="store_const", const=True, help="with --init: train the last layer alone")
    option("--tune", action="store_true", help="time every algorithm on this network first and train with the fastest")
    option("--out", default=".", metavar="DIR", help="an existing folder for NETWORK.safetensors (the best epoch), "
           "NETWORK-last.safetensors (the last, where it is another), NETWORK-curve.png and, until the training is "
           "complete, NETWORK.checkpoint (default: the current one)")
    option("--checkpoint-every", type=whole, metavar="N", help="a checkpoint also after so many steps; there is one after "
           "each epoch, and when Ctrl-C or SIGTERM ends the training")
    option("--resume", metavar="CHECKPOINT", help="go on with an interrupted training, bit for bit; its settings are those "
           "of the checkpoint")
    option("--overwrite", action="store_true", help="begin anew although --out has a model, or the checkpoint of an "
           "unfinished training")


def run(arguments) -> None:
    """Trains; everything that can be wrong is checked before the first step."""
    from fastconv import zoo
    from fastconv._extra import require
    from fastconv._targets import target
    from fastconv.cli import _weights
    from fastconv.kernels._runtime import isa_info
    from fastconv.kernels.threads import get_num_threads

    network = arguments.network
    if network not in zoo.NETWORKS:
        raise UsageError(f"network: invalid choice: {network!r} (choose from {', '.join(sorted(zoo.NETWORKS))})")
    model, last, checkpoint = (target("--out", arguments.out, f"{network}{name}")
                               for name in (".safetensors", "-last.safetensors", ".checkpoint"))
    curve: str | None = target("--out", arguments.out, f"{network}-curve.png")
    there = next((path for path in (model, last) if os.path.exists(path)), None)
    notes = _resumed(arguments, checkpoint, there)
    init = _weights.read(arguments.init) if arguments.init and not notes else None
    choices = choices_of(arguments.tuned)
    require("safetensors", "saving the network")
    try:
        require("matplotlib", "the learning curve")
    except ImportError as error:
        note(f"fastconv train: no curve: {error}")
        curve = None
    settings, data, preprocessing = prepare(arguments, notes, init)
    if not arguments.json:
        held = f" and {len(data.test)} test images" if data.test is not None else " images"
        held = (f", {len(data.validation)} validation" if data.validation is not None else "") + held
        shown = "LeNet-5" if network == "lenet5" else network
        print(printable(f"{shown} on {data.name}: {len(data.train)} training{held}, {get_num_threads()} threads, "
                        f"{isa_info()['isa']}"), flush=True)
    start = time.perf_counter()
    trainer, loader, validation = make_trainer(data, preprocessing, settings, choices, init,
                                               None if arguments.json else lambda text: print(printable(text), flush=True))
    if not notes:
        _warn(trainer.module, network, settings, data, _input(data, preprocessing))
    if arguments.resume:
        trainer.load_checkpoint(arguments.resume)
        if not arguments.json:
            print(f"resumed after epoch {trainer.epoch}, step {trainer.steps}", flush=True)
    elif arguments.tune:
        from fastconv.cli.tune import tune_with_progress

        tune_with_progress(trainer.tune, (settings["batch_size"], *_input(data, preprocessing)))
    trainer.notes = {**settings, "data": data.fingerprint(), "channels": data.channels,
                     **{name: preprocessing[name] for name in ("mean", "std")},
                     "replaces": notes["replaces"] if notes else there is not None}
    fit(trainer, loader, validation, settings, checkpoint, arguments)
    row, ended = _best(trainer.log), trainer.log[-1]
    earlier = row["epoch"] != ended["epoch"]
    if earlier:
        trainer.save(last, preprocessing)
        trainer.module.load_state_dict(trainer.kept)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(last)  # of a training that is replaced
    result = final(trainer, data, preprocessing, settings, row)
    seconds = time.perf_counter() - start
    trainer.save(model, preprocessing)
    if curve is not None:
        from fastconv.train.curve import plot_curve

        name = "LeNet-5" if network == "lenet5" else network
        plot_curve(trainer.log, curve, f"{name}: {100 * result['accuracy']:.2f} % of the {result['of']} images")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(checkpoint)
    if arguments.json:
        print(json.dumps({
            **settings, **_finite({k: v for k, v in result.items() if k != "of"}), "evaluated_on": result["of"],
            "best_epoch": row["epoch"], "last": last if earlier else None,
            "seconds": round(seconds, 3), "threads": get_num_threads(), "isa": isa_info()["isa"], "model": model,
            "curve": curve, "log": [_finite(row) for row in trainer.log]}))
        return
    print(f"{result['of']} accuracy {100 * result['accuracy']:.2f} % after {settings['epochs']} epochs in {seconds:.1f} s")
    others = []
    if earlier:
        chosen = "validation" if data.validation is not None else "test"
        print(f"of epoch {row['epoch']}, the best by the {chosen} images; of the last {chosen} accuracy "
              f"{100 * ended['val_accuracy']:.2f} %")
        others.append(last)
    print(printable("saved " + " and ".join([model, *others, *([curve] if curve else [])])))
    print(_what_next(model, arguments.data))


def _finite(row: dict) -> dict:
    """JSON has neither NaN nor infinity."""
    return {key: value if not isinstance(value, float) or math.isfinite(value) else None for key, value in row.items()}


# ---- before the training ----------------------------------------------------------------------------------------------


def _resumed(arguments, checkpoint: str, there: str | None) -> dict | None:
    """The notes of the checkpoint to resume; a UsageError where options contradict it, or where one or the model that is
    ``there`` would be lost."""
    from fastconv.train.checkpoint import read_notes

    if not arguments.resume:
        if os.path.exists(checkpoint) and not arguments.overwrite:
            raise UsageError(f"--out {arguments.out!r}: {checkpoint} is of an unfinished training: --resume {checkpoint} "
                             "goes on with it, --overwrite begins anew")
        if there and not arguments.overwrite:
            raise UsageError(f"--out {arguments.out!r}: there is {there} already: --overwrite replaces it, --init {there} "
                             "goes on from its weights (with --overwrite, or to another --out)")
        if arguments.freeze and not arguments.init:
            raise UsageError("--freeze: without --init the layers that are not trained would stay as they were drawn")
        return None
    try:
        notes = read_notes(arguments.resume)
    except ValueError as error:
        if "it is a model file" not in str(error):
            raise
        raise ValueError(f"--resume {arguments.resume!r}: it is a model file, not a checkpoint of a training: --init "
                         f"{arguments.resume} goes on from its weights") from error
    if not {*SETTINGS, *FOUND, "replaces"} <= set(notes):
        raise ValueError(f"--resume {arguments.resume!r}: the checkpoint was not written by this version's fastconv train")
    if os.path.exists(checkpoint) and not os.path.samefile(checkpoint, arguments.resume) and not arguments.overwrite:
        raise UsageError(f"--out {arguments.out!r}: {checkpoint} is of another unfinished training: --overwrite replaces it")
    if there and not notes["replaces"] and not arguments.overwrite:
        raise UsageError(f"--out {arguments.out!r}: there is {there} already: --overwrite replaces it")
    for name in SETTINGS:
        given = getattr(arguments, name)
        given = list(given) if isinstance(given, tuple) else given
        if name == "precision" and given == "highest":
            continue  # the default
        if given is not None and given != notes[name]:
            option = name if name == "network" else "--" + name.replace("_", "-")
            option = f"{option} {given}" if name != "exif" else "--exif" if given else "--no-exif"
            raise UsageError(f"{option}: the training of {arguments.resume!r} has {notes[name]}")
    for name in ("tune", "tuned"):
        if getattr(arguments, name):
            raise UsageError(f"--{name}: the checkpoint of {arguments.resume!r} says which algorithms go on")
    return notes


def prepare(arguments, notes: dict | None = None, init=None):
    """(settings, data, preprocessing): what the bits of the training depend on; options, then the recipe."""
    from fastconv.cli import _weights
    from fastconv.cli._data import preprocessing_of, read

    known = recipe(arguments.network)
    settings = dict(notes or {name: getattr(arguments, name) for name in SETTINGS})
    size = settings["input_size"]
    if size is not None:
        size = tuple(size)
        if known.fixed and size != (known.size, known.size):
            raise UsageError(f"--input-size {size[0]}x{size[1]}: {arguments.network} takes {known.size}x{known.size} alone")
        settings["input_size"] = list(size)
    settings["exif"] = settings["exif"] is not False
    channels = notes["channels"] if notes else _weights.channels(init, arguments.network) if init else None
    data = read(arguments.data, size or (known.size, known.size), exif=settings["exif"],
                channels=channels if channels in (1, 3) else None).in_memory()
    if len(set(data.train.labels.tolist())) < 2:
        raise ValueError(f"{data.name!r}: all training images are of one class ({printable(data.classes[0])}): there is "
                         "nothing to tell apart")
    if settings["augment"] is None:  # what is grey is often writing
        settings["augment"] = known.augment.replace("+flip", "") if data.channels == 1 else known.augment
    settings["freeze"] = bool(settings["freeze"])
    settings["seed"] = settings["seed"] or 0
    if settings["validation_split"] is not None and data.validation is not None:
        raise UsageError(f"--validation-split {settings['validation_split']}: {data.name!r} has validation images of its "
                         "own")
    if settings["validation_split"] is None and data.validation is None and data.test is None:
        settings["validation_split"] = HELD_OUT
    preprocessing = preprocessing_of(data, arguments.network, known, size)
    before = notes or (init.preprocessing if init else None) or {}
    for name in ("mean", "std"):  # as the weights know their input
        if isinstance(before.get(name), list) and len(before[name]) == data.channels:
            preprocessing[name] = before[name]
    if settings["validation_split"] is not None:
        data = data.split(settings["validation_split"], settings["seed"])
    fill(settings, known, len(data.train), init is not None)
    settings = {name: settings[name] for name in SETTINGS}
    if notes and data.fingerprint() != notes["data"]:
        raise ValueError(f"--data: the training images of {data.name!r} are not those of the checkpoint "
                         f"{arguments.resume!r}")
    return settings, data, preprocessing


def _input(data, preprocessing: dict) -> tuple[int, int, int]:
    """Shape of the network's input, (C, H, W)."""
    return (data.channels, *(s + 2 * p for s, p in zip(preprocessing["size"], preprocessing["pad"], strict=True)))


def augmentation(kind: str, network: str, side: int):
    """What a DataLoader calls with each batch, None for none."""
    from fastconv.data import RandomHorizontalFlip, RandomShift

    if kind == "none":
        return None
    shift = RandomShift(1 if network == "lenet5" else max(1, side // 8))
    if kind == "shift":
        return shift
    flip = RandomHorizontalFlip()
    return lambda batch, rng: flip(shift(batch, rng), rng)


def make_trainer(data, preprocessing: dict, settings: dict, choices=None, init=None, say: Callable | None = None):
    """(trainer, training batches, validation batches): SGD with momentum under one cycle of the learning rate. ``say`` is
    told what it begins from, unless from nothing."""
    from fastconv import nn, optim, zoo
    from fastconv.cli import _weights
    from fastconv.graph.random import manual_seed
    from fastconv.train.trainer import Trainer

    known, name, batch, start = recipe(settings["network"]), settings["network"], settings["batch_size"], settings["seed"]
    shape = _input(data, preprocessing)
    manual_seed(start)
    network = zoo.create(name, num_classes=len(data.classes), in_channels=data.channels)
    begun = _weights.begin(network, init, name, data.classes) if init else ""
    if settings.get("freeze"):
        trained = _weights.freeze(network)
        begun += f"{'; ' if begun else ''}{trained:,} of {network.num_parameters():,} parameters are trained"
    if begun and say is not None:
        say(begun)
    loader = data.train.loader(batch, preprocessing, shuffle=True, seed=start,
                               augment=augmentation(settings["augment"], name, min(shape[1:])))
    # BatchNorm has no variance of a single image
    loader.drop_last = len(data.train) > len(data.train) % batch == 1 and \
        any(isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) for m in network.modules())
    validation = (data.validation or data.test).loader(_evaluated_at_once(shape, batch), preprocessing)
    optimizer = optim.SGD(lr=settings["lr"], momentum=0.9, weight_decay=known.weight_decay)
    schedule = optim.OneCycleLR(optimizer, settings["lr"], epochs=settings["epochs"], steps_per_epoch=len(loader))
    trainer = Trainer(network, nn.CrossEntropyLoss(), optimizer, schedule=schedule, precision=settings["precision"],
                      metrics=("accuracy", "top5") if len(data.classes) > MANY else ("accuracy",), algorithm=choices,
                      clip_grad_norm=known.clip_grad_norm)
    return trainer, loader, validation


def _warn(network, name: str, settings: dict, data, shape: tuple[int, int, int]) -> None:
    """Says where a network is far too large for the images: by their number, or by their size. What cannot take them at all
    is an error soon, and needs no warning."""
    from fastconv.report.summary import summary

    try:
        summary(network, (1, *shape))
    except ValueError:
        return
    parameters = network.num_parameters(trainable=True)
    if settings["init"] is None and parameters > LEARNED_BY_HEART * len(data.train):
        note(f"fastconv train: {name} is large for {len(data.train)} images: {parameters:,} parameters learn them by heart; "
             "--init WEIGHTS --freeze, a smaller network or more images generalise better")
    if not recipe(name).fixed and min(shape[1:]) < SMALL:
        note(f"fastconv train: {name} is made for images of {recipe(name).size}x{recipe(name).size}: of "
             f"{shape[1]}x{shape[2]} its last layers see few pixels; --input-size makes the input larger")


def _evaluated_at_once(shape: tuple[int, int, int], batch: int) -> int:
    """Images per batch of an evaluation: the training's, more where they are small."""
    return max(batch, 256) if shape[1] * shape[2] <= 64 * 64 else batch


# ---- the training and what comes after ------------------------------------------------------------------------------------


def fit(trainer, loader, validation, settings: dict, checkpoint: str, arguments) -> None:
    """Trains up to the last epoch; what stops it leaves a checkpoint, and says how to go on."""
    from fastconv.cli import check_signals

    first = trainer.epoch
    try:
        if first < settings["epochs"]:
            check_signals()  # from here on the trainer listens itself
            trainer.fit(loader, settings["epochs"] - first, validation=validation, verbose=True, checkpoint=checkpoint,
                        checkpoint_every=arguments.checkpoint_every, callbacks=[_keep_best])
    except (KeyboardInterrupt, SystemExit) as stop:
        data = f" --data {shlex.quote(arguments.data)}" if arguments.data else ""
        out = f" --out {shlex.quote(arguments.out)}" if arguments.out != "." else ""
        if os.path.exists(checkpoint):
            text = f": fastconv train {settings['network']}{data}{out} --resume {shlex.quote(checkpoint)} goes on"
            # main() prints it
            stop.hint = text  # type: ignore[union-attr]
        raise
    except Exception:
        if trainer.epoch == 0 and not arguments.resume and not arguments.checkpoint_every:
            with contextlib.suppress(FileNotFoundError):  # it holds nothing that was learned
                os.unlink(checkpoint)
        raise


def _best(log) -> dict:
    """The row of the highest accuracy of the images that are evaluated after each epoch, of equal ones the lowest loss."""
    def quality(row):
        loss = row["val_loss"]
        return row["val_accuracy"], -loss if math.isfinite(loss) else -math.inf, row["epoch"]

    return max(log, key=quality)


def _keep_best(trainer, row: dict) -> None:
    """A callback: the state of the best epoch so far, in checkpoints too."""
    if _best(trainer.log)["epoch"] == row["epoch"]:
        trainer.kept = trainer.module.state_dict()


def final(trainer, data, preprocessing: dict, settings: dict, row: dict | None = None) -> dict:
    """Loss and metrics of the test images, of the validation images where there are none, and "of" which they are: those in
    ``row``, by default the log's last, where it has them."""
    row = trainer.log[-1] if row is None else row
    if data.validation is not None and data.test is not None:
        batch = _evaluated_at_once(_input(data, preprocessing), settings["batch_size"])
        return {**trainer.evaluate(data.test.loader(batch, preprocessing)), "of": "test"}
    return {**{name.removeprefix("val_"): value for name, value in row.items() if name.startswith("val_")},
            "of": "test" if data.validation is None else "validation"}


def _what_next(model: str, data) -> str:
    from fastconv.cli._data import is_folder_of_images

    lines = ""
    if data is None or not is_folder_of_images(data):
        images = "fc.data.mnist_sample()" if data is None else f"fc.data.load_image_dataset({data!r})"
        lines = f"""
predict in Python:
    import fastconv as fc
    net = fc.load({model!r})
    p = net.preprocessing
    images, labels = {images}[2:]
    x = fc.data.to_float(images[:10], p["mean"], p["std"], p["pad"])
    engine = fc.compile(net, x.shape)
    print(engine(x).argmax(axis=1), labels[:10])"""
    return f"""{lines}
predict from image files{' (light on dark, as in MNIST)' if data is None else ''}, and time it:
    python -m fastconv predict {shlex.quote(model)} IMAGE...
    python -m fastconv bench {shlex.quote(model)}""".lstrip("\n" if not lines else "")
