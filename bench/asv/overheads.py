"""What is to be paid besides arithmetic."""

import subprocess
import sys

import numpy as np

import fastconv as fc
from fastconv import functional as F
from fastconv import nn


class Calls:
    def setup(self):
        self.x = np.ones((1, 1, 1, 1), np.float32)
        self.one = fc.compile(nn.ReLU(), self.x.shape)
        self.many = fc.compile(nn.Sequential(*(nn.ReLU() for _ in range(65))), self.x.shape)
        self.y = self.one(self.x)

    def time_one_step(self):
        self.one(self.x, out=self.y)

    def time_65_steps(self):
        self.many(self.x, out=self.y)

    def time_functional_relu(self):
        F.relu(self.x)


class Imports:
    """On top of NumPy, in a fresh interpreter."""

    program = "import numpy, time; begin = time.perf_counter(); import fastconv{}; print(time.perf_counter() - begin)"

    def seconds(self, more=""):
        runs = [subprocess.run([sys.executable, "-c", self.program.format(more)], capture_output=True, text=True, check=True)
                for _ in range(5)]
        return min(float(run.stdout) for run in runs)

    def track_import(self):
        return self.seconds()

    def track_import_and_engine(self):
        return self.seconds("; fastconv.compile, fastconv.nn.Conv2d")

    track_import.unit = track_import_and_engine.unit = "seconds"
