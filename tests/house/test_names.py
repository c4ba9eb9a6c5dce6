"""The operators of convolutional networks are there, under PyTorch's names, and do something.

A name that PyTorch has and this package does not is in ABSENT with its reason; docs/porting.md says the same.
"""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv import functional as F
from fastconv import nn, optim
from fastconv.functional.record import records
from fastconv.graph.ir import Tensor

torch = pytest.importorskip("torch", reason="names are compared with PyTorch's, which is not installed")

# of torch.nn.functional, torch.nn and torch.optim: names, and why they are not here
ABSENT = {
    "functions that only PyTorch's own code calls": (
        "assert_int_or_pair", "boolean_dispatch", "handle_torch_function", "has_torch_function", "has_torch_function_unary",
        "has_torch_function_variadic"),
    "products of low-precision or grouped matrices, of GPUs": ("grouped_mm", "scaled_grouped_mm", "scaled_mm"),
    "another layout of conv1d, without a module": ("conv_tbc",),
    "experiments of the newest releases": ("linear_cross_entropy", "LinearCrossEntropyLoss", "LinearCrossEntropyOptions"),
    "parts of several machines": ("DataParallel", "SyncBatchNorm"),
    "bases, containers and placeholders that are not called": (
        "Buffer", "Container", "RNNBase", "RNNCellBase", "UninitializedBuffer", "UninitializedParameter"),
    "an old name of NLLLoss": ("NLLLoss2d",),
    "losses and updates of very many classes": ("AdaptiveLogSoftmaxWithLoss", "SparseAdam"),
    "not of the common update rules of convolutional networks": ("Adafactor", "LBFGS"),
}
absent = {name for names in ABSENT.values() for name in names}

# what a user of any of these networks looks for: functions, methods of tensors, modules
FUNCTIONS = """
conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear bilinear max_pool1d max_pool2d
max_pool3d avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d lp_pool3d adaptive_max_pool1d adaptive_max_pool2d
adaptive_max_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d max_unpool1d max_unpool2d max_unpool3d
fractional_max_pool2d fractional_max_pool3d max_pool2d_with_indices roi_pool roi_align ps_roi_pool ps_roi_align
interpolate upsample grid_sample affine_grid pixel_shuffle pixel_unshuffle channel_shuffle fold unfold pad nms
batch_norm group_norm layer_norm instance_norm rms_norm local_response_norm normalize weight_standardization relu
relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish glu hardtanh hardsigmoid hardswish hardshrink softplus
softshrink softsign logsigmoid tanhshrink threshold softmin softmax log_softmax gumbel_softmax sigmoid tanh dropout
dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout stochastic_depth add sub mul div floor_divide
remainder fmod pow neg eq ne lt le gt ge where minimum maximum clamp exp log sqrt rsqrt erf sin cos abs sign floor
round ceil trunc mean sum var std prod amax amin argmax argmin logsumexp norm cumsum cumprod reshape permute transpose
squeeze unsqueeze expand tile flip roll split chunk stack cat gather scatter scatter_add scatter_reduce masked_fill
masked_scatter masked_select index_select embedding embedding_bag one_hot matmul bmm einsum topk sort
scaled_dot_product_attention multi_head_attention_forward cdist pdist cosine_similarity pairwise_distance
cross_entropy nll_loss binary_cross_entropy binary_cross_entropy_with_logits mse_loss l1_loss smooth_l1_loss
huber_loss kl_div poisson_nll_loss gaussian_nll_loss hinge_embedding_loss margin_ranking_loss triplet_margin_loss
soft_margin_loss triplet_margin_with_distance_loss cosine_embedding_loss ctc_loss multi_margin_loss
multilabel_margin_loss multilabel_soft_margin_loss sigmoid_focal_loss dice_loss tversky_loss box_iou
generalized_box_iou_loss distance_box_iou_loss complete_box_iou_loss
""".split()
METHODS = """
mean sum view dim relu clamp contiguous chunk size numel abs add sub mul div exp log sqrt matmul bmm permute transpose
reshape flatten squeeze unsqueeze expand expand_as repeat tile flip roll split unbind index_select gather scatter
scatter_add masked_fill masked_scatter topk sort argsort argmax argmin max min amax amin prod cumsum cumprod std var
norm softmax log_softmax sigmoid tanh float long int bool detach t T mT pow square sign floor ceil round fmod
remainder eq ne lt le gt ge logical_and any all unfold narrow select diagonal tril triu view_as reshape_as movedim
swapaxes ndim shape dtype type_as nan_to_num isnan erf
""".split()
MODULES = """
Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d LazyConv1d LazyConv2d LazyConv3d
LazyConvTranspose1d LazyConvTranspose2d LazyConvTranspose3d SeparableConv1d SeparableConv2d SeparableConv3d StdConv1d
StdConv2d StdConv3d Linear LazyLinear Bilinear MaxUnpool1d MaxUnpool2d MaxUnpool3d LPPool1d LPPool2d LPPool3d
FractionalMaxPool2d FractionalMaxPool3d RoIPool RoIAlign PSRoIPool PSRoIAlign Upsample GroupNorm LayerNorm RMSNorm
LocalResponseNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d BatchNorm1d BatchNorm2d BatchNorm3d LazyBatchNorm1d
LazyBatchNorm2d LazyBatchNorm3d LazyInstanceNorm1d LazyInstanceNorm2d LazyInstanceNorm3d Dropout1d Dropout2d Dropout3d
AlphaDropout FeatureAlphaDropout StochasticDepth MultiheadAttention Transformer TransformerEncoder TransformerDecoder
TransformerEncoderLayer TransformerDecoderLayer LSTM GRU RNN LSTMCell GRUCell RNNCell Embedding EmbeddingBag
ParameterList ParameterDict ModuleList ModuleDict Sequential MultiTaskLoss
""".split()
RULES = """SGD Adam AdamW RMSprop Adagrad Adadelta Adamax NAdam RAdam Lion LAMB LARS Muon SAM Lookahead""".split()
UTILITIES = """
weight_norm remove_weight_norm spectral_norm remove_spectral_norm clip_grad_norm_ clip_grad_value_ features freeze
to_convolutional
""".split()


@pytest.mark.parametrize("home, names", [(F, FUNCTIONS), (nn, MODULES), (optim, RULES), (nn.utils, UTILITIES),
                                         (Tensor, METHODS)], ids=["functions", "modules", "rules", "utilities", "methods"])
def test_what_the_field_has(home, names):
    assert [name for name in names if not hasattr(home, name)] == []


def test_every_function_has_samples():
    """Functions are records, whose samples ``test_records.py`` runs; those of a kernel each, and of arrays alone, are called
    by tests of their own."""
    tests = "\n".join(path.read_text() for path in Path(__file__).parents[1].rglob("*.py") if path != Path(__file__))
    for name in FUNCTIONS:
        assert name in records or re.search(rf"\b{name.removesuffix('_with_indices')}\b", tests), name


def theirs(home, kind):
    for name in sorted(dir(home)):
        value = getattr(home, name)
        if not name.startswith("_") and kind(value) and str(getattr(value, "__module__", "")).startswith("torch"):
            yield name


def test_nothing_of_pytorch_is_missing():
    def function(value):
        return callable(value) and not inspect.isclass(value)

    missing = {name for name in theirs(torch.nn.functional, function) if not hasattr(F, name)}
    missing |= {name for name in theirs(torch.nn, inspect.isclass) if not hasattr(nn, name)}
    missing |= {name for name in theirs(torch.optim, inspect.isclass) if not hasattr(optim, name)}
    assert missing <= absent
    assert not [name for name in absent if hasattr(F, name)]


def test_the_documentation_says_so():
    text = (Path(__file__).parents[2] / "docs" / "porting.md").read_text()
    assert [name for name in absent if f"`{name}`" not in text] == []


def test_methods_work():
    """Each as PyTorch's, of arguments that most share."""
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    mask, source = x > 0, np.arange(12, dtype=np.float32)
    calls = {
        "clamp": (-0.5, 0.5), "chunk": (2, 1), "add": (2,), "sub": (2,), "mul": (2,), "div": (2,), "permute": (1, 0),
        "transpose": (0, 1), "reshape": (2, 6), "view": (4, 3), "flatten": (), "unsqueeze": (1,), "expand": (3, 4),
        "repeat": (2, 1), "tile": ((2, 1),), "flip": ((0,),), "roll": (1,), "split": (2, 1), "unbind": (), "topk": (2,),
        "sort": (), "argsort": (), "argmax": (1,), "argmin": (1,), "cumsum": (1,), "cumprod": (1,), "softmax": (1,),
        "log_softmax": (1,), "pow": (2,), "fmod": (1.5,), "remainder": (1.5,), "eq": (1.0,), "ne": (1.0,), "lt": (0.0,),
        "le": (0.0,), "gt": (0.0,), "ge": (0.0,), "unfold": (1, 2, 1), "narrow": (1, 1, 2), "select": (1, 0), "diagonal": (),
        "movedim": (0, 1), "swapaxes": (0, 1), "prod": (1,), "masked_fill": (mask, 2.0), "masked_scatter": (mask, source),
        "index_select": (0, np.array([2, 0])), "gather": (1, np.array([[0], [1], [3]])), "std": (1,), "var": (1,)}
    for name in METHODS:
        attribute = getattr(torch.Tensor, name)
        plain = name in ("T", "mT", "ndim", "shape", "dtype", "size", "dim", "numel", "float", "long", "int", "bool", "any",
                         "all")
        pairs = name in ("matmul", "bmm", "scatter", "scatter_add", "expand_as", "view_as", "reshape_as", "type_as",
                         "logical_and", "log", "sqrt", "norm")
        if plain or pairs or not callable(attribute):
            continue  # properties, and what takes other tensors: in tests/functional and tests/day
        args = calls.get(name, ())
        want = getattr(torch.from_numpy(x), name)(*(torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in args))
        got = fc.compile(lambda t, name=name, args=args: getattr(t, name)(*args), x.shape)(x)
        want, got = ([*v] if isinstance(v, (tuple, list)) else [v] for v in (want, got))
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-5, atol=1e-6, err_msg=name)
