"""Random convolutions against float64, for as long as is wanted.

    python tests/fuzz_conv.py --seconds 300 --seed 1 --isa avx2

Problems of every kind that takes a way of its own somewhere in the kernels: 1-D to 3-D with trivial dimensions, groups,
depthwise, sums longer than a run, strides over the kernel, pixels 4 KiB apart, one pixel, padding of any width, plain and
transposed, with bias, residual and activation, alone and inside concatenations; each in all three passes, by every algorithm
that does not refuse and by the one that is chosen (conv_problems.py). A failure is printed as a problem that can be pasted
into test_branches.py; the run goes on until its time is over, and then exits with 1.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections import Counter

import numpy as np

# conv_problems, and with it the package, is imported by functions: main() starts anew with another instruction set

WIDE = (63, 64, 65, 127, 128, 129, 255, 256, 257, 383, 384, 385, 500, 512, 767, 768, 769, 1024, 1025, 1536, 1537, 2048)
WORK, FLOATS = 4e6, 6e5  # of a problem, at most; one in twenty has up to ten times as many


def pick(rng: np.random.Generator, *values):
    return values[rng.integers(len(values))]


def between(rng: np.random.Generator, low: int, high: int) -> int:
    """Small ones more often."""
    return int(low + (high - low + 1) * rng.random() ** 2)


def any_axis(rng, most: int, kernel: int | None = None, plain: bool = False) -> tuple:
    from conv_problems import axis
    if rng.random() < 0.2:  # trivial: nothing happens along it
        return axis(between(rng, 1, most))
    r = kernel or between(rng, 1, 5)
    stride, dilation = (1, 1) if plain else (pick(rng, 1, 1, 1, 2, 2, 3, 5), pick(rng, 1, 1, 1, 1, 2, 3, 4))
    reach = dilation * (r - 1)
    padding = pick(rng, (0, 0), (reach // 2, reach // 2), (reach // 2, reach - reach // 2),
                   (between(rng, 0, reach + 2), between(rng, 0, reach + 2)))
    return axis(between(rng, 1, most) + rng.integers(0, stride), r, stride, dilation, padding)


def any_channels(rng) -> int:
    return pick(rng, between(rng, 1, 40), between(rng, 1, 40), between(rng, 1, 100), pick(rng, *WIDE))


def draw(rng: np.random.Generator):
    """A problem of a random kind."""
    from conv_problems import Conv, axis
    kind = pick(rng, "any", "any", "any", "wide", "wide", "wide", "apart", "depthwise", "depthwise", "depthwise", "narrow",
                "narrow", "few", "long kernel", "strided", "first", "row", "square", "square", "pixel", "flat")
    dims, groups, c, k, n = pick(rng, 1, 2, 2, 2, 3), 1, any_channels(rng), any_channels(rng), pick(rng, 1, 1, 2, 3, 17)
    most = {1: 60, 2: 18, 3: 7}[dims]
    axes = [any_axis(rng, most) for _ in range(dims)]
    if kind == "any" and rng.random() < 0.3:
        groups, c, k = pick(rng, 2, 3, 5, 8), -(-c // 4), -(-k // 4)
    elif kind == "wide":
        c, k = pick(rng, *WIDE), pick(rng, 1, 3, 8, 16, 17, 33, 64, 130, pick(rng, *WIDE))
        c, k = (c, k) if rng.random() < 0.5 else (k, c)
        axes = [any_axis(rng, most // 2 + 1, pick(rng, 1, 1, 2, 3)) for _ in range(dims)]
    elif kind == "apart":  # pixels a multiple of 4 KiB apart
        stride = pick(rng, 1, 2)
        c, k = 1024 // stride, pick(rng, 5, 16, 33, 64, 1024)
        c, k = (c, k) if rng.random() < 0.6 else (k, c)
        axes = [axis(between(rng, 1, 9)), axis(between(rng, 8, 40), pick(rng, 1, 1, 2, 3), stride, 1, pick(rng, 0, 1))]
    elif kind == "depthwise":
        groups = pick(rng, between(rng, 1, 70), between(rng, 1, 70), 128, 129, 300)
        c, k = 1, pick(rng, 1, 1, 1, 1, 2, 3, 17, 40)
        if rng.random() < 0.6:
            r, s = pick(rng, 3, 3, 5, 7), pick(rng, 1, 1, 2)
            axes = [axis(between(rng, 1, 30), r, s, 1, between(rng, 0, r)) for _ in range(2)]
            if rng.random() < 0.4:
                axes.insert(0, any_axis(rng, 5))
    elif kind == "narrow":
        groups, c, k = between(rng, 2, 40), between(rng, 1, 20), between(rng, 1, 20)
    elif kind == "few":
        c, k = any_channels(rng), between(rng, 1, 16)
        c, k = (c, k) if rng.random() < 0.5 else (k, c)
    elif kind == "long kernel":
        groups, c, k = pick(rng, (1, between(rng, 1, 12), between(rng, 1, 12)), (between(rng, 2, 20), 1, 1))
        axes = [any_axis(rng, 30, between(rng, 7, {1: 130, 2: 17, 3: 5}[dims]), rng.random() < 0.7) for _ in range(dims)]
    elif kind == "strided":
        axes = [axis(between(rng, 1, 20), r := between(rng, 1, 3), r + between(rng, 1, 4), pick(rng, 1, 1, 2),
                     (between(rng, 0, 3), between(rng, 0, 3))) for _ in range(dims)]
        if rng.random() < 0.3:
            groups, c, k = between(rng, 2, 40), pick(rng, 1, 1, 4), pick(rng, 1, 1, 4)
    elif kind == "first":
        c, k = between(rng, 1, 8), between(rng, 1, 70)
        axes = [axis(between(rng, 10, 45), pick(rng, 3, 5, 7), pick(rng, 1, 1, 2), 1, between(rng, 0, 3)) for _ in range(2)]
    elif kind == "row":  # runs of pixels longer than a tile of the problem
        c, k, n = between(rng, 1, 20), between(rng, 1, 40), pick(rng, 1, 2)
        axes = [axis(1), axis(between(rng, 200, 3000), pick(rng, 1, 3, 5), pick(rng, 1, 1, 2), pick(rng, 1, 1, 2),
                              between(rng, 0, 4))]
    elif kind == "square":
        plain = rng.random() < 0.9
        c, k = any_channels(rng), any_channels(rng)
        axes = [axis(between(rng, 1, 20), 3, 1 if plain else 2, 1, between(rng, 0, 3)) for _ in range(2)]
        if rng.random() < 0.15:
            groups, c, k = pick(rng, 2, 3), -(-c // 2), -(-k // 2)
        if rng.random() < 0.25:
            axes.insert(0, any_axis(rng, 4))
    elif kind == "pixel":
        axes = [axis(1, r := between(rng, 1, 4), pick(rng, 1, 2, 3), 1, pick(rng, 0, r // 2)) for _ in range(dims)]
        n = pick(rng, 1, 1, 1, 2, 30)
    elif kind == "flat":  # volumes and rows in which some dimensions are trivial
        r, s, pad = pick(rng, 1, 3, 3, 5), pick(rng, 1, 2, 2, 3), pick(rng, 0, 1, 1, 2)
        busy = [axis(between(rng, 1, 16), r, s, 1, pad) for _ in range(2)]
        axes = busy
        axes.insert(int(rng.integers(3)), axis(between(rng, 1, 6), 1, pick(rng, 1, 1, 1, 2), 1, pick(rng, 0, 0, 0, 1)))
        groups, c, k = pick(rng, (1, c, k), (between(rng, 2, 50), 1, 1), (between(rng, 2, 9), 4, 4))
    transposed, extra = bool(rng.random() < 0.3), ()
    if transposed and rng.random() < 0.5:
        extra = tuple(int(rng.integers(0, max(a[2], a[3]))) for a in axes)
    if extra:  # the input of the convolution behind is that much longer
        axes = [(a[0] + e, *a[1:]) for a, e in zip(axes, extra, strict=True)]
    axes = tuple(tuple(int(v) for v in a) for a in axes)
    return Conv(n, groups, c, k, axes, transposed, extra, bias=bool(rng.random() < 0.5), residual=bool(rng.random() < 0.3),
                act=pick(rng, None, "relu", "clip", "leaky_relu"), beside=bool(rng.random() < 0.15),
                spare=pick(rng, 0, 0, 0, 1, 2), moved=bool(rng.random() < 0.3), kind=kind)


def affordable(rng: np.random.Generator):
    """A problem that does not take long."""
    scale = 10 if rng.random() < 0.05 else 1
    while True:
        p = draw(rng)
        if p.work <= WORK * scale and p.floats <= FLOATS * scale and min(p.x) > 0 and min(p.y) > 0:
            return p


def fuzz(seed: int, *, seconds: float = math.inf, count: int = sys.maxsize, out=print) -> tuple[Counter, list[str]]:
    """So many problems, or for so long: how often each algorithm ran each pass, and what failed."""
    from conv_problems import check, passes
    rng, used, failures = np.random.default_rng(seed), Counter(), []
    end = time.monotonic() + seconds
    while used["problems"] < count and time.monotonic() < end:
        p, data = affordable(rng), int(rng.integers(1 << 30))
        precision = pick(rng, None, "high", "medium")
        used["problems"] += 1
        used[p.kind] += 1
        for which, fused in passes(p):
            for algorithm in (*p.algorithms(which), None):
                used[f"{algorithm} {which}"] += 1
                try:
                    check(p, which, fused, algorithm, data, precision)
                except AssertionError as error:
                    failures.append(str(error))
                except Exception as error:  # what should have been refused by name, too
                    failures.append(f"{p}: {which} by {algorithm}, {precision}: {error!r}; seed={data}")
                else:
                    continue
                out(failures[-1])
    return used, failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--isa", choices=("portable", "avx2", "avx512"), help="default: the best of this machine")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if args.isa and os.environ.get("FASTCONV_ISA") != args.isa or "MALLOC_PERTURB_" not in os.environ:
        # fresh memory is not zero, and the instruction set is chosen once
        environment = {**os.environ, "MALLOC_PERTURB_": "1", **({"FASTCONV_ISA": args.isa} if args.isa else {})}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    os.environ.setdefault("FASTCONV_EMULATE_AMX", "1")
    from fastconv.kernels._runtime import isa_info

    import fastconv
    fastconv.set_num_threads(args.threads)
    used, failures = fuzz(args.seed, seconds=args.seconds, out=lambda text: print(text, flush=True))
    print(f"{isa_info()['isa']}: {used.pop('problems')} problems, {len(failures)} failures; "
          + ", ".join(f"{name} {n}" for name, n in sorted(used.items())))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    sys.exit(main())
