"""Functions on NumPy arrays, with the names, argument orders and defaults of ``torch.nn.functional``.

Arrays are float32, NCHW, of any strides; results are fresh arrays. Given symbolic tensors, as in the ``forward`` of a
module, the same functions add to the graph instead. A backward pass is ``<function>_backward``, followed by ``_data``,
``_weight`` or ``_bias`` where there are several; it takes ``grad_output`` first.

Nothing is converted silently: another dtype or byte order is a TypeError, except that class indices may be of any integer
dtype. Every other error is a ValueError (or a MemoryError, for a problem larger than the memory there is) that names the
function, the argument and its value; all are raised before anything runs.
"""

from fastconv.functional.activation import dropout as dropout
from fastconv.functional.activation import dropout_backward as dropout_backward
from fastconv.functional.activation import elu as elu
from fastconv.functional.activation import elu_backward as elu_backward
from fastconv.functional.activation import gelu as gelu
from fastconv.functional.activation import gelu_backward as gelu_backward
from fastconv.functional.activation import hardsigmoid as hardsigmoid
from fastconv.functional.activation import hardsigmoid_backward as hardsigmoid_backward
from fastconv.functional.activation import hardswish as hardswish
from fastconv.functional.activation import hardswish_backward as hardswish_backward
from fastconv.functional.activation import hardtanh as hardtanh
from fastconv.functional.activation import hardtanh_backward as hardtanh_backward
from fastconv.functional.activation import leaky_relu as leaky_relu
from fastconv.functional.activation import leaky_relu_backward as leaky_relu_backward
from fastconv.functional.activation import log_softmax as log_softmax
from fastconv.functional.activation import log_softmax_backward as log_softmax_backward
from fastconv.functional.activation import relu as relu
from fastconv.functional.activation import relu6 as relu6
from fastconv.functional.activation import relu6_backward as relu6_backward
from fastconv.functional.activation import relu_backward as relu_backward
from fastconv.functional.activation import sigmoid as sigmoid
from fastconv.functional.activation import sigmoid_backward as sigmoid_backward
from fastconv.functional.activation import silu as silu
from fastconv.functional.activation import silu_backward as silu_backward
from fastconv.functional.activation import softmax as softmax
from fastconv.functional.activation import softmax_backward as softmax_backward
from fastconv.functional.activation import tanh as tanh
from fastconv.functional.activation import tanh_backward as tanh_backward
from fastconv.functional.conv import conv1d as conv1d
from fastconv.functional.conv import conv1d_backward_bias as conv1d_backward_bias
from fastconv.functional.conv import conv1d_backward_data as conv1d_backward_data
from fastconv.functional.conv import conv1d_backward_weight as conv1d_backward_weight
from fastconv.functional.conv import conv2d as conv2d
from fastconv.functional.conv import conv2d_backward_bias as conv2d_backward_bias
from fastconv.functional.conv import conv2d_backward_data as conv2d_backward_data
from fastconv.functional.conv import conv2d_backward_weight as conv2d_backward_weight
from fastconv.functional.conv import conv3d as conv3d
from fastconv.functional.conv import conv3d_backward_bias as conv3d_backward_bias
from fastconv.functional.conv import conv3d_backward_data as conv3d_backward_data
from fastconv.functional.conv import conv3d_backward_weight as conv3d_backward_weight
from fastconv.functional.conv import linear as linear
from fastconv.functional.conv import linear_backward_bias as linear_backward_bias
from fastconv.functional.conv import linear_backward_data as linear_backward_data
from fastconv.functional.conv import linear_backward_weight as linear_backward_weight
from fastconv.functional.conv_transpose import conv_transpose1d as conv_transpose1d
from fastconv.functional.conv_transpose import conv_transpose1d_backward_bias as conv_transpose1d_backward_bias
from fastconv.functional.conv_transpose import conv_transpose1d_backward_data as conv_transpose1d_backward_data
from fastconv.functional.conv_transpose import conv_transpose1d_backward_weight as conv_transpose1d_backward_weight
from fastconv.functional.conv_transpose import conv_transpose2d as conv_transpose2d
from fastconv.functional.conv_transpose import conv_transpose2d_backward_bias as conv_transpose2d_backward_bias
from fastconv.functional.conv_transpose import conv_transpose2d_backward_data as conv_transpose2d_backward_data
from fastconv.functional.conv_transpose import conv_transpose2d_backward_weight as conv_transpose2d_backward_weight
from fastconv.functional.conv_transpose import conv_transpose3d as conv_transpose3d
from fastconv.functional.conv_transpose import conv_transpose3d_backward_bias as conv_transpose3d_backward_bias
from fastconv.functional.conv_transpose import conv_transpose3d_backward_data as conv_transpose3d_backward_data
from fastconv.functional.conv_transpose import conv_transpose3d_backward_weight as conv_transpose3d_backward_weight
from fastconv.functional.loss import cross_entropy as cross_entropy
from fastconv.functional.loss import cross_entropy_backward as cross_entropy_backward
from fastconv.functional.loss import mse_loss as mse_loss
from fastconv.functional.loss import mse_loss_backward as mse_loss_backward
from fastconv.functional.norm import batch_norm as batch_norm
from fastconv.functional.norm import batch_norm_backward as batch_norm_backward
from fastconv.functional.pad import pad as pad
from fastconv.functional.pad import pad_backward as pad_backward
from fastconv.functional.pool import adaptive_avg_pool1d as adaptive_avg_pool1d
from fastconv.functional.pool import adaptive_avg_pool1d_backward as adaptive_avg_pool1d_backward
from fastconv.functional.pool import adaptive_avg_pool2d as adaptive_avg_pool2d
from fastconv.functional.pool import adaptive_avg_pool2d_backward as adaptive_avg_pool2d_backward
from fastconv.functional.pool import adaptive_avg_pool3d as adaptive_avg_pool3d
from fastconv.functional.pool import adaptive_avg_pool3d_backward as adaptive_avg_pool3d_backward
from fastconv.functional.pool import adaptive_max_pool1d as adaptive_max_pool1d
from fastconv.functional.pool import adaptive_max_pool1d_backward as adaptive_max_pool1d_backward
from fastconv.functional.pool import adaptive_max_pool2d as adaptive_max_pool2d
from fastconv.functional.pool import adaptive_max_pool2d_backward as adaptive_max_pool2d_backward
from fastconv.functional.pool import adaptive_max_pool3d as adaptive_max_pool3d
from fastconv.functional.pool import adaptive_max_pool3d_backward as adaptive_max_pool3d_backward
from fastconv.functional.pool import avg_pool1d as avg_pool1d
from fastconv.functional.pool import avg_pool1d_backward as avg_pool1d_backward
from fastconv.functional.pool import avg_pool2d as avg_pool2d
from fastconv.functional.pool import avg_pool2d_backward as avg_pool2d_backward
from fastconv.functional.pool import avg_pool3d as avg_pool3d
from fastconv.functional.pool import avg_pool3d_backward as avg_pool3d_backward
from fastconv.functional.pool import max_pool1d as max_pool1d
from fastconv.functional.pool import max_pool1d_backward as max_pool1d_backward
from fastconv.functional.pool import max_pool2d as max_pool2d
from fastconv.functional.pool import max_pool2d_backward as max_pool2d_backward
from fastconv.functional.pool import max_pool3d as max_pool3d
from fastconv.functional.pool import max_pool3d_backward as max_pool3d_backward
from fastconv.functional.shape import add as add
from fastconv.functional.shape import cat as cat
from fastconv.functional.shape import concat as concat
from fastconv.functional.shape import flatten as flatten
from fastconv.functional.shape import fold as fold
from fastconv.functional.shape import unfold as unfold
from fastconv.graph.gradcheck import GradcheckError as GradcheckError
from fastconv.graph.gradcheck import gradcheck as gradcheck
