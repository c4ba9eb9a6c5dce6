"""A small network, data for it and its trainer."""

import numpy as np

import fastconv as fc
from fastconv import nn

CLASSES = 4
RNG = np.random.default_rng
RULES = {
    "sgd": lambda: fc.optim.SGD(0.1),
    "momentum": lambda: fc.optim.SGD(0.1, momentum=0.9, weight_decay=1e-2),
    "nesterov": lambda: fc.optim.SGD(0.05, momentum=0.8, nesterov=True),
    "adam": lambda: fc.optim.Adam(1e-2, weight_decay=1e-2),
    "adamw": lambda: fc.optim.AdamW(1e-2),
}


def small_net(seed=0, batch_norm=False):
    fc.manual_seed(seed)
    layers = [nn.Conv2d(2, 5, 3, padding=1), *([nn.BatchNorm2d(5)] if batch_norm else []), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(45, CLASSES))


def data(n=24, seed=1):
    rng = RNG(seed)
    return rng.standard_normal((n, 2, 6, 6)).astype(np.float32), rng.integers(0, CLASSES, n)


def make(net=None, optimizer=None, **options):
    return fc.Trainer(small_net() if net is None else net, nn.CrossEntropyLoss(), optimizer or fc.optim.SGD(0.1, 0.9),
                      **options)


def weights(trainer):
    return {name: parameter.numpy() for name, parameter in trainer.module.named_parameters()}


def same(state, other):
    for name, value in state["model"].items():
        np.testing.assert_array_equal(value, other["model"][name], err_msg=name)
    for name, buffers in state["optimizer"]["state"].items():
        for key, value in buffers.items():
            np.testing.assert_array_equal(value, other["optimizer"]["state"][name][key], err_msg=f"{name} {key}")
