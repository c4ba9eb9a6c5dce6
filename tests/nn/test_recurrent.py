"""Recurrent layers and attention beside PyTorch's, with its parameters: outputs, states, and every gradient."""

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

LAYERS = [("RNN", {}), ("RNN", {"nonlinearity": "relu", "num_layers": 2, "bidirectional": True}), ("LSTM", {}),
          ("LSTM", {"num_layers": 2, "bidirectional": True, "bias": False}), ("LSTM", {"proj_size": 3, "batch_first": True}),
          ("GRU", {}), ("GRU", {"num_layers": 2, "bidirectional": True, "batch_first": True}), ("GRU", {"bias": False})]
CELLS = [("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu"}), ("LSTMCell", {}), ("GRUCell", {}),
         ("GRUCell", {"bias": False})]
HEADS = [{}, {"batch_first": True}, {"kdim": 6, "vdim": 4, "batch_first": True}, {"bias": False},
         {"add_bias_kv": True, "add_zero_attn": True}]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def flat(value):
    return [leaf for v in value for leaf in flat(v)] if isinstance(value, (tuple, list)) else [value]


def pair(name, *args, **keywords):
    """Ours and PyTorch's in float64, with the same parameters."""
    theirs, ours = getattr(torch.nn, name)(*args, **keywords), getattr(nn, name)(*args, **keywords)
    named = dict(theirs.named_parameters())
    assert list(named) == [key for key, _ in ours.named_parameters()]
    for key, parameter in ours.named_parameters():
        parameter.data = named[key].detach().numpy()
    return ours, theirs.double()


def compare(ours, theirs, arrays, nested=lambda *values: values, outputs=None):
    """Outputs and gradients of a random combination of them. ``nested`` arranges the arguments."""
    rng = np.random.default_rng(0)
    theirs.zero_grad()
    for parameter in ours.parameters():
        parameter.grad = None
    engine = fc.compile(lambda *values: tuple(flat(ours(*nested(*values)))[:outputs]),
                        {f"a{i}": a.shape for i, a in enumerate(arrays)}, training=True)
    got = flat(engine(*arrays))
    leaves = [torch.from_numpy(a.astype(np.float64)) for a in arrays]
    want = flat(theirs(*nested(*leaves)))[:outputs]
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=2e-5, atol=2e-6)
    grads = [rng.standard_normal(g.shape).astype(np.float32) for g in got]
    engine.backward(*grads)
    sum((w * torch.from_numpy(g.astype(np.float64))).sum() for w, g in zip(want, grads, strict=True)).backward()
    named = dict(theirs.named_parameters())
    for key, parameter in ours.named_parameters():
        right, mine = named[key].grad, parameter.grad
        right, mine = (np.zeros(parameter.shape) if g is None else np.asarray(g) for g in (right, mine))  # None: unused
        np.testing.assert_allclose(mine, right, rtol=1e-4, atol=1e-5 * max(1, abs(right).max()), err_msg=key)


@pytest.mark.parametrize("name, keywords", LAYERS)
def test_layers(name, keywords, rng):
    ours, theirs = pair(name, 4, 6, **keywords)
    compare(ours, theirs, [rng.standard_normal((5, 3, 4)).astype(np.float32)])


@pytest.mark.parametrize("name, keywords", LAYERS)
def test_layers_with_a_state(name, keywords, rng):
    ours, theirs = pair(name, 4, 6, **keywords)
    first = keywords.get("batch_first", False)
    count, n = keywords.get("num_layers", 1) * (1 + keywords.get("bidirectional", False)), 5 if first else 3
    arrays = [rng.standard_normal((5, 3, 4)), rng.standard_normal((count, n, keywords.get("proj_size") or 6))]
    if name == "LSTM":
        arrays.append(rng.standard_normal((count, n, 6)))
    # a state's first extent is not the batch: it is given as a parameter here
    state = [fc.Parameter(a.astype(np.float32)) for a in arrays[1:]]
    x = arrays[0].astype(np.float32)

    def call(t):
        tensors = [t.graph.parameter(p) for p in state]
        return tuple(flat(ours(t, tuple(tensors) if name == "LSTM" else tensors[0])))

    got = flat(fc.compile(call, x.shape)(x))
    wide = [torch.from_numpy(a) for a in arrays[1:]]
    want = flat(theirs(torch.from_numpy(x.astype(np.float64)), tuple(wide) if name == "LSTM" else wide[0]))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=2e-5, atol=2e-6)


def test_sequences_without_a_batch_and_any_batch(rng):
    ours, theirs = pair("GRU", 4, 6)
    x = rng.standard_normal((5, 4)).astype(np.float32)
    got, want = fc.compile(ours, x.shape)(x), theirs(torch.from_numpy(x.astype(np.float64)))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=2e-5, atol=2e-6)
    ours, theirs = pair("LSTM", 4, 6, batch_first=True)
    engine = fc.compile(ours, (8, 5, 4))
    for n in (8, 3, 1):
        x = rng.standard_normal((n, 5, 4)).astype(np.float32)
        want = theirs(torch.from_numpy(x.astype(np.float64)))
        for a, b in zip(flat(engine(x)), flat(want), strict=True):
            np.testing.assert_allclose(a, b.detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name, keywords", CELLS)
def test_cells(name, keywords, rng):
    ours, theirs = pair(name, 4, 6, **keywords)
    x, h, c = (rng.standard_normal(s).astype(np.float32) for s in ((3, 4), (3, 6), (3, 6)))
    compare(ours, theirs, [x])
    compare(ours, theirs, [x, h, c] if name == "LSTMCell" else [x, h],
            (lambda x, h, c: (x, (h, c))) if name == "LSTMCell" else lambda x, h: (x, h))


@pytest.mark.parametrize("keywords", HEADS)
def test_multihead_attention(keywords, rng):
    ours, theirs = pair("MultiheadAttention", 8, 2, **keywords)
    q, k, v = (rng.standard_normal((3, 3, size)).astype(np.float32)
               for size in (8, keywords.get("kdim", 8), keywords.get("vdim", 8)))
    compare(ours, theirs, [q, k, v])


@pytest.mark.parametrize("make, error, message", [
    (lambda: nn.LSTM(4, 6, proj_size=6), ValueError, "LSTM: proj_size=6 must be less than hidden_size=6"),
    (lambda: nn.GRU(4, 0), ValueError, "GRU: hidden_size=0 must be at least 1"),
    (lambda: nn.RNN(4, 5, nonlinearity="sin"), ValueError, "RNN: nonlinearity='sin'"),
    (lambda: nn.MultiheadAttention(8, 3), ValueError, "MultiheadAttention: num_heads=3 does not divide embed_dim=8"),
    (lambda: fc.compile(nn.GRU(4, 5), (2, 3, 5)), ValueError,
     r"GRU: input of shape \(2, 3, 5\) has 5 features: expected input_size=4"),
    (lambda: fc.compile(nn.LSTM(4, 5), (2,)), ValueError, r"LSTM: input of shape \(2,\) has 1 dimensions: expected 2 or 3"),
    (lambda: fc.compile(nn.LSTMCell(4, 5), {"x": (2, 4), "h": (2, 5)}), TypeError,
     "LSTMCell: hx is a Tensor: expected a pair"),
])
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
