"""The truth that every kernel is tested against: float64 NumPy, written from the definitions, slow and short.

It shares no code with the engine and imports NumPy only. Names and argument orders are those of
``torch.nn.functional``; a gradient is ``<name>_backward(grad_output, input, ...)``, except that convolution's follow
``torch.nn.grad`` and take a size where they need no values. Tensors are (N, C, *spatial) with any number of
spatial axes. Inputs may have any dtype; they are never modified.
"""

from .activation import (
    add,
    add_backward,
    concat,
    concat_backward,
    flatten,
    flatten_backward,
    leaky_relu,
    leaky_relu_backward,
    linear,
    linear_backward,
    log_softmax,
    log_softmax_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from .bfloat16 import round_bfloat16, split_bfloat16
from .check import adjoint_gap, central_difference, exact_integers, rel_l2
from .conv import (
    conv,
    conv_backward_bias,
    conv_backward_data,
    conv_backward_weight,
    conv_transpose,
    conv_transpose_backward,
    fold,
    unfold,
)
from .loss import cross_entropy, cross_entropy_backward, mse_loss, mse_loss_backward
from .norm import BatchNorm, batch_norm, batch_norm_backward
from .optim import adam_step, adamw_step, sgd_step
from .philox import philox4x32
from .pool import (
    MaxPool,
    adaptive_avg_pool,
    adaptive_avg_pool_backward,
    adaptive_max_pool,
    avg_pool,
    avg_pool_backward,
    global_avg_pool,
    global_avg_pool_backward,
    global_max_pool,
    max_pool,
    max_pool_backward,
)

__all__ = [
    "BatchNorm",
    "MaxPool",
    "adam_step",
    "adamw_step",
    "adaptive_avg_pool",
    "adaptive_avg_pool_backward",
    "adaptive_max_pool",
    "add",
    "add_backward",
    "adjoint_gap",
    "avg_pool",
    "avg_pool_backward",
    "batch_norm",
    "batch_norm_backward",
    "central_difference",
    "concat",
    "concat_backward",
    "conv",
    "conv_backward_bias",
    "conv_backward_data",
    "conv_backward_weight",
    "conv_transpose",
    "conv_transpose_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "exact_integers",
    "flatten",
    "flatten_backward",
    "fold",
    "global_avg_pool",
    "global_avg_pool_backward",
    "global_max_pool",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "log_softmax",
    "log_softmax_backward",
    "max_pool",
    "max_pool_backward",
    "mse_loss",
    "mse_loss_backward",
    "philox4x32",
    "rel_l2",
    "relu",
    "relu_backward",
    "round_bfloat16",
    "sgd_step",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "split_bfloat16",
    "tanh",
    "tanh_backward",
    "unfold",
]
