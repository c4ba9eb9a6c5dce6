"""Every algorithm, on every problem that it does not refuse, in all three passes, against the float64 reference."""

import os
from collections import Counter

import numpy as np
import pytest
import reference as R
from everywhere import again
from fastconv.kernels._runtime import isa_info
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastconv.functional as F
from fastconv import set_num_threads
from fastconv.engine import eager
from fastconv.ops.conv import choose
from fastconv.ops.conv.problem import Problem

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
DATA = {1: F.conv1d_backward_data, 2: F.conv2d_backward_data, 3: F.conv3d_backward_data}
WEIGHT = {1: F.conv1d_backward_weight, 2: F.conv2d_backward_weight, 3: F.conv3d_backward_weight}
EPS = 2.0**-24
EXAMPLES = int(os.environ.get("FASTCONV_TEST_EXAMPLES", 1000))  # fewer at the other instruction sets
# sums of float32 products, in whatever order
EXACT = ("direct", "pointwise", "depthwise", "depthwise_rows", "im2col", "amx", "bf16")
BITS = {"highest": [(12, 12), (20, 1), (1, 20)], "high": [(16, 8), (8, 16)], "medium": [(8, 8)]}  # that reach every plane
used: Counter = Counter()


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Problems are tiny; a second thread costs more than it brings. AMX is emulated where there is none."""
    set_num_threads(1)
    before = os.environ.get("FASTCONV_EMULATE_AMX")
    os.environ["FASTCONV_EMULATE_AMX"] = "1"
    yield
    os.environ.pop("FASTCONV_EMULATE_AMX")
    if before is not None:
        os.environ["FASTCONV_EMULATE_AMX"] = before
    set_num_threads(1)
    eager.cache.clear()


class Drawn:
    """A problem as users give it."""

    def __init__(self, n, groups, c, k, axes):
        kernel, stride, dilation, low, high, room = zip(*axes, strict=True)
        size = tuple(max(1, d * (r - 1) + 1 - a - b) + more
                     for r, d, a, b, more in zip(kernel, dilation, low, high, room, strict=True))
        self.dims, self.x, self.w = len(axes), (n, groups * c, *size), (groups * k, c, *kernel)
        self.keywords = {"stride": stride, "padding": tuple(zip(low, high, strict=True)), "dilation": dilation,
                         "groups": groups}
        self.y = (n, groups * k, *((s + a + b - d * (r - 1) - 1) // t + 1 for s, a, b, d, r, t in
                                   zip(size, low, high, dilation, kernel, stride, strict=True)))

    def problem(self):
        return Problem(self.x, self.w, self.y, self.keywords)

    def __repr__(self):
        return f"Drawn({self.x}, {self.w}, {self.keywords})"


@st.composite
def problems(draw):
    """Of all kinds, those for which there are special algorithms more often than chance would have them."""
    dims = draw(st.sampled_from([1, 2, 2, 2, 3]))
    kind = draw(st.sampled_from(["any", "any", "3", "depthwise", "1", "large"]))
    groups, c, k = draw(st.sampled_from([1, 1, 1, 2, 3])), draw(st.integers(1, 40)), draw(st.integers(1, 40))
    if kind == "depthwise":
        groups, c, k = draw(st.integers(1, 40)), 1, draw(st.sampled_from([1, 1, 2, 3]))
    if dims == 3 or groups > 1 and c > 1:
        c, k = -(-c // 4), -(-k // 4)
    axes = []
    for _ in range(dims):
        r = {"3": 3, "1": 1}.get(kind) or draw(st.integers(9, 13) if kind == "large" and dims < 3 else st.integers(1, 5))
        plain = kind in ("3", "1", "large") and draw(st.integers(0, 3)) > 0
        stride, dilation = (1, 1) if plain else (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
        low, high = draw(st.integers(0, r)), draw(st.integers(0, r))
        axes.append((r, stride, dilation, low, high, draw(st.integers(0, 12 if dims < 3 else 4))))
    return Drawn(draw(st.integers(1, 3)), groups, c, k, axes)


def magnitude(which, p, x, w, g):
    """The same sums over absolute values: what rounding scales with where terms cancel."""
    return exact(which, p, abs(x), abs(w), abs(g))


def exact(which, p, x, w, g):
    if which == "forward":
        return R.conv(x, w, None, **p.keywords)
    if which == "backward_data":
        return R.conv_backward_data(p.x, w, g, **p.keywords)
    return R.conv_backward_weight(x, p.w, g, **p.keywords)


def computed(which, p, x, w, g, **keywords):
    if which == "forward":
        return CONV[p.dims](x, w, **p.keywords, **keywords)
    if which == "backward_data":
        return DATA[p.dims](g, w, p.x, **p.keywords, **keywords)
    return WEIGHT[p.dims](g, x, p.w, **p.keywords, **keywords)


def bound(name, kept, terms):
    """What may be lost relative to the norm of the sums over magnitudes: by the promise that an algorithm keeps.

    One product may lose more than sums of many do: of two planes 2**-17 per operand and 2**-16 for the product of the lower
    planes; of one plane 2**-8 per operand.
    """
    rounding = 4 * EPS * max(1, terms) ** 0.5
    return {"highest": rounding, "high": max(rounding, 2.0**-15 if name == "amx" else 2.0**-16), "medium": 2.0**-7}[kept]


def terms(which, p):
    return np.prod(p.w[1:]) if which == "forward" else p.w[0] * np.prod(p.w[2:]) if which == "backward_data" else \
        np.prod(p.y) / p.y[1]


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(problems(), st.integers(0, 2**32 - 1), st.sampled_from(choose.PRECISIONS))
def test_random_problems(p, seed, precision):
    rng = np.random.default_rng(seed)
    x, w, g = (rng.standard_normal(shape, dtype=np.float32) for shape in (p.x, p.w, p.y))
    inner, results = p.problem(), {}
    operands = {"forward": (x, w), "backward_data": (g, w), "backward_weight": (x, g)}
    for which in choose.PASSES:
        truth, scale = exact(which, p, x, w, g), np.linalg.norm(magnitude(which, p, x, w, g))
        for algorithm in choose._algorithms:
            if algorithm.refuses(which, inner) is not None:
                continue
            y = computed(which, p, x, w, g, algorithm=algorithm.name, precision=precision)
            kept = algorithm.keeps(which, inner, precision)
            loss = bound(algorithm.name, kept, terms(which, p)) * scale
            if algorithm.name == "fft":  # leaves rounding of a tile's other values even where an output reads only padding
                loss += 4 * EPS * np.prod([np.linalg.norm(v) for v in operands[which]])
            assert np.linalg.norm(y - truth) <= loss, (algorithm.name, which, kept)
            used[algorithm.name, which] += 1
            results[algorithm.name, which] = y
    # <conv(x), g> = <x, backward_data(g)> = <w, backward_weight(g)>, whichever algorithms computed them
    size = (R.conv(abs(x), abs(w), None, **p.keywords) * abs(g)).sum()
    loss = {"highest": 16 * EPS, "high": 2.0**-14, "medium": 2.0**-6}[precision]
    product = (np.float64(computed("forward", p, x, w, g, precision=precision)) * g).sum()
    assert abs(product - (np.float64(x) * computed("backward_data", p, x, w, g, precision=precision)).sum()) <= loss * size
    assert abs(product - (np.float64(w) * computed("backward_weight", p, x, w, g, precision=precision)).sum()) <= loss * size


def sparse(rng, array, largest):
    """The array with as many zeros as it takes for ``largest(array)``, a sum over magnitudes, to stay below 2**24."""
    while array.any() and largest(array) >= 2**24:
        array = array * (rng.random(array.shape) < 0.5).astype(np.float32)
    return array


@settings(max_examples=EXAMPLES // 5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(problems(), st.integers(0, 2**32 - 1), st.sampled_from(sorted(BITS)))
def test_integers_are_exact(p, seed, precision):
    """Equality, whatever the order of the sum and however the operands are split."""
    rng, inner = np.random.default_rng(seed), p.problem()
    for left, right in BITS[precision]:
        for which in choose.PASSES:
            first, second = R.exact_integers(rng, p.y if which == "backward_data" else p.x, left), None
            second = R.exact_integers(rng, p.y if which == "backward_weight" else p.w, right)
            x, w, g = {"forward": (first, second, None), "backward_data": (None, second, first),
                       "backward_weight": (first, None, second)}[which]
            x, w, g = (np.zeros(s, np.float32) if a is None else a for a, s in zip((x, w, g), (p.x, p.w, p.y), strict=True))
            if which == "backward_data":
                g = sparse(rng, g, lambda g: exact(which, p, abs(x), abs(w), abs(g)).max())  # noqa: B023
            else:
                x = sparse(rng, x, lambda x: exact(which, p, abs(x), abs(w), abs(g)).max())  # noqa: B023
            truth = exact(which, p, x, w, g)
            for name in (c.algorithm.name for c in choose.candidates(which, inner, precision)):
                if name in EXACT:
                    y = computed(which, p, x, w, g, algorithm=name, precision=precision)
                    np.testing.assert_array_equal(y, truth, err_msg=f"{name} {which} {precision} {left} by {right} bits")


def test_every_algorithm_met_problems_in_every_pass():
    """Of the test above: an algorithm that refuses everything would pass it."""
    if not used:
        pytest.skip("test_random_problems did not run in this process")
    for algorithm in choose._algorithms:
        for which in choose.PASSES:
            assert used[algorithm.name, which] >= EXAMPLES // 50, (algorithm.name, which, used)


@pytest.mark.parametrize("isa", isa_info()["available"])
def test_everywhere(isa):
    """The same at the other instruction sets of this machine, a process each."""
    again(isa, __file__, FASTCONV_TEST_EXAMPLES="300")
