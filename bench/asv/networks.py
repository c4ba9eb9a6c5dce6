"""Whole networks: time, peak memory, and the time to compile one."""

import numpy as np

import fastconv as fc
from fastconv import zoo

SIZES = {"lenet5": (1, 32, 32), "mobilenet_v2": (3, 224, 224), "resnet18": (3, 224, 224), "resnet50": (3, 224, 224)}


def images(shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


class Inference:
    """One call, weights packed beforehand."""

    params = (list(SIZES), [1, 16], [1, 2])
    param_names = ("network", "batch", "threads")
    timeout = 300

    def setup(self, network, batch, threads):
        shape = (batch, *SIZES[network])
        self.x = images(shape)
        self.engine = fc.compile(zoo.create(network), shape, threads=threads)
        self.y = self.engine(self.x)

    def time_call(self, network, batch, threads):
        self.engine(self.x, out=self.y)

    def track_arena(self, network, batch, threads):
        return self.engine.memory()["arena"]

    track_arena.unit = "bytes"


class Training:
    """Forward, cross entropy, backward and update."""

    params = (["lenet5", "resnet18"], [1, 2])
    param_names = ("network", "threads")
    batch = {"lenet5": 64, "resnet18": 8}
    timeout = 300

    def setup(self, network, threads):
        batch = self.batch[network]
        net = zoo.create(network)
        self.trainer = fc.Trainer(net, loss=fc.nn.CrossEntropyLoss(), optimizer=fc.optim.SGD(lr=1e-6, momentum=0.9),
                                  threads=threads)
        self.data = images((batch, *SIZES[network])), np.arange(batch) % 10
        self.time_epoch_of_one_batch(network, threads)

    def time_epoch_of_one_batch(self, network, threads):
        self.trainer.fit(self.data, epochs=1, batch_size=len(self.data[1]), verbose=False)


class Compile:
    """From a module to an engine whose weights are packed."""

    params = list(SIZES)
    param_names = ("network",)

    def setup(self, network):
        self.net, self.x = zoo.create(network), images((1, *SIZES[network]))

    def time_compile(self, network):
        fc.compile(self.net, self.x.shape)(self.x)

    def peakmem_run(self, network):
        fc.compile(self.net, self.x.shape)(self.x)
