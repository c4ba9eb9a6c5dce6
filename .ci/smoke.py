"""Uses an installed fastconv as its users do, and compares with sums written out in float64. It needs nothing but NumPy.

    python smoke.py [--wheel] [--isa NAME]

--wheel: the package must be a repaired wheel, with one OpenMP runtime of its own and no BLAS but NumPy's.
--isa: the instruction set that must have been chosen.
"""

import argparse

import numpy as np
from fastconv.kernels._runtime import isa_info
from threadpoolctl import threadpool_info

import fastconv as fc
from fastconv import functional as F
from fastconv import nn

ALGORITHMS = {  # each with channels, filters, groups, kernel, stride
    "direct": (16, 24, 1, 3, 1), "pointwise": (16, 24, 1, 1, 1), "depthwise": (24, 24, 24, 3, 2),
    "im2col": (16, 24, 1, 3, 2), "winograd": (32, 40, 1, 3, 1), "fft": (8, 8, 1, 7, 1), "bf16": (16, 24, 1, 3, 1)}


def convolution(x, w, bias, stride, padding, groups):
    """The definition, tap by tap, in float64."""
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    n, c, h, width = x.shape
    k, per, r, s = w.shape
    p, q = (h - r) // stride + 1, (width - s) // stride + 1
    y = np.zeros((n, groups, k // groups, p, q))
    weight = w.astype(np.float64).reshape(groups, k // groups, per, r, s)
    for i in range(r):
        for j in range(s):
            part = x[:, :, i : i + stride * p : stride, j : j + stride * q : stride].reshape(n, groups, per, p, q)
            y += np.einsum("gkc,ngcpq->ngkpq", weight[..., i, j], part)
    return y.reshape(n, k, p, q) + bias[:, None, None]


def algorithms(rng):
    for name, (c, k, groups, kernel, stride) in ALGORITHMS.items():
        x = rng.standard_normal((2, c, 13, 11), dtype=np.float32)
        w = rng.standard_normal((k, c // groups, kernel, kernel), dtype=np.float32)
        bias = rng.standard_normal(k, dtype=np.float32)
        want = convolution(x, w, bias, stride, kernel // 2, groups)
        y = F.conv2d(x, w, bias, stride, kernel // 2, groups=groups, algorithm=name)
        error = np.linalg.norm(y - want) / np.linalg.norm(want)
        assert error < (1e-2 if name == "bf16" else 1e-6), f"{name}: relative error {error:.2g}"
        print(f"  {name}: relative error {error:.1g}")


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()

    def forward(self, x):
        return self.relu(self.norm(self.conv(x)) + x)


def training(rng, threads):
    """Ten updates of a network with most kinds of layers; its losses."""
    fc.set_num_threads(threads)
    fc.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2), Residual(16),
                        nn.Conv2d(16, 16, 3, groups=16, padding=1), nn.Conv2d(16, 32, 1), nn.AvgPool2d(2), nn.Dropout(0.1),
                        nn.Flatten(), nn.Linear(32 * 4, 10))
    x, labels = rng.standard_normal((40, 3, 16, 16), dtype=np.float32), rng.integers(0, 10, 40)
    trainer = fc.Trainer(net, loss=nn.CrossEntropyLoss(), optimizer=fc.optim.SGD(lr=0.05, momentum=0.9))
    log = trainer.fit((x, labels), epochs=5, batch_size=20, verbose=False)
    y = fc.compile(net.eval(), (4, 3, 16, 16))(x[:4])
    assert y.shape == (4, 10) and np.isfinite(y).all()
    return [row["loss"] for row in log], y


def runtimes():
    """One OpenMP runtime, ours, and no more than one BLAS."""
    found = threadpool_info()
    openmp = [entry["filepath"] for entry in found if entry["user_api"] == "openmp"]
    blas = [entry["filepath"] for entry in found if entry["user_api"] == "blas"]
    assert len(openmp) == 1 and "fastconv.libs" in openmp[0], openmp
    assert len(blas) == 1 and "numpy" in blas[0], blas
    print(f"  OpenMP: {openmp[0]}\n  BLAS: {blas[0]}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--wheel", action="store_true")
    parser.add_argument("--isa")
    given = parser.parse_args()
    if given.isa and isa_info()["isa"] != given.isa:
        raise SystemExit(f"smoke: {isa_info()['isa']} was chosen, not {given.isa}")
    algorithms(np.random.default_rng(0))
    losses, y = training(np.random.default_rng(1), 1)
    again, z = training(np.random.default_rng(1), 2)
    assert losses[-1] < losses[0], losses
    assert losses == again and (y == z).all(), "one and two threads differ"
    if given.wheel:
        runtimes()
    print(f"fastconv {fc.__version__} works: {isa_info()['isa']}, loss {losses[0]:.3f} to {losses[-1]:.3f}")


main()
