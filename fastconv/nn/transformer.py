"""The transformer's layers: attention, a network per position, and normalisation around them (Vaswani et al., 2017)."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np

from fastconv._values import shown
from fastconv.functional.activation import gelu, relu
from fastconv.graph.ir import Tensor, fail
from fastconv.nn import init
from fastconv.nn._check import LARGEST, flag, integer, number, speaking_for
from fastconv.nn.attention import MultiheadAttention
from fastconv.nn.containers import ModuleList
from fastconv.nn.linear import Dropout, Linear
from fastconv.nn.module import Module
from fastconv.nn.normalization import LayerNorm, _nothing
from fastconv.nn.recurrent import MOST_LAYERS

__all__ = ["Transformer", "TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder", "TransformerEncoderLayer"]

_NAMED: dict[str, Callable] = {"relu": relu, "gelu": gelu}


class _Arguments(Module):
    """The arguments that layers and whole have in common."""

    def _take(self, d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first,
              bias) -> None:
        layer = type(self).__name__
        self.d_model, self.nhead = integer(layer, "d_model", d_model, 1), integer(layer, "nhead", nhead, 1)
        if self.d_model % self.nhead:
            raise ValueError(f"{layer}: nhead={shown(nhead)} does not divide d_model={shown(d_model)}")
        self.dim_feedforward = integer(layer, "dim_feedforward", dim_feedforward, 1)
        self.rate = number(layer, "dropout", dropout, 0, 1)
        if not callable(activation) and not (isinstance(activation, str) and activation in _NAMED):
            raise ValueError(f"{layer}: activation={shown(activation)}: expected 'relu', 'gelu', or a function of a tensor")
        self.activation = activation
        self.layer_norm_eps = number(layer, "layer_norm_eps", layer_norm_eps, 0, LARGEST)
        self.batch_first, self.norm_first = flag(layer, "batch_first", batch_first), flag(layer, "norm_first", norm_first)
        self.bias = flag(layer, "bias", bias)


class _Layer(_Arguments):
    """What both layers share: attention to oneself, two linear maps, a normalisation per part."""

    parts = 2  # that are normalised

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
                 activation: str | Callable = "relu", layer_norm_eps: float = 1e-5, batch_first: bool = False,
                 norm_first: bool = False, bias: bool = True, device=None, dtype=None):
        super().__init__()
        _nothing(type(self).__name__, device=device, dtype=dtype)
        self._take(d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias)
        rate, biased = self.rate, self.bias

        def attention() -> MultiheadAttention:
            return MultiheadAttention(self.d_model, self.nhead, rate, biased, batch_first=self.batch_first)

        layer = type(self).__name__
        with speaking_for(layer, "MultiheadAttention"), speaking_for(layer, "Linear"):
            self.self_attn = attention()
            if self.parts == 3:
                self.multihead_attn = attention()
            self.linear1 = Linear(self.d_model, self.dim_feedforward, biased)
            self.dropout = Dropout(rate)
            self.linear2 = Linear(self.dim_feedforward, self.d_model, biased)
        for i in range(1, self.parts + 1):
            self.add_module(f"norm{i}", LayerNorm(self.d_model, self.layer_norm_eps, bias=biased))
        for i in range(1, self.parts + 1):
            self.add_module(f"dropout{i}", Dropout(rate))

    def _attend(self, attention: Module, dropout: Module, x, memory, mask, padding, causal: bool):
        return dropout(attention(x, memory, memory, key_padding_mask=padding, need_weights=False, attn_mask=mask,
                                 is_causal=causal and mask is not None)[0])

    def _feed(self, dropout: Module, x):
        act = _NAMED[self.activation] if isinstance(self.activation, str) else self.activation
        return dropout(self.linear2(self.dropout(act(self.linear1(x)))))

    def _add(self, x, norm: Module, part: Callable):
        """A part with its residual, and the normalisation before or behind it."""
        return x + part(norm(x)) if self.norm_first else norm(x + part(x))

    def extra_repr(self) -> str:
        return f"{self.d_model}, {self.nhead}, dim_feedforward={self.dim_feedforward}"


def _taken(module: Module, **given) -> None:
    for name, x in given.items():
        if not isinstance(x, Tensor):
            fail(type(module).__name__, f"{name} is a {type(x).__name__}: expected a tensor", TypeError)


class TransformerEncoderLayer(_Layer):
    """Attention of a sequence to itself and a network per position, as ``torch.nn.TransformerEncoderLayer``.

    Parameters
    ----------
    d_model : int
        Features.
    nhead : int
        Heads of the attention; divides ``d_model``.
    dim_feedforward : int, default 2048
    dropout : float, default 0.1
        In training: of the attention's weights, inside the network and of either's result.
    activation : {"relu", "gelu"} or function of a tensor, default "relu"
    layer_norm_eps : float, default 1e-5
    batch_first : bool, default False
        Whether arrays are (N, L, E) rather than (L, N, E); (L, E) is one without a batch.
    norm_first : bool, default False
        Whether the normalisation is in front of attention and network rather than behind the sum.
    bias : bool, default True
        Of the linear maps and the normalisations.

    Raises
    ------
    TypeError, ValueError
        At construction, naming argument, value and rule.
    """

    def forward(self, src, src_mask=None, src_key_padding_mask=None, is_causal: bool = False):
        """As :class:`MultiheadAttention` of ``src`` to itself, masks too; the result has the shape of ``src``."""
        _taken(self, src=src)
        if is_causal and src_mask is None:
            fail(type(self).__name__, "is_causal=True without src_mask: it says what kind of mask is given")
        x = self._add(src, self.norm1, lambda x: self._attend(
            self.self_attn, self.dropout1, x, x, src_mask, src_key_padding_mask, is_causal))
        return self._add(x, self.norm2, lambda x: self._feed(self.dropout2, x))


class TransformerDecoderLayer(_Layer):
    """Attention of a sequence to itself and to the encoder's result, and a network per position, as
    ``torch.nn.TransformerDecoderLayer``. Arguments are those of :class:`TransformerEncoderLayer`."""

    parts = 3

    def forward(self, tgt, memory, tgt_mask=None, memory_mask=None, tgt_key_padding_mask=None,
                memory_key_padding_mask=None, tgt_is_causal: bool = False, memory_is_causal: bool = False):
        """``tgt`` attends to itself, then to ``memory``; masks are those of :class:`MultiheadAttention`."""
        _taken(self, tgt=tgt, memory=memory)
        for name, causal, mask in (("tgt", tgt_is_causal, tgt_mask), ("memory", memory_is_causal, memory_mask)):
            if causal and mask is None:
                fail(type(self).__name__, f"{name}_is_causal=True without {name}_mask: it says what kind of mask is given")
        x = self._add(tgt, self.norm1, lambda x: self._attend(
            self.self_attn, self.dropout1, x, x, tgt_mask, tgt_key_padding_mask, tgt_is_causal))
        x = self._add(x, self.norm2, lambda x: self._attend(
            self.multihead_attn, self.dropout2, x, memory, memory_mask, memory_key_padding_mask, memory_is_causal))
        return self._add(x, self.norm3, lambda x: self._feed(self.dropout3, x))


def _layers(layer: str, name: str, value) -> int:
    """A number of layers, each of which has weights of its own."""
    value = integer(layer, name, value, 1)
    if value > MOST_LAYERS:
        raise ValueError(f"{layer}: {name}={shown(value)}: expected at most {MOST_LAYERS}")
    return value


class _Stack(Module):
    """Copies of a layer, one behind the other, and a normalisation behind them."""

    given = ""

    def __init__(self, layer, num_layers: int, norm: Module | None = None):
        super().__init__()
        name = type(self).__name__
        for what, value in ((self.given, layer), ("norm", norm)):
            if not isinstance(value, Module) and not (what == "norm" and value is None):
                raise TypeError(f"{name}: {what} is a {type(value).__name__}: expected a module")
        self.num_layers = _layers(name, "num_layers", num_layers)
        self.layers = ModuleList([copy.deepcopy(layer) for _ in range(self.num_layers)])
        self.norm = norm

    def _behind(self, x):
        return x if self.norm is None else self.norm(x)


class TransformerEncoder(_Stack):
    """Copies of an encoder layer, one behind the other, as ``torch.nn.TransformerEncoder``.

    Parameters
    ----------
    encoder_layer : Module
        Each copy has its initial values and parameters of its own.
    num_layers : int
    norm : Module, optional
        What is done with the result.
    enable_nested_tensor, mask_check : bool
        Change nothing here.
    """

    given = "encoder_layer"

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None,
                 enable_nested_tensor: bool = True, mask_check: bool = True):
        super().__init__(encoder_layer, num_layers, norm)
        self.enable_nested_tensor = flag("TransformerEncoder", "enable_nested_tensor", enable_nested_tensor)
        self.mask_check = flag("TransformerEncoder", "mask_check", mask_check)

    @property
    def encoder_layer(self) -> Module:
        """The first of the layers."""
        return self.layers[0]

    def forward(self, src, mask=None, src_key_padding_mask=None, is_causal: bool | None = None):
        """``src`` through all layers, each with these masks."""
        for layer in self.layers:
            src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask, is_causal=bool(is_causal))
        return self._behind(src)


class TransformerDecoder(_Stack):
    """Copies of a decoder layer, one behind the other, as ``torch.nn.TransformerDecoder``.

    Parameters
    ----------
    decoder_layer : Module
        Each copy has its initial values and parameters of its own.
    num_layers : int
    norm : Module, optional
        What is done with the result.
    """

    given = "decoder_layer"

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None):
        super().__init__(decoder_layer, num_layers, norm)

    @property
    def decoder_layer(self) -> Module:
        """The first of the layers."""
        return self.layers[0]

    def forward(self, tgt, memory, tgt_mask=None, memory_mask=None, tgt_key_padding_mask=None,
                memory_key_padding_mask=None, tgt_is_causal: bool | None = None, memory_is_causal: bool = False):
        """``tgt`` through all layers, each of which attends to ``memory``."""
        for layer in self.layers:
            tgt = layer(tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask, tgt_key_padding_mask=tgt_key_padding_mask,
                        memory_key_padding_mask=memory_key_padding_mask, tgt_is_causal=bool(tgt_is_causal),
                        memory_is_causal=memory_is_causal)
        return self._behind(tgt)


class Transformer(_Arguments):
    """Encoder and decoder, as ``torch.nn.Transformer``; of two inputs (source, target).

    Parameters
    ----------
    d_model : int, default 512
    nhead : int, default 8
    num_encoder_layers, num_decoder_layers : int, default 6
    dim_feedforward, dropout, activation
        As of :class:`TransformerEncoderLayer`.
    custom_encoder, custom_decoder : Module, optional
        Take the place of the encoder, the decoder.
    layer_norm_eps, batch_first, norm_first, bias
        As of :class:`TransformerEncoderLayer`.
    """

    def __init__(self, d_model: int = 512, nhead: int = 8, num_encoder_layers: int = 6, num_decoder_layers: int = 6,
                 dim_feedforward: int = 2048, dropout: float = 0.1, activation: str | Callable = "relu",
                 custom_encoder: Module | None = None, custom_decoder: Module | None = None, layer_norm_eps: float = 1e-5,
                 batch_first: bool = False, norm_first: bool = False, bias: bool = True, device=None, dtype=None):
        super().__init__()
        _nothing("Transformer", device=device, dtype=dtype)
        for name, value in (("custom_encoder", custom_encoder), ("custom_decoder", custom_decoder)):
            if value is not None and not isinstance(value, Module):
                raise TypeError(f"Transformer: {name} is a {type(value).__name__}: expected a module or None")
        self._take(d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias)
        self.num_encoder_layers = _layers("Transformer", "num_encoder_layers", num_encoder_layers)
        self.num_decoder_layers = _layers("Transformer", "num_decoder_layers", num_decoder_layers)
        given = (self.d_model, self.nhead, self.dim_feedforward, self.rate, activation, self.layer_norm_eps,
                 self.batch_first, self.norm_first, self.bias)
        self.dropout = self.rate
        self.custom_encoder_given, self.custom_decoder_given = custom_encoder is not None, custom_decoder is not None

        def norm() -> LayerNorm:
            return LayerNorm(self.d_model, self.layer_norm_eps, bias=self.bias)

        with speaking_for("Transformer", "TransformerEncoderLayer"), speaking_for("Transformer", "TransformerDecoderLayer"):
            self.encoder = custom_encoder if custom_encoder is not None else TransformerEncoder(
                TransformerEncoderLayer(*given), self.num_encoder_layers, norm())
            self.decoder = custom_decoder if custom_decoder is not None else TransformerDecoder(
                TransformerDecoderLayer(*given), self.num_decoder_layers, norm())
        self.reset_parameters()

    @property
    def custom_encoder(self) -> Module | None:
        """The encoder, where it was given."""
        return self.encoder if self.custom_encoder_given else None

    @property
    def custom_decoder(self) -> Module | None:
        """The decoder, where it was given."""
        return self.decoder if self.custom_decoder_given else None

    def reset_parameters(self) -> None:
        """PyTorch's initial values: Glorot's for whatever has more than one dimension."""
        for parameter in self.parameters():
            if len(parameter.shape) > 1:
                init.xavier_uniform_(parameter)

    def forward(self, src, tgt, src_mask=None, tgt_mask=None, memory_mask=None, src_key_padding_mask=None,
                tgt_key_padding_mask=None, memory_key_padding_mask=None, src_is_causal: bool | None = None,
                tgt_is_causal: bool | None = None, memory_is_causal: bool = False):
        """The decoder's result for ``tgt`` beside the encoder's for ``src``."""
        _taken(self, src=src, tgt=tgt)
        for name, x in (("src", src), ("tgt", tgt)):
            if x.ndim not in (2, 3) or x.type.shape[-1] != self.d_model or x.ndim != src.ndim:
                fail("Transformer", f"{name} of shape {tuple(x.type.shape)}: expected 2 or 3 dimensions, as many as src "
                                    f"has, and d_model={self.d_model} features")
        at = 0 if self.batch_first else 1
        if src.ndim == 3 and src.type.shape[at] != tgt.type.shape[at]:
            fail("Transformer", f"src of shape {tuple(src.type.shape)} and tgt of shape {tuple(tgt.type.shape)}: expected "
                                "the same batch")
        memory = self.encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal)
        return self.decoder(tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask,
                            tgt_key_padding_mask=tgt_key_padding_mask, memory_key_padding_mask=memory_key_padding_mask,
                            tgt_is_causal=tgt_is_causal, memory_is_causal=memory_is_causal)

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device=None, dtype=None) -> np.ndarray:
        """The mask (sz, sz) with which no position attends to a later one: -inf above the diagonal, 0 elsewhere."""
        _nothing("generate_square_subsequent_mask", device=device, dtype=dtype)
        sz = integer("generate_square_subsequent_mask", "sz", sz, 0)
        return np.triu(np.full((sz, sz), -np.inf, np.float32), 1)
