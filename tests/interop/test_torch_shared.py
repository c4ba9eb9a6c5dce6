"""Modules of PyTorch whose weights are shared: what either side changes the other has. Changes in place, parts replaced."""

import copy
import gc
import logging
import pickle

import numpy as np
import pytest

import fastconv as fc
from fastconv.graph import parameter

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch import nn  # noqa: E402
from torch.nn import functional as TF  # noqa: E402

from fastconv.interop.torch import compile_fx, from_torch  # noqa: E402


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))


def pictures(n=2):
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def check(engine, theirs, x):
    want = theirs(x).detach().double().numpy()
    np.testing.assert_allclose(engine(x.numpy()), want, rtol=1e-4, atol=2e-5 * max(1.0, np.abs(want).max()))


def test_what_pytorch_changes_engines_follow():
    theirs, x = network().eval(), pictures()
    net = from_torch(theirs, x)
    for (name, p), right in zip(net.named_parameters(), theirs.parameters(), strict=True):
        assert p.address == right.data_ptr(), name
    engine = fc.compile(net, (2, 3, 8, 8))
    check(engine, theirs, x)
    with torch.no_grad():
        theirs[0].weight.mul_(2)
    check(engine, theirs, x)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1)
    theirs(x).sum().backward()
    optimizer.step()
    check(engine, theirs, x)
    theirs.load_state_dict({key: value * 0.5 for key, value in theirs.state_dict().items()})
    check(engine, theirs, x)
    theirs.train()(x)  # statistics, whose changes PyTorch does not count
    check(engine, theirs.eval(), x)
    theirs[4].weight.data.zero_()  # nor does it count this
    net.touch()
    check(engine, theirs, x)
    assert np.array_equal(engine(x.numpy())[0], theirs[4].bias.detach().numpy())


def test_what_is_trained_here_pytorch_has():
    theirs, x = network().train(), pictures(4)
    net = from_torch(theirs, x)
    trainer = fc.Trainer(net, fc.nn.CrossEntropyLoss(), fc.optim.SGD(lr=0.05))
    double = copy.deepcopy(theirs).double()
    optimizer = torch.optim.SGD(double.parameters(), lr=0.05)
    y = torch.tensor([0, 1, 2, 3])
    for _ in range(3):
        trainer.step(x.numpy(), y.numpy())
        optimizer.zero_grad()
        TF.cross_entropy(double(x.double()), y).backward()
        optimizer.step()
    for key, right in double.state_dict().items():
        np.testing.assert_allclose(theirs.state_dict()[key].numpy(), right.numpy(), rtol=1e-3, atol=1e-4, err_msg=key)
    assert int(theirs[1].num_batches_tracked) == 3


def test_copies_are_copies():
    theirs, x = network().eval(), pictures()
    net = from_torch(theirs, x)
    others = [copy.deepcopy(net), pickle.loads(pickle.dumps(net)), from_torch(theirs, x, share=False)]
    frozen = fc.compile(net, (2, 3, 8, 8)).freeze()
    before = frozen(x.numpy())
    with torch.no_grad():
        theirs[0].weight.add_(1)
    assert np.array_equal(frozen(x.numpy()), before)
    for other in others:
        assert np.array_equal(fc.compile(other, (2, 3, 8, 8))(x.numpy()), before)


def test_weights_that_cannot_be_shared(caplog):
    theirs = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    theirs[0] = nn.Linear(3, 4)
    theirs[0].weight = nn.Parameter(torch.randn(3, 4).t())  # not in C order
    x = torch.randn(2, 3)
    want = theirs[1].float()(theirs[0](x)).detach().numpy()
    theirs[1].double()

    class Cast(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = theirs

        def forward(self, x):
            return self.net[1](self.net[0](x).double())

    with caplog.at_level(logging.WARNING, "fastconv"):
        net = from_torch(Cast(), x)
    assert "weights of float64 have become float32" in caplog.text
    np.testing.assert_allclose(fc.compile(net, (2, 3))(x.numpy()), want, rtol=1e-5, atol=1e-6)


def test_nothing_is_watched_once_the_modules_are_gone():
    gc.collect()
    before = len(parameter._watches)
    net = from_torch(network().eval(), pictures())
    assert len(parameter._watches) == before + 1
    del net
    gc.collect()
    assert len(parameter._watches) == before


def test_parts_are_replaced():
    theirs, x = network().eval(), pictures()
    net = from_torch(theirs, x)
    engine = fc.compile(net, (2, 3, 8, 8))
    engine(x.numpy())
    head = fc.nn.Linear(288, 7)
    was = net.replace("4", head)
    assert np.array_equal(was.weight.data, theirs[4].weight.detach().numpy())
    features = theirs[:4](x).detach().numpy()
    want = features.astype(np.float64) @ head.weight.data.T.astype(np.float64) + head.bias.data
    np.testing.assert_allclose(engine(x.numpy()), want, rtol=1e-4, atol=1e-5)
    assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias"]
    net.replace("2", fc.nn.LeakyReLU(0.5))  # a part without weights
    theirs[2] = nn.LeakyReLU(0.5)
    features = theirs[:4](x).detach().numpy()
    want = features.astype(np.float64) @ head.weight.data.T.astype(np.float64) + head.bias.data
    np.testing.assert_allclose(engine(x.numpy()), want, rtol=1e-4, atol=1e-5)
    with pytest.raises(AttributeError, match="'classifier'"):
        net.replace("classifier", head)
    with pytest.raises(TypeError, match="module is a int"):
        net.replace("4", 3)
    assert fc.compile(net, (2, 3, 8, 8))(x.numpy()).shape == (2, 7)


def test_a_part_of_several_tensors_is_not_replaced():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 3)

        def forward(self, x):
            return self.a(x) + self.a(x * 2)

    net = from_torch(Two(), torch.randn(2, 3))
    with pytest.raises(ValueError, match="replace: the part 'a' takes .* and gives .*: expected one tensor each"):
        net.replace("a", fc.nn.Linear(3, 3))
    assert fc.compile(net, (2, 3))(np.ones((2, 3), np.float32)).shape == (2, 3)  # as it was


def test_a_part_s_mode_is_its_own():
    theirs, x = network().train(), pictures(4)
    theirs[1].eval()  # frozen statistics
    net = from_torch(theirs, x)
    assert net.training and not net.get_submodule("1").training
    want = theirs(x).detach().numpy()
    np.testing.assert_allclose(fc.compile(net, (4, 3, 8, 8), training=True)(x.numpy()), want, rtol=1e-4, atol=1e-5)
    net.get_submodule("1").train()
    theirs[1].train()
    want = theirs(x).detach().numpy()
    np.testing.assert_allclose(fc.compile(net, (4, 3, 8, 8), training=True)(x.numpy()), want, rtol=1e-4, atol=1e-5)


CHANGES = {
    "a view's change reaches what it is a view of": lambda x: (x := x * 1, x[:, 1].mul_(3), x + 1)[-1],
    "and a view made before it": lambda x: (x := x * 1, v := x[:, 1:3], x.add_(2), v * 2)[-1],
    "through two views": lambda x: (x := x * 1, x[:, 1:3][:, 0].zero_(), x)[-1],
    "of a transposed one": lambda x: (x := x * 1, x.transpose(0, 1)[1].fill_(5.0), x * x)[-1],
    "with a step": lambda x: (x := x * 1, x[:, ::2].copy_(x[:, :2] * 7), x)[-1],
    "activations": lambda x: TF.relu(x * 1, inplace=True) + TF.leaky_relu(x - 1, 0.2, inplace=True),
    "what is kept is kept": lambda x: (a := x * 1, b := a.clone(), a.sub_(1), a * b)[-1],
    "assignment to a part": lambda x: (x := x * 1, x.__setitem__((slice(None), 0), x[:, 3] * 2), x)[-1],
    "a reshaped view": lambda x: (x := x * 1, x.view(-1).mul_(2), x + 0)[-1],
    "dropout that is off": lambda x: (y := x * 1, z := TF.dropout(y, 0.5, False, inplace=True), y - z)[-1],
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_in_place(name):
    class Module(nn.Module):
        def forward(self, x):
            return CHANGES[name](x)

    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    net = from_torch(Module(), x)
    for n in (3, 2):
        np.testing.assert_allclose(fc.compile(net, (3, 4, 5))(x[:n].numpy()), Module()(x[:n]).numpy(), rtol=1e-6, atol=1e-6)


def test_dropout_in_place_is_seen_by_who_holds_its_input():
    class Module(nn.Module):
        def forward(self, x):
            y = x * 1
            return y - TF.dropout(y, 0.5, True, inplace=True)

    net = from_torch(Module(), torch.ones(4, 50))
    assert not fc.compile(net, (4, 50), training=True)(np.ones((4, 50), np.float32)).any()


def test_torch_compile_follows_weights(caplog):
    theirs, x = network().eval(), pictures()
    fast = torch.compile(theirs, backend=compile_fx)
    for context in (torch.no_grad, torch.inference_mode):
        with context(), caplog.at_level(logging.WARNING, "fastconv"):
            for n in (2, 1, 5):
                np.testing.assert_allclose(fast(pictures(n)).numpy(), theirs(pictures(n)).numpy(), rtol=1e-4, atol=1e-4)
        with torch.no_grad():
            theirs[0].weight.mul_(1.5)
        with context():
            np.testing.assert_allclose(fast(x).numpy(), theirs(x).numpy(), rtol=1e-4, atol=1e-4)
    assert not [r for r in caplog.records if r.name == "fastconv"]


def test_torch_compile_runs_what_it_can(caplog):
    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.c, self.d = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 4)

        def forward(self, x):
            y = TF.relu(self.c(x)).mean((2, 3))
            return self.d(torch.fft.fft(y).real).softmax(-1), (y.double().cumsum(1) / 3).float()

    theirs, x = Part().eval(), pictures()
    fast = torch.compile(theirs, backend=compile_fx)
    with torch.no_grad(), caplog.at_level(logging.WARNING, "fastconv"):
        for mine, want in zip(fast(x), theirs(x), strict=True):
            assert mine.dtype == want.dtype
            np.testing.assert_allclose(mine.numpy(), want.numpy(), rtol=1e-5, atol=1e-6)
    assert "run eagerly: " in caplog.text and "aten._fft_r2c" in caplog.text and "aten.cumsum (float64)" in caplog.text
    caplog.clear()
    torch._dynamo.reset()
    with caplog.at_level(logging.WARNING, "fastconv"):
        fast(x)[0].sum().backward()
    assert "gradients are wanted: runs eagerly" in caplog.text
    assert theirs.c.weight.grad is not None
