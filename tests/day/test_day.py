"""A PyTorch user's day: networks written for PyTorch run and train after their import lines have changed."""

import functools

import numpy as np
import pytest

import fastconv as fc

from . import networks, pictures, sequences

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


def leaves(value):
    if isinstance(value, dict):
        return [leaf for v in value.values() for leaf in leaves(v)]
    return [leaf for v in value for leaf in leaves(v)] if isinstance(value, (tuple, list)) else [value]


FILES = (networks, pictures, sequences)


@functools.cache
def both(file):
    return [networks.load(file.SOURCE, imports) for imports in (networks.OURS, networks.THEIRS)]


def made(generator, shape):
    """An input: normal numbers, or integers of a shape below a bound."""
    if shape[0] == "int":
        return generator.integers(0, shape[2], shape[1])
    return generator.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("file", "name"), [(file, name) for file in FILES for name in file.NETWORKS],
                         ids=lambda value: value if isinstance(value, str) else "")
def test_outputs_and_gradients(file, name, training):
    torch.manual_seed(0)
    ours, theirs = (names[name]() for names in both(file))
    theirs.double()
    ours.load_state_dict({k: (v.float() if v.is_floating_point() else v).numpy() for k, v in theirs.state_dict().items()})
    theirs.train(training)
    generator = np.random.default_rng(0)
    arrays = [made(generator, s) for s in file.NETWORKS[name]]
    shapes = [a.shape if a.dtype == np.float32 else (a.shape, "int64") for a in arrays]
    given = shapes if len(shapes) > 1 or arrays[0].dtype != np.float32 else shapes[0]
    engine = fc.compile(ours if training else ours.eval(), given, training=training)
    got = leaves(engine(*arrays))
    def expected(arrays):
        return leaves(theirs(*(torch.from_numpy(a.astype(np.float64) if a.dtype == np.float32 else a) for a in arrays)))

    want = expected(arrays)
    assert len(got) == len(want)
    for mine, right in zip(got, want, strict=True):
        right = right.detach().numpy()
        assert mine.shape == right.shape
        if right.dtype.kind == "f":
            np.testing.assert_allclose(mine, right, rtol=1e-4, atol=2e-5 * max(1, np.abs(right).max()))
        else:
            np.testing.assert_array_equal(mine, right)
    if not training:
        for mine, right in zip(leaves(engine(*(a[:1] for a in arrays))), expected([a[:1] for a in arrays]), strict=True):
            if right.dtype.is_floating_point:
                right = right.detach().numpy()
                np.testing.assert_allclose(mine, right, rtol=1e-4, atol=2e-5 * max(1, np.abs(right).max()))
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
