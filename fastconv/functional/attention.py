"""Scaled dot-product and multi-head attention."""

from __future__ import annotations

import math
from string import ascii_letters

import numpy as np

from fastconv.functional.joining import cat
from fastconv.functional.matmul import taken
from fastconv.functional.parametric import where
from fastconv.functional.pointwise import eq
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.functional.slicing import sliced
from fastconv.functional.structure import expanded, permuted, reshaped
from fastconv.graph.ir import PIXELS, Tensor, apply
from fastconv.ops.matmul import contract, one
from fastconv.ops.views import tensor as as_tensor

__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]

INFINITY = float("inf")


def mask(*shape: int):
    """Of a sample: about two of three are true, the first always."""
    def make(generator):
        made = generator.random(shape) < 2 / 3
        made[..., 0] = True
        return made
    return array(make)


def last_softmax(x: Tensor, dropout_p: float = 0.0) -> Tensor:
    """Softmax over the last dimension, of scores that lie densely: as channels, which moves nothing; then dropout."""
    shape = x.type.shape
    if x.ndim > 4:
        return reshaped("softmax", last_softmax(reshaped("softmax", x, (shape[0], -1, *shape[-2:])), dropout_p), shape)
    order = (0, x.ndim - 1, *range(1, x.ndim - 1))
    y = apply("softmax", [apply("layout", [permuted(x, order)], layout=PIXELS)], dim=1)
    if dropout_p:
        y = apply("dropout", [y], p=dropout_p)
    return permuted(y, (0, *range(2, x.ndim), 1))


def causal(rows: int, columns: int) -> np.ndarray:
    """What is added to scores so that no query sees a key behind it."""
    return np.where(np.tri(rows, columns, dtype=bool), np.float32(0), np.float32(-INFINITY))


def _attended(scores: Tensor, masked: bool, dropout_p: float) -> Tensor:
    """The weights. A row of which everything is masked gets zeros."""
    weights = last_softmax(scores, dropout_p)
    return where(eq(scores, -INFINITY), 0.0, weights) if masked else weights


def _probability(op: str, value) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        fail(op, f"dropout_p={value!r}: expected a number from 0 to 1", TypeError if isinstance(value, str) else ValueError)
    return float(value)


@function(samples=lambda: [sample((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 4)), sample((5, 8), (7, 8), (7, 8)),
                           sample((2, 5, 8), (2, 7, 8), (2, 7, 8), is_causal=True),
                           sample((4, 8), (4, 8), (4, 8), scale=0.5),
                           sample((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8), attn_mask=(5, 7)),
                           sample((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8), attn_mask=mask(2, 1, 5, 7)),
                           sample((2, 6, 5, 8), (2, 2, 7, 8), (2, 2, 7, 8), enable_gqa=True),
                           sample((1, 2, 40, 16), (1, 2, 33, 16), (1, 2, 33, 16))],
          wrong=lambda: [wrong(ValueError, "query of shape (5,)", (5,), (7, 8), (7, 8)),
                         wrong(ValueError, "key of shape (7, 6)", (5, 8), (7, 6), (7, 8)),
                         wrong(ValueError, "value of shape (6, 8)", (5, 8), (7, 8), (6, 8)),
                         wrong(ValueError, "attn_mask of shape (4, 7)", (5, 8), (7, 8), (7, 8), attn_mask=(4, 7)),
                         wrong(ValueError, "is_causal=True", (5, 8), (7, 8), (7, 8), attn_mask=(5, 7), is_causal=True),
                         wrong(ValueError, "dropout_p=2", (5, 8), (7, 8), (7, 8), dropout_p=2)])
def scaled_dot_product_attention(query: Array, key: Array, value: Array, attn_mask: Array | None = None,
                                 dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
                                 enable_gqa: bool = False) -> Array:
    """``softmax(scale * query @ key.T + mask) @ value``, as :func:`torch.nn.functional.scaled_dot_product_attention`.

    Parameters
    ----------
    query : array (N, ..., Hq, L, E)
    key : array (N, ..., H, S, E)
    value : array (N, ..., H, S, Ev)
        float32; dimensions before the last two are broadcast.
    attn_mask : array, bool or float32, broadcast to (N, ..., L, S), optional
        True where a query may see a key; or what is added to the scores.
    dropout_p : float, default 0
        Probability with which weights are zeroed.
    is_causal : bool, default False
        No query sees a key behind its own place; then there is no ``attn_mask``.
    scale : float, optional
        Default ``1 / sqrt(E)``.
    enable_gqa : bool, default False
        Query heads share those of key and value, Hq / H each.

    Returns
    -------
    array (N, ..., Hq, L, Ev)
    """
    op = "scaled_dot_product_attention"
    q, k, v = taken(op, query=query, key=key, value=value)
    dropout_p = _probability(op, dropout_p)
    for name, t in (("query", q), ("key", k), ("value", v)):
        if t.ndim < 2:
            fail(op, f"{name} of shape {tuple(t.shape)} has {t.ndim} dimensions: expected at least 2")
    if q.type.shape[-1] != k.type.shape[-1]:
        fail(op, f"key of shape {tuple(k.shape)}: expected {q.type.shape[-1]} features, as query has")
    if k.type.shape[-2] != v.type.shape[-2]:
        fail(op, f"value of shape {tuple(v.shape)}: expected {k.type.shape[-2]} places, as key has")
    if is_causal and attn_mask is not None:
        fail(op, "is_causal=True with attn_mask: expected one of the two")
    shape = q.type.shape
    if enable_gqa:
        if min(q.ndim, k.ndim, v.ndim) < 3 or shape[-3] % k.type.shape[-3] or k.type.shape[-3] != v.type.shape[-3]:
            fail(op, f"enable_gqa=True: query of shape {tuple(q.shape)}, key of shape {tuple(k.shape)}, value of shape "
                     f"{tuple(v.shape)}: heads of query must be a multiple of those of key and value")
        heads, share = k.type.shape[-3], shape[-3] // k.type.shape[-3]
        q = reshaped(op, q, (*shape[:-3], heads, share, *shape[-2:]))
        k, v = (reshaped(op, t, (*t.type.shape[:-2], 1, *t.type.shape[-2:])) for t in (k, v))
    lead = max(t.ndim for t in (q, k, v)) - 2
    names = ascii_letters[5:5 + lead]
    a, b, c = (names[lead - (t.ndim - 2):] for t in (q, k, v))
    rows, columns = q.type.shape[-2], k.type.shape[-2]
    added, hidden = None, False
    if is_causal:
        added, hidden = as_tensor(op, "the causal mask", causal(rows, columns)), False
    elif attn_mask is not None:
        added, hidden = _bias(op, "attn_mask", attn_mask, False)
        leading = np.broadcast_shapes(q.type.shape[:-2], k.type.shape[:-2])
        _fits(op, "attn_mask", added, (*leading, rows, columns), enable_gqa)
        if enable_gqa and added.ndim > 2:
            m = added.type.shape
            added = reshaped(op, added, (*m[:-3], *((heads, share) if m[-3] > 1 else (1, 1)), *m[-2:]))
    factor = 1 / math.sqrt(max(1, q.type.shape[-1])) if scale is None else float(scale)
    scores = contract(q, k, f"{a}ab,{b}cb->{names[-max(len(a), len(b)):] if a or b else ''}ac", added, factor)
    weights = _attended(scores, hidden, dropout_p)
    left = names[lead - (weights.ndim - 2):]
    out = contract(weights, v, f"{left}ac,{c}ce->{names}ae")
    return reshaped(op, out, (*out.type.shape[:-4], shape[-3], *out.type.shape[-2:])) if enable_gqa else out


def _bias(op: str, name: str, value, true_hides: bool) -> tuple[Tensor, bool]:
    """A mask as what is added to scores, and whether whole rows may be hidden by it."""
    t = as_tensor(op, name, value)
    if t.dtype == "bool":
        return where(t, -INFINITY if true_hides else 0.0, 0.0 if true_hides else -INFINITY), True
    if t.dtype != "float32":
        fail(op, f"{name} has dtype {t.dtype}: expected bool or float32", TypeError)
    return t, False


def _fits(op: str, name: str, t: Tensor, shape: tuple, split: bool) -> None:
    if split:
        shape = (*shape[:-4], shape[-4] * shape[-3], *shape[-2:])
    given = t.type.shape
    if len(given) > len(shape) or any(x not in (1, y) for x, y in zip(given[::-1], shape[::-1], strict=False)):
        fail(op, f"{name} of shape {tuple(given)} cannot be broadcast to {tuple(shape)}")


# ---- several heads ------------------------------------------------------------------------------------------------------


def projections(op: str, given: tuple, in_weight, in_bias, separate: tuple | None) -> list[tuple]:
    """(input, weight, bias) of query, key and value."""
    width = given[0].type.shape[-1]
    if separate is None:
        (w,) = taken(op, 2, in_proj_weight=in_weight)
        weights = [sliced(w, 0, i * width, width) for i in range(3)]
    else:
        weights = [taken(op, 2, **{name: value})[0]
                   for name, value in zip(("q_proj_weight", "k_proj_weight", "v_proj_weight"), separate, strict=True)]
    biases: list = [None] * 3
    if in_bias is not None:
        (b,) = taken(op, 1, in_proj_bias=in_bias)
        biases = [sliced(b, 0, i * width, width) for i in range(3)]
    return list(zip(given, weights, biases, strict=True))


def attend(op: str, query: Tensor, heads: int, triples: list, out_weight, out_bias, batch_first: bool,
           masks: list[tuple[Tensor, bool]], dropout_p: float, need_weights: bool, average: bool, bias_k=None, bias_v=None,
           zero: bool = False):
    """Attention of (L, N, E), or (N, L, E) where ``batch_first``, or (L, E): the result, and the weights (N, heads, L, S) or
    None.

    ``masks`` are added to the scores (N, heads, L, S).
    """
    one_only = query.ndim == 2
    width, size = triples[0][1].type.shape[0], triples[0][1].type.shape[0] // heads
    names = ["le", "se", "se"] if one_only else ["nle", "nse", "nse"] if batch_first else ["lne", "sne", "sne"]
    outs = ["hld", "hsd", "hsd"] if one_only else ["nhld", "nhsd", "nhsd"]
    made = []
    for (x, w, b), name, out in zip(triples, names, outs, strict=True):
        w3 = reshaped(op, w, (heads, size, x.type.shape[-1]))
        made.append(contract(x, w3, f"{name},hde->{out}", None if b is None else reshaped(op, b, (heads, 1, size))))
    q, k, v = made
    more = [(bias_k, bias_v)] if bias_k is not None else []
    more += [(np.zeros((1, 1, width), np.float32),) * 2] if zero else []
    for extra_k, extra_v in more:
        k, v = (_longer(op, t, extra, heads, size) for t, extra in ((k, extra_k), (v, extra_v)))
        masks = [(_longer_mask(m), hides) for m, hides in masks]
    added = None
    for m, _ in masks:
        added = m if added is None else _sum(added, m)
    head = "h" if one_only else "nh"
    scores = contract(q, k, f"{head}ld,{head}sd->{head}ls", added, 1 / math.sqrt(size))
    dropped = last_softmax(scores, dropout_p)
    result = contract(dropped, v, f"{head}ls,{head}sd->{head[:-1]}lhd")
    (w,) = taken(op, 2, out_proj_weight=out_weight)
    order = "le" if one_only else "nle" if batch_first else "lne"
    y = contract(result, reshaped(op, w, (w.type.shape[0], heads, size)), f"{head[:-1]}lhd,ehd->{order}", out_bias)
    if not need_weights:
        return y, None
    if not average:
        return y, dropped
    unit = as_tensor(op, "1", one())
    return y, contract(dropped, unit, f"{head}ls,->{head[:-1]}ls", None, 1 / heads)


def _longer(op: str, t: Tensor, extra, heads: int, size: int) -> Tensor:
    """Keys or values with one more behind them, the same for all of the batch."""
    row = reshaped(op, as_tensor(op, "bias_k", extra), (*(1,) * (t.ndim - 3), heads, 1, size))
    return cat([t, expanded(op, row, (*t.type.shape[:-2], 1, size), "bias")], t.ndim - 2)


def _longer_mask(m: Tensor) -> Tensor:
    from fastconv.functional.pad import pad

    return m if m.type.shape[-1] == 1 else pad(m, (0, 1))


def _sum(a: Tensor, b: Tensor) -> Tensor:
    """Two masks, broadcast."""
    rank = max(a.ndim, b.ndim)
    names, extents, left = ascii_letters[:rank], {}, ""
    shapes = [(1,) * (rank - t.ndim) + t.type.shape for t in (a, b)]
    for i, (x, y) in enumerate(zip(*shapes, strict=True)):
        if i >= rank - a.ndim and (x != 1 or y == 1):
            left += names[i]
        elif i >= rank - a.ndim:
            left += ascii_letters[rank + i]
            extents[names[i]] = y
        else:
            extents[names[i]] = y
    return contract(a, as_tensor("mask", "1", one()), f"{left},->{names}", b, extents=extents)


@function(samples=lambda: [
    sample((5, 2, 8), (7, 2, 8), (7, 2, 8), 8, 2, (24, 8), (24,), None, None, False, 0.0, (8, 8), (8,)),
    sample((5, 8), (7, 8), (7, 8), 8, 2, (24, 8), None, None, None, False, 0.0, (8, 8), None, need_weights=False),
    sample((5, 2, 8), (7, 2, 6), (7, 2, 4), 8, 4, None, (24,), None, None, False, 0.0, (8, 8), (8,), attn_mask=(5, 7),
           use_separate_proj_weight=True, q_proj_weight=(8, 8), k_proj_weight=(8, 6), v_proj_weight=(8, 4),
           average_attn_weights=False),
    sample((5, 2, 8), (7, 2, 8), (7, 2, 8), 8, 2, (24, 8), (24,), (1, 1, 8), (1, 1, 8), True, 0.0, (8, 8), (8,))],
    wrong=lambda: [
        wrong(ValueError, "embed_dim_to_check=6", (5, 2, 8), (7, 2, 8), (7, 2, 8), 6, 2, (24, 8), (24,), None, None, False,
              0.0, (8, 8), (8,)),
        wrong(ValueError, "num_heads=3", (5, 2, 8), (7, 2, 8), (7, 2, 8), 8, 3, (24, 8), (24,), None, None, False, 0.0,
              (8, 8), (8,))])
def multi_head_attention_forward(query: Array, key: Array, value: Array, embed_dim_to_check: int, num_heads: int,
                                 in_proj_weight: Array | None, in_proj_bias: Array | None, bias_k: Array | None,
                                 bias_v: Array | None, add_zero_attn: bool, dropout_p: float, out_proj_weight: Array,
                                 out_proj_bias: Array | None, training: bool = True, key_padding_mask: Array | None = None,
                                 need_weights: bool = True, attn_mask: Array | None = None,
                                 use_separate_proj_weight: bool = False, q_proj_weight: Array | None = None,
                                 k_proj_weight: Array | None = None, v_proj_weight: Array | None = None,
                                 static_k: None = None, static_v: None = None, average_attn_weights: bool = True,
                                 is_causal: bool = False):
    """Attention of several heads between projections, as :func:`torch.nn.functional.multi_head_attention_forward`.

    Parameters
    ----------
    query : array (L, N, E) or (L, E)
    key, value : array (S, N, ...) or (S, ...)
        float32. What the weights mean is said at :class:`fastconv.nn.MultiheadAttention`.
    key_padding_mask : array (N, S) or (S,), bool (True hides a key) or float32, optional
    attn_mask : array (L, S) or (N * num_heads, L, S), bool (True hides) or float32, optional

    Returns
    -------
    array (L, N, E), and the weights (N, L, S), (N, num_heads, L, S) without ``average_attn_weights``, None without
    ``need_weights``
    """
    op = "multi_head_attention_forward"
    if static_k is not None or static_v is not None:
        fail(op, "static_k and static_v: expected None")
    separate = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else None
    return multi_head(op, query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias, separate, bias_k,
                      bias_v, add_zero_attn, _probability(op, dropout_p) if training else 0.0, out_proj_weight,
                      out_proj_bias, False, key_padding_mask, need_weights, attn_mask, average_attn_weights)


def multi_head(op: str, query, key, value, width: int, heads: int, in_weight, in_bias, separate: tuple | None, bias_k,
               bias_v, zero: bool, dropout_p: float, out_weight, out_bias, batch_first: bool, key_padding_mask,
               need_weights: bool, attn_mask, average: bool):
    """What the function and the module share."""
    q, k, v = taken(op, query=query, key=key, value=value)
    if q.ndim not in (2, 3):
        fail(op, f"query of shape {tuple(q.shape)} has {q.ndim} dimensions: expected 2 or 3")
    if k.ndim != q.ndim or v.ndim != q.ndim or k.type.shape[:-1] != v.type.shape[:-1]:
        fail(op, f"key of shape {tuple(k.shape)} and value of shape {tuple(v.shape)}: expected {q.ndim} dimensions, and all "
                 "but the last extents equal")
    if q.type.shape[-1] != width:
        fail(op, f"query of shape {tuple(q.shape)}: expected embed_dim_to_check={width} features")
    if width % heads:
        fail(op, f"num_heads={heads} does not divide the {width} features")
    at = 0 if batch_first else 1
    if q.ndim == 3 and q.type.shape[at] != k.type.shape[at]:
        fail(op, f"query of shape {tuple(q.shape)} and key of shape {tuple(k.shape)}: expected the same batch")
    triples = projections(op, (q, k, v), in_weight, in_bias, separate)
    rows, columns = q.type.shape[1 - at if q.ndim == 3 else 0], k.type.shape[1 - at if q.ndim == 3 else 0]
    batch = q.type.shape[at] if q.ndim == 3 else 1
    masks = []
    if attn_mask is not None:
        m, hides = _bias(op, "attn_mask", attn_mask, True)
        if m.type.shape not in ((rows, columns), (batch * heads, rows, columns)):
            fail(op, f"attn_mask of shape {m.type.shape}: expected {(rows, columns)} or {(batch * heads, rows, columns)}")
        if m.ndim == 3 and q.ndim == 3:
            m = reshaped(op, m, (batch, heads, rows, columns))
        masks.append((m, hides))
    if key_padding_mask is not None:
        m, hides = _bias(op, "key_padding_mask", key_padding_mask, True)
        if m.type.shape != ((batch, columns) if q.ndim == 3 else (columns,)):
            fail(op, f"key_padding_mask of shape {m.type.shape}: expected {(batch, columns) if q.ndim == 3 else (columns,)}")
        masks.append((reshaped(op, m, (batch, 1, 1, columns) if q.ndim == 3 else (1, 1, columns)), hides))
    return attend(op, q, heads, triples, out_weight, out_bias, batch_first, masks, dropout_p, need_weights, average, bias_k,
                  bias_v, zero)
