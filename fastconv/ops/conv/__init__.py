"""Convolution and its gradients. Importing this package registers the operators and offers the algorithms, in order."""

from fastconv.ops.conv import (  # noqa: F401  (register)
    bfloat16,
    depthwise,
    depthwise_rows,
    direct,
    fft,
    im2col,
    rules,
    transpose,
    winograd,
)
