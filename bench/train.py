"""A LeNet-5 training step against PyTorch's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench import lenet, variants
from bench.networks import LENET5_TRAINING_MULTIPLY_ADDS
from bench.timing import Variant

NOTE = ("Timed: one training step on a batch that is already in memory: forward, cross entropy, backward, SGD with momentum "
        "0.9, and the loss as a Python number. fastconv: NumPy arrays in. PyTorch: tensors in, contiguous or channels_last, "
        "SGD as it comes or fused. Compared: the losses of five steps.")
CHECKED = 5
CHECK_LR = 0.05
TIMED_LR = 1e-5  # next to no learning while timed: a network that has learnt its batch has denormal gradients


def main(options) -> dict:
    names = ["fastconv", *(p for p in options.peers if p == "torch")]
    return lenet.main(options, "bench.train", names, LENET5_TRAINING_MULTIPLY_ADDS, NOTE)


def variant(name: str, make: Callable[[float], Callable[[], float]]) -> Variant:
    """What is timed, and the losses of some steps of a network of its own."""
    checked = make(CHECK_LR)
    losses = np.array([checked() for _ in range(CHECKED)])
    return Variant(name, make(TIMED_LR), losses)


def prepare_fastconv(job: dict) -> list[Variant]:
    from fastconv import nn, optim
    from fastconv.graph.training import TrainingTape

    x, target = lenet.images(job["batch"])

    def make(lr: float) -> Callable[[], float]:
        tape = TrainingTape(lenet.fastconv_network().symbolic(True), nn.CrossEntropyLoss().symbolic(True),
                            optim.SGD(lr=lr, momentum=0.9), threads=job["threads"])
        return lambda: tape.step(x, target)

    return [variants.peak(job["threads"]), variant("step", make)]


def prepare_torch(job: dict) -> list[Variant]:
    import torch

    torch.set_num_threads(job["threads"])
    loss_of = torch.nn.CrossEntropyLoss()
    made = []
    for name, layout in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        x, target = map(torch.from_numpy, lenet.images(job["batch"]))
        x = x.contiguous(memory_format=layout)
        for fused in (False, True):
            def make(lr: float, x=x, target=target, layout=layout, fused=fused) -> Callable[[], float]:
                net = lenet.torch_network().to(memory_format=layout)
                sgd = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, fused=fused)

                def step() -> float:
                    sgd.zero_grad(set_to_none=True)
                    loss = loss_of(net(x), target)
                    loss.backward()
                    sgd.step()
                    return loss.item()

                return step

            made.append(variant(f"{name}{' fused' if fused else ''}", make))
    return made
