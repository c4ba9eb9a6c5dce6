"""A loop of one's own: losses that remember, gradients that add up, value_and_grad, clipping; beside PyTorch."""

import gc
from weakref import ref

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn, optim


class Net(nn.Module):
    def __init__(self, heads=1):
        super().__init__()
        fc.manual_seed(5)
        self.conv, self.relu, self.flatten = nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten()
        self.head, self.other = nn.Linear(64, 3), nn.Linear(64, 2)
        self.heads = heads

    def forward(self, x):
        x = self.flatten(self.relu(self.conv(x)))
        return self.head(x) if self.heads == 1 else (self.head(x), self.other(x))


def batch(seed=0, n=5):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 2, 4, 4)).astype(np.float32), rng.integers(0, 3, n), \
        rng.standard_normal((n, 2)).astype(np.float32)


def engine_for(net, n=5):
    return fc.compile(net, (n, 2, 4, 4), training=True)


def grads(net):
    return {name: None if p.grad is None else p.grad.copy() for name, p in net.named_parameters()}


def test_the_loop_is_the_trainer():
    """Same bits as the Trainer, also with another batch size at the end."""
    ours, theirs = Net(), Net()
    optimizer = optim.SGD(ours.parameters(), lr=0.1, momentum=0.9)
    engine, criterion = engine_for(ours), nn.CrossEntropyLoss()
    trainer = fc.Trainer(theirs, nn.CrossEntropyLoss(), optim.SGD(lr=0.1, momentum=0.9))
    for i, n in enumerate((5, 5, 5, 3)):
        x, y, _ = batch(i, n)
        optimizer.zero_grad()
        loss = criterion(engine(x), y)
        loss.backward()
        optimizer.step()
        assert isinstance(loss, float) and loss.item() == pytest.approx(trainer.step(x, y), rel=1e-6)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=1e-5, atol=1e-6)


def test_against_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: a loop in it is the reference")
    net = Net()
    theirs = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(),
                                 torch.nn.Linear(64, 3))
    theirs.load_state_dict({name: torch.tensor(value) for (name, value) in zip(
        theirs.state_dict(), [net.state_dict()[k] for k in ("conv.weight", "conv.bias", "head.weight", "head.bias")],
        strict=True)})
    groups = [{"params": net.conv.parameters(), "lr": 0.02}, {"params": net.head.parameters()}]
    ours = optim.Adam(groups, lr=0.01, weight_decay=0.1)
    other = torch.optim.Adam([{"params": theirs[0].parameters(), "lr": 0.02}, {"params": theirs[3].parameters()}], lr=0.01,
                             weight_decay=0.1)
    schedules = optim.StepLR(ours, 2, 0.5), torch.optim.lr_scheduler.StepLR(other, 2, 0.5)
    engine, criterion = engine_for(net), nn.CrossEntropyLoss(label_smoothing=0.1)
    for i in range(6):
        x, y, _ = batch(i)
        for parts in range(2):  # two backward calls add up
            loss = criterion(engine(x), y) / 2
            loss.backward()
            (torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y), label_smoothing=0.1) / 2).backward()
            del parts
        total = nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        assert total == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)), rel=1e-4)
        ours.step()
        other.step()
        ours.zero_grad()
        other.zero_grad()
        for schedule in schedules:
            schedule.step()
        assert [g["lr"] for g in ours.param_groups] == pytest.approx([g["lr"] for g in other.param_groups])
    for p, q in zip([*net.conv.parameters(), *net.head.parameters()], theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_gradients_add_up_until_they_are_dropped():
    net = Net()
    engine, (x, y, _), criterion = engine_for(net), batch(), nn.CrossEntropyLoss()

    def once():
        loss = criterion(engine(x), y)
        loss.backward()

    once()
    one = grads(net)
    kept = net.head.weight.grad
    once()
    once()
    for name, g in grads(net).items():
        if g is not None:
            np.testing.assert_allclose(g, 3 * one[name], rtol=1e-5, atol=1e-7)
    optim.SGD(net.parameters(), lr=0.1).zero_grad(set_to_none=False)
    assert not net.head.weight.grad.any()
    once()
    np.testing.assert_array_equal(net.head.weight.grad, one["head.weight"])
    net.zero_grad()
    assert net.head.weight.grad is None
    once()
    np.testing.assert_array_equal(net.head.weight.grad, one["head.weight"])
    assert net.other.weight.grad is None and kept.shape == (3, 64)


def test_two_heads_sums_and_multiples_of_losses():
    net = Net(heads=2)
    engine, (x, y, t) = engine_for(net), batch()
    entropy, error = nn.CrossEntropyLoss(), nn.MSELoss()
    a, b = engine(x)
    loss = 0.5 * entropy(a, y) + error(b, t) * 2 - 1.0 - (-error(b, t)) / 4
    assert loss == pytest.approx(0.5 * entropy(a, y) + 2.25 * error(b, t) - 1)
    loss.backward()
    got = grads(net)
    net.zero_grad()
    both = fc.value_and_grad(lambda x, y, t: 0.5 * entropy(net(x)[0], y) + error(net(x)[1], t) * 2.25, argnums=())
    value, () = both(x, y, t)
    assert value - 1 == pytest.approx(loss.item(), rel=1e-6)
    for name, g in grads(net).items():
        np.testing.assert_allclose(got[name], g, rtol=1e-4, atol=1e-6, err_msg=name)


def test_one_head_alone():
    net = Net(heads=2)
    engine, (x, y, _) = engine_for(net), batch()
    nn.CrossEntropyLoss()(engine(x)[0], y).backward()
    assert net.head.weight.grad.any() and not net.other.weight.grad.any()


@pytest.mark.parametrize("view", [lambda a: a[:, :2], lambda a: a[1:4], lambda a: a[::-1, ::-1], lambda a: a.T[:2].T,
                                  lambda a: a.reshape(5, 3)])
def test_a_loss_of_a_part_of_the_output(view):
    net = Net()
    engine, (x, _, t) = engine_for(net), batch()
    y = view(engine(x))
    target = np.resize(t, y.shape).astype(np.float32)
    nn.MSELoss()(y, target).backward()
    got = grads(net)
    net.zero_grad()
    y = engine(x)
    g = np.zeros_like(y)
    view(g)[...] = 2 * (view(y) - target) / target.size
    engine.backward(g)
    for name, expected in grads(net).items():
        if expected is not None:
            np.testing.assert_allclose(got[name], expected, rtol=1e-5, atol=1e-6)


def test_what_backward_refuses():
    net = Net()
    engine, (x, y, _), criterion = engine_for(net), batch(), nn.CrossEntropyLoss()
    loss = criterion(fc.compile(net, x.shape)(x), y)
    with pytest.raises(RuntimeError, match="no output of an engine compiled with training=True"):
        loss.backward()
    first = criterion(engine(x), y)
    second = criterion(engine(x), y)
    with pytest.raises(RuntimeError, match="the engine has been called again since"):
        first.backward()
    second.backward()
    with pytest.raises(RuntimeError, match="or its backward has run"):
        second.backward()
    with pytest.raises(RuntimeError, match="no output of an engine"):
        criterion(engine(x) * 2, y).backward()
    third = criterion(engine(x), y)
    del engine
    gc.collect()
    with pytest.raises(RuntimeError, match="the engine is gone"):
        third.backward()
    with pytest.raises(ValueError, match=r"cross_entropy: target\[0\]=\d .* is not a class index in 0..2"):
        criterion(np.zeros((5, 3), np.float32), y + 5)
    with pytest.raises(TypeError, match="a module is called with symbolic tensors"):
        net(x)


def test_a_loss_is_a_number():
    value = nn.MSELoss()(np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32))
    assert value == 1.0 and f"{value:.3f}" == "1.000" and str(value) == "1.0" and repr(value) == "Loss(1.0)"
    assert value + 1 == 2 and 1 - value == 0 and value / 2 == 0.5 and np.float32(2) * value == 2 and sum([value, value]) == 2
    assert value * value == 1.0 and np.mean([value, value]) == 1.0 and type(value.item()) is float


class Scaled(nn.Module):
    """A loss of one's own, with a parameter."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(np.full((1, 3), 2.0))

    def forward(self, prediction, target):
        return nn.MSELoss()(prediction * self.scale, target)


def test_a_loss_of_ones_own_with_a_parameter():
    net, criterion = Net(), Scaled()
    engine, (x, _, _) = engine_for(net), batch()
    t = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    y = engine(x)
    loss = criterion(y, t)
    assert criterion.scale.grad is None
    loss.backward()
    np.testing.assert_allclose(criterion.scale.grad, (2 * (2 * y - t) * y / 15).sum(0, keepdims=True), rtol=1e-4, atol=1e-6)
    got = net.head.bias.grad.copy()
    net.zero_grad()
    engine(x)
    engine.backward((2 * (2 * y - t) * 2 / 15).astype(np.float32))
    np.testing.assert_allclose(got, net.head.bias.grad, rtol=1e-4, atol=1e-6)


def test_value_and_grad_of_arrays():
    mse = nn.MSELoss()
    f = fc.value_and_grad(lambda a, b: mse(a * b, b), argnums=(0, 1))
    rng = np.random.default_rng(0)
    for shape in ((4, 3), (2, 3, 5, 5), (4, 3)):
        a, b = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
        value, (ga, gb) = f(a, b)
        d = a.astype(float) * b - b
        assert value == pytest.approx((d**2).mean(), rel=1e-5)
        np.testing.assert_allclose(ga, 2 * d * b / d.size, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(gb, 2 * d * (a - 1) / d.size, rtol=1e-4, atol=1e-6)
    value, g = fc.value_and_grad(lambda a, b: mse(a, b), argnums=1)(a, b)
    np.testing.assert_allclose(g, 2 * (b - a) / a.size, rtol=1e-5)


def test_value_and_grad_of_a_network():
    net, other = Net(), Net()
    x, y, _ = batch()
    criterion = nn.CrossEntropyLoss()
    step = fc.value_and_grad(lambda x, y: (criterion(net(x), y), net(x)), has_aux=True)
    engine = engine_for(other)
    for _ in range(2):
        (value, logits), g = step(x, y)
        expected = criterion(engine(x), y)
        expected.backward()
        assert value == pytest.approx(expected) and logits.shape == (5, 3) and g.shape == x.shape
    for name, p in other.named_parameters():
        if p.grad is not None:
            np.testing.assert_allclose(dict(net.named_parameters())[name].grad, p.grad, rtol=1e-5, atol=1e-6)
    net.conv.weight.requires_grad = False
    net.zero_grad()
    step(x, y)
    assert net.conv.weight.grad is None and net.head.weight.grad is not None


@pytest.mark.parametrize("call, error, message", [
    (lambda x: fc.value_and_grad(3), TypeError, "function is a int"),
    (lambda x: fc.value_and_grad(lambda a: a, argnums="x"), TypeError, "argnums='x'"),
    (lambda x: fc.value_and_grad(lambda a: a)(x), ValueError, r"value has shape \(4, 3\)"),
    (lambda x: fc.value_and_grad(lambda a: a, argnums=2)(x), ValueError, "argnums=2: the function was called with 1"),
    (lambda x: fc.value_and_grad(lambda a: a)(x.astype(int)), TypeError, "only float32 has a gradient"),
    (lambda x: fc.value_and_grad(lambda a: a)(x.astype(float)), TypeError, "float64"),
    (lambda x: fc.value_and_grad(lambda a: (nn.MSELoss()(a, a), a))(x), TypeError, "several tensors"),
    (lambda x: fc.value_and_grad(lambda a: nn.MSELoss()(a, a), has_aux=True)(x), TypeError, "must return a pair"),
])
def test_value_and_grad_refuses(call, error, message):
    with pytest.raises(error, match=f"value_and_grad: .*{message}"):
        call(np.ones((4, 3), np.float32))


@pytest.mark.parametrize("order", [2.0, 1, 3.5, np.inf, -np.inf, 0.0])
def test_clipping_by_norm(order):
    rng = np.random.default_rng(0)
    parameters = [nn.Parameter(np.zeros(shape)) for shape in ((3, 4), (9000,), (1,), (2,))]
    for p in parameters[:3]:
        p.grad = rng.standard_normal(p.shape).astype(np.float32)
    before = [p.grad.astype(float) for p in parameters[:3]]
    together = np.concatenate([g.reshape(-1) for g in before])
    norm = np.linalg.norm(together, order)
    assert nn.utils.get_total_norm([p.grad for p in parameters[:3]], order) == pytest.approx(norm, rel=1e-6)
    assert nn.utils.clip_grad_norm_(iter(parameters), 0.25, order) == pytest.approx(norm, rel=1e-6)
    for p, g in zip(parameters, before, strict=False):
        np.testing.assert_allclose(p.grad, g * min(1.0, 0.25 / (norm + 1e-6)), rtol=1e-5)
    again = [p.grad.copy() for p in parameters[:3]]
    nn.utils.clip_grad_norm_(parameters, 1e9, order)
    for p, g in zip(parameters, again, strict=False):
        np.testing.assert_array_equal(p.grad, g)


def test_clipping_by_value_and_what_is_refused():
    p = nn.Parameter(np.zeros(4))
    p.grad = np.array([-3, 0.1, np.nan, 5], np.float32)
    nn.utils.clip_grad_value_(p, 0.5)
    np.testing.assert_array_equal(p.grad, np.array([-0.5, 0.1, np.nan, 0.5], np.float32))
    for call, error, message in [
        (lambda: nn.utils.clip_grad_norm_([p], 1.0, error_if_nonfinite=True), RuntimeError, "the norm of order 2.0"),
        (lambda: nn.utils.clip_grad_norm_([3], 1.0), TypeError, r"parameters\[0\] is a int"),
        (lambda: nn.utils.clip_grad_norm_(3, 1.0), TypeError, "parameters is a int"),
        (lambda: nn.utils.clip_grad_norm_([p], "x"), TypeError, "max_norm='x'"),
        (lambda: nn.utils.clip_grad_norm_([p], -1.0), ValueError, "max_norm=-1.0"),
        (lambda: nn.utils.clip_grad_value_([p], float("nan")), ValueError, "clip_value=nan"),
    ]:
        with pytest.raises(error, match=message):
            call()
    assert np.isnan(nn.utils.clip_grad_norm_([p], 1.0)) and np.isnan(p.grad).all()
    assert nn.utils.clip_grad_norm_([], 1.0) == 0.0


def test_outputs_and_gradients_keep_no_engine():
    network = nn.Linear(3, 2)
    engine = fc.compile(network, (4, 3), training=True)
    output = engine(np.ones((4, 3), np.float32))
    engine.backward(np.ones_like(output))
    kept = [ref(engine), ref(engine._current[1])]
    del engine
    gc.collect()
    assert [r() for r in kept] == [None, None]
    assert output.shape == (4, 2) and network.weight.grad.shape == (2, 3)
