"""Normalisation by the values' own statistics, softmax of any dimension, distances and similarities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv._values import plain, shown
from fastconv.functional.pad import pad
from fastconv.functional.record import Array, fail, function, sample, wrong
from fastconv.functional.reduction import asked, dims_of, floats
from fastconv.functional.slicing import windows
from fastconv.functional.statistics import norm_over
from fastconv.functional.structure import broadcast_to
from fastconv.graph.ir import PIXELS, Tensor, apply
from fastconv.ops.arguments import dimension, flag, integer, number
from fastconv.ops.map import broadcast_shape, draw, fused
from fastconv.ops.reduce import position, reduced
from fastconv.ops.standardize import standardized
from fastconv.ops.views import tensor

__all__ = [
    "cosine_similarity",
    "detach",
    "group_norm",
    "gumbel_softmax",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "normalize",
    "pairwise_distance",
    "rms_norm",
    "softmin",
]


# ---- group, layer, instance, RMS -----------------------------------------------------------------------------------------


def given(op: str, name: str, value: Any, shape: tuple[int, ...]) -> Tensor | None:
    """A weight or bias of the shape that it must have."""
    if value is None:
        return None
    t = floats(op, tensor(op, name, value))
    if t.type.shape != shape:
        fail(op, f"{name} of shape {t.type.shape}: expected {shape}")
    return t


def positive(op: str, name: str, value: Any) -> float:
    value = float(number(op, name, value))
    if not value >= 0:
        fail(op, f"{name}={shown(value)}: expected at least 0")
    return value


@function(
    samples=lambda: [
        sample((2, 6, 5), 3, (6,), (6,)),
        sample((2, 6, 4, 5), 2),
        sample((3, 8, 2, 3, 2), 8, (8,), None, 1e-3),
        sample((3, 8), 2, (8,), (8,)),
        sample((4, 32, 7, 7), 4, (32,), (32,)),
    ],
    wrong=lambda: [
        wrong(ValueError, "num_groups=4", (2, 6, 5), 4),
        wrong(ValueError, "num_groups=0", (2, 6, 5), 0),
        wrong(ValueError, "weight of shape (5,)", (2, 6, 5), 3, (5,)),
        wrong(ValueError, "bias of shape (6, 1)", (2, 6, 5), 3, (6,), (6, 1)),
        wrong(ValueError, "at least 2 dimensions", (6,), 3),
        wrong(ValueError, "one value", (1, 3), 3),
        wrong(TypeError, "num_groups=1.5", (2, 6), 1.5),
    ],
)
def group_norm(
    input: Array, num_groups: int, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> Array:
    """Normalises groups of channels of each image: ``(x - mean) / sqrt(variance + eps) * weight + bias``.

    Parameters
    ----------
    input : array, shape (N, C, ...), float32
    num_groups : int
        Divides C.
    weight, bias : array, shape (C,), optional
    eps : float, default 1e-5

    Returns
    -------
    array of the input's shape

    Raises
    ------
    TypeError, ValueError

    Notes
    -----
    Wu and He, "Group Normalization" (2018).
    """
    x, groups = floats("group_norm", tensor("group_norm", "input", input)), integer("group_norm", "num_groups", num_groups)
    shape = x.type.shape
    if x.ndim < 2:
        fail("group_norm", f"input of shape {shape}: expected at least 2 dimensions (N, C, ...)")
    if x.ndim > 7:
        fail("group_norm", f"input of shape {shape} has {x.ndim} dimensions: expected at most 7")
    if groups < 1 or shape[1] % groups:
        fail("group_norm", f"num_groups={groups}: expected a divisor of the {shape[1]} channels of input of shape {shape}")
    if not x.batched and int(np.prod(shape)) // groups == 1:
        fail("group_norm", f"input of shape {shape} has one value per group: expected more")
    w, b = given("group_norm", "weight", weight, shape[1:2]), given("group_norm", "bias", bias, shape[1:2])
    return standardized(
        x, w, b, groups=groups, reduced=range(2, x.ndim + 1), weighted=(1, 2), eps=float(number("group_norm", "eps", eps))
    )


def trailing(op: str, x: Tensor, normalized_shape: Any) -> tuple[int, ...]:
    """The shape of the last dimensions over which statistics are taken."""
    values = plain(normalized_shape)
    shape = tuple(integer(op, "normalized_shape", v) for v in (values if isinstance(values, (tuple, list)) else [values]))
    own = x.type.shape
    if not shape or shape != own[max(0, x.ndim - len(shape)) :]:
        fail(op, f"normalized_shape={shape}: expected the last extents of input of shape {own}")
    return shape


_LAYER = [
    wrong(ValueError, "normalized_shape=(4,)", (2, 5), (4,)),
    wrong(ValueError, "normalized_shape=()", (2, 5), ()),
    wrong(ValueError, "weight of shape (4,)", (2, 5), (5,), (4,)),
    wrong(TypeError, "normalized_shape=5.0", (2, 5), 5.0),
]


@function(
    samples=lambda: [
        sample((2, 3, 8), (8,), (8,), (8,)),
        sample((2, 3, 4), (3, 4), (3, 4), (3, 4)),
        sample((6, 5), (5,)),
        sample((2, 3, 4, 5), (3, 4, 5), (3, 4, 5)),
        sample((40, 300), (300,), (300,), (300,)),
        sample((5,), (5,), None, (5,)),
        sample((2, 3, 4, 5), (5,), (5,), (5,), 1e-2),
    ],
    wrong=lambda: [*_LAYER],
)
def layer_norm(
    input: Array, normalized_shape: Sequence[int], weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> Array:
    """Normalises over the last dimensions: ``(x - mean) / sqrt(variance + eps) * weight + bias``.

    Parameters
    ----------
    input : array, float32
    normalized_shape : int or sequence of int
        The last extents of the input.
    weight, bias : array of that shape, optional
    eps : float, default 1e-5

    Notes
    -----
    Ba, Kiros, Hinton, "Layer Normalization" (2016).
    """
    x = floats("layer_norm", tensor("layer_norm", "input", input))
    shape = trailing("layer_norm", x, normalized_shape)
    last = range(x.ndim - len(shape), x.ndim)
    w, b = given("layer_norm", "weight", weight, shape), given("layer_norm", "bias", bias, shape)
    return standardized(x, w, b, groups=0, reduced=last, weighted=last, eps=float(number("layer_norm", "eps", eps)))


@function(
    samples=lambda: [sample((2, 3, 8), (8,), (8,)), sample((2, 3, 4), (3, 4)), sample((40, 300), (300,), (300,), 1e-5)],
    wrong=lambda: _LAYER,
)
def rms_norm(input: Array, normalized_shape: Sequence[int], weight: Array | None = None, eps: float | None = None) -> Array:
    """Divides by the root of the mean of squares over the last dimensions: ``x / sqrt(mean(x * x) + eps) * weight``.

    Parameters
    ----------
    input : array, float32
    normalized_shape : int or sequence of int
        The last extents of the input.
    weight : array of that shape, optional
    eps : float, optional
        Default: the distance from 1 to the next float32.

    Notes
    -----
    Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019).
    """
    x = floats("rms_norm", tensor("rms_norm", "input", input))
    shape = trailing("rms_norm", x, normalized_shape)
    last = range(x.ndim - len(shape), x.ndim)
    eps = float(np.finfo(np.float32).eps) if eps is None else float(number("rms_norm", "eps", eps))
    return standardized(
        x, given("rms_norm", "weight", weight, shape), None, groups=0, reduced=last, weighted=last, eps=eps, centred=False
    )


@function(
    samples=lambda: [sample((2, 6, 5), None, None, (6,), (6,)), sample((2, 6, 4, 5)), sample((3, 4, 2, 3, 2), eps=1e-3)],
    wrong=lambda: [
        wrong(ValueError, "one value per channel", (2, 6, 1)),
        wrong(ValueError, "weight of shape (5,)", (2, 6, 5), weight=(5,)),
        wrong(ValueError, "running_mean", (2, 6, 5), use_input_stats=False),
        wrong(ValueError, "at least 3 dimensions", (2, 6)),
        wrong(TypeError, "use_input_stats=1", (2, 6, 5), use_input_stats=1),
    ],
)
def instance_norm(
    input: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Array:
    """Normalises each channel of each image: ``(x - mean) / sqrt(variance + eps) * weight + bias``.

    Parameters
    ----------
    input : array, shape (N, C, ...), float32
    running_mean, running_var : array, shape (C,), optional
        The statistics where ``use_input_stats`` is False. They are never changed here, but by
        :class:`fastconv.nn.InstanceNorm2d`.
    weight, bias : array, shape (C,), optional
    use_input_stats : bool, default True
    momentum : float, default 0.1
        Only of meaning in the module.
    eps : float, default 1e-5

    Notes
    -----
    Ulyanov, Vedaldi, Lempitsky, "Instance Normalization" (2016).
    """
    x = floats("instance_norm", tensor("instance_norm", "input", input))
    shape = x.type.shape
    if x.ndim < 3:
        fail("instance_norm", f"input of shape {shape}: expected at least 3 dimensions (N, C, ...)")
    eps = float(number("instance_norm", "eps", eps))
    number("instance_norm", "momentum", momentum)
    w, b, mean, var = (
        given("instance_norm", name, t, shape[1:2])
        for name, t in (("weight", weight), ("bias", bias), ("running_mean", running_mean), ("running_var", running_var))
    )
    if flag("instance_norm", "use_input_stats", use_input_stats):
        if int(np.prod(shape[2:])) == 1:
            fail("instance_norm", f"input of shape {shape} has one value per channel and image: expected more")
        return standardized(x, w, b, groups=0, reduced=range(2, x.ndim), weighted=(1,), eps=eps)
    if mean is None or var is None:
        fail("instance_norm", "running_mean and running_var are needed where use_input_stats=False")
    operands = [
        x,
        *(
            apply("reshape", [t], shape=(shape[1],) + (1,) * (x.ndim - 2), batch=False)
            for t in (mean, var, w, b)
            if t is not None
        ),
    ]

    def body(x, mean, var, *rest):
        left = list(rest)
        out = (x - mean) * (var + eps).rsqrt()
        out = out * left.pop(0) if w is not None else out
        return out + left.pop(0) if b is not None else out

    return fused(body, *operands)


@function(
    samples=lambda: [sample((2, 7, 5), 3), sample((2, 6, 4, 5), 4, 0.5, 0.6, 2.0), sample((3, 4, 2, 3, 2), 1)],
    wrong=lambda: [wrong(ValueError, "size=0", (2, 3, 4), 0), wrong(ValueError, "at least 3 dimensions", (2, 3), 3)],
)
def local_response_norm(input: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Array:
    """Divides by ``(k + alpha * m) ** beta``, m the mean of squares over ``size`` neighbouring channels (zeros outside).

    Parameters
    ----------
    input : array, shape (N, C, ...), float32, at least 3 dimensions
    size : int
    alpha, beta, k : float

    Notes
    -----
    Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks" (2012).
    """
    op = "local_response_norm"
    x, size = floats(op, tensor(op, "input", input)), integer(op, "size", size)
    alpha, beta, k = (float(number(op, name, v)) for name, v in (("alpha", alpha), ("beta", beta), ("k", k)))
    if x.ndim < 3:
        fail(op, f"input of shape {x.type.shape}: expected at least 3 dimensions (N, C, ...)")
    if size < 1:
        fail(op, f"size={size}: expected at least 1")
    squares = pad(fused(lambda v: v * v, x), [0, 0] * (x.ndim - 2) + [size // 2, (size - 1) // 2])
    near = windows(op, squares, 1, size, 1)
    return fused(lambda v, m: v / (m * alpha + k).pow(beta), x, reduced("mean", near, [near.ndim - 1]))


# ---- vectors of length 1 --------------------------------------------------------------------------------------------------


@function(
    samples=lambda: [
        sample((3, 4, 5)),
        sample((3, 4), 1.0, 0),
        sample((3, 4), 3, -1),
        sample((3, 4), float("inf"), 1),
        sample((2, 3, 4), 2, (1, 2)),
    ],
    wrong=lambda: [wrong(IndexError, "dim=2", (3, 4), 2, 2), wrong(TypeError, "p='a'", (3, 4), "a")],
)
def normalize(input: Array, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out=None) -> Array:
    """``input / max(norm, eps)``, the p-norm over ``dim``.

    Parameters
    ----------
    input : array, float32
    p : float, default 2
        As of :func:`vector_norm`.
    dim : int or sequence of int, default 1
    eps : float, default 1e-12
    out : None
    """
    x, least = floats("normalize", tensor("normalize", "input", input)), positive("normalize", "eps", eps)
    nothing("normalize", "out", out)
    return fused(lambda v, n: v / n.maximum(least), x, norm_over("normalize", x, p, dims_of("normalize", x, dim), True))


def nothing(op: str, name: str, value: Any) -> None:
    if value is not None:
        fail(op, f"{name}={shown(value)}: expected None: results are new arrays", TypeError)


@function(
    samples=lambda: [sample((3, 4, 5), (3, 4, 5)), sample((3, 4), (3, 4), -1), sample((3, 1, 5), (4, 5), 2, 1e-3)],
    wrong=lambda: [
        wrong(IndexError, "dim=2", (3, 4), (3, 4), 2),
        wrong(ValueError, "dimension 1 is 4 and 5", (3, 4), (3, 5)),
    ],
)
def cosine_similarity(x1: Array, x2: Array, dim: int = 1, eps: float = 1e-8) -> Array:
    """``sum(x1 * x2) / (max(|x1|, eps) * max(|x2|, eps))`` along ``dim`` of two arrays that broadcast."""
    op = "cosine_similarity"
    a, b = (floats(op, tensor(op, name, t)) for name, t in (("x1", x1), ("x2", x2)))
    shape, least = broadcast_shape(op, {"x1": a.type.shape, "x2": b.type.shape}), positive(op, "eps", eps)
    at = dimension(op, dim, len(shape))
    a, b = (t if t.type.shape == shape else broadcast_to(t, shape) for t in (a, b))
    dims = (at,) if shape else ()
    sizes = [norm_over(op, t, 2, dims, True) for t in (a, b)]
    return reduced("sum", fused(lambda a, b, m, n: (a / m.maximum(least)) * (b / n.maximum(least)), a, b, *sizes), dims)


@function(
    samples=lambda: [sample((3, 4), (3, 4)), sample((3, 4), (4,), 1.0), sample((2, 3, 4), (2, 1, 4), 3.0, 1e-3, True)],
    wrong=lambda: [
        wrong(TypeError, "keepdim=1", (3, 4), (3, 4), 2.0, 1e-6, 1),
        wrong(ValueError, "dimension 1 is 4 and 5", (3, 4), (3, 5)),
    ],
)
def pairwise_distance(x1: Array, x2: Array, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Array:
    """The p-norm of ``x1 - x2 + eps`` along the last dimension of two arrays that broadcast."""
    op = "pairwise_distance"
    a, b = (floats(op, tensor(op, name, t)) for name, t in (("x1", x1), ("x2", x2)))
    broadcast_shape(op, {"x1": a.type.shape, "x2": b.type.shape})
    shift = float(number(op, "eps", eps))
    apart = fused(lambda a, b: a - b + shift, a, b)
    return norm_over(op, apart, p, [apart.ndim - 1] if apart.ndim else [], flag(op, "keepdim", keepdim))


# ---- softmax ------------------------------------------------------------------------------------------------------------


def softmax_along(op: str, input: Any, dim: Any, dtype: Any, log: bool = False) -> Tensor:
    """Softmax of any dimension of a tensor of any rank; over the channels of pixels by the kernel for that."""
    x = tensor(op, "input", input)
    if dim is None:  # PyTorch's choice where none is named
        dim = 0 if x.ndim in (0, 1, 3) else 1
    at = dimension(op, dim, x.ndim)
    if asked(op, dtype, "float32", x) and dtype is None:
        floats(op, x, "float32, or dtype=float32")
    x = x if x.dtype == "float32" else fused(lambda v: v, x, dtype="float32")
    if not x.ndim:
        return fused(lambda v: (v - v) if log else (v - v).exp(), x)
    if x.layout == PIXELS and x.batched and at and 0 not in x.type.shape:
        return apply("log_softmax" if log else "softmax", [x], dim=at)
    return apply("softmax_along", [x], dim=at, log=log)


_SOFTMAX = [sample((3, 4, 5), d) for d in (0, 1, -1)] + [
    sample((), 0),
    sample((7,), 0),
    sample((2, 3, 4, 5, 2, 3), 3),
    sample((40, 300), 1),
    sample((2, 0), 1),
]


_WRONG_SOFTMAX = [
    wrong(IndexError, "dim=2", (3, 4), 2),
    wrong(TypeError, "dim=0.5", (3, 4), 0.5),
    wrong(TypeError, "input", "a", 0),
    wrong(TypeError, "dtype=int32", (3, 4), 0, dtype="int32"),
]


@function(method="softmax", samples=lambda: _SOFTMAX, wrong=lambda: _WRONG_SOFTMAX)
def softmax(input: Array, dim: int | None = None, dtype=None) -> Array:
    """``exp(x) / sum(exp(x))`` along ``dim``, of any rank."""
    return softmax_along("softmax", input, dim, dtype)


@function(method="log_softmax", samples=lambda: _SOFTMAX, wrong=lambda: _WRONG_SOFTMAX)
def log_softmax(input: Array, dim: int | None = None, dtype=None) -> Array:
    """``x - log(sum(exp(x)))`` along ``dim``, of any rank."""
    return softmax_along("log_softmax", input, dim, dtype, log=True)


@function(samples=lambda: _SOFTMAX, wrong=lambda: _WRONG_SOFTMAX)
def softmin(input: Array, dim: int | None = None, _stacklevel: int = 3, dtype=None) -> Array:
    """The softmax of ``-input``."""
    x = tensor("softmin", "input", input)
    return softmax_along("softmin", fused(lambda v: -v, x, dtype=x.dtype), dim, dtype)


@function(
    samples=list,
    wrong=lambda: [wrong(ValueError, "tau=0", (3, 4), 0), wrong(IndexError, "dim=2", (3, 4), 1, dim=2)],
    differentiable=False,
)
def gumbel_softmax(logits: Array, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Array:
    """Samples of a distribution over classes, differentiable: softmax of ``(logits + Gumbel noise) / tau`` along ``dim``.

    Parameters
    ----------
    logits : array, float32
    tau : float, default 1
        Above 0.
    hard : bool, default False
        The result is 1 for the class sampled and 0 for the others; gradients are those of the soft one.
    eps : float
        Changes nothing, as in PyTorch.
    dim : int, default -1

    Notes
    -----
    Jang, Gu, Poole, "Categorical Reparameterization with Gumbel-Softmax" (2016).
    """
    op = "gumbel_softmax"
    x, temperature = floats(op, tensor(op, "logits", logits)), float(number(op, "tau", tau))
    number(op, "eps", eps)
    if not temperature > 0:
        fail(op, f"tau={shown(tau)}: expected more than 0")
    at, sharp = dimension(op, dim, x.ndim), flag(op, "hard", hard)
    noisy = fused(lambda v, u: (v - (-u.log()).log()) * (1.0 / temperature), x, draw(x, x.type.shape))
    soft = softmax_along(op, noisy, at, None)
    if not sharp:
        return soft
    best = reduced("argmax", soft, [at] if x.ndim else [], True)[0]
    return fused(
        lambda s, kept, i, b: i.builder.line("eq", i, b) + (s - kept),
        soft,
        apply("detach", [soft]),
        position(soft, [at]),
        best,
    )


@function(method="detach", samples=lambda: [sample((3, 4))], reference=lambda input: input, differentiable=False)
def detach(input: Array) -> Array:
    """The same values, through which no gradient goes."""
    return apply("detach", [tensor("detach", "input", input)])
