"""Matrix products of any rank, and einsum."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from math import prod
from string import ascii_letters

import numpy as np

from fastconv.functional.record import Array, Record, array, fail, function, sample, wrong
from fastconv.functional.structure import reshaped
from fastconv.graph.ir import Tensor
from fastconv.ops.copy import cast
from fastconv.ops.matmul import contract as contract_floats
from fastconv.ops.matmul import one, parts
from fastconv.ops.views import tensor as as_tensor

__all__ = ["addbmm", "addmm", "addmv", "addr", "baddbmm", "bilinear", "bmm", "chain_matmul", "dot", "einsum",
           "inner", "kron", "matmul", "mm", "mv", "outer", "tensordot", "vdot"]


WHOLE = ("int64", "int32", "uint8", "int8")


def taken(op: str, rank: int | None = None, **tensors) -> list[Tensor]:
    """Arguments as tensors of float32, of this rank where one is said."""
    found = []
    for name, value in tensors.items():
        value = as_tensor(op, name, value)
        if rank is not None and value.ndim != rank:
            fail(op, f"{name} of shape {tuple(value.shape)} has {value.ndim} dimensions: expected {rank}")
        if value.dtype != "float32":
            fail(op, f"{name} has dtype {value.dtype}: expected float32", TypeError)
        found.append(value)
    return found


def factors(op: str, rank: int | None = None, **tensors) -> list[Tensor]:
    """The same, or of one dtype of integers."""
    found = [as_tensor(op, name, value) for name, value in tensors.items()]
    if not any(t.dtype in WHOLE for t in found):
        return taken(op, rank, **dict(zip(tensors, found, strict=True)))
    for name, t in zip(tensors, found, strict=True):
        if rank is not None and t.ndim != rank:
            fail(op, f"{name} of shape {tuple(t.shape)} has {t.ndim} dimensions: expected {rank}")
        if t.dtype != found[0].dtype:
            fail(op, f"{name} has dtype {t.dtype}: expected {found[0].dtype}, as {next(iter(tensors))} has", TypeError)
    return found


def contract(a: Tensor, b: Tensor, spec: str, addend: Tensor | None = None, alpha: float = 1.0, beta: float = 1.0) -> Tensor:
    """A contraction of floats; or of integers, exact in int64, as a sum of products: all products lie in memory."""
    if a.dtype not in WHOLE and b.dtype not in WHOLE:
        return contract_floats(a, b, spec, addend, alpha, beta)
    if b.dtype != a.dtype:
        fail("matmul", f"operands have the dtypes {a.dtype} and {b.dtype}: expected one dtype", TypeError)
    left, right, out = parts(spec)
    order = list(dict.fromkeys(out + left + right))
    x, y = (_lined(t, labels, order) for t, labels in ((a, left), (b, right)))
    found = x * y
    if len(order) > len(out):
        found = found.sum(tuple(range(len(out), len(order))))  # type: ignore[attr-defined]
    for name, number in (("alpha", alpha), ("beta", beta)):
        if number != int(number):
            fail("matmul", f"{name}={number}: expected an integer, as the arrays are of integers")
    found = found if alpha == 1 else found * int(alpha)
    if addend is not None and beta != 0:
        if addend.dtype != a.dtype:
            fail("matmul", f"input has dtype {addend.dtype}: expected {a.dtype}", TypeError)
        found = found + (addend if beta == 1 else addend * int(beta))
    return cast(found, a.dtype)


def _lined(t: Tensor, labels: str, order: Sequence[str]) -> Tensor:
    """With a dimension for each of these labels, in their order."""
    turned = t.permute([labels.index(label) for label in order if label in labels])  # type: ignore[attr-defined]
    return turned[tuple(slice(None) if label in labels else None for label in order)]


def _fit(op: str, a: Tensor, b: Tensor, names: tuple[str, str], dims: tuple[int, int]) -> None:
    if a.type.shape[dims[0]] != b.type.shape[dims[1]]:
        fail(op, f"{names[0]} of shape {tuple(a.shape)} and {names[1]} of shape {tuple(b.shape)}: extent "
                 f"{a.type.shape[dims[0]]} of dimension {dims[0]} of the first must be that of dimension {dims[1]} of the "
                 "second")


def _number(op: str, name: str, value) -> float:
    if isinstance(value, (bool, complex)) or not isinstance(value, (int, float, np.integer, np.floating)):
        fail(op, f"{name}={value!r}: expected a number", TypeError)
    return float(value)


def _added(op: str, input, a: Tensor, b: Tensor, spec: str, beta, alpha) -> Tensor:
    (input,) = (factors if a.dtype in WHOLE else taken)(op, input=input)
    left, right, out = parts(spec)
    sizes = dict(zip(left, a.type.shape, strict=True)) | dict(zip(right, b.type.shape, strict=True))
    shape = tuple(sizes[label] for label in out)
    given = input.type.shape
    if len(given) > len(shape) or any(x not in (1, y) for x, y in zip(given[::-1], shape[::-1], strict=False)):
        fail(op, f"input of shape {tuple(given)} cannot be broadcast to the shape of the product, {shape}")
    return contract(a, b, spec, input, _number(op, "alpha", alpha), _number(op, "beta", beta))


@function(samples=lambda: [sample((3, 4), (4, 5)), sample((4,), (4,)), sample((2, 3, 4), (4,)), sample((4,), (2, 4, 3)),
                           sample((2, 1, 3, 4), (5, 4, 2)), sample((70, 65), (65, 33)), sample((2, 3, 1), (2, 1, 4))],
          wrong=lambda: [wrong(ValueError, "input of shape (2, 3)", (2, 3), (2, 3)),
                         wrong(ValueError, "0 dimensions", (), (3,)),
                         wrong(ValueError, "(2,) and (3,)", (2, 3, 4), (3, 4, 5))], method="matmul")
def matmul(input: Array, other: Array) -> Array:
    """Matrix product, as :func:`torch.matmul`.

    Parameters
    ----------
    input : array (..., M, K) or (K,)
    other : array (..., K, N) or (K,)
        What comes before the last two dimensions is broadcast. float32, or integers of one dtype: exact, and wrapping round
        as PyTorch's; their products all lie in memory, so that this is for small matrices.

    Returns
    -------
    array (..., M, N)
        Without the dimension that an operand of one dimension lacks.

    Raises
    ------
    ValueError
        Where shapes do not fit.
    """
    a, b = factors("matmul", input=input, other=other)
    for name, t in (("input", a), ("other", b)):
        if t.ndim == 0:
            fail("matmul", f"{name} has 0 dimensions: expected at least 1")
    _fit("matmul", a, b, ("input", "other"), (a.ndim - 1, max(0, b.ndim - 2)))
    left, right = max(0, a.ndim - 2), max(0, b.ndim - 2)
    many = max(left, right)
    first, second = a.type.shape[:left], b.type.shape[:right]
    if any(x != y and 1 not in (x, y) for x, y in zip(first[::-1], second[::-1], strict=False)):
        fail("matmul", f"input of shape {tuple(a.shape)} and other of shape {tuple(b.shape)}: dimensions {tuple(first)} and "
                       f"{tuple(second)} cannot be broadcast")
    batch = ascii_letters[3:3 + many]
    rows, columns = "a" if a.ndim > 1 else "", "c" if b.ndim > 1 else ""
    return contract(a, b, f"{batch[many - left:]}{rows}b,{batch[many - right:]}b{columns}->{batch}{rows}{columns}")


@function(samples=lambda: [sample((3, 4), (4, 5)), sample((300, 5), (5, 2))],
          wrong=lambda: [wrong(ValueError, "mat2 of shape (3, 5)", (3, 4), (3, 5)),
                         wrong(ValueError, "expected 2", (2, 3, 4), (4, 5))],
          method="mm")
def mm(input: Array, mat2: Array) -> Array:
    """Product of two matrices (M, K) and (K, N), float32. Raises ValueError where shapes do not fit."""
    a, b = factors("mm", 2, input=input, mat2=mat2)
    _fit("mm", a, b, ("input", "mat2"), (1, 0))
    return contract(a, b, "ab,bc->ac")


@function(samples=lambda: [sample((3, 4, 5), (3, 5, 2)), sample((2, 1, 70), (2, 70, 1))],
          wrong=lambda: [wrong(ValueError, "mat2 of shape (2, 5, 2)", (3, 4, 5), (2, 5, 2)),
                         wrong(ValueError, "expected 3", (4, 5), (5, 2))],
          method="bmm")
def bmm(input: Array, mat2: Array) -> Array:
    """Products of B pairs of matrices (B, M, K) and (B, K, N), float32. Raises ValueError where shapes do not fit."""
    a, b = factors("bmm", 3, input=input, mat2=mat2)
    _fit("bmm", a, b, ("input", "mat2"), (0, 0))
    _fit("bmm", a, b, ("input", "mat2"), (2, 1))
    return contract(a, b, "abc,acd->abd")


@function(samples=lambda: [sample((3, 4), (4,)),
                           sample((70, 130), (130,))], wrong=lambda: [wrong(ValueError, "vec of shape (3,)", (3, 4), (3,))],
          method="mv")
def mv(input: Array, vec: Array) -> Array:
    """Product of a matrix (M, K) and a vector (K,), float32. Raises ValueError where shapes do not fit."""
    (a,), (b,) = factors("mv", 2, input=input), factors("mv", 1, vec=vec)
    _fit("mv", a, b, ("input", "vec"), (1, 0))
    return contract(a, b, "ab,b->a")


@function(samples=lambda: [sample((5,), (5,)), sample((3000,), (3000,))],
          wrong=lambda: [wrong(ValueError, "tensor of shape (4,)", (5,), (4,)),
                         wrong(ValueError, "expected 1", (2, 2), (2, 2))], method="dot")
def dot(input: Array, tensor: Array) -> Array:
    """Sum of the products of two vectors (K,), float32. Raises ValueError where shapes do not fit."""
    a, b = factors("dot", 1, input=input, tensor=tensor)
    _fit("dot", a, b, ("input", "tensor"), (0, 0))
    return contract(a, b, "a,a->")


@function(samples=lambda: [sample((5,), (5,))], wrong=lambda: [wrong(ValueError, "other of shape (4,)", (5,), (4,))],
          method="vdot")
def vdot(input: Array, other: Array) -> Array:
    """:func:`dot`; of real numbers, the two are one."""
    a, b = factors("vdot", 1, input=input, other=other)
    _fit("vdot", a, b, ("input", "other"), (0, 0))
    return contract(a, b, "a,a->")


@function(samples=lambda: [sample((3, 5), (4, 5)), sample((5,), (2, 3, 5)), sample((2, 3, 4), (5, 4)), sample((), (2, 3))],
          wrong=lambda: [wrong(ValueError, "other of shape (4, 4)", (3, 5), (4, 4))], method="inner")
def inner(input: Array, other: Array) -> Array:
    """Sums of products over the last dimension of both, (..., K) and (..., K), for all pairs of the others; float32.

    Raises ValueError where the last extents differ."""
    a, b = factors("inner", input=input, other=other)
    if a.ndim == 0 or b.ndim == 0:
        labels = ascii_letters[:max(a.ndim, b.ndim)]
        return contract(a, b, f"{labels[:a.ndim]},{labels[:b.ndim]}->{labels}")
    _fit("inner", a, b, ("input", "other"), (a.ndim - 1, b.ndim - 1))
    left, right = ascii_letters[1:a.ndim], ascii_letters[a.ndim:a.ndim + b.ndim - 1]
    return contract(a, b, f"{left}a,{right}a->{left}{right}")


@function(samples=lambda: [sample((3,), (4,)),
                           sample((100,), (70,))], wrong=lambda: [wrong(ValueError, "expected 1", (3, 2), (4,))],
          method="outer")
def outer(input: Array, vec2: Array) -> Array:
    """All products of the elements of two vectors, (M,) and (N,), as (M, N); float32."""
    a, b = factors("outer", 1, input=input, vec2=vec2)
    return contract(a, b, "a,b->ab")


@function(samples=lambda: [sample((3, 5), (3, 4), (4, 5)), sample((5,), (3, 4), (4, 5), beta=0.5, alpha=2.0),
                           sample((), (3, 4), (4, 5), beta=0)],
          wrong=lambda: [wrong(ValueError, "mat2 of shape (3, 5)", (3, 5), (3, 4), (3, 5)),
                         wrong(ValueError, "cannot be broadcast", (2, 5), (3, 4), (4, 5)),
                         wrong(TypeError, "beta='a'", (3, 5), (3, 4), (4, 5), beta="a")], method="addmm")
def addmm(input: Array, mat1: Array, mat2: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    """``beta * input + alpha * mat1 @ mat2`` of (M, K) and (K, N); input is broadcast to (M, N), ignored where beta is 0."""
    a, b = factors("addmm", 2, mat1=mat1, mat2=mat2)
    _fit("addmm", a, b, ("mat1", "mat2"), (1, 0))
    return _added("addmm", input, a, b, "ab,bc->ac", beta, alpha)


@function(samples=lambda: [sample((3,), (3, 4), (4,)), sample((1,), (3, 4), (4,), beta=2.0, alpha=-1.0)],
          wrong=lambda: [wrong(ValueError, "vec of shape (3,)", (3,), (3, 4), (3,))], method="addmv")
def addmv(input: Array, mat: Array, vec: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    """``beta * input + alpha * mat @ vec`` of (M, K) and (K,); input is broadcast to (M,)."""
    (a,), (b,) = factors("addmv", 2, mat=mat), factors("addmv", 1, vec=vec)
    _fit("addmv", a, b, ("mat", "vec"), (1, 0))
    return _added("addmv", input, a, b, "ab,b->a", beta, alpha)


@function(samples=lambda: [sample((3, 4), (3,), (4,)), sample((4,), (3,), (4,), beta=0.5, alpha=3)],
          wrong=lambda: [wrong(ValueError, "cannot be broadcast", (3, 3), (3,), (4,))], method="addr")
def addr(input: Array, vec1: Array, vec2: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    """``beta * input + alpha * outer(vec1, vec2)``; input is broadcast to (M, N)."""
    a, b = factors("addr", 1, vec1=vec1, vec2=vec2)
    return _added("addr", input, a, b, "a,b->ab", beta, alpha)


@function(samples=lambda: [sample((2, 3, 5), (2, 3, 4), (2, 4, 5)),
                           sample((1, 5), (2, 3, 4), (2, 4, 5), beta=0.5, alpha=2.0)],
          wrong=lambda: [wrong(ValueError, "batch2 of shape (3, 4, 5)", (2, 3, 5), (2, 3, 4), (3, 4, 5))], method="baddbmm")
def baddbmm(input: Array, batch1: Array, batch2: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    """``beta * input + alpha * bmm(batch1, batch2)``; input is broadcast to (B, M, N)."""
    a, b = factors("baddbmm", 3, batch1=batch1, batch2=batch2)
    _fit("baddbmm", a, b, ("batch1", "batch2"), (0, 0))
    _fit("baddbmm", a, b, ("batch1", "batch2"), (2, 1))
    return _added("baddbmm", input, a, b, "abc,acd->abd", beta, alpha)


@function(samples=lambda: [sample((3, 5), (2, 3, 4), (2, 4, 5)), sample((5,), (2, 3, 4), (2, 4, 5), beta=0.5, alpha=2.0)],
          wrong=lambda: [wrong(ValueError, "batch2 of shape (3, 4, 5)", (3, 5), (2, 3, 4), (3, 4, 5))], method="addbmm")
def addbmm(input: Array, batch1: Array, batch2: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    """``beta * input + alpha * (the sum of the products of all pairs of matrices)``; input is broadcast to (M, N)."""
    a, b = factors("addbmm", 3, batch1=batch1, batch2=batch2)
    _fit("addbmm", a, b, ("batch1", "batch2"), (0, 0))
    _fit("addbmm", a, b, ("batch1", "batch2"), (2, 1))
    return _added("addbmm", input, a, b, "abc,acd->bd", beta, alpha)


@function(samples=lambda: [sample((2, 3, 4), (3, 4, 5), dims=2), sample((2, 3, 4), (5, 4, 3), dims=((1, 2), (2, 1))),
                           sample((2, 3), (4,), dims=0),
                           sample((3, 4, 5), (4, 3, 2), dims=([1, 0], [0, 1]))],
          wrong=lambda: [wrong(ValueError, "dims=5", (2, 3), (3, 2), dims=5),
                         wrong(ValueError, "dims=-1", (2, 3), (3, 2), dims=-1),
                         wrong(ValueError, "dimension 0 of the second", (2, 3), (2, 3), dims=1)])
def tensordot(a: Array, b: Array, dims=2, out=None) -> Array:
    """Sums of products over pairs of dimensions, as :func:`torch.tensordot`.

    Parameters
    ----------
    a, b : array
        float32.
    dims : int, or a pair of sequences of int
        How many of the last of ``a`` are paired with the first of ``b``; or which of each.

    Returns
    -------
    array
        The other dimensions of ``a``, then those of ``b``.
    """
    _unused("tensordot", out=out)
    x, y = factors("tensordot", a=a, b=b)
    if isinstance(dims, (int, np.integer)) and not isinstance(dims, bool):
        if not 0 <= dims <= min(x.ndim, y.ndim):
            fail("tensordot", f"dims={dims}: expected 0 to {min(x.ndim, y.ndim)}, for operands of shapes {tuple(x.shape)} "
                              f"and {tuple(y.shape)}")
        first, second = list(range(x.ndim - dims, x.ndim)), list(range(dims))
    else:
        try:
            first, second = ([d] if isinstance(d, int) else list(d) for d in dims)
        except (TypeError, ValueError):
            fail("tensordot", f"dims={dims!r}: expected an integer or a pair of sequences of dimensions", TypeError)
        if len(first) != len(second):
            fail("tensordot", f"dims={dims!r}: {len(first)} dimensions of a and {len(second)} of b")
    for name, t, chosen in (("a", x, first), ("b", y, second)):
        for d in chosen:
            if not isinstance(d, (int, np.integer)) or not -t.ndim <= d < t.ndim:
                fail("tensordot", f"dims={dims!r}: {name} of shape {tuple(t.shape)} has no dimension {d}",
                     IndexError if isinstance(d, int) else TypeError)
    first, second = [d % x.ndim for d in first], [d % y.ndim for d in second]
    for name, chosen in (("a", first), ("b", second)):
        if len(set(chosen)) < len(chosen):
            fail("tensordot", f"dims={dims!r}: a dimension of {name} occurs twice")
    left, right = list(ascii_letters[:x.ndim]), list(ascii_letters[x.ndim:x.ndim + y.ndim])
    for i, j in zip(first, second, strict=True):
        m, n = x.type.shape[i], y.type.shape[j]
        if m != n and 1 not in (m, n):
            _fit("tensordot", x, y, ("a", "b"), (i, j))
        right[j] = left[i]
    kept = [c for i, c in enumerate(left) if i not in first] + [c for j, c in enumerate(right) if j not in second]
    return contract(x, y, f"{''.join(left)},{''.join(right)}->{''.join(kept)}")


def _unused(op: str, **arguments) -> None:
    """Arguments of PyTorch's that are accepted where they change nothing."""
    for name, value in arguments.items():
        if value is not None:
            fail(op, f"{name}={value!r}: expected None", TypeError)


@function(samples=lambda: [sample((3, 4), (4, 5), (5, 2)),
                           sample((3, 4))], wrong=lambda: [wrong(ValueError, "must be that", (3, 4), (5, 2))],
          reference=lambda *m: np.linalg.multi_dot(m) if len(m) > 1 else m[0])
def chain_matmul(*matrices: Array) -> Array:
    """Product of several matrices, in the order of the fewest multiplications (of all ways of bracketing)."""
    found = [factors("chain_matmul", 2, **{f"matrices[{i}]": m})[0] for i, m in enumerate(matrices)]
    if not found:
        fail("chain_matmul", "no matrices given: expected at least 1")
    for i in range(len(found) - 1):
        _fit("chain_matmul", found[i], found[i + 1], (f"matrices[{i}]", f"matrices[{i + 1}]"), (1, 0))
    if len(found) == 1:
        return contract(found[0], as_tensor("chain_matmul", "1", one().astype(found[0].dtype)), "ab,->ab")
    size = [found[0].type.shape[0], *(m.type.shape[1] for m in found)]
    cost: dict[tuple[int, int], tuple[int, int]] = {(i, i): (0, i) for i in range(len(found))}
    for length in range(1, len(found)):
        for i in range(len(found) - length):
            j = i + length
            cost[i, j] = min((cost[i, k][0] + cost[k + 1, j][0] + size[i] * size[k + 1] * size[j + 1], k)
                             for k in range(i, j))

    def product(i: int, j: int) -> Tensor:
        return found[i] if i == j else contract(product(i, cost[i, j][1]), product(cost[i, j][1] + 1, j), "ab,bc->ac")

    return product(0, len(found) - 1)


@function(samples=lambda: [sample((3, 4), (3, 5), (2, 4, 5)), sample((2, 3, 4), (2, 3, 5), (2, 4, 5), (2,)),
                           sample((4,), (5,), (2, 4, 5), (2,))],
          wrong=lambda: [wrong(ValueError, "input2 of shape (2, 5)", (3, 4), (2, 5), (2, 4, 5)),
                         wrong(ValueError, "weight of shape (2, 5, 5)", (3, 4), (3, 5), (2, 5, 5)),
                         wrong(ValueError, "bias of shape (3,)", (3, 4), (3, 5), (2, 4, 5), (3,))])
def bilinear(input1: Array, input2: Array, weight: Array, bias: Array | None = None) -> Array:
    """``y[k] = x1^T weight[k] x2 + bias[k]``, as :func:`torch.nn.functional.bilinear`.

    Parameters
    ----------
    input1 : array (..., in1_features)
    input2 : array (..., in2_features)
    weight : array (out_features, in1_features, in2_features)
    bias : array (out_features,), optional
    """
    x, y = factors("bilinear", input1=input1, input2=input2)
    (w,) = factors("bilinear", 3, weight=weight)
    if x.ndim < 1 or x.type.shape[:-1] != y.type.shape[:-1] or x.ndim != y.ndim:
        fail("bilinear", f"input1 of shape {tuple(x.shape)} and input2 of shape {tuple(y.shape)}: all but the last extents "
                         "must be equal")
    if w.type.shape[1:] != (x.type.shape[-1], y.type.shape[-1]):
        fail("bilinear", f"weight of shape {tuple(w.shape)}: expected (out_features, {x.type.shape[-1]}, "
                         f"{y.type.shape[-1]})")
    d = None
    if bias is not None:
        (d,) = factors("bilinear", 1, bias=bias)
        if d.type.shape != (w.type.shape[0],):
            fail("bilinear", f"bias of shape {tuple(d.shape)}: expected ({w.type.shape[0]},)")
    batch = ascii_letters[3:2 + x.ndim]
    half = contract(x, w, f"{batch}b,abc->{batch}ac")
    return contract(half, y, f"{batch}ac,{batch}c->{batch}a", d)


@function(samples=lambda: [sample((2, 3), (4, 5)), sample((3,), (2, 4)), sample((2, 1, 3), (2, 2)), sample((), (3,))],
          wrong=lambda: [wrong(TypeError, "other has dtype int64", (2, 3), array(lambda g: np.arange(3)))], method="kron")
def kron(input: Array, other: Array) -> Array:
    """Kronecker product: each element of ``input`` replaced by its product with ``other``; float32, of any ranks.

    The shape is the product of both, the one of fewer dimensions with ones in front.
    """
    a, b = factors("kron", input=input, other=other)
    rank = max(a.ndim, b.ndim)
    left, right = ascii_letters[:rank], ascii_letters[rank:2 * rank]
    shapes = [(1,) * (rank - t.ndim) + t.type.shape for t in (a, b)]
    extents = {label: 1 for label in left[:rank - a.ndim] + right[:rank - b.ndim]}
    mixed = "".join(x + y for x, y in zip(left, right, strict=True))
    kept = "".join(label for label in mixed if label not in extents)  # at most 8 dimensions at a time
    y = contract(a, b, f"{left[rank - a.ndim:]},{right[rank - b.ndim:]}->{kept}")
    return reshaped("kron", y, tuple(m * n for m, n in zip(*shapes, strict=True)))


setattr(Tensor, "__matmul__", matmul)  # noqa: B010  (mypy)
setattr(Tensor, "__rmatmul__", lambda self, other: matmul(other, self))  # noqa: B010


def _linear(input: Array, weight: Array, bias: Array | None = None) -> Array:
    """``input @ weight.T + bias`` where input has any number of dimensions, (..., in_features)."""
    x, w = factors("linear", input=input, weight=weight)
    if x.ndim < 1:
        fail("linear", "input of shape () has 0 dimensions: expected at least 1, (..., in_features)")
    if w.ndim not in (1, 2):
        fail("linear", f"weight of shape {tuple(w.shape)}: expected (out_features, in_features) or (in_features,)")
    if w.type.shape[-1] != x.type.shape[-1]:
        fail("linear", f"input of shape {tuple(x.shape)} has {x.type.shape[-1]} features: weight of shape {tuple(w.shape)} "
                       f"expects in_features={w.type.shape[-1]}")
    d = None
    if bias is not None:
        (d,) = factors("linear", bias=bias)
        if d.type.shape != w.type.shape[:-1]:
            fail("linear", f"bias of shape {tuple(d.shape)}: expected {w.type.shape[:-1]}, one per output feature")
    batch, out = ascii_letters[2:1 + x.ndim], "a" if w.ndim == 2 else ""
    return contract(x, w, f"{batch}b,{out}b->{batch}{out}", d)


linear_any = Record(_linear, "linear", list, list, None, True)


# ---- einsum -------------------------------------------------------------------------------------------------------------


@function(name="einsum", samples=lambda: [sample("ij,jk->ik", (3, 4), (4, 5)), sample("ii->i", (4, 4)), sample("ii", (4, 4)),
                           sample("ij->ji", (3, 4)), sample("ij->", (3, 4)),
                           sample("...ij,...jk", (2, 1, 3, 4), (5, 4, 2)),
                           sample("bhqd,bhkd->bhqk", (2, 2, 5, 3), (2, 2, 4, 3)), sample("i,j,k->kij", (2,), (3,), (4,)),
                           sample("bn,anm,bm->ba", (2, 5), (3, 5, 4), (2, 4)), sample("ij , jk", (3, 4), (4, 5)),
                           sample("iji,j->i", (3, 4, 3), (4,)),
                           sample("i...->...", (3, 4, 2)), sample("ab,ab,ab->", (3, 4), (3, 4), (3, 4)),
                           sample("ijk,kji->", (3, 4, 5), (5, 4, 3))],
          wrong=lambda: [wrong(ValueError, "'i,j'", "i,j", (3,)), wrong(ValueError, "'ij->k'", "ij->k", (3, 4)),
                         wrong(ValueError, "extents 4 and 3", "ij,jk->ik", (3, 4), (3, 5)),
                         wrong(ValueError, "'ijk'", "ijk", (3, 4)), wrong(ValueError, "'i+'", "i+", (3, 4)),
                         wrong(ValueError, "'ij->ii'", "ij->ii", (3, 4))])
def _einsum(equation: str, *operands: Array) -> Array:
    """Sums of products by Einstein's convention, as :func:`torch.einsum`.

    Parameters
    ----------
    equation : str
        As ``"bik,bkj->bij"``: a letter per dimension. What is not behind the arrow is summed over; without an arrow the
        letters that occur once are kept, in alphabetical order. ``...`` stands for dimensions that are broadcast. A letter
        twice in an operand takes the diagonal.
    operands : arrays
        float32. Contracted two at a time, the cheapest pair first. Or operands and lists of integers 0 to 51 in turn,
        without an equation.

    Raises
    ------
    ValueError
        For an equation that the operands do not fit.
    """
    if not isinstance(equation, str):
        fail("einsum", f"equation is a {type(equation).__name__}: expected a string", TypeError)
    tensors = [factors("einsum", **{f"operands[{i}]": t})[0] for i, t in enumerate(operands)]
    for i, t in enumerate(tensors):
        if t.dtype != tensors[0].dtype:
            fail("einsum", f"operands[{i}] has dtype {t.dtype}: expected {tensors[0].dtype}, as operands[0] has", TypeError)
    terms, out = _parsed(equation, tensors)
    extents: dict[str, int] = {}
    for term, t in zip(terms, tensors, strict=True):
        for label, extent in zip(term, t.type.shape, strict=True):
            if extents.get(label, 1) == 1:
                extents[label] = extent
            elif extent not in (1, extents[label]):
                fail("einsum", f"equation {equation!r}: {label!r} has the extents {extents[label]} and {extent}")
    pairs = [_diagonals(t, term) for t, term in zip(tensors, terms, strict=True)]
    unit = as_tensor("einsum", "1", one().astype(tensors[0].dtype))
    if len(pairs) == 1:
        return contract(pairs[0][0], unit, f"{pairs[0][1]},->{out}")
    while len(pairs) > 1:
        best = min(((i, j) for j in range(len(pairs)) for i in range(j)),
                   key=lambda ij: (_cost(pairs[ij[0]][1], pairs[ij[1]][1], extents), ij)) if len(pairs) > 2 else (0, 1)
        (a, left), (b, right) = pairs[best[0]], pairs[best[1]]
        rest = [p for k, p in enumerate(pairs) if k not in best]
        kept = out if not rest else "".join(c for c in dict.fromkeys(left + right) if c in out + "".join(p[1] for p in rest))
        pairs = [(contract(a, b, f"{left},{right}->{kept}"), kept), *rest]
    return pairs[0][0]


@functools.wraps(_einsum)
def einsum(equation, *operands):
    if not isinstance(equation, str):
        equation, operands = _sublists(equation, operands)
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    return _einsum(equation, *operands)


def _cost(left: str, right: str, extents: dict[str, int]) -> float:
    return prod(extents[c] for c in set(left + right)) if set(left) & set(right) else float("inf")


def _sublists(first, rest: tuple) -> tuple[str, tuple]:
    """The form of operands and lists of integers in turn."""
    values = [first, *rest]
    lists = values[1::2] + ([values[-1]] if len(values) % 2 else [])
    if any(not isinstance(some, (list, tuple)) or not all(i is Ellipsis or isinstance(i, int) and 0 <= i < 52 for i in some)
           for some in lists):
        fail("einsum", "equation: expected a string, or operands and lists of integers from 0 to 51 in turn", TypeError)
    text = ["".join("..." if i is Ellipsis else ascii_letters[i] for i in some) for some in lists]
    operands = tuple(values[: len(values) // 2 * 2: 2])
    return (",".join(text[:-1]) + "->" + text[-1] if len(values) % 2 else ",".join(text)), operands


def _parsed(equation: str, tensors: Sequence[Tensor]) -> tuple[list[str], str]:
    """The letters of each operand and of the result; an ellipsis as letters that the equation has not."""
    def refuse(why: str) -> None:
        fail("einsum", f"equation {equation!r}: {why}")

    text = equation.replace(" ", "")
    inputs, arrow, result = text.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(tensors):
        refuse(f"{len(terms)} operands, {len(tensors)} are given")
    for term in [*terms, *([result] if arrow else [])]:
        plain = term.replace("...", "", 1)
        if any(c not in ascii_letters for c in plain):
            refuse("expected letters, one '...' per operand, ',' and '->'")
    unused = [c for c in reversed(ascii_letters) if c not in text]
    most = max((t.ndim - len(term.replace("...", "")) for term, t in zip(terms, tensors, strict=True) if "..." in term),
               default=0)
    if len(unused) < most:
        refuse("no letters are left for the dimensions of '...'")
    dots = "".join(unused[:max(0, most)])
    found = []
    for i, (term, t) in enumerate(zip(terms, tensors, strict=True)):
        count = t.ndim - len(term.replace("...", ""))
        if count < 0 or count > 0 and "..." not in term:
            refuse(f"{term!r} does not fit operands[{i}] of shape {tuple(t.shape)}")
        found.append(term.replace("...", dots[len(dots) - count:]))
    if arrow:
        out = result.replace("...", dots)
        if len(set(out)) < len(out) or any(c not in "".join(found) for c in out):
            refuse("each letter of the result must be one of an operand's, once")
    else:
        used = "".join(terms).replace(".", "")
        out = dots + "".join(sorted(c for c in set(used) if used.count(c) == 1))
    return found, out


def _diagonals(t: Tensor, term: str) -> tuple[Tensor, str]:
    """Takes the diagonals of letters that occur twice: a product with the identity matrix."""
    while len(set(term)) < len(term):
        i, j = next((i, j) for j, c in enumerate(term) for i in range(j) if term[i] == c)
        m, n = t.type.shape[i], t.type.shape[j]
        other = next(c for c in ascii_letters if c not in term)
        free = term[:j] + other + term[j + 1:]
        if m != n:  # an extent of 1 is repeated
            eye = np.ones((m, n), t.dtype) if 1 in (m, n) else None
            if eye is None:
                fail("einsum", f"operand of shape {tuple(t.shape)}: {term[i]!r} has the extents {m} and {n}")
        else:
            eye = np.eye(m, dtype=t.dtype)
        wide = term[:j] + term[j + 1:] if m >= n else (term[:i] + other + term[i + 1: j] + term[j + 1:])
        t = contract(t, as_tensor("einsum", "the identity", eye), f"{free},{term[i]}{other}->{wide}")
        term = wide.replace(other, term[i])
    return t, term
