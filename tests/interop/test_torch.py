"""Modules of PyTorch: exported, read, run and trained; torch.compile."""

import logging

import numpy as np
import pytest
from day.networks import NETWORKS, SOURCE, THEIRS, load

import fastconv as fc

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from fastconv.interop.torch import compile_fx, from_torch  # noqa: E402


@pytest.fixture(scope="module")
def classes():
    return load(SOURCE, THEIRS)


def leaves(value):
    if isinstance(value, dict):
        return [leaf for v in value.values() for leaf in leaves(v)]
    return [leaf for v in value for leaf in leaves(v)] if isinstance(value, (tuple, list)) else [value]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_outputs_and_gradients(classes, name):
    torch.manual_seed(0)
    theirs = classes[name]().eval()
    inputs = [torch.randn(*shape) for shape in NETWORKS[name]]
    net = from_torch(theirs, tuple(inputs))
    assert set(dict(net.named_parameters())) == set(dict(theirs.named_parameters()))
    want = theirs(*inputs)
    for training in (False, True):  # the mode stays that of evaluation: no statistics of the batch
        shapes = [tuple(x.shape) for x in inputs]
        function = net.symbolic(False) if not training else lambda *x: net(*x)
        engine = fc.compile(function, shapes if len(shapes) > 1 else shapes[0], training=training)
        found = engine(*(x.numpy() for x in inputs))
        assert type(found) is type(want) or isinstance(want, torch.Tensor)
        for mine, right in zip(leaves(found), leaves(want), strict=True):
            if right.is_floating_point():
                np.testing.assert_allclose(mine, right.detach().numpy(), rtol=1e-4,
                                           atol=2e-5 * max(1.0, float(right.detach().abs().max())))
            else:
                np.testing.assert_array_equal(mine, right.numpy())
    grads = [torch.randn(w.shape) if w.requires_grad else None for w in leaves(want)]
    engine.backward(*(g.numpy() if g is not None else np.zeros(w.shape, np.float32) if w.is_floating_point() else None
                      for g, w in zip(grads, leaves(want), strict=True)))
    sum((w * g).sum() for w, g in zip(leaves(want), grads, strict=True) if g is not None).backward()
    mine = dict(net.named_parameters())
    right = {key: p.grad for key, p in theirs.named_parameters() if p.grad is not None}
    most = max(float(g.abs().max()) for g in right.values())  # of a bias before a normalisation the gradient is 0
    for key, g in right.items():
        np.testing.assert_allclose(mine[key].grad, g.numpy(), rtol=1e-3, atol=1e-4 * max(1e-2 * most, float(g.abs().max())),
                                   err_msg=key)


def test_any_batch_and_training():
    theirs = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Dropout(0.5),
                                 torch.nn.Flatten(), torch.nn.Linear(288, 4))
    net = from_torch(theirs, torch.zeros(1, 3, 8, 8))
    assert net.training
    engine = fc.compile(net, (8, 3, 8, 8))
    x = torch.randn(8, 3, 8, 8)
    theirs.eval()
    for n in (8, 3, 1):
        np.testing.assert_allclose(engine(x[:n].numpy()), theirs(x[:n]).detach().numpy(), rtol=1e-4, atol=1e-5)
    rng = np.random.default_rng(0)
    trainer = fc.Trainer(net, fc.nn.CrossEntropyLoss(), fc.optim.SGD(lr=0.05))
    trainer.fit((rng.standard_normal((64, 3, 8, 8), np.float32), rng.integers(0, 4, 64)), 2, batch_size=16, verbose=False)
    after = {k: v for k, v in net.state_dict().items()}
    theirs.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in after.items()})
    found = fc.compile(net.eval(), (8, 3, 8, 8))(x.numpy())
    np.testing.assert_allclose(found, theirs(x).detach().numpy(), rtol=1e-3, atol=1e-4)


def test_what_is_refused():
    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.fft.fft(x).real + torch.linalg.inv(x)

    with pytest.raises(NotImplementedError, match="operators that fastconv does not have: .*fft.*"):
        from_torch(Odd(), torch.eye(4))
    with pytest.raises(TypeError, match="module is a int"):
        from_torch(3, torch.zeros(1))
    with pytest.raises(TypeError, match="no tensor"):
        from_torch(torch.nn.Linear(2, 2), [1.0])


def test_torch_compile(caplog):
    theirs = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
                                 torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 4)).eval()
    fast = torch.compile(theirs, backend=compile_fx)
    x = torch.randn(2, 3, 10, 12)
    with torch.no_grad(), caplog.at_level(logging.WARNING, "fastconv"):
        np.testing.assert_allclose(fast(x).numpy(), theirs(x).numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(fast(x * 2).numpy(), theirs(x * 2).numpy(), rtol=1e-4, atol=1e-5)
        assert not [r for r in caplog.records if r.name == "fastconv"]

        def odd(x):
            return torch.linalg.inv(x) + 1

        m = torch.eye(3) * 2
        np.testing.assert_allclose(torch.compile(odd, backend=compile_fx)(m).numpy(), odd(m).numpy())
        assert "run eagerly: aten.linalg_inv_ex" in caplog.text
