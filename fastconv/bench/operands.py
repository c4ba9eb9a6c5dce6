"""The arrays that a convolution is timed with."""

from __future__ import annotations

import numpy as np

from fastconv.bench.shapes import from_json


def arrays(job: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input, weight and gradient of the output: the same in every process, zero mean."""
    c, n = from_json(job["conv"]), job["batch"]
    rng = np.random.default_rng(20)
    shapes = (c.input_shape(n), c.weight_shape, c.output_shape(n))
    return tuple(rng.random(s, np.float32) - np.float32(0.5) for s in shapes)
