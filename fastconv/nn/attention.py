"""Attention of several heads, and the transformer's layers."""

from __future__ import annotations

from fastconv._values import shown
from fastconv.functional.attention import multi_head
from fastconv.graph.ir import Tensor, fail
from fastconv.graph.parameter import filled
from fastconv.nn import init
from fastconv.nn._check import flag, integer, number
from fastconv.nn.linear import Linear
from fastconv.nn.module import Module

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Attention of several heads between linear projections, as ``torch.nn.MultiheadAttention`` (Vaswani et al., 2017).

    Parameters
    ----------
    embed_dim : int
        Features of the query and of the result.
    num_heads : int
        Divides ``embed_dim``.
    dropout : float, default 0
        Of the weights, in training.
    bias : bool, default True
    add_bias_kv : bool, default False
        A learnt key and value behind those given.
    add_zero_attn : bool, default False
        A key and value of zeros behind those given.
    kdim, vdim : int, optional
        Features of keys and values; default ``embed_dim``.
    batch_first : bool, default False
        Whether arrays are (N, L, E) rather than (L, N, E); (L, E) is one without a batch.

    Attributes
    ----------
    in_proj_weight, in_proj_bias : Parameter
        (3 embed_dim, embed_dim), or ``q_proj_weight``, ``k_proj_weight`` and ``v_proj_weight`` where features differ;
        (3 embed_dim,).
    out_proj : Linear
    bias_k, bias_v : Parameter or None
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, add_bias_kv: bool = False,
                 add_zero_attn: bool = False, kdim: int | None = None, vdim: int | None = None, batch_first: bool = False):
        super().__init__()
        layer = type(self).__name__
        self.embed_dim = integer(layer, "embed_dim", embed_dim, 1)
        self.num_heads = integer(layer, "num_heads", num_heads, 1)
        if self.embed_dim % self.num_heads:
            raise ValueError(f"{layer}: num_heads={shown(num_heads)} does not divide embed_dim={shown(embed_dim)}")
        self.head_dim = self.embed_dim // self.num_heads
        self.dropout = number(layer, "dropout", dropout, 0, 1)
        self.kdim = self.embed_dim if kdim is None else integer(layer, "kdim", kdim, 1)
        self.vdim = self.embed_dim if vdim is None else integer(layer, "vdim", vdim, 1)
        self.batch_first = flag(layer, "batch_first", batch_first)
        self.add_zero_attn = flag(layer, "add_zero_attn", add_zero_attn)
        width = self.embed_dim
        same = self.kdim == width and self.vdim == width
        self.register_parameter("in_proj_weight", filled(layer, "in_proj_weight", (3 * width, width)) if same else None)
        for name, features in (("q", width), ("k", self.kdim), ("v", self.vdim)):
            name = f"{name}_proj_weight"
            self.register_parameter(name, None if same else filled(layer, name, (width, features)))
        self.bias = biased = flag(layer, "bias", bias)
        self.register_parameter("in_proj_bias", filled(layer, "in_proj_bias", (3 * width,)) if biased else None)
        self.out_proj = Linear(width, width, biased)
        self.add_bias_kv = more = flag(layer, "add_bias_kv", add_bias_kv)
        for name in ("bias_k", "bias_v"):
            self.register_parameter(name, filled(layer, name, (1, 1, width)) if more else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's initial values."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for bias in (self.bias_k, self.bias_v):
            if bias is not None:
                init.xavier_normal_(bias)

    def forward(self, query, key, value, key_padding_mask=None, need_weights: bool = True, attn_mask=None,
                average_attn_weights: bool = True, is_causal: bool = False):
        """The result and the weights, averaged over heads unless ``average_attn_weights`` is False; None without
        ``need_weights``. Masks are those of :func:`fastconv.functional.multi_head_attention_forward`."""
        layer = type(self).__name__
        for name, x in (("query", query), ("key", key), ("value", value)):
            if not isinstance(x, Tensor):
                fail(layer, f"{name} is a {type(x).__name__}: expected a tensor", TypeError)
        for name, x, features in (("key", key, self.kdim), ("value", value, self.vdim)):
            if x.ndim and x.type.shape[-1] != features:
                fail(layer, f"{name} of shape {tuple(x.type.shape)}: expected {name[0]}dim={features} features")
        if is_causal and attn_mask is None:
            fail(layer, "is_causal=True without attn_mask: it says what kind of mask is given")
        separate = None if self.in_proj_weight is not None else (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        return multi_head(layer, query, key, value, self.embed_dim, self.num_heads, self.in_proj_weight, self.in_proj_bias,
                          separate, self.bias_k, self.bias_v, self.add_zero_attn, self.dropout if self.training else 0.0,
                          self.out_proj.weight, self.out_proj.bias, self.batch_first, key_padding_mask, need_weights,
                          attn_mask, average_attn_weights)

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}" + (", batch_first=True" if self.batch_first else "")
