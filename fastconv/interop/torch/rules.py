"""ATen's operators as functions of ours: those whose arguments come in another order, or that go by another name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv import functional as F
from fastconv.functional import recurrent
from fastconv.graph.ir import Tensor, apply, current_graph
from fastconv.graph.parameter import Parameter

RULES: dict[str, Callable] = {}
SAME = ("clone", "contiguous", "alias", "lift_fresh_copy", "positive")
CHECKS = ("_assert_scalar", "_assert_async", "_assert_tensor_metadata", "sym_constrain_range_for_size",
          "sym_constrain_range")
DTYPES = {"torch.float32": "float32", "torch.int64": "int64", "torch.int32": "int32", "torch.uint8": "uint8",
          "torch.int8": "int8", "torch.bool": "bool", "torch.float64": "float32", "torch.float16": "float32",
          "torch.bfloat16": "float32"}
# What depends on the training mode, and which argument says it; their functions take the mode first.
MODES: dict[str, int] = {
    "batch_norm": 5, "instance_norm": 5, "dropout": 2, "feature_dropout": 2, "alpha_dropout": 2, "feature_alpha_dropout": 2,
    "dropout_": 2, "feature_dropout_": 2, "alpha_dropout_": 2, "feature_alpha_dropout_": 2, "lstm": 6, "gru": 6,
    "rnn_tanh": 6, "rnn_relu": 6, "scaled_dot_product_attention": 4, "rrelu": 3, "rrelu_": 3}
# What draws random numbers of PyTorch's generator, or ours.
DRAWS = {"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout", "bernoulli", "rand",
         "randn", "rand_like", "randn_like", "randint", "normal", "multinomial", "rrelu", "uniform", "rrelu_with_noise",
         "randperm", "dropout_", "uniform_", "normal_", "bernoulli_", "exponential_", "randint_like", "poisson"}
OTHERS = {"embedding_bag", "block_diag", "resize", "resize_", "special_bessel"}  # other functions here go by these names
PUT_BACK = "put_back"
# Views that a changed value can be put back into what they are views of.
BACK = ("select", "slice", "narrow", "view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze",
        "transpose", "t", "permute", "detach", "alias", "contiguous", "view_as", "reshape_as", "ravel", "swapaxes",
        "numpy_T", "mT", "to", "type_as")


def rule(*names: str) -> Callable:
    """Says how these ATen operators are called here; those without a rule are functions of the same name and arguments."""
    def add(function: Callable) -> Callable:
        RULES.update(dict.fromkeys(names, function))
        return function

    return add


def call(op: str, target: Any, args: Sequence, kwargs: dict, training: bool) -> Any:
    """One node: an ATen operator by its name, or one of Python's; ``training`` for those that depend on it."""
    if op == "python":
        return target(*args, **kwargs)
    if op in SAME:
        return args[0]
    if op in CHECKS:
        return None
    if op in MODES:
        return RULES[op.rstrip("_")](training, *args, **kwargs)
    if op in RULES:
        return RULES[op](*args, **kwargs)
    name = op.rstrip("_") if not op.startswith("__") else op
    found = RULES.get(name) or getattr(F, name, None) or getattr(Tensor, name, None)
    if found is None:
        raise NotImplementedError(f"aten.{op}: fastconv has no such function")
    return found(*args, **{k: v for k, v in kwargs.items() if v is not None})


def known_operator(op: str) -> bool:
    """Whether there is something to call for an ATen operator."""
    name = op.rstrip("_")
    return op not in OTHERS and (op in SAME or op in CHECKS or op in RULES or name in RULES or hasattr(F, name) or
                                 callable(getattr(Tensor, name, None)))


@rule("batch_norm")
def _batch_norm(training, x, weight, bias, mean, var, was, momentum, eps, *_, counter=None):
    return apply("batch_norm", [x, weight, bias, mean, var], training=training or mean is None, momentum=momentum, eps=eps,
                 num_batches_tracked=counter)


@rule("instance_norm")
def _instance_norm(training, x, weight, bias, mean, var, use_input_stats, momentum, eps, *_):
    return F.instance_norm(x, mean, var, weight, bias, training or use_input_stats, momentum, eps)


def _drawing(name: str) -> Callable:
    return lambda training, x, p=0.5, *_, **__: getattr(F, name)(x, p, training=True) if training and p > 0 else x


for _op, _function in {"dropout": "dropout", "alpha_dropout": "alpha_dropout", "feature_dropout": "dropout2d",
                       "feature_alpha_dropout": "feature_alpha_dropout"}.items():
    rule(_op)(_drawing(_function))


@rule("rrelu")
def _rrelu(training, x, lower=0.125, upper=1 / 3, *_, **__):
    return F.rrelu(x, lower, upper, training)


@rule("scaled_dot_product_attention")
def _attention(training, q, k, v, mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    return F.scaled_dot_product_attention(q, k, v, mask, dropout_p if training else 0.0, is_causal, scale, enable_gqa)


@rule("_scaled_dot_product_flash_attention_for_cpu")
def _flash_attention(q, k, v, dropout_p=0.0, is_causal=False, *, attn_mask=None, scale=None):
    return F.scaled_dot_product_attention(q, k, v, attn_mask, 0.0, is_causal, scale), None


@rule("detach", "detach_")
def _detach(x):
    return apply("detach", [x]) if isinstance(x, Tensor) else x


# ---- recurrent layers ---------------------------------------------------------------------------------------------------


def _recurrent(kind: str, nonlinearity: str = "tanh") -> Callable:
    def run(training, x, state, weights, has_biases, layers, dropout, _train, bidirectional, batch_first=False):
        if not isinstance(has_biases, bool):
            raise NotImplementedError(f"aten.{kind.lower()} of packed sequences")
        ends, axis = 2 if bidirectional else 1, 1 if batch_first and x.ndim == 3 else 0
        each = len(weights) // (layers * ends)
        names = ("w_ih", "w_hh", "b_ih", "b_hh", "w_hr")[:each] if has_biases else ("w_ih", "w_hh", "w_hr")[:each]
        given = list(state) if kind == "LSTM" else [state]
        nothing = all(isinstance(s, np.ndarray) and not s.any() for s in given)  # what PyTorch begins with by itself
        last = []
        for index in range(layers):
            outputs = []
            for way in range(ends):
                at = index * ends + way
                begin = None if nothing else [s[at] for s in given]
                y, now = recurrent.layer(kind, x, begin and (tuple(begin) if kind == "LSTM" else begin[0]),
                                         dict(zip(names, weights[at * each: (at + 1) * each], strict=True)), axis, bool(way),
                                         nonlinearity)
                outputs.append(y)
                last.append(now)
            x = recurrent.joined_directions(outputs)
            if dropout and training and index + 1 < layers:
                x = F.dropout(x, dropout, training=True)
        if kind == "LSTM":
            return x, F.stack([h for h, _ in last], 0), F.stack([c for _, c in last], 0)
        return x, F.stack(last, 0)

    return run


for _op, _kind, _way in (("lstm", "LSTM", "tanh"), ("gru", "GRU", "tanh"), ("rnn_tanh", "RNN", "tanh"),
                         ("rnn_relu", "RNN", "relu")):
    rule(_op)(_recurrent(_kind, _way))


@rule("lstm_cell")
def _lstm_cell(x, state, w_ih, w_hh, b_ih=None, b_hh=None):
    return recurrent.lstm_step(recurrent.projected(x, w_ih, b_ih if b_ih is None else b_ih + b_hh), tuple(state), w_hh)


@rule("gru_cell")
def _gru_cell(x, state, w_ih, w_hh, b_ih=None, b_hh=None):
    return recurrent.gru_step(recurrent.projected(x, w_ih, b_ih), state, w_hh, b_hh)


def _rnn_cell(act: Callable) -> Callable:
    return lambda x, state, w_ih, w_hh, b_ih=None, b_hh=None: recurrent.rnn_step(
        recurrent.projected(x, w_ih, b_ih if b_ih is None else b_ih + b_hh), state, w_hh, act)


rule("rnn_tanh_cell")(_rnn_cell(F.tanh))
rule("rnn_relu_cell")(_rnn_cell(F.relu))


# ---- changes in place ---------------------------------------------------------------------------------------------------


@rule("copy")
def _copy(x, source, *_):
    source = source if isinstance(source, Tensor) or not hasattr(source, "dtype") else _tensor(source)
    if not isinstance(source, Tensor):
        return F.full_like(x, source)
    source = F.cast(source, x.dtype) if source.dtype != x.dtype else source
    return source if tuple(source.shape) == tuple(x.shape) else source.expand(*x.shape)


@rule("fill", "zero")
def _fill(x, value=0):
    return _copy(x, value)


def _tensor(value) -> Tensor:
    graph = current_graph()
    assert graph is not None
    return graph.parameter(value) if isinstance(value, Parameter) else graph.constant(np.asarray(value))


@rule("select_scatter")
def _select_scatter(x, source, dim, index):
    index = int(index) + (x.shape[dim] if index < 0 else 0)
    return _slice_scatter(x, F.unsqueeze(_copy(_select(x, dim, index), source), dim % x.ndim), dim, index, index + 1)


@rule("slice_scatter")
def _slice_scatter(x, source, dim=0, start=None, end=None, step=1):
    places = range(x.shape[dim])[slice(start, end, step)]
    if step != 1:
        return F.index_copy(x, dim, np.array(places, np.int64), source)
    if len(places) == x.shape[dim]:
        return source
    around = [_slice(x, dim, 0, places.start), source, _slice(x, dim, places.stop)]
    return F.cat([part for part in around if part.shape[dim]], dim) if len(places) else x


@rule(PUT_BACK)
def _put_back(x, source, view, args, kwargs):
    """What ``x`` is after its view has become ``source``."""
    if view == "select":
        return _select_scatter(x, source, *args, **kwargs)
    if view in ("slice", "narrow"):
        if view == "narrow":
            args, kwargs = (args[0], args[1], args[1] + args[2]), {}
        return _slice_scatter(x, source, *args, **kwargs)
    if view in ("transpose", "swapaxes"):
        return source.transpose(*args)
    if view in ("t", "mT"):
        return source.transpose(-1, -2)
    if view == "numpy_T":
        return _reversed(source)
    if view == "permute":
        return source.permute(*(int(i) for i in np.argsort([d % x.ndim for d in args[0]])))
    if view in ("to", "type_as") and x.dtype != source.dtype:
        return x  # a copy of another type, not a view
    return source if tuple(source.shape) == tuple(x.shape) else source.reshape(*x.shape)


# ---- others -------------------------------------------------------------------------------------------------------------


def _reversed(x):
    return x.permute(*reversed(range(x.ndim)))


@rule("numpy_T")
def _numpy_t(x):
    return _reversed(x)


@rule("mT", "matrix_H", "adjoint")
def _matrix_transpose(x):
    return x.transpose(-1, -2)


@rule("log_sigmoid")
def _log_sigmoid(x):
    return F.logsigmoid(x)


@rule("unsafe_split")
def _unsafe_split(x, size, dim=0):
    return F.split(x, size, dim)


@rule("unsafe_chunk")
def _unsafe_chunk(x, chunks, dim=0):
    return F.chunk(x, chunks, dim)


@rule("broadcast_tensors")
def _of_a_list(tensors):
    return F.broadcast_tensors(*tensors)


@rule("tensordot")
def _tensordot(a, b, left, right):
    return F.tensordot(a, b, (list(left), list(right)))


# Of losses, the names of the arguments behind input and target, as ATen has them in order; reduction is a number there.
LOSSES = {
    "mse_loss": "reduction", "l1_loss": "reduction", "huber_loss": "reduction delta", "smooth_l1_loss": "reduction beta",
    "binary_cross_entropy": "weight reduction", "binary_cross_entropy_with_logits": "weight pos_weight reduction",
    "nll_loss": "weight reduction ignore_index", "nll_loss_nd": "weight reduction ignore_index",
    "cross_entropy_loss": "weight reduction ignore_index label_smoothing", "kl_div": "reduction",
    "poisson_nll_loss": "log_input full eps reduction", "soft_margin_loss": "reduction",
    "hinge_embedding_loss": "margin reduction", "multilabel_margin_loss": "reduction",
    "multi_margin_loss": "p margin weight reduction", "margin_ranking_loss": "target margin reduction",
    "cosine_embedding_loss": "target margin reduction", "triplet_margin_loss": "negative margin p eps swap reduction",
    "ctc_loss": "input_lengths target_lengths blank reduction zero_infinity"}


def _loss(name: str, rest: list[str]) -> Callable:
    def run(x, target, *values, **keywords):
        named = {**dict(zip(rest, values, strict=False)), **keywords}
        if "reduction" in named:
            named["reduction"] = ("none", "mean", "sum")[named["reduction"]]
        ours = {"cross_entropy_loss": "cross_entropy", "nll_loss_nd": "nll_loss"}.get(name, name)
        return getattr(F, ours)(x, target, **named)

    return run


for _name, _rest in LOSSES.items():
    rule(_name)(_loss(_name, _rest.split()))


@rule("im2col")
def _im2col(x, kernel, dilation, padding, stride):
    return F.unfold(x, tuple(kernel), tuple(dilation), tuple(padding), tuple(stride))


@rule("col2im")
def _col2im(x, size, kernel, dilation, padding, stride):
    return F.fold(x, tuple(size), tuple(kernel), tuple(dilation), tuple(padding), tuple(stride))


@rule("_weight_norm")
def _weight_norm(v, g, dim=0):
    v = _tensor(v) if isinstance(v, Parameter) else v
    dims = tuple(d for d in range(v.ndim) if d != dim % v.ndim) if dim != -1 else tuple(range(v.ndim))
    return v * (g / F.norm(v, 2, dims, True))


@rule("_weight_norm_interface")
def _weight_norm_interface(v, g, dim=0):
    return _weight_norm(v, g, dim), None


@rule("constant_pad_nd")
def _constant_pad(x, pad, value=0):
    return F.pad(x, list(pad), value=value)


def _new(value: float | None) -> Callable:
    return lambda x, size, *given, dtype=None, **_: F.full(tuple(size), value if value is not None else given[0],
                                                           dtype=dtype or x.dtype)


for _op, _value in {"new_zeros": 0.0, "new_ones": 1.0, "new_full": None, "new_empty": 0.0}.items():
    rule(_op)(_new(_value))


@rule("empty")
def _empty(size, *, dtype=None, **_):
    return F.zeros(tuple(size), dtype=dtype or "float32")


@rule("convolution")
def _convolution(x, w, b, stride, padding, dilation, transposed, output_padding, groups):
    dims = x.ndim - 2
    stride, padding, dilation = tuple(stride), tuple(padding), tuple(dilation)
    if transposed:
        return getattr(F, f"conv_transpose{dims}d")(x, w, b, stride, padding, tuple(output_padding), groups, dilation)
    return getattr(F, f"conv{dims}d")(x, w, b, stride, padding, dilation, groups)


@rule("_native_batch_norm_legit_no_training")
def _native_batch_norm(x, weight, bias, mean, var, momentum, eps):
    return F.batch_norm(x, mean, var, weight, bias, False, momentum, eps), None, None


@rule("native_layer_norm")
def _native_layer_norm(x, shape, weight, bias, eps):
    return F.layer_norm(x, tuple(shape), weight, bias, eps), None, None


@rule("native_group_norm")
def _native_group_norm(x, weight, bias, n, c, hw, groups, eps):
    return F.group_norm(x, groups, weight, bias, eps), None, None


@rule("max_pool2d_with_indices")
def _max_pool2d_with_indices(x, kernel, stride=(), padding=0, dilation=1, ceil_mode=False):
    pooled = F.max_pool2d(x, tuple(kernel), tuple(stride) or None, padding if isinstance(padding, int) else tuple(padding),
                          dilation if isinstance(dilation, int) else tuple(dilation), ceil_mode)
    return pooled, None


def _adaptive(name: str) -> Callable:
    return lambda x, size: getattr(F, name)(x, tuple(size), return_indices=True) if "max" in name else \
        getattr(F, name)(x, tuple(size))


def _unpool(name: str) -> Callable:
    def run(x, indices, size, stride=None, padding=0):
        shape = (*x.shape[:-len(size)], *size)
        flat = F.zeros((*shape[:-len(size)], math.prod(size))).to(x.dtype)
        lead = x.ndim - len(size)
        return F.scatter(flat, lead, indices.flatten(lead), x.flatten(lead)).reshape(*shape)

    return run


for _dims in (1, 2, 3):
    rule(f"adaptive_max_pool{_dims}d")(_adaptive(f"adaptive_max_pool{_dims}d"))
    rule(f"_adaptive_avg_pool{_dims}d")(_adaptive(f"adaptive_avg_pool{_dims}d"))
    rule(f"max_unpool{_dims}d")(_unpool(f"max_unpool{_dims}d"))


@rule("linalg_vector_norm")
def _vector_norm(x, ord=2, dim=None, keepdim=False, *, dtype=None):
    return F.norm(x, ord, None if dim is None else tuple(dim), keepdim)


@rule("clamp_min")
def _clamp_min(x, low):
    return x.clamp(low)


@rule("clamp_max")
def _clamp_max(x, high):
    return x.clamp(None, high)


@rule("layer_norm")
def _layer_norm(x, shape, weight=None, bias=None, eps=1e-5, *_):
    return F.layer_norm(x, tuple(shape), weight, bias, eps)


@rule("group_norm")
def _group_norm(x, groups, weight=None, bias=None, eps=1e-5, *_):
    return F.group_norm(x, groups, weight, bias, eps)


@rule("rms_norm")
def _rms_norm(x, shape, weight=None, eps=None):
    return F.rms_norm(x, tuple(shape), weight, eps)


@rule("embedding")
def _embedding(weight, indices, padding_idx=-1, *_):
    return F.embedding(indices, weight, padding_idx if padding_idx >= 0 else None)


@rule("view", "reshape", "_unsafe_view", "view_copy")
def _reshape(x, shape):
    return x.reshape(*shape) if len(shape) else x.reshape(())


@rule("permute", "permute_copy")
def _permute(x, dims):
    return x.permute(*dims)


@rule("expand")
def _expand(x, shape, **_):
    return x.expand(*shape)


@rule("repeat")
def _repeat(x, repeats):
    return x.repeat(*repeats)


@rule("slice")
def _slice(x, dim=0, start=None, end=None, step=1):
    end = None if end is not None and isinstance(end, int) and end >= 2**62 else end
    if start in (None, 0) and end is None and step == 1:
        return x
    index: list = [slice(None)] * x.ndim
    index[dim] = slice(start, end, step)
    return x[tuple(index)]


@rule("select")
def _select(x, dim, index):
    return x[(slice(None),) * (dim % x.ndim) + (index,)]


@rule("sym_size")
def _sym_size(x, dim):
    return x.shape[dim]


@rule("split_with_sizes")
def _split_with_sizes(x, sizes, dim=0):
    return F.split(x, list(sizes), dim)


@rule("to", "_to_copy", "type_as")
def _to(x, *args, dtype=None, **_):
    named = [a for a in args if isinstance(a, str)] + ([dtype] if dtype else [])
    if not named or x.dtype == named[0]:
        return x
    return F.cast(x, named[0])


@rule("softmax", "_softmax")
def _softmax(x, dim, *_):
    return F.softmax(x, dim)


@rule("log_softmax", "_log_softmax")
def _log_softmax(x, dim, *_):
    return F.log_softmax(x, dim)


@rule("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
def _nearest(x, size=None, scales=None, *_):
    return F.interpolate(x, size=None if size is None else tuple(size),
                         scale_factor=None if size is not None or scales is None else tuple(scales), mode="nearest")


def _upsample(mode: str) -> Callable:
    return lambda x, size=None, align_corners=False, scales=None, *_: F.interpolate(
        x, size=None if size is None else tuple(size), scale_factor=None if size is not None or scales is None else
        tuple(scales), mode=mode, align_corners=align_corners)


for _name, _mode in {"upsample_linear1d": "linear", "upsample_bilinear2d": "bilinear", "upsample_trilinear3d": "trilinear",
                     "upsample_bicubic2d": "bicubic"}.items():
    rule(_name)(_upsample(_mode))


@rule("grid_sampler")
def _grid_sampler(x, grid, mode, padding, align_corners):
    return F.grid_sample(x, grid, ("bilinear", "nearest", "bicubic")[mode], ("zeros", "border", "reflection")[padding],
                         align_corners)


@rule("pad")
def _pad(x, pad, mode="constant", value=None):
    return F.pad(x, list(pad), mode=mode, value=value)


@rule("index", "_unsafe_index")
def _index(x, indices):
    return x[tuple(slice(None) if i is None else i for i in indices)]


def _creation(name: str) -> Callable:
    def make(*args, dtype=None, **_):
        made = getattr(F, name)(*args)
        return made if dtype is None or not isinstance(made, np.ndarray) else made.astype(dtype)

    return make


for _name in ("zeros", "ones", "full", "arange", "zeros_like", "ones_like", "full_like", "linspace", "eye"):
    rule(_name)(_creation(_name))


@rule("scalar_tensor")
def _scalar_tensor(value, **_):
    return np.float32(value)
