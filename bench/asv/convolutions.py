"""Single convolutions: each pass, of shapes that stand for kinds of layers."""

import numpy as np

import fastconv as fc
from fastconv import functional as F

SHAPES = {  # input, weight, options
    "3x3 64@56": ((1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    "1x1 256@14": ((1, 256, 14, 14), (1024, 256, 1, 1), {}),
    "3x3/2 128@56": ((1, 128, 56, 56), (128, 128, 3, 3), {"padding": 1, "stride": 2}),
    "depthwise 128@56": ((1, 128, 56, 56), (128, 1, 3, 3), {"padding": 1, "groups": 128}),
    "first 7x7/2": ((1, 3, 224, 224), (64, 3, 7, 7), {"padding": 3, "stride": 2}),
}


class Convolution:
    params = list(SHAPES)
    param_names = ("shape",)

    def setup(self, shape):
        rng = np.random.default_rng(0)
        size, weight, options = SHAPES[shape]
        x, w = rng.standard_normal(size, np.float32), rng.standard_normal(weight, np.float32)
        parameter = fc.Parameter(w)
        gy = F.conv2d(x, w, **options)
        self.runs = {}
        for name, function, inputs in (
                ("forward", lambda x: F.conv2d(x, parameter, **options), [x]),
                ("data", lambda g: F.conv2d_backward_data(g, parameter, x.shape, **options), [gy]),
                ("weight", lambda g, x: F.conv2d_backward_weight(g, x, w.shape, **options), [gy, x])):
            engine = fc.compile(function, [a.shape for a in inputs], threads=1)
            self.runs[name] = engine, inputs, engine(*inputs)

    def run(self, name):
        engine, inputs, out = self.runs[name]
        engine(*inputs, out=out)

    def time_forward(self, shape):
        self.run("forward")

    def time_backward_data(self, shape):
        self.run("data")

    def time_backward_weight(self, shape):
        self.run("weight")
