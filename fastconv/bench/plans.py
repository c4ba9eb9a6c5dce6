"""How long planning takes for layers whose kernels have many taps, or are cut into many phases."""

from __future__ import annotations

import time
from collections.abc import Callable

from fastconv import nn
from fastconv.engine.engine import compile
from fastconv.measure.timing import Measurement

# name: (layer, shape of its input, with a backward)
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], bool]] = {
    "3x3": (lambda: nn.Conv2d(16, 16, 3), (1, 16, 28, 28), False),
    "3x3, training": (lambda: nn.Conv2d(16, 16, 3), (1, 16, 28, 28), True),
    "64x64": (lambda: nn.Conv2d(4, 4, 64), (1, 4, 128, 128), True),
    "32x32 dilated": (lambda: nn.Conv2d(4, 4, 32, dilation=3), (1, 4, 128, 128), True),
    "16x16x16": (lambda: nn.Conv3d(2, 2, 16), (1, 2, 24, 24, 24), True),
    "patches of 32x32": (lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 96, 32, stride=32)), (1, 3, 224, 224), True),
    "transposed 64x64/32": (lambda: nn.ConvTranspose2d(4, 4, 64, stride=32, padding=16), (1, 4, 7, 7), False),
    "transposed 16x16x16/8": (lambda: nn.ConvTranspose3d(2, 2, 16, stride=8), (1, 2, 4, 4, 4), True),
    "transposed 4096/4096": (lambda: nn.ConvTranspose1d(2, 2, 4096, stride=4096), (1, 2, 5), True),
    "transposed depthwise 64x64/32": (lambda: nn.ConvTranspose2d(16, 16, 64, stride=32, groups=16), (1, 16, 7, 7), True),
}


def planned(name: str, rounds: int) -> Measurement:
    """Seconds that compiling one of the layers takes, in this process."""
    make, shape, training = LAYERS[name]
    layer, seconds = make(), []
    for _ in range(rounds):
        begin = time.perf_counter()
        compile(layer, shape, training=training)
        seconds.append(time.perf_counter() - begin)
    return Measurement("fastconv", "plan", {}, seconds)
