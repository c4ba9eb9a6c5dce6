"""The operator `map`: what is merged, gradients, draws, dtypes, Python's operators, against NumPy, PyTorch and itself."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv import nn
from fastconv.functional.record import vjp
from fastconv.graph.programs import Builder, needed, write

try:
    import torch
except ImportError:
    torch = None


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def kernels_of(engine, segment="forward"):
    return [s.kernel for s in engine.steps() if s.segment == segment]


# ---- merging --------------------------------------------------------------------------------------------------------------

CHAINS = {
    "numbers": lambda t: F.exp(t * 0.5 + 1.0) - 2.0,
    "two paths": lambda t: F.exp(t * 2.0 + 1.0) / (F.sin(t) + 3.0),
    "activations": lambda t: F.mish(t) * F.sigmoid(t) + F.gelu(t) - F.hardswish(t * 2.0),
    "tests": lambda t: F.where((t > 0.0) & (t < 1.0), F.sqrt(F.abs(t)), t * t),
    "all activations": lambda t: F.sin(
        F.leaky_relu(F.elu(F.hardtanh(F.tanh(F.silu(F.hardsigmoid(F.relu(t + 0.1)) * 3.0))), 0.5), 0.1)
    ),
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (5, 7), (2, 3, 1, 2, 2, 3)])
def test_a_chain_is_one_step_of_the_same_bits(name, shape):
    x = array(*shape)
    engine = fc.compile(CHAINS[name], shape)
    assert kernels_of(engine).count("map") == 1
    assert {k for k in kernels_of(engine)} <= {
        "map",
        "f32_to_channels_last",
        "f32_from_channels_last",
        "copy",
        "f32_copy_strided",
    }
    alone = CHAINS[name](Eager(x)).value  # function by function
    np.testing.assert_array_equal(engine(x), alone)
    np.testing.assert_array_equal(engine(x[:1]), alone[:1])


class Eager:
    """An array whose operators and functions run one at a time."""

    def __init__(self, value):
        self.value = value

    def __array__(self, dtype=None, copy=None):
        return self.value


def _lifted(of):
    def method(self, *others):
        return Eager(of(self.value, *(o.value if isinstance(o, Eager) else o for o in others)))

    return method


for _name, _of in (
    ("add", F.add),
    ("sub", F.sub),
    ("mul", F.mul),
    ("truediv", F.div),
    ("gt", F.gt),
    ("lt", F.lt),
    ("and", F.bitwise_and),
):
    setattr(Eager, f"__{_name}__", _lifted(_of))


@pytest.fixture(autouse=True)
def one_at_a_time(monkeypatch):
    """Functions take Eager arrays, too."""
    for name in (
        "exp",
        "sin",
        "mish",
        "sigmoid",
        "gelu",
        "hardswish",
        "sqrt",
        "abs",
        "where",
        "leaky_relu",
        "elu",
        "hardtanh",
        "tanh",
        "silu",
        "hardsigmoid",
        "relu",
    ):
        of = getattr(F, name)

        def call(*args, of=of, **kwargs):
            if any(isinstance(a, Eager) for a in args):
                return Eager(of(*(a.value if isinstance(a, Eager) else a for a in args), **kwargs))
            return of(*args, **kwargs)

        monkeypatch.setattr(F, name, call)


def test_what_is_read_twice_or_handed_out_is_kept():
    def network(t):
        a = F.exp(t)
        b = F.sin(a) + F.cos(a)
        return b * 2.0, a

    x = array(3, 5)
    b, a = fc.compile(network, (3, 5))(x)
    np.testing.assert_array_equal(a, F.exp(x))
    np.testing.assert_allclose(b, 2 * (np.sin(a) + np.cos(a)), rtol=1e-5, atol=1e-6)


def test_an_epilogue_stays_one():
    w = fc.Parameter(array(4, 3, 3, 3))
    engine = fc.compile(lambda t: F.exp(F.relu(F.conv2d(t, w, None, 1, 1)) * 0.5), (2, 3, 6, 6))
    assert kernels_of(engine).count("map") == 1


def test_backward_is_merged():
    """The gradient of a chain: one program in the forward, one for each gradient in the backward."""
    w = fc.Parameter(array(5))

    def network(t):
        return F.tanh(F.exp(t * w) + 1.0) * F.sigmoid(t)

    engine = fc.compile(network, (4, 5), training=True)
    x, g = array(4, 5), array(4, 5, seed=1)
    y = engine(x)
    engine.backward(g)
    if torch is not None:
        tx, tw = torch.from_numpy(x.astype(np.float64)), torch.from_numpy(w.data.astype(np.float64)).requires_grad_()
        want = torch.tanh(torch.exp(tx * tw) + 1) * torch.sigmoid(tx)
        want.backward(torch.from_numpy(g.astype(np.float64)))
        np.testing.assert_allclose(y, want.detach().numpy(), rtol=1e-5)
        np.testing.assert_allclose(w.grad, tw.grad.numpy(), rtol=1e-4, atol=1e-5)
    maps = [s for s in engine.steps() if s.kernel == "map"]
    assert len(maps) <= 2 + 1, [s.segment for s in maps]


@pytest.mark.parametrize("name", CHAINS)
def test_gradients_of_chains(name):
    if torch is None:
        pytest.skip("PyTorch is not installed")
    x, g = array(3, 4, 5), array(3, 4, 5, seed=2)
    if name in ("tests", "all activations"):
        pytest.skip("written with functions that PyTorch has elsewhere: their gradients are in test_records")
    theirs = {
        "numbers": lambda t: torch.exp(t * 0.5 + 1.0) - 2.0,
        "two paths": lambda t: torch.exp(t * 2.0 + 1.0) / (torch.sin(t) + 3.0),
        "activations": lambda t: (
            torch.nn.functional.mish(t) * torch.sigmoid(t)
            + torch.nn.functional.gelu(t)
            - torch.nn.functional.hardswish(t * 2.0)
        ),
    }[name]
    tx = torch.from_numpy(x.astype(np.float64)).requires_grad_()
    theirs(tx).backward(torch.from_numpy(g.astype(np.float64)))
    np.testing.assert_allclose(vjp(CHAINS[name], x, g)[1], tx.grad.numpy(), rtol=2e-5, atol=1e-5)


def test_programs():
    lines, results = write(lambda x, z: (x + z * 2.0, x + z * 2.0, x), 2)
    assert lines == (("mul", 1, 2.0), ("add", 0, 2)) and results == (3, 3, 0)
    assert needed(1, (("exp", 0), ("sin", 0), ("add", 1, 1.0)), [3]) == ((("exp", 0), ("add", 1, 1.0)), (2,))
    builder = Builder(1)
    x = builder.input(0)
    assert builder.line("add", x, 0.0).at != builder.line("add", x, -0.0).at
    with pytest.raises(ValueError, match="add has 2 operands, not 1"):
        builder.line("add", x)


# ---- the batch ------------------------------------------------------------------------------------------------------------


def test_any_batch_up_to_the_planned_one():
    engine = fc.compile(lambda t: F.exp(t) * np.arange(3, dtype=np.float32)[:, None, None] + 1.0, (4, 3, 5, 5))
    x = array(4, 3, 5, 5)
    whole = engine(x)
    for n in (1, 2, 3):
        np.testing.assert_array_equal(engine(x[:n]), whole[:n])
    np.testing.assert_allclose(whole, np.exp(x) * np.arange(3)[:, None, None] + 1, rtol=1e-6)


def test_a_constant_along_the_batch_is_right_for_its_batch():
    weights = np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1)
    engine = fc.compile(lambda t: F.exp(t) * weights, (4, 3, 5, 5))
    x = array(4, 3, 5, 5)
    np.testing.assert_allclose(engine(x), np.exp(x) * weights, rtol=1e-6)
    with pytest.raises(ValueError, match="dimension 0"):
        engine(x[:2])


# ---- draws ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function, shape, kept",
    [
        (lambda x: F.dropout1d(x, 0.3), (40, 50, 7), 2),
        (lambda x: F.dropout2d(x, 0.3), (40, 50, 5, 4), 2),
        (lambda x: F.dropout3d(x, 0.3), (40, 50, 3, 2, 2), 2),
        (lambda x: F.dropout3d(x, 0.3), (2000, 3, 2, 2), 1),
        (lambda x: F.stochastic_depth(x, 0.3, "row"), (2000, 3, 2), 1),
        (lambda x: F.dropout(x, 0.3), (2000,), 1),
        (lambda x: F.dropout(x, 0.3), (40, 50, 2, 2, 1, 3), 6),
    ],
)
def test_dropout(function, shape, kept):
    x = np.abs(array(*shape)) + 0.5
    w = fc.Parameter(np.ones(1, np.float32))
    engine = fc.compile(lambda t: function(t * w), shape, training=True)
    y = engine(x)
    ones = np.ones(shape, np.float32)
    engine.backward(ones)
    np.testing.assert_allclose(w.grad, y.sum(dtype=np.float64), rtol=1e-5)  # the backward draws the same
    ratio = y / x
    zero = ratio == 0
    np.testing.assert_allclose(ratio[~zero], 1 / 0.7, rtol=1e-6)
    assert abs(zero.mean() - 0.3) < 0.05
    flat = zero.reshape(*shape[:kept], -1)
    assert (flat == flat[..., :1]).all()
    again = function(x)
    assert (again == 0).any() and ((again == 0) != zero).any()


def test_alpha_dropout_keeps_mean_and_variance():
    x = array(200, 500)
    for y in (F.alpha_dropout(x, 0.4, True), F.feature_alpha_dropout(x.reshape(200, 500, 1), 0.4, True)):
        assert abs(y.mean()) < 0.02 and abs(y.std() - 1) < 0.02
    assert F.rrelu(-np.ones(5000, np.float32), 0.1, 0.3, True).std() > 0.05


def test_draws_in_engines():
    layer = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Dropout2d(0.5))
    fc.manual_seed(3)
    engine = fc.compile(layer, (16, 3, 4, 4), training=True)
    x = array(16, 3, 4, 4)
    first, second = engine(x).copy(), engine(x).copy()
    dead = (first == 0).all((2, 3))
    assert 0.2 < dead.mean() < 0.8 and ((second == 0).all((2, 3)) != dead).any()
    fc.manual_seed(3)
    np.testing.assert_array_equal(fc.compile(layer, (16, 3, 4, 4), training=True)(x), first)
    layer.eval()
    assert not (fc.compile(layer, (16, 3, 4, 4))(x) == 0).all((2, 3)).any()


# ---- Python's operators, dtypes -------------------------------------------------------------------------------------------


def test_operators():
    mean = array(3, 1, 1, seed=5)

    def network(t):
        return [
            t + 1,
            1 + t,
            t - 2,
            2 - t,
            t * 3,
            3 * t,
            t / 2,
            2 / (t + 9),
            t // 0.7,
            3 // (t + 9),
            t % 0.7,
            5 % (t + 9),
            t**2,
            2**t,
            -t,
            abs(t),
            +t,
            t - mean,
            mean - t,
            t / np.float32(2),
            np.float32(2) * t,
            (t > 0) & (t < 1),
            (t > 0) | (t < -1),
            (t >= 0) ^ (t <= 1),
            ~(t > 0),
            F.round(t, decimals=1),
        ]

    x = array(2, 3, 4, 5)
    with np.errstate(all="ignore"):
        want = network(x)
    for got, right in zip(fc.compile(lambda t: tuple(network(t)), x.shape)(x), want, strict=True):
        assert got.dtype == right.dtype or got.dtype == np.float32
        np.testing.assert_allclose(got, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("a", ["float32", "int64", "int32", "uint8", "int8", "bool"])
@pytest.mark.parametrize("b", ["float32", "int64", "int32", "uint8", "bool", 2, 2.5])
def test_dtypes_of_results(a, b):
    if torch is None:
        pytest.skip("PyTorch is not installed")
    x = (np.arange(1, 7) % (2 if a == "bool" else 50)).astype(a)
    z = b if not isinstance(b, str) else (np.arange(2, 8) % (2 if b == "bool" else 9) + (b != "bool")).astype(b)
    tx, tz = torch.from_numpy(x), torch.from_numpy(z) if isinstance(z, np.ndarray) else z
    for name in ("add", "mul", "div", "floor_divide", "pow", "eq", "lt"):
        try:
            want = getattr(torch, name)(tx, tz)
        except RuntimeError:
            continue
        if want.dtype == torch.int16:  # which we do not have
            continue
        got = getattr(F, name)(x, z)
        assert got.dtype == want.numpy().dtype, (name, got.dtype, want.dtype)
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-6)


def test_in_place():
    x = array(4, 5)
    for name, args in (
        ("relu", ()),
        ("elu", ()),
        ("selu", ()),
        ("celu", ()),
        ("hardtanh", ()),
        ("leaky_relu", ()),
        ("threshold", (0.1, 2.0)),
        ("rrelu", ()),
    ):
        want, y = getattr(F, name)(x, *args), x.copy()
        assert getattr(F, f"{name}_")(y, *args) is y
        np.testing.assert_array_equal(y, want)
        y = x.copy()
        assert getattr(F, name)(y, *args, inplace=True) is y
        np.testing.assert_array_equal(y, want)
    y = array(2, 3, 4)
    assert F.dropout1d(y, 1.0, True, True) is y and not y.any()


def test_modules():
    if torch is None:
        pytest.skip("PyTorch is not installed")
    x = array(2, 4, 3, 6)
    for name, args in (
        ("SELU", ()),
        ("Mish", ()),
        ("LogSigmoid", ()),
        ("Softsign", ()),
        ("Tanhshrink", ()),
        ("CELU", (0.7,)),
        ("Softplus", (2.0, 1.0)),
        ("Hardshrink", (0.2,)),
        ("Softshrink", (0.2,)),
        ("Threshold", (0.1, 3.0)),
        ("GLU", (1,)),
        ("GLU", ()),
        ("PReLU", (4, 0.1)),
        ("PReLU", ()),
        ("RReLU", ()),
        ("Dropout2d", ()),
        ("AlphaDropout", ()),
    ):
        ours, theirs = getattr(nn, name)(*args).eval(), getattr(torch.nn, name)(*args).eval()
        got = fc.compile(ours, x.shape)(x)
        np.testing.assert_allclose(got, theirs(torch.from_numpy(x)).detach().numpy(), rtol=2e-6, atol=2e-6, err_msg=name)
        assert repr(ours).startswith(name)


def test_prelu_learns():
    layer = nn.PReLU(3)
    engine = fc.compile(layer, (2, 3, 4), training=True)
    x, g = array(2, 3, 4), array(2, 3, 4, seed=1)
    engine(x)
    engine.backward(g)
    assert layer.num_parameters() == 3
    np.testing.assert_allclose(layer.weight.grad, (g * np.minimum(x, 0)).sum((0, 2)), rtol=1e-5, atol=1e-6)
