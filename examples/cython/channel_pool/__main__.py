"""python -m channel_pool: compares with fastconv's own function."""

import numpy as np

import fastconv as fc
from channel_pool import max_pool, max_pool_serial

images = np.random.default_rng(0).standard_normal((3, 28, 30, 20), dtype=np.float32)
want = fc.functional.max_pool2d(images.transpose(0, 3, 1, 2), 2).transpose(0, 2, 3, 1)
for pooled in (max_pool(images, 2), max_pool(images, 2, threads=1), max_pool_serial(images, 2)):
    assert (pooled == want).all()
try:
    max_pool(images, 31)
except ValueError as error:
    assert "size=31" in str(error)
else:
    raise AssertionError("windows larger than the image were taken")
print("channel_pool: the same values as fastconv's")
