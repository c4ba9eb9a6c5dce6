"""Normalisation layers in networks: activations that lie channels-last or dense, against PyTorch and the definition."""

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv import nn
from fastconv.functional.record import vjp

rng = np.random.default_rng(0)
LAYERS = {
    "group": (lambda m: m.GroupNorm(4, 8), (5, 8, 6, 7)),
    "group, one": (lambda m: m.GroupNorm(1, 8), (5, 8, 6, 7)),
    "group, each": (lambda m: m.GroupNorm(8, 8), (5, 8, 6, 7)),
    "group, plain": (lambda m: m.GroupNorm(2, 8, affine=False), (5, 8, 9)),
    "group, no pixels": (lambda m: m.GroupNorm(2, 8), (5, 8)),
    "group, 3-D": (lambda m: m.GroupNorm(2, 8), (2, 8, 3, 4, 5)),
    "group, large": (lambda m: m.GroupNorm(4, 32), (3, 32, 40, 41)),
    "group, lanes": (lambda m: m.GroupNorm(8, 48), (5, 48, 6, 7)),
    "group, ranges": (lambda m: m.GroupNorm(6, 12), (3, 12, 60, 61)),
    "group, wide": (lambda m: m.GroupNorm(1, 40, affine=False), (4, 40, 3, 3, 4)),
    "layer": (lambda m: m.LayerNorm(7), (5, 8, 6, 7)),
    "layer, image": (lambda m: m.LayerNorm((8, 6, 7)), (5, 8, 6, 7)),
    "layer, plain": (lambda m: m.LayerNorm(8, elementwise_affine=False), (5, 8)),
    "layer, no bias": (lambda m: m.LayerNorm(300, bias=False), (40, 300)),
    "rms": (lambda m: m.RMSNorm(7, eps=1e-5), (5, 8, 6, 7)),
    "rms, plain": (lambda m: m.RMSNorm((6, 7), elementwise_affine=False), (5, 8, 6, 7)),
    "instance": (lambda m: m.InstanceNorm2d(8), (5, 8, 6, 7)),
    "instance, affine": (lambda m: m.InstanceNorm2d(8, affine=True), (5, 8, 6, 7)),
    "instance, lanes": (lambda m: m.InstanceNorm2d(20, affine=True), (5, 20, 6, 7)),
    "instance, 1-D": (lambda m: m.InstanceNorm1d(8, affine=True), (5, 8, 9)),
    "instance, 3-D": (lambda m: m.InstanceNorm3d(8), (2, 8, 3, 4, 5)),
    "local response": (lambda m: m.LocalResponseNorm(3, 0.1), (5, 8, 6, 7)),
    "softmin": (lambda m: m.Softmin(1), (5, 8, 6, 7)),
    "softmax 2d": (lambda m: m.Softmax2d(), (5, 8, 6, 7)),
    "softmax of the batch": (lambda m: m.Softmax(0), (5, 8)),
    "softmax of rows": (lambda m: m.Softmax(-1), (5, 8, 6, 7)),
}


def torch():
    return pytest.importorskip("torch", reason="PyTorch, which these are compared with, is not installed")


def close(got, want, scale=1.0):
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5 * max(scale, np.abs(want).max(initial=0)))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_behind_a_convolution(name, last):
    """Forward, and the gradients of everything, of a layer between two others, for the planned batch and a smaller one."""
    t = torch()
    make, shape = LAYERS[name]
    mine, theirs = make(nn), make(t.nn).double()
    assert list(mine.state_dict()) == list(theirs.state_dict())
    mine.load_state_dict({k: rng.uniform(0.5, 1.5, v.shape).astype(np.float32) for k, v in mine.state_dict().items()})
    theirs.load_state_dict({k: t.from_numpy(v.astype(np.float64)) for k, v in mine.state_dict().items()})
    scale = fc.Parameter(rng.uniform(0.5, 2, (shape[1],) + (1,) * (len(shape) - 2)).astype(np.float32))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.layer = scale, mine

        def forward(self, x):
            return self.layer(x * self.scale)

    x = rng.standard_normal(shape).astype(np.float32)
    x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if last else x
    x = np.moveaxis(x, -1, 1) if last else x
    net = Net()
    engine = fc.compile(net, shape, training=True)
    for n in (shape[0], 2):
        inputs = t.from_numpy(x[:n].astype(np.float64)).requires_grad_()
        s = t.from_numpy(scale.data.astype(np.float64)).requires_grad_()
        theirs.zero_grad(), net.zero_grad()
        want = theirs(inputs * s)
        got = engine(x[:n])
        close(got, want.detach().numpy())
        g = rng.standard_normal(shape).astype(np.float32)[:n]
        want.backward(t.from_numpy(g.astype(np.float64)))
        engine.backward(g)
        size = np.prod(shape) / shape[1]
        close(scale.grad, s.grad.numpy(), np.sqrt(size) / 10)
        for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
            close(p.grad, q.grad.numpy(), np.sqrt(size) / 10)


def test_running_statistics_of_instances():
    t = torch()
    mine, theirs = (m.InstanceNorm2d(6, track_running_stats=True, affine=True, momentum=0.3) for m in (nn, t.nn))
    engine = fc.compile(mine, (4, 6, 5, 7), training=True)
    for n in (4, 4, 2):
        x = (3 + 2 * rng.standard_normal((n, 6, 5, 7))).astype(np.float32)
        close(engine(x), theirs(t.from_numpy(x)).detach().numpy())
        engine.backward(np.ones((n, 6, 5, 7), np.float32))
    for key, value in theirs.state_dict().items():
        close(mine.state_dict()[key], value.numpy())
    mine.eval()
    close(fc.compile(mine, x.shape)(x), theirs.eval()(t.from_numpy(x)).detach().numpy())


@pytest.mark.parametrize("name", ["group", "group, lanes", "instance", "instance, lanes", "layer", "rms"])
def test_an_image_does_not_depend_on_its_batch(name):
    make, shape = LAYERS[name]
    engine = fc.compile(make(nn).eval(), shape)
    x = rng.standard_normal(shape).astype(np.float32)
    whole = engine(x)
    for i in range(shape[0]):
        np.testing.assert_array_equal(engine(x[i : i + 1]), whole[i : i + 1])


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("channels", [8, 48])  # fewer than fill vectors are no node of their own
@pytest.mark.parametrize("act", ["relu", "relu6", "leaky_relu", "silu"])
@pytest.mark.parametrize("residual", [False, True])
def test_what_follows_moves_into_the_normalisation(channels, act, residual, trained):
    """The residual and the activation behind, and the gradient of that, in front of or behind the sums."""
    t = torch()
    shape = (3, channels, 9, 10)
    mine, theirs = nn.GroupNorm(4, channels), t.nn.GroupNorm(4, channels).double()
    values = {k: rng.uniform(0.5, 1.5, v.shape).astype(np.float32) for k, v in mine.state_dict().items()}
    mine.load_state_dict(values), theirs.load_state_dict({k: t.from_numpy(v.astype(np.float64)) for k, v in values.items()})

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = mine

        def forward(self, x, other):
            y = self.norm(x)
            return getattr(F, act)(y + other if residual else y)

    x, other, g = (rng.standard_normal(shape).astype(np.float32) for _ in range(3))
    engine = fc.compile(Net(), [shape, shape], training=trained, input_gradients=trained)
    given = [t.from_numpy(a.astype(np.float64)).requires_grad_() for a in (x, other)]
    want = getattr(t.nn.functional, act)(theirs(given[0]) + given[1] if residual else theirs(given[0]))
    close(engine(x, other), want.detach().numpy())
    steps = [s.op for s in engine.steps()]
    if channels > 8:
        assert not {"add", "relu", "clip", "leaky_relu", "map"} & set(steps)
    if not trained:
        return
    found = engine.backward(g)
    want.backward(t.from_numpy(g.astype(np.float64)))
    close(found[0], given[0].grad.numpy())
    if residual:
        close(found[1], given[1].grad.numpy())
    for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
        close(p.grad, q.grad.numpy(), 3.0)
    backward = {f"{op}_backward" for op in ("relu", "clip")} & set(steps)
    assert bool(backward) == (act in ("relu", "relu6") and (residual or channels == 8))


@pytest.mark.parametrize("shape, groups", [((3, 8), 2), ((3, 8, 7, 7), 8), ((3, 8, 7, 7), 1), ((2, 6, 20, 33), 2),
                                           ((1, 4, 2, 3, 5), 4), ((2, 64, 48, 48), 1)])
@pytest.mark.parametrize("affine", [False, True])
def test_groups_of_arrays(shape, groups, affine):
    """As arrays lie, groups are rows behind one another, or more than a row may be; with gradients."""
    random = np.random.default_rng(5)
    x, g = random.normal(1, 2, shape).astype(np.float32), random.standard_normal(shape).astype(np.float32)
    parts = [random.uniform(0.5, 2, shape[1]).astype(np.float32) for _ in range(2)] if affine else []
    y, grads = vjp(lambda x, *p: F.group_norm(x, groups, *p), (x, *parts), g)
    t = torch()
    given = [t.from_numpy(a.astype(np.float64)).requires_grad_() for a in (x, *parts)]
    want = t.nn.functional.group_norm(given[0], groups, *given[1:])
    close(y, want.detach().numpy())
    np.testing.assert_array_equal(F.group_norm(x, groups, *parts), y)
    want.backward(t.from_numpy(g.astype(np.float64)))
    for mine, theirs in zip(grads, given, strict=True):
        close(mine, theirs.grad.numpy(), np.sqrt(x[:, 0].size) / 10)


@pytest.mark.parametrize("shape, groups", [((2, 8, 5), 2), ((3, 6, 4, 5), 3)])
def test_bias_alone(shape, groups):
    x, bias = rng.standard_normal(shape).astype(np.float32), rng.standard_normal(shape[1]).astype(np.float32)
    split = x.astype(np.float64).reshape(shape[0], groups, -1)
    normal = ((split - split.mean(-1, keepdims=True)) / np.sqrt(split.var(-1, keepdims=True) + 1e-5)).reshape(shape)
    y, (gx, gb) = vjp(lambda x, b: F.group_norm(x, groups, None, b), (x, bias))
    close(y, normal + bias.reshape(-1, *[1] * (len(shape) - 2)))
    np.testing.assert_allclose(gb, np.full(shape[1], x[:, 0].size), rtol=1e-6)
    np.testing.assert_allclose(gx, 0, atol=1e-5)


def test_far_from_zero():
    """What is normalised may be far from 0: the statistics keep their digits."""
    x = (1000 + rng.standard_normal((4, 8, 30, 30))).astype(np.float32)
    wide = x.astype(np.float64).reshape(4, 2, -1)
    want = ((wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)).reshape(x.shape)
    for source in (x, np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)):
        np.testing.assert_allclose(F.group_norm(source, 2), want, atol=2e-4)


def test_a_window_across_channels():
    x = rng.standard_normal((2, 9, 3, 4)).astype(np.float32)
    for size in (1, 3, 4, 6):
        window = 2 * ((size - 1) // 2) + 1
        squares = np.pad(x.astype(np.float64) ** 2, ((0, 0), (window // 2,) * 2, (0, 0), (0, 0)))
        sums = np.lib.stride_tricks.sliding_window_view(squares, window, 1).sum(-1)
        got = fc.compile(nn.CrossMapLRN2d(size, 0.3, 0.6, 1.5), x.shape)(x)
        close(got, x / (1.5 + 0.3 / size * sums) ** 0.6)


@pytest.mark.parametrize("hard", [False, True])
def test_gumbel_softmax(hard):
    fc.manual_seed(0)
    logits = np.log(np.array([0.1, 0.2, 0.7], np.float32))
    y = F.gumbel_softmax(np.broadcast_to(logits, (20_000, 3)), tau=0.5, hard=hard)
    np.testing.assert_allclose(y.sum(-1), 1, rtol=1e-5)
    counts = np.bincount(y.argmax(-1), minlength=3) / len(y)
    np.testing.assert_allclose(counts, [0.1, 0.2, 0.7], atol=0.015)
    assert not hard or set(np.unique(np.round(y, 5))) == {0.0, 1.0}


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.GroupNorm(3, 8), "GroupNorm: num_groups=3: expected a divisor of num_channels=8"),
        (lambda: nn.GroupNorm(0, 8), "num_groups=0"),
        (lambda: nn.LayerNorm(0), "normalized_shape=0"),
        (lambda: nn.InstanceNorm2d(4, eps=-1), "eps=-1"),
        (lambda: nn.LocalResponseNorm(0), "size=0"),
        (lambda: fc.compile(nn.GroupNorm(2, 8), (2, 6, 4, 4)), "expected num_channels=8"),
        (lambda: fc.compile(nn.InstanceNorm2d(8), (2, 8, 4)), "has 3 dimensions: expected 4"),
        (lambda: fc.compile(nn.LayerNorm(8), (2, 6)), r"normalized_shape=\(8,\): expected the last extents"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
