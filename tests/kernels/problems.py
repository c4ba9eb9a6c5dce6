"""Convolution problems in the kernels' terms, shared by the tests of every algorithm."""

import itertools
import math

from fastconv.kernels._runtime import StepList


class Case:
    """A convolution in the kernels' terms. spatial, kernel, stride, padding, dilation: tuples of 1 to 3 entries."""

    def __init__(self, n, c, k, size, kernel, stride=1, padding=0, dilation=1, groups=1):
        dims = len(size)
        self.n, self.c, self.k, self.size, self.kernel, self.groups = n, c, k, size, kernel, groups
        self.stride, self.padding, self.dilation = (
            v if isinstance(v, tuple) else (v,) * dims for v in (stride, padding, dilation))
        self.out = tuple((s + 2 * p - d * (r - 1) - 1) // t + 1 for s, p, d, r, t in
                         zip(size, self.padding, self.dilation, kernel, self.stride, strict=True))
        self.taps = math.prod(kernel)
        self.attributes = (self.stride, self.padding, self.dilation, groups)
        self.w_shape = (k, c // groups, *kernel)
        self.x_shape, self.y_shape = (n, c, *size), (n, k, *self.out)

    def three(self, values, fill):
        return (fill,) * (3 - len(values)) + tuple(values)

    def geometry(self, ldx):
        spans = [range(r) for r in self.three(self.kernel, 1)]
        dilation, padding = self.three(self.dilation, 1), self.three(self.padding, 0)
        taps = [tuple(i * d - p for i, d, p in zip(index, dilation, padding, strict=True))
                for index in itertools.product(*spans)]
        space = self.three(self.out, 1)
        return {"taps": taps, "groups": self.groups, "channels": self.c // self.groups,
                "filters": self.k // self.groups, "ldx": ldx, "input": self.three(self.size, 1), "space": space,
                "stride": self.three(self.stride, 1), "output": space}

    def packing(self):
        per = self.c // self.groups
        return {"taps": list(range(self.taps)), "filters": self.k // self.groups, "channels": per,
                "groups": self.groups, "group_stride": self.k // self.groups * per * self.taps,
                "filter_stride": per * self.taps, "channel_stride": self.taps}


def run(step, batch, threads, n=None):
    steps = StepList([step], batch)
    if n is not None:
        steps.set_batch(n)
    steps.run(threads)


CASES = {
    "3x3": Case(2, 5, 7, (9, 10), (3, 3), padding=1),
    "1x1": Case(3, 17, 9, (5, 7), (1, 1)),
    "1x1 stride": Case(2, 4, 33, (7, 6), (1, 1), stride=2),
    "1x1 padded": Case(1, 4, 3, (4, 4), (1, 1), padding=1),
    "one pixel": Case(3, 6, 5, (3, 3), (3, 3)),
    "one pixel 1x1": Case(4, 19, 16, (1, 1), (1, 1)),
    "one pixel padded": Case(2, 3, 4, (1, 1), (3, 3), padding=1),
    "two pixels": Case(2, 3, 4, (1, 4), (1, 3)),
    "one channel": Case(2, 1, 1, (8, 9), (5, 5), padding=2),
    "first layer": Case(2, 3, 12, (33, 31), (7, 7), stride=2, padding=3),
    "groups": Case(2, 12, 18, (7, 8), (3, 2), padding=(1, 0), groups=3),
    "depthwise": Case(2, 9, 9, (6, 6), (3, 3), padding=1, groups=9),
    "dilation": Case(1, 4, 6, (11, 13), (3, 3), dilation=(2, 3), padding=(2, 1)),
    "stride over kernel": Case(2, 4, 5, (13, 11), (2, 2), stride=(5, 3)),
    "padding over half": Case(1, 3, 4, (4, 5), (3, 3), padding=(2, 3)),
    "1d": Case(2, 5, 6, (40,), (5,), stride=2, padding=3),
    "3d": Case(2, 3, 5, (4, 5, 6), (2, 3, 3), padding=(1, 0, 1), stride=(1, 2, 1)),
    "panels": Case(2, 16, 16, (20, 17), (5, 5), padding=2),           # 340 pixels of 400 columns: three panels
    "columns": Case(1, 600, 4, (4, 40), (3, 3), padding=1),           # one tap's channels do not fit: cut in two
    "filters cut": Case(1, 24, 600, (4, 5), (3, 3), padding=1),
    "channels cut": Case(2, 300, 8, (4, 5), (3, 3), padding=1),
    "epilogue tiles": Case(1, 2, 48, (40, 41), (1, 1), padding=1),    # panels of over 16384 outputs
    "long": Case(1, 2, 3, (700,), (1,)),
}
NAMES = list(CASES)
