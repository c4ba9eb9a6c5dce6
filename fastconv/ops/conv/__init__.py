"""Convolution and its gradients. Importing this package registers the operators and offers the algorithms, in order."""

from fastconv.ops.conv import bfloat16, depthwise, direct, fft, im2col, rules, transpose, winograd  # noqa: F401  (register)
