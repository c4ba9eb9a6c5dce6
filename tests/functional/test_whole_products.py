"""Products of matrices of integers: exact, and wrapping round as NumPy's and PyTorch's."""

import numpy as np
import pytest

import fastconv as fc
from fastconv import functional as F

DTYPES = [np.int64, np.int32, np.uint8, np.int8]


def whole(dtype, *shape, seed=0):
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min // 2, info.max // 2, shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("ours", "right", "shapes"), [
    (F.matmul, np.matmul, [(3, 4), (4, 5)]), (F.matmul, np.matmul, [(2, 1, 3, 4), (5, 4, 2)]),
    (F.matmul, np.matmul, [(4,), (2, 4, 3)]),
    (F.matmul, np.matmul, [(3, 0), (0, 2)]), (F.mm, np.matmul, [(33, 70), (70, 9)]), (F.bmm, np.matmul, [(2, 3, 4),
    (2, 4, 5)]),
    (F.mv, np.matmul, [(3, 4), (4,)]), (F.dot, np.dot, [(50,), (50,)]), (F.outer, np.outer, [(3,), (4,)]),
    (F.inner, np.inner, [(2, 5), (4, 5)]), (F.kron, np.kron, [(2, 3), (3, 2)]),
    (F.linear, lambda x, w, b: x @ w.T + b, [(2, 3, 5), (4, 5), (4,)]),
    (F.chain_matmul, lambda a, b, c: a @ b @ c, [(3, 4), (4, 5), (5, 2)]),
    (lambda *a: F.addmm(*a, beta=2, alpha=3), lambda c, a, b: (2 * c + 3 * (a @ b)).astype(a.dtype), [(3, 5),
    (3, 4), (4, 5)]),
    (lambda *a: F.einsum("ij,kj->ki", *a), lambda a, b: b @ a.T, [(3, 4), (5, 4)]),
    (lambda a: F.einsum("ii->i", a), np.diagonal, [(4, 4)]),
    (lambda a: F.einsum("ij->j", a), lambda a: a.sum(0, dtype=a.dtype), [(3, 4)]),
    (F.tensordot, lambda a, b: np.tensordot(a, b, 2), [(2, 3, 4), (3, 4, 5)]),
])
def test_values(ours, right, shapes, dtype):
    arrays = [whole(dtype, *shape, seed=i) for i, shape in enumerate(shapes)]
    with np.errstate(over="ignore"):
        expected = right(*arrays)
    got = ours(*arrays)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, expected)


def test_what_no_float_holds():
    a = np.array([[2**62 + 1, 1]])
    np.testing.assert_array_equal(F.matmul(a, np.array([[1], [2]])), [[2**62 + 3]])


def test_in_a_forward_with_a_smaller_batch():
    table = whole(np.int64, 6, 4)
    engine, x = fc.compile(lambda x: x.long() @ table, (5, 3, 6)), np.random.default_rng(0).integers(-9, 9, (5, 3, 6))
    np.testing.assert_array_equal(engine(x.astype(np.float32)), x @ table)
    np.testing.assert_array_equal(engine(x[:2].astype(np.float32)), x[:2] @ table)


@pytest.mark.parametrize(("call", "message"), [
    (lambda i, f: F.matmul(i, f), "other has dtype float32: expected int64"), (lambda i, f: F.matmul(f, i), "int64"),
    (lambda i, f: F.mv(i, f[0]), "float32"), (lambda i, f: F.addmm(f, i, i), "dtype float32"),
    (lambda i, f: F.addmm(i, i, i, alpha=0.5), "alpha=0.5"),
    (lambda i, f: F.einsum("ij,jk", i, f), r"operands\[1\] has dtype float32"),
    (lambda i, f: F.matmul(i, i.astype(np.int32)), "int32"), (lambda i, f: F.matmul(i > 0, i > 0), "bool"),
    (lambda i, f: F.linear(f, i), "int64"), (lambda i, f: F.linear(i, i, f[0]), "float32"),
])
def test_dtypes_are_not_mixed(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(whole(np.int64, 3, 3), np.ones((3, 3), np.float32))
