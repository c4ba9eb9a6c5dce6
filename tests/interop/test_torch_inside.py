"""Modules of fastconv inside networks of PyTorch, under its autograd and its optimisers, beside PyTorch in float64."""

import copy
import io
import threading

import numpy as np
import pytest

import fastconv as fc

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch import nn  # noqa: E402

from fastconv.interop import from_torch, to_torch  # noqa: E402


def ours():
    fc.manual_seed(0)
    conv = fc.nn.Conv2d(4, 6, 3, padding=1, bias=False)
    return fc.nn.Sequential(conv, fc.nn.BatchNorm2d(6), fc.nn.ReLU(), fc.nn.MaxPool2d(2))


class Mixed(nn.Module):
    """Layers of PyTorch before and after ``middle``."""

    def __init__(self, middle):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.middle, self.last = nn.Conv2d(3, 4, 1), middle, nn.Linear(6 * 9, 5)

    def forward(self, x):
        return self.last(self.middle(torch.tanh(self.first(x))).flatten(1))


def pair():
    """A network with ours in the middle, and the same of PyTorch alone in float64."""
    mixed = Mixed(to_torch(ours()))
    right = Mixed(nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)))
    right.load_state_dict(mixed.state_dict())
    return mixed, right.double()


def pictures(n=4, seed=1):
    return torch.randn(n, 3, 6, 7, generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([0, 4, 2, 1])


def near(found, want, most=2e-4):
    found, want = found.detach().double().numpy(), want.detach().double().numpy()
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=most * max(1e-2, np.abs(want).max()))


@pytest.mark.parametrize("mode", [True, False])
def test_outputs_gradients_and_statistics(mode):
    mixed, right = (net.train(mode) for net in pair())
    assert [*mixed.state_dict()] == [*right.state_dict()]
    assert mixed.middle.fastconv.training == mode
    x = pictures().requires_grad_()
    x64 = x.detach().double().requires_grad_()
    for _ in range(2):  # gradients add up
        near(mixed(x), right(x64))
        nn.functional.cross_entropy(mixed(x), LABELS).backward()
        nn.functional.cross_entropy(right(x64), LABELS).backward()
    near(x.grad, x64.grad)
    for a, b in zip(mixed.parameters(), right.parameters(), strict=True):
        near(a.grad, b.grad)
    for a, b in zip(mixed.buffers(), right.buffers(), strict=True):
        near(a, b)
    with torch.no_grad():
        near(mixed.eval()(pictures(2, 3)), right.eval()(pictures(2, 3).double()))


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_training_by_pytorch_s_optimiser(optimizer):
    mixed, right = pair()
    rates = [getattr(torch.optim, optimizer)(net.parameters(), lr=0.02) for net in (mixed, right)]
    for step in range(4):
        losses = []
        for net, rate, x in zip((mixed, right), rates, (pictures(4, step), pictures(4, step).double()), strict=True):
            rate.zero_grad()
            loss = nn.functional.cross_entropy(net(x), LABELS)
            loss.backward()
            rate.step()
            losses.append(float(loss.detach()))
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    net = mixed.middle.fastconv
    np.testing.assert_array_equal(net[0].weight.data, mixed.middle.state_dict()["0.weight"].numpy())
    near(mixed.eval()(pictures()), right.eval()(pictures().double()), 5e-3)
    x = torch.randn(4, 4, 6, 7)
    engine = fc.compile(net, (4, 4, 6, 7))
    with torch.no_grad():
        np.testing.assert_array_equal(engine(x.numpy()), mixed.middle(x).numpy())


def test_training_here_reaches_pytorch():
    net = ours()
    layer = to_torch(net)
    whole = fc.nn.Sequential(net, fc.nn.Flatten(), fc.nn.Linear(54, 3))
    trainer = fc.Trainer(whole, fc.nn.CrossEntropyLoss(), fc.optim.SGD(0.1))
    x = torch.randn(2, 4, 6, 7)
    before = layer.state_dict()["0.weight"].clone()
    trainer.step(x.numpy(), np.array([0, 2]))
    assert not torch.equal(before, layer.state_dict()["0.weight"]) and int(layer.state_dict()["1.num_batches_tracked"]) == 1
    with torch.no_grad():
        np.testing.assert_array_equal(layer.eval()(x).numpy(), fc.compile(net, (2, 4, 6, 7))(x.numpy()))
    assert all(p.data_ptr() == q.address for p, q in zip(layer.parameters(), net.parameters(), strict=True))


def test_runs_that_wait_for_their_backward():
    mixed, right = pair()
    mixed.eval()
    right.eval()
    first, second = mixed(pictures(4, 1)), mixed(pictures(3, 2))
    (second.square().sum() + 3 * first.sum()).backward()
    a, b = right(pictures(4, 1).double()), right(pictures(3, 2).double())
    (b.square().sum() + 3 * a.sum()).backward()
    for p, q in zip(mixed.parameters(), right.parameters(), strict=True):
        near(p.grad, q.grad)
    engines = mixed.middle._runner.engines
    assert sum(map(len, engines.values())) == 2
    for _ in range(3):
        mixed(pictures())  # forgotten: its engine comes back
    assert sum(map(len, engines.values())) == 2
    shared = nn.Sequential(*[to_torch(fc.nn.Linear(4, 4))] * 3)  # the same layer three times
    twin = nn.Linear(4, 4).double()
    twin.load_state_dict(shared[0].state_dict())
    x = torch.randn(2, 4)
    shared(x).sum().backward()
    twin(twin(twin(x.double()))).sum().backward()
    near(shared[0].weight.grad, twin.weight.grad)


def test_dropout_is_the_same_in_the_backward():
    layer = to_torch(fc.nn.Dropout(0.5))
    x = torch.ones(4, 1000, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach()) and 0.4 < float((y > 0).float().mean()) < 0.6
    assert torch.equal(layer.eval()(x), x)


class Several(fc.nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.scale = fc.nn.Embedding(5, 3), fc.nn.Parameter(np.array([2.0], np.float32))

    def forward(self, x, ids):
        y = x * self.scale + self.table(ids)
        return {"y": y, "all": [y.sum(1), fc.functional.argmax(y, 1)]}


def test_several_inputs_and_nested_outputs():
    layer = to_torch(Several())
    x, ids = torch.randn(3, 3, requires_grad=True), torch.tensor([0, 4, 0])
    found = layer(x, ids)
    y = x * layer.scale + layer.table.weight[ids]
    near(found["y"], y)
    near(found["all"][0], y.sum(1))
    assert torch.equal(found["all"][1], y.argmax(1)) and not found["all"][1].requires_grad
    g = torch.autograd.grad((found["y"] ** 2).sum() + found["all"][0].sum(), [x, layer.scale, layer.table.weight])
    for a, b in zip(g, torch.autograd.grad((y ** 2).sum() + y.sum(), [x, layer.scale, layer.table.weight]), strict=True):
        near(a, b)
    with torch.no_grad():
        assert not layer(x, ids)["y"].requires_grad


def test_what_is_frozen_and_who_wants_gradients():
    layer = to_torch(ours())
    x = torch.randn(2, 4, 6, 7)
    for p in layer.parameters():
        p.requires_grad_(False)
    assert not layer(x).requires_grad
    x.requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None and all(p.grad is None for p in layer.parameters())
    layer.get_parameter("0.weight").requires_grad_(True)
    layer(x).square().sum().backward()
    assert layer.get_parameter("0.weight").grad is not None and layer.get_parameter("1.weight").grad is None
    assert all(p.grad is None for p in layer.fastconv.parameters())  # ours are left alone


def test_there_and_back_again():
    theirs = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    layer = to_torch(from_torch(theirs, torch.zeros(2, 3, 6, 6)))
    assert layer.get_parameter("0.weight") is theirs[0].weight
    x = torch.randn(2, 3, 6, 6)
    layer(x).square().sum().backward()
    mine = theirs[0].weight.grad.clone()
    theirs[0].weight.grad = None
    theirs(x).square().sum().backward()
    near(mine, theirs[0].weight.grad)


def test_copies_and_files():
    layer = to_torch(ours()).eval()
    x = torch.randn(2, 4, 6, 7)
    want = layer(x).detach()
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    other, whole = copy.deepcopy(layer), io.BytesIO()
    torch.save(layer, whole)
    whole.seek(0)
    opened = torch.load(whole, weights_only=False)
    assert not opened.training and not other.training
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
    assert not layer(x).any()
    assert torch.equal(other(x), want) and torch.equal(opened(x), want)
    file.seek(0)
    layer.load_state_dict(torch.load(file))
    assert torch.equal(layer(x), want)


def test_in_threads():
    layer = to_torch(ours()).eval()
    xs = [torch.randn(2, 4, 6, 7) for _ in range(6)]
    want = [layer(x).detach() for x in xs]
    wrong = []

    def work(k):
        for _ in range(20):
            x = xs[k].clone().requires_grad_()
            y = layer(x)
            y.sum().backward()
            if not torch.equal(y.detach(), want[k]) or x.grad is None:
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_refused():
    layer = to_torch(ours())
    x = torch.randn(2, 4, 6, 7)
    with pytest.raises(TypeError, match="module is a Linear"):
        to_torch(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="input 0 is a ndarray"):
        layer(x.numpy())
    with pytest.raises(RuntimeError, match="cannot become float64 on cpu"):
        layer.double()
    with pytest.raises(RuntimeError, match="cannot become float32 on meta"):
        layer.to("meta")
    assert layer.float().to("cpu") is layer
    with pytest.raises((TypeError, ValueError), match="float64"):
        layer(x.double())
    y = layer(x)
    y.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="a second backward of the same call"):
        y.sum().backward()
    layer.fastconv.replace("0", fc.nn.Conv2d(4, 6, 3, padding=1))
    with pytest.raises(RuntimeError, match="replaced since to_torch"):
        layer(x)
