"""A module of modules, with parameters, buffers and what is missing."""

import numpy as np

from fastconv import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x):
        return self.bn(self.conv(x)) + x


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(np.ones(3))
        self.stem = nn.Conv2d(3, 4, 3)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 2), "b": nn.Linear(4, 2, bias=False)})
        self.missing = None

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x


NAMES = ["scale", "stem.weight", "stem.bias",
         *(f"blocks.{i}.{n}" for i in (0, 1) for n in (
             "conv.weight", "conv.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var",
             "bn.num_batches_tracked")),
         "heads.a.weight", "heads.a.bias", "heads.b.weight"]


def changed(state):
    return {name: value + 1 for name, value in state.items()}
