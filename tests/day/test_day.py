"""A PyTorch user's day: networks written for PyTorch run and train after their import lines have changed."""

import numpy as np
import pytest

import fastconv as fc

from .networks import NETWORKS, OURS, THEIRS, load

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


def leaves(value):
    if isinstance(value, dict):
        return [leaf for v in value.values() for leaf in leaves(v)]
    return [leaf for v in value for leaf in leaves(v)] if isinstance(value, (tuple, list)) else [value]


@pytest.fixture(scope="module")
def both():
    return load(OURS), load(THEIRS)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_gradients(both, name, training):
    torch.manual_seed(0)
    ours, theirs = both[0][name](), both[1][name]().double()
    ours.load_state_dict({k: (v.float() if v.is_floating_point() else v).numpy() for k, v in theirs.state_dict().items()})
    theirs.train(training)
    generator = np.random.default_rng(0)
    arrays = [generator.standard_normal(s).astype(np.float32) for s in NETWORKS[name]]
    shapes = [tuple(a.shape) for a in arrays]
    engine = fc.compile(ours if training else ours.eval(), shapes if len(shapes) > 1 else shapes[0], training=training)
    got = leaves(engine(*arrays))
    want = leaves(theirs(*(torch.from_numpy(a).double() for a in arrays)))
    assert len(got) == len(want)
    for mine, right in zip(got, want, strict=True):
        right = right.detach().numpy()
        assert mine.shape == right.shape
        if right.dtype.kind == "f":
            np.testing.assert_allclose(mine, right, rtol=1e-4, atol=2e-5 * max(1, np.abs(right).max()))
        else:
            np.testing.assert_array_equal(mine, right)
    if not training:
        one = leaves(engine(*(a[:1] for a in arrays)))
        for mine, right in zip(one, want, strict=True):
            if right.dtype.is_floating_point:
                np.testing.assert_allclose(mine, right[:1].detach().numpy(), rtol=1e-4,
                                           atol=2e-5 * max(1, float(right.abs().max())))
        return
    grads = [generator.standard_normal(g.shape).astype(np.float32) if g.dtype == np.float32 else None for g in got]
    engine.backward(*grads)
    sum((w * torch.from_numpy(g).double()).sum() for w, g in zip(want, grads, strict=True)
        if g is not None and w.requires_grad).backward()
    expected = {k: p.grad.numpy() for k, p in theirs.named_parameters() if p.grad is not None}
    found = {k: p.grad for k, p in ours.named_parameters() if p.grad is not None}
    assert set(expected) <= set(found)
    most = max(np.abs(right).max() for right in expected.values())  # of a bias before a normalisation the gradient is 0
    for key, right in expected.items():
        np.testing.assert_allclose(found[key], right, rtol=2e-4, atol=2e-5 * max(1e-2 * most, np.abs(right).max()),
                                   err_msg=key)
