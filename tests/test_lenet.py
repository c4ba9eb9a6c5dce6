"""The main job: LeNet-5 learns the sample of MNIST, to the same bits each time."""

import hashlib

import numpy as np

import fastconv as fc
from fastconv.cli import _data, train_lenet5


def test_lenet5_reaches_its_accuracy():
    before = fc.get_num_threads()
    fc.set_num_threads(1)  # results do not depend on it, and the time of a busy machine does
    try:
        data, preprocessing = _data(None)
        trainer, result = train_lenet5(data, preprocessing)
    finally:
        fc.set_num_threads(before)
    assert result["accuracy"] >= 0.983
    assert len(trainer.log) == 10 and trainer.log[-1]["loss"] < trainer.log[0]["loss"] / 10

    # The accuracy once more, by other means: a frozen engine, image by image.
    p = preprocessing
    x = fc.data.to_float(data[2], p["mean"], p["std"], p["pad"])
    engine = fc.compile(trainer.module, (1, *x.shape[1:])).freeze()
    right = sum(int(engine(x[i: i + 1]).argmax()) == data[3][i] for i in range(len(x)))
    assert right / len(x) == result["accuracy"]


def test_the_first_steps_are_the_same_bits_for_any_number_of_threads():
    data, preprocessing = _data(None)
    few = (data[0][:640], data[1][:640], data[2][:64], data[3][:64])
    digests, before = set(), fc.get_num_threads()
    try:
        for threads in (1, 2, 3):
            fc.set_num_threads(threads)
            trainer, _ = train_lenet5(few, preprocessing, epochs=1)
            state = trainer.state_dict()
            arrays = [*state["model"].values(), *(b["momentum_buffer"] for b in state["optimizer"]["state"].values())]
            digests.add(hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest())
    finally:
        fc.set_num_threads(before)
    assert len(digests) == 1
