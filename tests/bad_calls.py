"""Calls of functions with bad input: what is called, the error and a pattern that its message matches."""

import numpy as np

import fastconv.functional as F


def ones(*shape):
    return np.ones(shape, np.float32)


def huge(*shape):
    """An array of any size that takes four bytes."""
    return np.broadcast_to(np.float32(1), shape)


X, W, B = ones(2, 4, 8, 9), ones(6, 4, 3, 3), ones(6)
G = ones(2, 6, 6, 7)

CONV = {
    "rank of input": (
        lambda: F.conv2d(X[0, 0], W),
        ValueError,
        r"conv2d: input of shape \(8, 9\) has 2 dimensions: expected 4",
    ),
    "rank of input, 1d": (
        lambda: F.conv1d(X, W),
        ValueError,
        r"conv1d: input of shape \(2, 4, 8, 9\) has 4 dimensions",
    ),
    "rank of input, 3d": (
        lambda: F.conv3d(X[0], ones(6, 4, 3, 3, 3)),
        ValueError,
        r"conv3d: input of shape \(4, 8, 9\) has 3 dimensions",
    ),
    "rank 0": (lambda: F.conv2d(ones(), W), ValueError, r"conv2d: input of shape \(\) has 0 dimensions"),
    "rank of weight": (lambda: F.conv2d(X, W[0]), ValueError, r"conv2d: weight of shape \(4, 3, 3\) has 3 dimensions"),
    "rank of bias": (
        lambda: F.conv2d(X, W, ones(6, 1)),
        ValueError,
        r"conv2d: bias of shape \(6, 1\) has 2 dimensions",
    ),
    "channels": (
        lambda: F.conv2d(X[:, :3], W),
        ValueError,
        r"conv2d: input of shape \(2, 3, 8, 9\) has 3 channels: .*expects 4",
    ),
    "length of bias": (lambda: F.conv2d(X, W, ones(5)), ValueError, r"conv2d: bias of shape \(5,\): expected \(6,\)"),
    "groups and input": (lambda: F.conv2d(X, W, groups=3), ValueError, "groups=3 does not divide in_channels=4"),
    "groups and weight": (
        lambda: F.conv2d(X, ones(6, 1, 3, 3), groups=4),
        ValueError,
        "groups=4 does not divide out_channels=6",
    ),
    "groups and channels": (lambda: F.conv2d(X, W, groups=2), ValueError, "has 4 channels: .*groups=2 expects 8"),
    "zero groups": (lambda: F.conv2d(X, W, groups=0), ValueError, "groups=0 must be at least 1"),
    "negative groups": (lambda: F.conv2d(X, W, groups=-1), ValueError, "groups=-1 must be at least 1"),
    "zero stride": (lambda: F.conv2d(X, W, stride=0), ValueError, "stride=0 must be at least 1"),
    "negative stride": (lambda: F.conv2d(X, W, stride=(1, -2)), ValueError, r"stride=\(1, -2\) must be at least 1"),
    "three strides": (
        lambda: F.conv2d(X, W, stride=(1, 1, 1)),
        ValueError,
        r"stride=\(1, 1, 1\) has 3 values: expected 1 or 2",
    ),
    "no stride": (lambda: F.conv2d(X, W, stride=()), ValueError, r"stride=\(\) has 0 values"),
    "stride of float": (lambda: F.conv2d(X, W, stride=1.5), TypeError, "stride=1.5: expected an integer"),
    "stride of whole float": (lambda: F.conv2d(X, W, stride=2.0), TypeError, "stride=2.0: expected an integer"),
    "stride of bool": (lambda: F.conv2d(X, W, stride=True), TypeError, "stride=True: expected an integer"),
    "stride of None": (lambda: F.conv2d(X, W, stride=None), TypeError, "stride=None: expected an integer"),
    "zero dilation": (lambda: F.conv2d(X, W, dilation=0), ValueError, "dilation=0 must be at least 1"),
    "negative dilation": (lambda: F.conv2d(X, W, dilation=-1), ValueError, "dilation=-1 must be at least 1"),
    "negative padding": (lambda: F.conv2d(X, W, padding=-1), ValueError, "padding=-1 must be at least 0"),
    "padding of a word": (lambda: F.conv2d(X, W, padding="full"), ValueError, "padding='full': expected"),
    "same with stride": (lambda: F.conv2d(X, W, padding="same", stride=2), ValueError, "padding='same' needs stride 1"),
    "padding of triples": (
        lambda: F.conv2d(X, W, padding=((1, 1, 1), (1, 1, 1))),
        ValueError,
        "padding=.*expected 2 pairs",
    ),
    "zero kernel": (lambda: F.conv2d(X, ones(6, 4, 0, 3)), ValueError, r"weight of shape \(6, 4, 0, 3\)"),
    "no filters": (lambda: F.conv2d(X, ones(0, 4, 3, 3)), ValueError, r"weight of shape \(0, 4, 3, 3\)"),
    "no channels": (lambda: F.conv2d(ones(2, 0, 8, 8), ones(6, 0, 3, 3)), ValueError, r"input of shape \(2, 0, 8, 8\)"),
    "no pixels": (lambda: F.conv2d(ones(2, 4, 0, 8), W, padding=2), ValueError, r"input of shape \(2, 4, 0, 8\)"),
    "empty output": (
        lambda: F.conv2d(X[:, :, :2], W),
        ValueError,
        r"output would be empty: spatial dimension 0 has 2 elements and padding 0\+0, but kernel_size=3",
    ),
    "empty output, padded": (
        lambda: F.conv2d(X, W, padding=1, dilation=5),
        ValueError,
        r"spatial dimension 0 has 8 elements and padding 1\+1, .*dilation=5 spans 11",
    ),
    "algorithm": (lambda: F.conv2d(X, W, algorithm="fastest"), ValueError, "algorithm='fastest' does not apply"),
    "algorithm that does not apply": (
        lambda: F.conv2d(X, W, algorithm="depthwise"),
        ValueError,
        "conv2d: algorithm='depthwise' does not apply to this problem; these do: .*direct",
    ),
    "float64 input": (
        lambda: F.conv2d(X.astype(np.float64), W),
        TypeError,
        "conv2d: input has dtype float64: expected float32",
    ),
    "float64 weight": (lambda: F.conv2d(X, W.astype(np.float64)), TypeError, "conv2d: weight has dtype float64"),
    "float16 bias": (lambda: F.conv2d(X, W, B.astype(np.float16)), TypeError, "conv2d: bias has dtype float16"),
    "integer input": (lambda: F.conv2d(X.astype(np.int32), W), TypeError, "conv2d: input has dtype int32"),
    "byte-swapped": (lambda: F.conv2d(X.astype(">f4"), W), TypeError, r"conv2d: input has dtype >f4 \(byte-swapped\)"),
    "a list": (lambda: F.conv2d([[1.0]], W), TypeError, "conv2d: input is a list"),
    "None": (lambda: F.conv2d(X, None), TypeError, "conv2d: weight is a NoneType"),
    "overflowing padding": (lambda: F.conv2d(X, W, padding=2**62), ValueError, f"padding={2**62} must be below"),
    "overflowing sum of padding": (lambda: F.conv2d(X, W, padding=2**31 - 1), ValueError, f"padding {2**31 - 1}"),
    "overflowing dilation": (
        lambda: F.conv2d(X, W, dilation=2**30, padding=2**30 - 8),
        ValueError,
        f"dilation={2**30} spans",
    ),
    "overflowing output": (
        lambda: F.conv3d(ones(1, 1, 2, 2, 2), ones(1, 1, 2, 2, 2), padding=2**29),
        ValueError,
        f"conv3d: .*padding={2**29}.*overflows",
    ),
    "memory for the output": (lambda: F.conv2d(X, W, padding=10**6), MemoryError, "conv2d: .*padding=1000000.*MiB"),
    "memory for the input": (
        lambda: F.conv2d(huge(1000, 4, 10**5, 10**5), W),
        MemoryError,
        r"conv2d: input of shape \(1000, 4, 100000, 100000\).*MiB",
    ),
    "memory for the weight": (
        lambda: F.conv2d(X, huge(10**10, 4, 3, 3)),
        MemoryError,
        r"conv2d: .*weight of shape \(10000000000, 4, 3, 3\).*MiB",
    ),
}

BACKWARD = {
    "data, rank": (
        lambda: F.conv2d_backward_data(G[0], W, X.shape),
        ValueError,
        "conv2d_backward_data: grad_output of shape",
    ),
    "data, shape": (
        lambda: F.conv2d_backward_data(G, W, (2, 4, 8, 8)),
        ValueError,
        r"conv2d_backward_data: grad_output of shape \(2, 6, 6, 7\): input_shape=\(2, 4, 8, 8\).*\(2, 6, 6, 6\)",
    ),
    "data, batch": (lambda: F.conv2d_backward_data(G, W, (3, 4, 8, 9)), ValueError, r"input_shape=\(3, 4, 8, 9\)"),
    "data, channels": (
        lambda: F.conv2d_backward_data(G, W, (2, 5, 8, 9)),
        ValueError,
        r"\(2, 5, 8, 9\) has 5 channels",
    ),
    "data, length": (
        lambda: F.conv2d_backward_data(G, W, (2, 4, 8)),
        ValueError,
        r"input_shape=\(2, 4, 8\) has 3 dimensions",
    ),
    "data, float": (lambda: F.conv2d_backward_data(G, W, (2, 4, 8.0, 9)), TypeError, r"input_shape=\(2, 4, 8.0, 9\)"),
    "data, an int": (lambda: F.conv2d_backward_data(G, W, 4), TypeError, "input_shape=4"),
    "data, zero": (lambda: F.conv2d_backward_data(G, W, (2, 4, 0, 9)), ValueError, r"input_shape=\(2, 4, 0, 9\)"),
    "data, overflow": (lambda: F.conv2d_backward_data(G, W, (2, 4, 2**40, 9)), ValueError, str(2**40)),
    "weight, shape": (lambda: F.conv2d_backward_weight(G, X, (6, 4, 3, 2)), ValueError, r"weight_shape=\(6, 4, 3, 2\)"),
    "weight, batch": (
        lambda: F.conv2d_backward_weight(G, X[:1], W.shape),
        ValueError,
        r"conv2d_backward_weight: input of shape \(1, 4, 8, 9\) has a batch of 1: that of grad_output is 2",
    ),
    "weight, zero": (lambda: F.conv2d_backward_weight(G, X, (6, 4, 0, 3)), ValueError, r"weight_shape=\(6, 4, 0, 3\)"),
    "weight, stride": (lambda: F.conv2d_backward_weight(G, X, W.shape, stride=0), ValueError, "stride=0"),
    "weight, float64": (
        lambda: F.conv2d_backward_weight(G.astype(float), X, W.shape),
        TypeError,
        "conv2d_backward_weight: grad_output has dtype float64",
    ),
    "bias, rank": (lambda: F.conv2d_backward_bias(G[0]), ValueError, "conv2d_backward_bias: grad_output of shape"),
}

LINEAR = {
    "rank": (lambda: F.linear(ones(), ones(5, 4)), ValueError, r"linear: input of shape \(\)"),
    "features of many": (
        lambda: F.linear(ones(2, 3, 4), ones(5, 3)),
        ValueError,
        r"linear: input of shape \(2, 3, 4\) has 4 features: .*in_features=3",
    ),
    "features": (
        lambda: F.linear(ones(2, 3), ones(5, 4)),
        ValueError,
        "linear: input of shape .* has 3 features: .*in_features=4",
    ),
    "weight": (lambda: F.linear(ones(2, 3), ones(5, 3, 1)), ValueError, r"linear: weight of shape \(5, 3, 1\)"),
    "bias": (
        lambda: F.linear(ones(2, 3), ones(5, 3), ones(3)),
        ValueError,
        r"linear: bias of shape \(3,\): expected \(5,\)",
    ),
    "dtype": (lambda: F.linear(np.zeros((2, 3)), ones(5, 3)), TypeError, "linear: input has dtype float64"),
    "backward data": (
        lambda: F.linear_backward_data(ones(2, 4), ones(5, 3)),
        ValueError,
        "linear_backward_data: grad_output",
    ),
    "backward weight": (
        lambda: F.linear_backward_weight(ones(2, 5), ones(3, 4)),
        ValueError,
        "linear_backward_weight: input",
    ),
    "memory": (lambda: F.linear(huge(10**7, 3), huge(10**7, 3)), MemoryError, "linear: .*10000000, 3.*MiB"),
}

SHAPE = {
    "flatten range": (lambda: F.flatten(X, 4), ValueError, "flatten: start_dim=4"),
    "flatten order": (lambda: F.flatten(X, 2, 1), ValueError, "start_dim=2 is behind end_dim=1"),
    "flatten float": (lambda: F.flatten(X, 1.0), TypeError, "start_dim=1.0"),
    "flatten dtype": (lambda: F.flatten(X.astype(float)), TypeError, "flatten: input has dtype float64"),
    "unfold kernel": (lambda: F.unfold(X, 0), ValueError, "unfold: kernel_size=0 must be at least 1"),
    "unfold empty": (lambda: F.unfold(X, 20), ValueError, "unfold: the output would be empty"),
    "unfold rank": (lambda: F.unfold(ones(2, 3), 1), ValueError, r"unfold: input of shape \(2, 3\) has 2 dimensions"),
    "unfold memory": (lambda: F.unfold(huge(1000, 100, 1000, 1000), 31), MemoryError, "unfold: .*kernel_size=31.*MiB"),
    "fold windows": (lambda: F.fold(ones(1, 4, 5), (3, 3), 2), ValueError, "fold: .* has 5 windows: .*expects 4"),
    "fold taps": (lambda: F.fold(ones(1, 5, 4), (3, 3), 2), ValueError, "fold: .*has 5 channels: .*multiple of 4"),
    "fold size": (lambda: F.fold(ones(1, 4, 4), (3, 0), 2), ValueError, r"fold: output_size=\(3, 0\)"),
    "fold size float": (lambda: F.fold(ones(1, 4, 4), 3.0, 2), TypeError, "fold: output_size=3.0"),
}

NORM = {
    "rank": (lambda: F.batch_norm(ones(3), B, B), ValueError, r"batch_norm: input of shape \(3,\) has 1 dimensions"),
    "channels": (lambda: F.batch_norm(X, ones(5), ones(5)), ValueError, r"running_mean of shape \(5,\): .*4 channels"),
    "one of two": (lambda: F.batch_norm(X, ones(4), None), ValueError, "running_var=None"),
    "weight": (lambda: F.batch_norm(X, None, None, ones(3)), ValueError, r"batch_norm: weight of shape \(3,\)"),
    "eps": (lambda: F.batch_norm(X, None, None, eps=-1.0), ValueError, "batch_norm: eps=-1.0"),
    "momentum": (lambda: F.batch_norm(X, ones(4), ones(4), momentum="a"), TypeError, "batch_norm: momentum='a'"),
    "training": (lambda: F.batch_norm(X, None, None, None, None, 0.1), TypeError, "batch_norm: training=0.1"),
    "dtype": (lambda: F.batch_norm(X.astype(float), None, None), TypeError, "batch_norm: input has dtype float64"),
    "dtype of statistics": (
        lambda: F.batch_norm(X, np.ones(4), np.ones(4), training=True),
        TypeError,
        "batch_norm: running_mean has dtype float64",
    ),
    "read-only": (
        lambda: F.batch_norm(X, huge(4), ones(4), training=True),
        ValueError,
        "batch_norm: running_mean is read-only",
    ),
    "shared": (lambda: F.batch_norm(X, B[:4], B[1:5], training=True), ValueError, "share memory"),
    "gradient": (
        lambda: F.batch_norm_backward(X[:, :, 1:], X, None, None),
        ValueError,
        r"batch_norm_backward: grad_output of shape \(2, 4, 7, 9\): expected \(2, 4, 8, 9\)",
    ),
    "memory": (lambda: F.batch_norm(huge(10**8, 4, 100, 100), None, None), MemoryError, "batch_norm: .*100000000.*MiB"),
}

POOL = {
    "rank": (lambda: F.max_pool2d(X[0, 0], 2), ValueError, r"max_pool2d: input of shape \(8, 9\) has 2 dimensions"),
    "zero kernel": (lambda: F.max_pool2d(X, 0), ValueError, "max_pool2d: kernel_size=0 must be at least 1"),
    "negative kernel": (lambda: F.avg_pool2d(X, (2, -1)), ValueError, r"avg_pool2d: kernel_size=\(2, -1\)"),
    "zero stride": (lambda: F.max_pool2d(X, 2, 0), ValueError, "max_pool2d: stride=0 must be at least 1"),
    "negative padding": (lambda: F.max_pool2d(X, 2, 2, -1), ValueError, "max_pool2d: padding=-1 must be at least 0"),
    "padding": (lambda: F.max_pool2d(X, 2, 2, 2), ValueError, "max_pool2d: padding=2 must be at most half"),
    "dilation": (lambda: F.max_pool2d(X, 2, 2, 0, 0), ValueError, "max_pool2d: dilation=0 must be at least 1"),
    "ceil_mode": (
        lambda: F.max_pool2d(X, 2, ceil_mode=2),
        TypeError,
        "max_pool2d: ceil_mode=2: expected True or False",
    ),
    "indices": (lambda: F.max_pool2d(X, 2, return_indices=1), TypeError, "max_pool2d: return_indices=1"),
    "indices, kernel": (lambda: F.max_pool2d(X, 0, return_indices=True), ValueError, "max_pool2d: kernel_size=0"),
    "indices, rank": (lambda: F.max_pool2d(X[0, 0], 2, return_indices=True), ValueError, "max_pool2d: input of shape"),
    "empty output": (
        lambda: F.max_pool2d(X, 10),
        ValueError,
        "max_pool2d: the output would be empty: .*kernel_size=10",
    ),
    "divisor": (lambda: F.avg_pool2d(X, 2, divisor_override=0), ValueError, "avg_pool2d: divisor_override=0"),
    "float64": (lambda: F.avg_pool2d(X.astype(float), 2), TypeError, "avg_pool2d: input has dtype float64"),
    "float kernel": (lambda: F.avg_pool2d(X, 2.0), TypeError, "avg_pool2d: kernel_size=2.0: expected an integer"),
    "output_size": (lambda: F.adaptive_avg_pool2d(X, 0), ValueError, "adaptive_avg_pool2d: output_size=.*at least 1"),
    "output_sizes": (lambda: F.adaptive_max_pool2d(X, (1, 1, 1)), ValueError, r"output_size=\(1, 1, 1\) has 3 values"),
    "backward": (
        lambda: F.max_pool2d_backward(X, X, 2),
        ValueError,
        r"max_pool2d_backward: grad_output of shape \(2, 4, 8, 9\): expected \(2, 4, 4, 4\)",
    ),
    "avg backward": (
        lambda: F.avg_pool2d_backward(X, X.shape, 2),
        ValueError,
        r"avg_pool2d_backward: grad_output of shape \(2, 4, 8, 9\): input_shape=\(2, 4, 8, 9\)",
    ),
    "avg backward, shape": (lambda: F.avg_pool2d_backward(X, (2, 4, 8), 2), ValueError, "input_shape=.*3 dimensions"),
    "memory": (lambda: F.max_pool2d(huge(10**6, 64, 1000, 1000), 2), MemoryError, "max_pool2d: .*1000000, 64.*MiB"),
    "memory, adaptive": (lambda: F.adaptive_avg_pool2d(X, 10**6), MemoryError, "output_size=1000000.*MiB"),
    "overflow": (lambda: F.adaptive_avg_pool2d(X, 2**31 - 1), ValueError, f"output_size={2**31 - 1}.*overflows"),
}

TARGET = np.array([[0, 2], [1, 3]])
LOGITS = ones(2, 4, 2)

LOSS = {
    "class above": (
        lambda: F.cross_entropy(LOGITS, np.array([[0, 2], [4, 3]])),
        ValueError,
        r"cross_entropy: target\[1, 0\]=4 is not a class index: input of shape \(2, 4, 2\) has 4 classes, 0..3",
    ),
    "class below": (lambda: F.cross_entropy(LOGITS, TARGET - 1), ValueError, r"target\[0, 0\]=-1 .*ignore_index=-100"),
    "another ignored": (
        lambda: F.cross_entropy(LOGITS, TARGET - 2, ignore_index=-1),
        ValueError,
        r"target\[0, 0\]=-2 .*ignore_index=-1",
    ),
    "class, backward": (
        lambda: F.cross_entropy_backward(1.0, LOGITS, TARGET + 1),
        ValueError,
        r"cross_entropy_backward: target\[1, 1\]=4",
    ),
    "target of float": (
        lambda: F.cross_entropy(LOGITS, LOGITS[:, 0]),
        TypeError,
        "cross_entropy: target has dtype float32",
    ),
    "target of bool": (lambda: F.cross_entropy(LOGITS, TARGET > 1), TypeError, "cross_entropy: target has dtype bool"),
    "target byte-swapped": (lambda: F.cross_entropy(LOGITS, TARGET.astype(">i8")), TypeError, "target .*byte-swapped"),
    "target, shape": (
        lambda: F.cross_entropy(LOGITS, TARGET[:, :1]),
        ValueError,
        r"cross_entropy: target of shape \(2, 1\): input of shape \(2, 4, 2\) expects \(2, 2\)",
    ),
    "target, batch": (lambda: F.cross_entropy(LOGITS, TARGET[:1]), ValueError, "target of shape .* has a batch of 1"),
    "logits": (
        lambda: F.cross_entropy(ones(4), np.zeros(4, int)),
        ValueError,
        r"cross_entropy: target of shape \(4,\): input of shape \(4,\) expects \(\)",
    ),
    "logits, dtype": (lambda: F.cross_entropy(LOGITS.astype(float), TARGET), TypeError, "input has dtype float64"),
    "weight": (lambda: F.cross_entropy(LOGITS, TARGET, ones(3)), ValueError, r"cross_entropy: weight of shape \(3,\)"),
    "reduction": (lambda: F.cross_entropy(LOGITS, TARGET, reduction="max"), ValueError, "reduction='max'"),
    "smoothing": (lambda: F.cross_entropy(LOGITS, TARGET, label_smoothing=2), ValueError, "label_smoothing=2"),
    "gradient": (
        lambda: F.cross_entropy_backward(ones(2, 2), LOGITS, TARGET),
        ValueError,
        r"cross_entropy_backward: grad_output of shape \(2, 2\): expected \(\)",
    ),
    "squared error, shape": (lambda: F.mse_loss(X, X[:, :3]), ValueError, r"mse_loss: .*\(2, 3, 8, 9\)"),
    "squared error, a number": (lambda: F.mse_loss(X, 3), TypeError, "mse_loss: target is a int: expected an array"),
    "squared error, dtype": (lambda: F.mse_loss(X, X.astype(float)), TypeError, "mse_loss: target has dtype float64"),
    "squared error, reduction": (lambda: F.mse_loss(X, X, reduction=None), ValueError, "mse_loss: reduction=None"),
}

VALUE = {
    "dtype": (lambda: F.relu(X.astype(float)), TypeError, "relu: input has dtype float64"),
    "rank": (lambda: F.relu(ones(1, 1, 1, 1, 1, 1, 1, 1, 1)), ValueError, "relu: input of shape .* has 9 dimensions"),
    "gradient": (lambda: F.tanh_backward(X, X[:, :1]), ValueError, "tanh_backward: grad_output of shape .* expected"),
    "slope": (lambda: F.leaky_relu(X, "a"), TypeError, "leaky_relu: negative_slope='a'"),
    "slope, NaN": (lambda: F.leaky_relu(X, np.nan), ValueError, "leaky_relu: negative_slope=nan"),
    "limits": (lambda: F.hardtanh(X, 2, 1), ValueError, "hardtanh: max_val=1 must be at least min_val=2"),
    "alpha": (lambda: F.elu(X, "a"), TypeError, "elu: alpha='a'"),
    "approximate": (lambda: F.gelu(X, "erf"), ValueError, "gelu: approximate='erf'"),
    "softmax dim": (lambda: F.softmax(X, -5), ValueError, "softmax: dim=-5"),
    "softmax dim, range": (lambda: F.log_softmax(X, 4), ValueError, "log_softmax: dim=4"),
    "softmax dim, type": (lambda: F.softmax(X, 1.0), TypeError, "softmax: dim=1.0"),
    "p": (lambda: F.dropout(X, 1.5), ValueError, "dropout: p=1.5"),
    "p, type": (lambda: F.dropout(X, None), TypeError, "dropout: p=None"),
    "seed": (lambda: F.dropout(X, seed=-1), ValueError, "dropout: seed=-1"),
    "seed, type": (lambda: F.dropout(X, seed=0.5), TypeError, "dropout: seed=0.5"),
    "training": (lambda: F.dropout(X, 0.5, 1), TypeError, "dropout: training=1"),
    "cat, none": (lambda: F.cat([]), TypeError, r"cat: tensors=\[\]"),
    "cat, an array": (lambda: F.cat(X), TypeError, "cat: tensors="),
    "cat, shapes": (lambda: F.cat([X, W], 1), ValueError, r"cat: tensors\[1\] of shape \(6, 4, 3, 3\)"),
    "cat, dtype": (lambda: F.cat([X, X.astype(float)]), TypeError, r"cat: tensors\[1\] has dtype float64"),
    "cat, dim": (lambda: F.cat([X], 4), IndexError, "cat: dim=4"),
    "cat, memory": (lambda: F.cat([huge(10**6, 10**6)] * 2), MemoryError, "cat: .*MiB"),
    "add, shapes": (lambda: F.add(X, X[:, :, :3]), ValueError, "add: input of shape .* other of shape"),
    "add, dtype": (lambda: F.add(X, X.astype(float)), TypeError, "add: other has dtype float64"),
    "memory": (lambda: F.relu(huge(10**6, 10**6)), MemoryError, "relu: input of shape .*MiB"),
}


CASES = {
    f"{family}: {name}": case
    for family, cases in {
        "conv": CONV,
        "backward": BACKWARD,
        "linear": LINEAR,
        "shape": SHAPE,
        "norm": NORM,
        "pool": POOL,
        "loss": LOSS,
        "value": VALUE,
    }.items()
    for name, case in cases.items()
}
