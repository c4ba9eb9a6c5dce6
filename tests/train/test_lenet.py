"""The main job: LeNet-5 learns the sample of MNIST, to the same bits each time."""

import hashlib
from dataclasses import replace

import numpy as np

import fastconv as fc
from fastconv.cli import parser
from fastconv.cli.train import final, make_trainer, prepare


def train(data, preprocessing, settings, verbose=False):
    trainer, loader, validation = make_trainer(data, preprocessing, settings)
    trainer.fit(loader, settings["epochs"], validation=validation, verbose=verbose)
    return trainer, final(trainer, data, preprocessing, settings)


def prepared(*options):
    return prepare(parser().parse_args(["train", "lenet5", *options]))


def test_lenet5_reaches_its_accuracy():
    before = fc.get_num_threads()
    fc.set_num_threads(1)  # results do not depend on it, and the time of a busy machine does
    try:
        settings, data, preprocessing = prepared()
        trainer, result = train(data, preprocessing, settings)
    finally:
        fc.set_num_threads(before)
    assert result["accuracy"] >= 0.985 and result["of"] == "test"
    assert len(trainer.log) == 10 and trainer.log[-1]["loss"] < trainer.log[0]["loss"] / 10

    # The accuracy once more, by other means: a frozen engine, image by image.
    p = preprocessing
    x = fc.data.to_float(data.test.images, p["mean"], p["std"], p["pad"])
    engine = fc.compile(trainer.module, (1, *x.shape[1:])).freeze()
    right = sum(int(engine(x[i: i + 1]).argmax()) == data.test.labels[i] for i in range(len(x)))
    assert right / len(x) == result["accuracy"]


def test_the_first_steps_are_the_same_bits_for_any_number_of_threads():
    settings, data, preprocessing = prepared("--epochs", "1")
    few = replace(data, train=data.train.take(slice(0, 640)), test=data.test.take(slice(0, 64)))
    digests, before = set(), fc.get_num_threads()
    try:
        for threads in (1, 2, 3):
            fc.set_num_threads(threads)
            trainer, _ = train(few, preprocessing, settings)
            state = trainer.state_dict()
            arrays = [*state["model"].values(), *(b["momentum_buffer"] for b in state["optimizer"]["state"].values())]
            digests.add(hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest())
    finally:
        fc.set_num_threads(before)
    assert len(digests) == 1
