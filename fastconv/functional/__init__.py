"""Functions on NumPy arrays, with the names, argument orders and defaults of ``torch.nn.functional``.

Arrays are float32, NCHW, of any strides; results are fresh arrays, images channels-last where the first input lies so
(strides of an array of shape (N, H, W, C)). Given symbolic tensors, as in the ``forward`` of a module, the same functions
add to the graph instead. A backward pass is ``<function>_backward``, followed by ``_data``, ``_weight`` or ``_bias`` where
there are several; it takes ``grad_output`` first.

Nothing is converted silently: another dtype or byte order is a TypeError, except that class indices may be of any integer
dtype. Every other error is a ValueError (or a MemoryError, for a problem larger than the memory there is) that names the
function, the argument and its value; all are raised before anything runs.
"""

from fastconv.engine.gradcheck import GradcheckError, gradcheck
from fastconv.functional import (  # methods: of tensors
    activations,
    constants,
    dependent,
    derived,
    drawn,
    in_place,
    methods,  # noqa: F401
    operators,  # noqa: F401
    pointwise,
)
from fastconv.functional.activation import (
    dropout,
    dropout_backward,
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    hardsigmoid,
    hardsigmoid_backward,
    hardswish,
    hardswish_backward,
    hardtanh,
    hardtanh_backward,
    leaky_relu,
    leaky_relu_backward,
    log_softmax,
    log_softmax_backward,
    relu,
    relu6,
    relu6_backward,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from fastconv.functional.activations import *  # noqa: F403
from fastconv.functional.advanced import *  # noqa: F403
from fastconv.functional.attention import *  # noqa: F403
from fastconv.functional.classes import *  # noqa: F403
from fastconv.functional.constants import *  # noqa: F403
from fastconv.functional.conv import (
    conv1d,
    conv1d_backward_bias,
    conv1d_backward_data,
    conv1d_backward_weight,
    conv2d,
    conv2d_backward_bias,
    conv2d_backward_data,
    conv2d_backward_weight,
    conv3d,
    conv3d_backward_bias,
    conv3d_backward_data,
    conv3d_backward_weight,
    linear,
    linear_backward_bias,
    linear_backward_data,
    linear_backward_weight,
)
from fastconv.functional.conv_transpose import (
    conv_transpose1d,
    conv_transpose1d_backward_bias,
    conv_transpose1d_backward_data,
    conv_transpose1d_backward_weight,
    conv_transpose2d,
    conv_transpose2d_backward_bias,
    conv_transpose2d_backward_data,
    conv_transpose2d_backward_weight,
    conv_transpose3d,
    conv_transpose3d_backward_bias,
    conv_transpose3d_backward_data,
    conv_transpose3d_backward_weight,
)
from fastconv.functional.dependent import *  # noqa: F403
from fastconv.functional.derived import *  # noqa: F403
from fastconv.functional.distances import *  # noqa: F403
from fastconv.functional.drawn import *  # noqa: F403
from fastconv.functional.in_place import *  # noqa: F403
from fastconv.functional.indexing import *  # noqa: F403
from fastconv.functional.joining import *  # noqa: F403
from fastconv.functional.joining import concat as concat
from fastconv.functional.joining import concatenate as concatenate
from fastconv.functional.likelihoods import *  # noqa: F403
from fastconv.functional.loss import cross_entropy as cross_entropy
from fastconv.functional.loss import cross_entropy_backward, mse_loss_backward
from fastconv.functional.loss import mse_loss as mse_loss
from fastconv.functional.losses import *  # noqa: F403
from fastconv.functional.margins import *  # noqa: F403
from fastconv.functional.matmul import *  # noqa: F403
from fastconv.functional.metric import *  # noqa: F403
from fastconv.functional.metric import triplet_margin_with_distance_loss as triplet_margin_with_distance_loss
from fastconv.functional.norm import batch_norm, batch_norm_backward
from fastconv.functional.normalization import *  # noqa: F403
from fastconv.functional.overlaps import *  # noqa: F403
from fastconv.functional.pad import pad as pad
from fastconv.functional.pad import pad_backward
from fastconv.functional.parametric import *  # noqa: F403
from fastconv.functional.pointwise import *  # noqa: F403
from fastconv.functional.pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool1d_backward,
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    adaptive_avg_pool3d,
    adaptive_avg_pool3d_backward,
    adaptive_max_pool1d,
    adaptive_max_pool1d_backward,
    adaptive_max_pool1d_with_indices,
    adaptive_max_pool2d,
    adaptive_max_pool2d_backward,
    adaptive_max_pool2d_with_indices,
    adaptive_max_pool3d,
    adaptive_max_pool3d_backward,
    adaptive_max_pool3d_with_indices,
    avg_pool1d,
    avg_pool1d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    avg_pool3d,
    avg_pool3d_backward,
    max_pool1d,
    max_pool1d_backward,
    max_pool1d_with_indices,
    max_pool2d,
    max_pool2d_backward,
    max_pool2d_with_indices,
    max_pool3d,
    max_pool3d_backward,
    max_pool3d_with_indices,
)
from fastconv.functional.position_sensitive import *  # noqa: F403
from fastconv.functional.record import records as _records
from fastconv.functional.record import vjp
from fastconv.functional.reduction import *  # noqa: F403
from fastconv.functional.repeating import *  # noqa: F403
from fastconv.functional.resize import *  # noqa: F403
from fastconv.functional.roi import *  # noqa: F403
from fastconv.functional.scan import *  # noqa: F403
from fastconv.functional.scattering import *  # noqa: F403
from fastconv.functional.selection import *  # noqa: F403
from fastconv.functional.sequences import ctc_loss as ctc_loss
from fastconv.functional.shape import add as add
from fastconv.functional.shape import fold as fold
from fastconv.functional.shape import unfold as unfold
from fastconv.functional.slicing import *  # noqa: F403
from fastconv.functional.statistics import *  # noqa: F403
from fastconv.functional.structure import *  # noqa: F403
from fastconv.functional.tables import *  # noqa: F403
from fastconv.functional.unpool import *  # noqa: F403
from fastconv.functional.values import *  # noqa: F403  (methods of arrays and parameters)
from fastconv.functional.weights import *  # noqa: F403
from fastconv.functional.writing import *  # noqa: F403  (methods of tensors)

__all__ = [
    "GradcheckError",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool1d_backward",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_avg_pool3d",
    "adaptive_avg_pool3d_backward",
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_backward",
    "adaptive_max_pool1d_with_indices",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward",
    "adaptive_max_pool2d_with_indices",
    "adaptive_max_pool3d",
    "adaptive_max_pool3d_backward",
    "adaptive_max_pool3d_with_indices",
    "add",
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "avg_pool3d",
    "avg_pool3d_backward",
    "batch_norm",
    "batch_norm_backward",
    "concat",
    "concatenate",
    "conv1d",
    "conv1d_backward_bias",
    "conv1d_backward_data",
    "conv1d_backward_weight",
    "conv2d",
    "conv2d_backward_bias",
    "conv2d_backward_data",
    "conv2d_backward_weight",
    "conv3d",
    "conv3d_backward_bias",
    "conv3d_backward_data",
    "conv3d_backward_weight",
    "conv_transpose1d",
    "conv_transpose1d_backward_bias",
    "conv_transpose1d_backward_data",
    "conv_transpose1d_backward_weight",
    "conv_transpose2d",
    "conv_transpose2d_backward_bias",
    "conv_transpose2d_backward_data",
    "conv_transpose2d_backward_weight",
    "conv_transpose3d",
    "conv_transpose3d_backward_bias",
    "conv_transpose3d_backward_data",
    "conv_transpose3d_backward_weight",
    "cross_entropy_backward",
    "dropout",
    "dropout_backward",
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "gradcheck",
    "hardsigmoid",
    "hardsigmoid_backward",
    "hardswish",
    "hardswish_backward",
    "hardtanh",
    "hardtanh_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward_bias",
    "linear_backward_data",
    "linear_backward_weight",
    "log_softmax",
    "log_softmax_backward",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool1d_with_indices",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_with_indices",
    "max_pool3d",
    "max_pool3d_backward",
    "max_pool3d_with_indices",
    "mse_loss_backward",
    "pad_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "tanh",
    "tanh_backward",
    "triplet_margin_with_distance_loss",
    "vjp",
    *sorted({*constants.__all__, *activations.__all__, *pointwise.__all__} - {*_records}),
    *dependent.__all__,
    *(n for n in derived.__all__ if n not in _records),
    *drawn.__all__,
    *in_place.__all__,
    *_records,
]
__all__ = list(dict.fromkeys(__all__))  # activations with kernels of their own are records as well
