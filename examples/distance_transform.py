"""One 3x3 convolution, applied eight times, learns the distance transform: its parameters are tied over the steps, so their
gradients add up.

    python examples/distance_transform.py [STEPS]

The input is an image of seeds; the target of a pixel is its distance to the nearest seed in steps of a chess king, at most
eight. What the network has to find out is that a step grows what has been reached by one pixel, and that the distance is the
number of steps at which a pixel has not been reached.
"""

import sys

import numpy as np

import fastconv as fc
from fastconv import nn
from fastconv.functional import leaky_relu

STEPS, CHANNELS, SIZE = 8, 8, 20


class Recurrent(nn.Module):
    """h = act(conv(h)), eight times the same; what a 1x1 convolution reads from each state is summed up."""

    def __init__(self):
        super().__init__()
        self.start = nn.Conv2d(1, CHANNELS, 1)
        self.step = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.read = nn.Conv2d(CHANNELS, 1, 1)

    def forward(self, x):
        h = leaky_relu(self.start(x), 0.1)
        y = self.read(h)
        for _ in range(STEPS - 1):
            h = leaky_relu(self.step(h), 0.1)
            y = y + self.read(h)
        return y


def draw(generator, count):
    """Images with a few seeds, and their distances."""
    x = (generator.random((count, 1, SIZE, SIZE)) < 0.01).astype(np.float32)
    reached, distance = x > 0, np.zeros(x.shape, np.float32)
    for _ in range(STEPS):
        distance += ~reached
        wide = np.pad(reached, ((0, 0), (0, 0), (1, 1), (1, 1)))
        reached = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), (2, 3)).any((-1, -2))
    return x, distance


def main(steps: int) -> float:
    fc.manual_seed(1)
    generator, net = np.random.default_rng(0), Recurrent()
    trainer = fc.Trainer(net, fc.functional.mse_loss, fc.optim.Adam(lr=0.005), metrics=())
    for i in range(steps):
        trainer.optimizer.lr = 0.005 * (1 - i / steps)
        loss = trainer.step(*draw(generator, 16))
        if i % 200 == 0:
            print(f"step {i}: squared error {loss:.4f}", flush=True)
    x, distance = draw(np.random.default_rng(99), 100)
    error = float(abs(trainer.predict(x) - distance).mean())
    constant = abs(distance - distance.mean()).mean()
    print(f"mean error of distances on new images: {error:.3f} (of their mean everywhere: {constant:.3f})")
    return error


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
