"""Matrix products against float64: every height and width of the tile, every way of reading an operand, any strides, several
dimensions of batch, rows and sum, batches of the run."""

import itertools
import math

import numpy as np
import pytest
import reference as ref
from fastconv.kernels._runtime import StepList

from fastconv.kernels import matmul, products

from .guarded import guarded

WIDTH = products.cpu().width
TILE, BLOCK = {16: 14, 8: 6}.get(WIDTH, 4), 2 * WIDTH


class Operand:
    """A NumPy array's values in guarded memory, its dimensions in some order, with gaps between the rows of the last."""

    def __init__(self, array, order=None, gap=0, fill=np.nan):
        self.array = array
        order = tuple(range(array.ndim)) if order is None else order
        shape = [array.shape[i] for i in order]
        strides, size = [0] * array.ndim, 1
        for at in reversed(range(array.ndim)):
            strides[order[at]] = size
            size *= shape[at]
            if at == array.ndim - 1 and array.ndim > 1:
                size += gap
        self.strides = strides
        last = sum((n - 1) * s for n, s in zip(array.shape, strides, strict=True)) + 1 if array.size else 0
        self.memory = guarded(last, fill)
        self.view = np.lib.stride_tricks.as_strided(self.memory, array.shape, [4 * s for s in strides])

    def put(self):
        self.view[...] = self.array
        return self

    def along(self, labels, wanted):
        return [self.strides[labels.index(label)] if label in labels else 0 for label in wanted]


def kind(label, left, right, out):
    return "k" if label not in out else "b" if label in left and label in right else "m" if label in left else "n"


def contract(spec, x, y, threads=1, orders=(None, None, None), gaps=(0, 0, 0), d=None, batched=False, n=None, constant="",
             **epilogue):
    """einsum(spec, x, y) by the kernels; what lies between the result's elements must be NaN afterwards, as it was."""
    (left, right), out = spec.split("->")[0].split(","), spec.split("->")[1]
    extents = {**dict(zip(left, x.shape, strict=True)), **dict(zip(right, y.shape, strict=True))}
    labels = out + "".join(sorted(set(left + right) - set(out)))
    if batched and labels[0] != left[0]:
        labels = left[0] + labels.replace(left[0], "")
    a, b = Operand(x, orders[0], gaps[0]).put(), Operand(y, orders[1], gaps[1]).put()
    result = np.full([extents[label] for label in out], np.nan, np.float32)
    c = Operand(result, orders[2], gaps[2])
    if epilogue.get("accumulate"):
        c.view[...] = epilogue.pop("before")
        epilogue["accumulate"] = True
    kinds = "".join(kind(label, left, right, out) for label in labels)
    problem = {"shape": [extents[label] for label in labels], "kinds": kinds, "batched": batched, "constant": constant,
               **{name: (o.memory.ctypes.data, o.along(which, labels), "float32")
                  for name, o, which in (("a", a, left), ("b", b, right), ("c", c, out))}}
    if d is not None:
        d = Operand(d).put()
        problem["d"] = d.memory.ctypes.data, [s if e > 1 else 0 for s, e in zip(d.strides, d.array.shape, strict=True)] + \
            [0] * (len(labels) - len(out)), "float32"
    packed, partials = matmul.needs(**problem)
    blocks, parts = guarded(packed), guarded(partials)
    steps = []
    if packed:
        steps.append(matmul.pack(**problem, packed=blocks.ctypes.data))
    steps.append(matmul.product(**problem, packed=blocks.ctypes.data, partials=parts.ctypes.data, **epilogue))
    if partials:
        steps.append(matmul.sum_parts(**problem, partials=parts.ctypes.data, **epilogue))
    tape = StepList(steps, problem["shape"][0] if batched else 1)
    if n is not None:
        tape.set_batch(n)
    tape.run(threads)
    untouched = np.lib.stride_tricks.as_strided(c.memory, (c.memory.size,), (4,)).copy()
    written = np.zeros(c.memory.size, bool)
    np.lib.stride_tricks.as_strided(written, c.array.shape, c.strides)[...] = True
    assert np.isnan(untouched[~written]).all()
    return c.view.copy()


def exact(rng, spec, *shapes):
    """Operands whose products add up exactly, and their float64 contraction."""
    x, y = (ref.exact_integers(rng, shape, 5) for shape in shapes)
    assert np.einsum(spec, abs(np.float64(x)), abs(np.float64(y))).max(initial=0) < 2**24
    return x, y, np.einsum(spec, np.float64(x), np.float64(y))


@pytest.fixture
def rng():
    return np.random.default_rng(17)


ROWS = sorted({1, 2, 3, 4, 5, TILE - 1, TILE, TILE + 1, 2 * TILE, 2 * TILE + 1, 8 * TILE, 8 * TILE + 3, 257})
COLUMNS = sorted({1, 2, WIDTH - 1, WIDTH, WIDTH + 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + WIDTH, 4 * BLOCK,
                  4 * BLOCK + 3, 9 * BLOCK + 1})


@pytest.mark.parametrize("n", COLUMNS)
@pytest.mark.parametrize("m", ROWS)
def test_every_height_and_width(m, n, rng):
    x, y, expected = exact(rng, "mk,kn->mn", (m, 19), (19, n))
    for threads, gaps, orders in ((1, (0, 0, 0), (None, None, None)), (2, (3, 5, 7), (None, (1, 0), None))):
        np.testing.assert_array_equal(contract("mk,kn->mn", x, y, threads, orders, gaps), expected)


@pytest.mark.parametrize("orders", list(itertools.product([(0, 1), (1, 0)], repeat=3)))
@pytest.mark.parametrize("size", [(1, 7, 5), (7, 1, 40), (5, 3 * BLOCK + 5, 33), (3 * TILE + 1, 4 * BLOCK + 1, 70),
                                  (300, 2 * BLOCK + 3, 9), (2, 3, 500)])
def test_transposed(size, orders, rng):
    m, n, k = size
    x, y, expected = exact(rng, "mk,kn->mn", (m, k), (k, n))
    for gaps in ((0, 0, 0), (1, 2, 3)):
        np.testing.assert_array_equal(contract("mk,kn->mn", x, y, 2, orders, gaps), expected)


@pytest.mark.parametrize("k", [0, 1, 2, 383, 384, 767, 768, 770, 1537, 2049, 5000])
@pytest.mark.parametrize("m, n", [(1, 1), (1, 3 * BLOCK), (2, 4 * BLOCK + 3), (3, 5), (4, 4), (TILE + 2, 40),
                                  (20 * TILE, 5)])
def test_sums(m, n, k, rng):
    """Around the ends of runs, and parts of long sums."""
    x, y, expected = exact(rng, "mk,kn->mn", (m, k), (k, n))
    for orders in ((None, None, None), (None, (1, 0), None), ((1, 0), None, (1, 0))):
        np.testing.assert_array_equal(contract("mk,kn->mn", x, y, 2, orders), expected)


@pytest.mark.parametrize("k", [1024, 2048])
def test_rows_4_kib_apart(k, rng):
    x, y, expected = exact(rng, "mk,kn->mn", (3 * TILE, k), (k, 4 * BLOCK))
    np.testing.assert_array_equal(contract("mk,kn->mn", x, y, 2), expected)
    np.testing.assert_array_equal(contract("mk,kn->mn", x, y, 1, ((1, 0), (1, 0), (1, 0))), expected)


SPECS = ["bmk,bkn->bmn", "bmk,kn->bmn", "mk,bkn->bmn", "bmk,bnk->bnm", "abmk,bkn->abmn", "mbk,nbk->bmn", "mjk,kjn->mn",
         "m,n->mn",
         "mk,k->m", "k,kn->n", "k,k->", "b,b->b", "bk,bk->b", "bm,b->bm", "ambk,nakb->nbam", "bqhd,bkhd->bhqk",
         "bhqk,bkhd->bqhd", "bij,kij->bk",
         "amk,bkn->abmn", "mnk,k->mn", "abck,k->cab"]


@pytest.mark.parametrize("extents", [dict(a=2, b=3, m=5, k=7, n=6, j=4, h=2, q=5, d=4, i=3, c=4),
                                     dict(a=3, b=2, m=TILE + 3, k=65, n=BLOCK + 3, j=3, h=3, q=33, d=8, i=9, c=3),
                                     dict(a=1, b=7, m=1, k=33, n=1, j=1, h=1, q=1, d=3, i=1, c=1)])
@pytest.mark.parametrize("spec", SPECS)
def test_contractions(spec, extents, rng):
    left, right = spec.split("->")[0].split(",")
    x, y, expected = exact(rng, spec, [extents[c] for c in left], [extents[c] for c in right])
    np.testing.assert_array_equal(contract(spec, x, y, 1), expected)
    orders = tuple(tuple(rng.permutation(len(labels))) for labels in (left, right, spec.split("->")[1]))
    np.testing.assert_array_equal(contract(spec, x, y, 2, orders, (1, 0, 2)), expected)


def test_more_dimensions_of_a_sum_than_there_are(rng):
    with pytest.raises(ValueError, match="strides that leave"):
        contract("ijk,kji->", np.ones((3, 4, 5), np.float32), np.ones((5, 4, 3), np.float32))


@pytest.mark.parametrize("k", [40, 900, 3000])
@pytest.mark.parametrize("spec", ["mk,kn->mn", "mk,nk->mn", "bmk,bkn->bmn"])
def test_epilogue(spec, k, rng):
    extents = dict(b=3, m=17, n=BLOCK + 5, k=k)
    (left, right), out = spec.split("->")[0].split(","), spec.split("->")[1]
    x, y, product = exact(rng, spec, [extents[c] for c in left], [extents[c] for c in right])
    shape = [extents[c] for c in out]
    for d_shape in (shape, [1] * (len(shape) - 1) + [shape[-1]], [*shape[:-1], 1], [1] * len(shape)):
        d = ref.exact_integers(rng, d_shape, 6)
        for orders in ((None,) * 3, (None, None, tuple(reversed(range(len(shape)))))):
            np.testing.assert_array_equal(contract(spec, x, y, 2, orders, d=d), product + d)
            np.testing.assert_array_equal(contract(spec, x, y, 2, orders, d=d, alpha=0.5, beta=-2.0, act="relu"),
                                          np.maximum(product / 2 - 2.0 * d, 0))
    before = ref.exact_integers(rng, shape, 6)
    np.testing.assert_array_equal(contract(spec, x, y, 2, accumulate=True, before=before), product + before)


@pytest.mark.parametrize("constant", ["a", "b"])
@pytest.mark.parametrize("m, n", [(1, 5), (1, 9 * BLOCK), (2, 300), (3, 3 * BLOCK), (40, 2 * BLOCK + 1)])
def test_constant(m, n, constant, rng):
    x, y, expected = exact(rng, "mk,kn->mn", (m, 50), (50, n))
    np.testing.assert_array_equal(contract("mk,kn->mn", x, y, 2, constant=constant), expected)


@pytest.mark.parametrize("spec", ["bmk,bkn->bmn", "bmk,kn->bmn", "bk,kn->bn", "bm,bn->mn", "btm,btn->mn", "kn,bk->bn"])
def test_batch_of_the_run(spec, rng):
    """A smaller batch replays the plan; an image has the same bits alone and within any batch."""
    (left, right), out = spec.split("->")[0].split(","), spec.split("->")[1]
    extents = dict(b=9, m=21, k=400, n=BLOCK + 3, t=130)
    if left[0] != "b":
        left, right, spec = right, left, f"{right},{left}->{out}"
    x, y = (rng.standard_normal([extents[c] for c in labels], np.float32) for labels in (left, right))
    whole = contract(spec, x, y, 1, batched=True)
    np.testing.assert_array_equal(whole, contract(spec, x, y, 2, batched=True))
    expected = np.einsum(spec, np.float64(x), np.float64(y))
    assert ref.rel_l2(whole, expected) < 2.0**-24 * 4 * math.sqrt(768)
    turned = ((0, *range(2, x.ndim), 1)[:x.ndim], None, None)  # dimensions of a sum that are not one
    if "b" not in out and x.ndim == 3:
        for n in (0, 1, 2, 5, 9):
            part = contract(spec, x, y, 2, turned, batched=True, n=n)
            some = np.einsum(spec, np.float64(x[:n]), np.float64(y[:n]))
            assert abs(part - some).max() <= 1e-5 * max(1, abs(some).max())
    for n in (0, 1, 2, 5):
        part = contract(spec, x, y, 2, batched=True, n=n)
        if "b" not in out:
            some = np.einsum(spec, np.float64(x[:n]), np.float64(y[:n]))
            assert abs(part - some).max() <= 1e-5 * max(1, abs(some).max())
            continue
        np.testing.assert_array_equal(part[:n], whole[:n])
        assert np.isnan(part[n:]).all()
    for i in range(9 if "b" in out else 0):
        one = contract(spec, x[i:i + 1], y[i:i + 1] if right[0] == "b" else y, 1, batched=True)
        np.testing.assert_array_equal(one[0], whole[i])


@pytest.mark.parametrize("size", [(1, 1, 3000), (5, 3, 0), (1, 700, 2000), (64, 64, 4096), (3, 3, 100000), (130, 150, 1600),
                                  (300, 100, 800)])
def test_error_and_threads(size, rng):
    m, n, k = size
    x, y = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    expected = np.float64(x) @ np.float64(y)
    for orders in ((None, None, None), (None, (1, 0), None), ((1, 0), None, None)):
        z = contract("mk,kn->mn", x, y, 1, orders)
        np.testing.assert_array_equal(z, contract("mk,kn->mn", x, y, 2, orders))
        if k:
            assert ref.rel_l2(z, expected) <= 2.0**-24 * 4 * math.sqrt(min(k, 768))


@pytest.mark.parametrize("seed", range(40))
def test_random(seed):
    """Specifications, extents, orders and gaps at random."""
    rng = np.random.default_rng(seed)
    labels = {kind: int(rng.integers(0, 3)) for kind in "bmnk"}
    names = iter("abcdefghij")
    by = {which: "".join(next(names) for _ in range(count)) for which, count in labels.items()}
    sizes, chances = [0, 1, 2, 3, 5, 8, 13, 17, 34], [.02, .2, .13, .15, .1, .1, .1, .1, .1]
    extents = {c: int(rng.choice(sizes, p=chances)) for c in "".join(by.values())}

    def mixed(*which):
        return "".join(rng.permutation(list("".join(by[w] for w in which)))) if any(by[w] for w in which) else ""

    left, right, out = mixed("b", "m", "k"), mixed("b", "n", "k"), mixed("b", "m", "n")
    spec = f"{left},{right}->{out}"
    x, y, expected = exact(rng, spec, [extents[c] for c in left], [extents[c] for c in right])
    orders = tuple(tuple(rng.permutation(len(s))) for s in (left, right, out))
    gaps = tuple(int(g) for g in rng.integers(0, 4, 3))
    try:
        result = contract(spec, x, y, int(rng.integers(1, 3)), orders, gaps)
    except ValueError as error:
        assert "strides that leave" in str(error) and len(by["k"]) > 1
        return
    np.testing.assert_array_equal(result, expected)
