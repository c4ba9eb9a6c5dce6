"""PyTorch's methods on arrays and parameters outside of forward, random tensors, tensors in place."""

import copy
import math
import pickle

import numpy as np
import pytest

import fastconv as fc
from fastconv import functional as F
from fastconv import nn
from fastconv.functional import writing
from fastconv.functional.arrays import Values
from fastconv.graph.ir import Tensor

# ---- arrays ---------------------------------------------------------------------------------------------------------------


def test_what_is_made_has_the_methods_of_tensors():
    x = fc.arange(24).float().view(2, 3, 4)
    assert isinstance(x, Values) and isinstance(x, np.ndarray) and x.dtype == fc.float32
    plain = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert x.size() == (2, 3, 4) and x.size(-1) == 4 and x.size == 24 and x.numel() == 24 and x.dim() == 3
    for made, right in [
            (x.permute(2, 0, 1), plain.transpose(2, 0, 1)), (x.transpose(0, 2), plain.swapaxes(0, 2)),
            (x.unsqueeze(-1), plain[..., None]), (x.flatten(1), plain.reshape(2, 12)), (x[:, :1].squeeze(1), plain[:, 0]),
            (x.mean((0, 2), keepdim=True), plain.mean((0, 2), keepdims=True)), (x.std(1), plain.std(1, ddof=1)),
            (x.std(axis=1), plain.std(axis=1)), (x.sum(-1), plain.sum(-1)), (x.max(1)[1], plain.argmax(1)),
            (x.repeat(2, 1, 1), np.tile(plain, (2, 1, 1))), (x.repeat(2, axis=0), np.repeat(plain, 2, 0)),
            (x.chunk(3, 1)[2], plain[:, 2:]), (x.split([1, 3], 2)[1], plain[:, :, 1:]), (x.unbind(1)[1], plain[:, 1]),
            (x.clamp(3, 9), plain.clip(3, 9)), (x / 2, plain / 2), (fc.arange(3) / 2, np.arange(3) / 2),
            (x.view(-1, 6).t(), plain.reshape(-1, 6).T), (x.expand(2, -1, -1, -1), np.stack([plain] * 2)),
            (x.gather(2, fc.zeros(2, 3, 1).long()), plain[:, :, :1]), (x.type_as(fc.ones(1).int()), plain.astype(np.int32)),
            (x.masked_fill(x > 5, -1), np.where(plain > 5, -1, plain)), (x.new_zeros(2), np.zeros(2)),
            (x.topk(2, -1).values, plain[..., :1:-1])]:
        assert isinstance(made, Values) and made.dtype != np.float64
        np.testing.assert_allclose(made, right, rtol=1e-6)


def test_views_share_memory_and_copies_do_not():
    x = fc.zeros(4, 6)
    x.view(2, 2, 6)[0, 1] = 1
    x.t()[0] += 2
    x.unsqueeze(0).transpose(1, 2)[0, 5].fill_(7)
    right = np.zeros((4, 6))
    right[1], right[:, 5] = 1, 7
    right[:, 0] += 2
    np.testing.assert_array_equal(x, right)
    x.clone().zero_()
    np.testing.assert_array_equal(x, right)


def test_numpy_sees_an_array():
    x = fc.tensor([[3.0, 1.0], [2.0, 5.0]])
    for made in (np.sort(x, axis=0), np.std(x), np.transpose(x, (1, 0)), np.concatenate([x, x]), x.numpy(),
                 pickle.loads(pickle.dumps(x)), np.max(x, axis=1)):
        assert not isinstance(made, Values)
    assert isinstance(copy.deepcopy(x), Values) and x.view(np.int32).dtype == np.int32 and x.item is not None
    assert (np.float64(2.5) * fc.ones(2)).dtype == np.float32 and (x * np.ones(2)).dtype == np.float64
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        x.nonsense()


def test_tables_of_positions():
    """As networks with attention make them."""
    table, place = fc.zeros(10, 8), fc.arange(0, 10, dtype=fc.float).unsqueeze(1)
    rate = fc.exp(fc.arange(0, 8, 2).float() * (-math.log(10000.0) / 8))
    table[:, 0::2], table[:, 1::2] = fc.sin(place * rate), fc.cos(place * rate)
    table = table.unsqueeze(0).transpose(0, 1)
    angle = np.arange(10)[:, None] * np.exp(np.arange(0, 8, 2) * (-math.log(10000) / 8))
    assert table.shape == (10, 1, 8) and table.dtype == np.float32
    np.testing.assert_allclose(table[:, 0, 0::2], np.sin(angle), atol=1e-6)
    np.testing.assert_allclose(table[:, 0, 1::2], np.cos(angle), atol=1e-6)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: fc.tensor(["a"]), TypeError, "tensor: data of dtype"),
    (lambda: fc.zeros(2, size=(3,)), TypeError, "zeros: got 'size'"),
    (lambda: fc.zeros(2, shape=3), TypeError, "zeros: got 'shape'"),
    (lambda: fc.ones(2).to("cuda"), ValueError, "only the CPU"),
    (lambda: fc.ones(2).add_(fc.ones(3, 2)), ValueError, "add_: a result of shape"),
    (lambda: fc.device("cuda"), ValueError, "CPU"),
    (lambda: fc.ones(2).long().add_(0.5), TypeError, "add_: a result of dtype float32"),
    (lambda: fc.from_numpy([1.0]), TypeError, "from_numpy: ndarray is a list"),
    (lambda: fc.from_numpy(np.ones(2)), TypeError, "float64"),
    (lambda: fc.ones(2).uniform_(1, 0), ValueError, "from=1, to=0"),
    (lambda: fc.ones(2, 2).select(2, 0), IndexError, "dim=2"), (lambda: fc.ones(2).normal_(0, -1), ValueError, "std=-1"),
    (lambda: fc.ones(4).split([1, 2]), ValueError, "split_size"), (lambda: fc.numel("a"), TypeError, "numel: input='a'"),
])
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- parameters outside of forward ----------------------------------------------------------------------------------------


def test_parameters_outside_of_forward():
    layer = nn.Conv2d(3, 4, 3)
    p, values = layer.weight, layer.weight.numpy()
    assert p.size() == (4, 3, 3, 3) and p.size(0) == 4 and p.size == 108 and p.numel() == 108 and p.dim() == 4
    assert sum(q.numel() for q in layer.parameters()) == 112
    np.testing.assert_allclose(p.norm(), np.linalg.norm(values), rtol=1e-5)
    np.testing.assert_allclose((p * 2 + 1).mean(), (values * 2 + 1).mean(), rtol=1e-5)
    np.testing.assert_array_equal(p[0], values[0])
    version = p.version
    p.data.mul_(0.5).add_(1, alpha=2)
    np.testing.assert_allclose(p.numpy(), values * 0.5 + 2, rtol=1e-6)
    with fc.no_grad():
        assert layer.bias.fill_(3) is layer.bias
        layer.weight.data[1:].zero_()
    assert p.version > version and (layer.bias.numpy() == 3).all() and not p.numpy()[1:].any() and p.numpy()[0].any()
    nn.init.constant_(p.data[0], 4.0)
    assert (p.numpy()[0] == 4).all()
    before = p.numpy()
    p.norm(), p.clone().zero_(), p * 3
    np.testing.assert_array_equal(p.numpy(), before)
    with pytest.raises(AttributeError, match="nonsense"):
        p.nonsense  # noqa: B018


# ---- random numbers -------------------------------------------------------------------------------------------------------


def test_random_arrays():
    fc.manual_seed(3)
    x, u = fc.randn(300, 200), fc.rand(300, 200)
    assert abs(x.mean()) < 0.02 and abs(x.std() - 1) < 0.02 and 0 <= u.min() and u.max() < 1 and abs(u.mean() - 0.5) < 0.01
    assert set(np.unique(fc.randint(2, 5, (1000,)))) == {2, 3, 4} and sorted(fc.randperm(9)) == list(range(9))
    assert fc.randint(3, (2, 2)).dtype == fc.int64 and fc.randint_like(x, 4).shape == x.shape
    assert abs(fc.bernoulli(fc.full((300, 200), 0.3)).mean() - 0.3) < 0.02
    assert abs(fc.normal(2.0, 0.5, (300, 200)).std() - 0.5) < 0.02 and fc.normal(fc.zeros(3), 1.0).shape == (3,)
    fc.manual_seed(3)
    np.testing.assert_array_equal(fc.randn(300, 200), x)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: fc.rand(2, dtype="int64"), "rand: dtype=int64"), (lambda: fc.randint(3, 3, (2,)), "low=3, high=3"),
    (lambda: fc.randint(3), "randint: got 1 arguments"), (lambda: fc.randperm(-1), "randperm: n=-1"),
    (lambda: fc.normal(0.0, -1.0, (2,)), "normal: std=-1"), (lambda: fc.bernoulli(fc.full((2,), 1.5)), "bernoulli: input"),
    (lambda: fc.randn(2, generator=3), "generator=3"), (lambda: fc.normal(0.0, 1.0), "normal: mean and std are numbers"),
    (lambda: fc.bernoulli(fc.zeros(2), 2.0), "bernoulli: p=2"),
])
def test_wrong_draws(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.parametrize("draw", [
    lambda x: fc.randn_like(x), lambda x: fc.randn(x.shape[0], 50, 40), lambda x: x.clone().normal_(),
    lambda x: fc.normal(x * 0, 1.0),
])
def test_normal_numbers_in_a_forward(draw):
    class Net(nn.Module):
        def forward(self, x):
            noise = draw(x)
            return x + noise, noise

    fc.manual_seed(0)
    x = np.ones((8, 50, 40), np.float32)
    engine = fc.compile(Net(), x.shape)
    first, second = ([np.array(a) for a in engine(x)] for _ in range(2))
    np.testing.assert_array_equal(first[0], x + first[1])
    assert not np.array_equal(first[1], second[1]) and np.isfinite(first[1]).all()
    for noise in (first[1], second[1]):
        assert abs(noise.mean()) < 0.03 and abs(noise.std() - 1) < 0.03 and abs((noise**4).mean() - 3) < 0.3
    fc.manual_seed(0)
    np.testing.assert_array_equal(engine(x)[1], first[1])


def test_other_numbers_in_a_forward():
    class Net(nn.Module):
        def forward(self, x):
            return fc.rand_like(x), fc.bernoulli(x), fc.randint(2, 5, (1000,)), fc.randperm(50), fc.rand(3, 4)

    u, b, n, p, plain = fc.compile(Net(), (20, 500))(np.full((20, 500), 0.25, np.float32))
    assert 0 <= u.min() < 0.01 and 0.99 < u.max() < 1 and set(np.unique(b)) == {0, 1} and abs(b.mean() - 0.25) < 0.03
    assert set(np.unique(n)) == {2, 3, 4} and n.dtype == np.int64 and sorted(p) == list(range(50)) and plain.shape == (3, 4)


def test_gradients_pass_noise_by():
    """As an autoencoder draws: mean + noise * deviation."""
    class Net(nn.Module):
        def forward(self, mean, spread):
            noise = fc.randn_like(spread)
            return mean + noise * spread, noise

    engine = fc.compile(Net(), [(4, 6), (4, 6)], training=True, input_gradients=True)
    _, noise = (np.array(a) for a in engine(np.ones((4, 6), np.float32), np.ones((4, 6), np.float32)))
    mean, spread = engine.backward(np.ones((4, 6), np.float32), None)
    np.testing.assert_array_equal(mean, np.ones((4, 6)))
    np.testing.assert_allclose(spread, noise, rtol=1e-6)


# ---- where no gradient is taken -------------------------------------------------------------------------------------------


def test_no_grad():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)

        @fc.no_grad()
        def target(self, x):
            assert not fc.is_grad_enabled()
            return self.b(x) * 2 + 1

        def forward(self, x):
            with fc.no_grad():
                with fc.enable_grad():
                    assert fc.is_grad_enabled()
                y = x * 3
            return self.a(x) * self.target(x) + y.sum(1, keepdim=True)

    net, x = Net(), np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    assert fc.is_grad_enabled()
    engine = fc.compile(net, x.shape, training=True, input_gradients=True)
    out = engine(x)
    target = 2 * (x @ net.b.weight.numpy().T + net.b.bias.numpy()) + 1
    np.testing.assert_allclose(out, (x @ net.a.weight.numpy().T + net.a.bias.numpy()) * target + 3 * x.sum(1, keepdims=True),
                               rtol=1e-4, atol=1e-5)
    (gx,) = engine.backward(np.ones_like(out))
    np.testing.assert_allclose(net.a.weight.grad, target.T @ x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gx, target @ net.a.weight.numpy(), rtol=1e-4, atol=1e-5)
    assert net.b.weight.grad is None or not net.b.weight.grad.any()
    assert all("b" not in s.path.split(".") for s in engine.steps() if s.segment == "backward")


# ---- in place -------------------------------------------------------------------------------------------------------------


def test_every_form_in_place_has_its_method():
    for name in writing.SAME.split():
        assert callable(getattr(Tensor, name)) and callable(getattr(Tensor, f"{name}_"))


@pytest.mark.parametrize(("change", "error", "message"), [
    (lambda x, p: p.add_(1), TypeError, "a parameter is written in forward"),
    (lambda x, p: x.expand(5, 2, 3).contiguous().add_(fc.ones(9, 1, 1)), ValueError, "add_|broadcast|equal extents"),
    (lambda x, p: x.argmax(1).add_(0.5), TypeError, "dtype float32 in the place of int64"),
    (lambda x, p: x[:1].expand(4, 3).add_(1), ValueError, "repeated"),
    (lambda x, p: x.__setitem__((slice(None), slice(0, 2)), fc.ones(2, 3)), ValueError, "value"),
    (lambda x, p: x.__setitem__((0, 5), 1), IndexError, "index"),
    (lambda x, p: x.__setitem__(fc.ones(3, 3).bool(), 1), IndexError, "mask"),
])
def test_what_cannot_be_written(change, error, message):
    weight = nn.Parameter(np.ones(3))
    with pytest.raises(error, match=message):
        fc.compile(lambda x: [change(x, weight), x][1], (2, 3))


def test_the_arrays_of_a_caller_stay():
    x = np.ones((2, 3), np.float32)
    out, gradient = F.vjp(lambda x: x.mul_(3).sum(), x)
    assert out == 18 and (x == 1).all()
    np.testing.assert_array_equal(gradient, np.full((2, 3), 3))


def test_a_smaller_batch_replays_what_is_written():
    def function(x):
        x = x + 0
        x[:, 1] = 5
        x[:, 2:] *= 2
        return x

    engine, x = fc.compile(function, (4, 3, 2)), np.random.default_rng(0).standard_normal((4, 3, 2)).astype(np.float32)
    right = x.copy()
    right[:, 1], right[:, 2:] = 5, 2 * x[:, 2:]
    np.testing.assert_array_equal(engine(x), right)
    np.testing.assert_array_equal(engine(x[:2]), right[:2])


def test_gradients_of_inputs_lie_as_the_inputs():
    """Also where the input is seen as views alone, and its gradient as pixels of a fixed number."""
    x = np.random.default_rng(0).standard_normal((2, 4, 8)).astype(np.float32)
    engine = fc.compile(lambda x: x.view(2, 2, 2, 8).transpose(1, 2).contiguous().view(2, 4, 8) * 2, x.shape, training=True,
                        input_gradients=True)
    engine(x)
    grad = np.arange(64, dtype=np.float32).reshape(2, 4, 8)
    (found,) = engine.backward(grad)
    np.testing.assert_array_equal(found, 2 * grad.reshape(2, 2, 2, 8).swapaxes(1, 2).reshape(2, 4, 8))


def test_what_nobody_reads_of_what_is_written_costs_no_step():
    """``x += table`` behind a chain of views is the addition alone."""
    table = np.random.default_rng(1).standard_normal((1, 12, 5)).astype(np.float32)

    def in_place(x):
        x = x.flatten(2).transpose(1, 2)
        x += table
        return x * 2

    def plain(x):
        return (x.flatten(2).transpose(1, 2) + table) * 2

    x = np.random.default_rng(0).standard_normal((2, 5, 3, 4)).astype(np.float32)
    one, other = fc.compile(in_place, x.shape), fc.compile(plain, x.shape)
    np.testing.assert_array_equal(one(x), other(x))
    assert [s.kernel for s in one.steps()] == [s.kernel for s in other.steps()]


@pytest.mark.parametrize("shape", [(2, 1, 1, 3, 1, 4), (1, 1, 2, 3, 2, 2), (1, 2, 1, 3, 1, 4, 1)])
def test_outputs_of_more_dimensions_than_a_door_has(shape):
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    for function in (lambda x: [(x + 1).view(shape)], lambda x: [x, (x + 1).view(shape)]):
        np.testing.assert_array_equal(fc.compile(function, x.shape)(x)[-1], (x + 1).reshape(shape))
