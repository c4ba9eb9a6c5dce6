"""Layers over tables of rows."""

from __future__ import annotations

import numpy as np

from fastconv._values import shown
from fastconv.functional.indexing import embedding
from fastconv.functional.tables import MODES, embedding_bag
from fastconv.graph.parameter import filled
from fastconv.nn import init
from fastconv.nn._check import choice, flag, integer, number
from fastconv.nn.module import Module


class _Table(Module):
    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx, max_norm, norm_type,
                 scale_grad_by_freq, sparse):
        super().__init__()
        layer = type(self).__name__
        self.num_embeddings = integer(layer, "num_embeddings", num_embeddings, 1)
        self.embedding_dim = integer(layer, "embedding_dim", embedding_dim, 1)
        self.padding_idx = padding_idx
        if padding_idx is not None:
            at = integer(layer, "padding_idx", padding_idx, -self.num_embeddings)
            if at >= self.num_embeddings:
                raise ValueError(f"{layer}: padding_idx={shown(padding_idx)} must be below num_embeddings={num_embeddings}")
            self.padding_idx = at % self.num_embeddings
        self.max_norm = max_norm if max_norm is None else number(layer, "max_norm", max_norm, 0, float("inf"))
        self.norm_type = number(layer, "norm_type", norm_type, 0, float("inf"))
        if not self.norm_type:
            raise ValueError(f"{layer}: norm_type={shown(norm_type)} must be above 0")
        self.scale_grad_by_freq = flag(layer, "scale_grad_by_freq", scale_grad_by_freq)
        self.sparse = flag(layer, "sparse", sparse)
        self.weight = filled(layer, "weight", (self.num_embeddings, self.embedding_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's initial values: a normal distribution, and zeros for ``padding_idx``."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            values = self.weight.numpy()
            values[self.padding_idx] = 0
            self.weight.data = values

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        return text if self.padding_idx is None else f"{text}, padding_idx={self.padding_idx}"


class Embedding(_Table):
    """Rows of a table, for integers: ``weight[input]``, as ``torch.nn.Embedding``.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        The table's rows and columns.
    padding_idx : int, optional
        A row of zeros that is not trained.
    max_norm, norm_type
        Rows whose norm is larger are scaled to it as they are read; see :func:`functional.embedding`.
    scale_grad_by_freq : bool, default False
        Gradients of a row divided by how often it is read.
    sparse : bool
        Gradients are always dense: it changes nothing.

    Attributes
    ----------
    weight : Parameter
        (num_embeddings, embedding_dim).
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None,
                 max_norm: float | None = None, norm_type: float = 2.0, scale_grad_by_freq: bool = False,
                 sparse: bool = False):
        super().__init__(num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)

    @classmethod
    def from_pretrained(cls, embeddings, freeze: bool = True, **keywords):
        """A layer with this table (float32, two dimensions); not trained where ``freeze``."""
        table = np.asarray(embeddings)
        if table.dtype != np.float32 or table.ndim != 2:
            raise TypeError(f"{cls.__name__}: embeddings of dtype {table.dtype} and shape {table.shape}: expected float32 "
                            "and two dimensions")
        made = cls(*table.shape, **keywords)
        made.weight.data = table
        made.weight.requires_grad = not flag(cls.__name__, "freeze", freeze)
        return made

    def forward(self, input):
        return embedding(input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq,
                         self.sparse)


class EmbeddingBag(_Table):
    """Sums, means or largest values of rows of a table, as ``torch.nn.EmbeddingBag``; see :func:`functional.embedding_bag`.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
    mode : {"mean", "sum", "max"}
    include_last_offset : bool
        Whether the last offset is where the last bag ends.
    padding_idx : int, optional
        A row that counts nowhere.
    max_norm, norm_type, scale_grad_by_freq, sparse
        As for :class:`Embedding`.

    Attributes
    ----------
    weight : Parameter
        (num_embeddings, embedding_dim).
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, max_norm: float | None = None, norm_type: float = 2.0,
                 scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False,
                 include_last_offset: bool = False, padding_idx: int | None = None):
        super().__init__(num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
        layer = type(self).__name__
        self.mode = choice(layer, "mode", mode, MODES)
        self.include_last_offset = flag(layer, "include_last_offset", include_last_offset)

    def forward(self, input, offsets=None, per_sample_weights=None):
        return embedding_bag(input, self.weight, offsets, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.mode,
                             self.sparse, per_sample_weights, self.include_last_offset, self.padding_idx)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mode={self.mode!r}"
