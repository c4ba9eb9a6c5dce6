"""Networks and engines that nobody refers to are gone at once: their memory waits for no search for circles."""

import gc
import weakref

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn

SHAPE = (2, 3, 8, 8)


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


def inference(net):
    engine = fc.compile(net, SHAPE)
    engine(np.ones(SHAPE, np.float32))
    engine(np.ones((1, 3, 8, 8), np.float32))


def gradients(net):
    engine = fc.compile(net, SHAPE, training=True)
    engine.backward(np.ones_like(engine(np.ones(SHAPE, np.float32))))


def tuned(net):
    engine = fc.compile(net, SHAPE)
    engine.tune(rounds=1)
    engine.clone()(np.ones(SHAPE, np.float32))


def trained(net):
    trainer = fc.Trainer(net, nn.CrossEntropyLoss(), fc.optim.SGD(net.parameters(), lr=0.1))
    for labels in ([0, 1], [2, 3]):
        trainer.step(np.ones(SHAPE, np.float32), np.array(labels))
    trainer.predict(np.ones(SHAPE, np.float32))


@pytest.mark.parametrize("use", (inference, gradients, tuned, trained))
def test_gone_with_the_last_reference(use):
    net = network()
    watched = [weakref.ref(net), *(weakref.ref(p) for p in net.parameters())]
    gc.collect()
    gc.disable()
    try:
        use(net)
        del net
        assert [found() for found in watched] == [None] * len(watched)
    finally:
        gc.enable()


def test_clones_outlive_what_they_were_made_from():
    net = network().eval()
    x = np.linspace(-1, 1, 384, dtype=np.float32).reshape(SHAPE)
    engine = fc.compile(net, SHAPE)
    want, clone = engine(x).copy(), engine.clone()
    del engine
    gc.collect()
    np.testing.assert_array_equal(clone(x), want)
    net[4].bias.data = net[4].bias.data + 1
    np.testing.assert_allclose(clone(x), want + 1, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(clone(x[:1]), clone(x)[:1])
