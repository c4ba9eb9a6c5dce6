"""The transformer's layers beside PyTorch's in float64: values and the gradients of all parameters, masks, errors."""

import copy
import itertools

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn

torch = pytest.importorskip("torch", reason="the transformer's layers are compared with PyTorch's, which is not installed")
CAUSAL = nn.Transformer.generate_square_subsequent_mask


class With(nn.Module):
    """A module with masks and the like as constants."""

    def __init__(self, module, keywords):
        super().__init__()
        self.module, self.keywords = module, keywords

    def forward(self, *inputs):
        return self.module(*inputs, **self.keywords)


def compare(ours, theirs, arrays, keywords, rng):
    """Outputs and gradients."""
    ours.load_state_dict(theirs.state_dict())
    theirs = theirs.eval().double()
    net = With(ours, keywords).eval()
    engine = fc.compile(net, [a.shape for a in arrays], training=True)
    y = engine(*arrays)
    given = [torch.tensor(a, dtype=torch.float64) for a in arrays]
    said = {k: torch.from_numpy(v).double() if getattr(v, "dtype", None) == np.float32 else
            torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
    want = theirs(*given, **said)
    np.testing.assert_allclose(y, want.detach().numpy(), rtol=1e-5, atol=3e-6)
    grad = rng.standard_normal(y.shape).astype(np.float32)
    engine.backward(grad)
    want.backward(torch.from_numpy(grad).double())
    right = dict(theirs.named_parameters())
    for name, p in ours.named_parameters():
        want = right[name].grad.numpy()
        np.testing.assert_allclose(p.grad, want, rtol=1e-4, atol=1e-5 * (1 + np.abs(want).max()), err_msg=name)
    np.testing.assert_allclose(fc.compile(net, [a.shape for a in arrays])(*arrays), y, rtol=1e-5, atol=2e-6)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


OPTIONS = list(itertools.product(("relu", "gelu"), (False, True), (False, True), (True, False)))


@pytest.mark.parametrize("activation, batch_first, norm_first, bias", OPTIONS)
def test_layers(activation, batch_first, norm_first, bias, rng):
    args = (16, 4, 24, 0.1, activation, 1e-4, batch_first, norm_first, bias)
    x = rng.standard_normal((5, 3, 16)).astype(np.float32)
    length, batch = (3, 5) if batch_first else (5, 3)
    padding = np.arange(length) >= rng.integers(1, length + 1, (batch, 1))
    for keywords in ({}, {"src_mask": CAUSAL(length), "is_causal": True}, {"src_key_padding_mask": padding}):
        compare(nn.TransformerEncoderLayer(*args), torch.nn.TransformerEncoderLayer(*args), [x], keywords, rng)
    memory = rng.standard_normal((5, 7 if batch_first else 3, 16)).astype(np.float32)
    hidden = np.arange(memory.shape[1 if batch_first else 0]) >= rng.integers(1, 6, (batch, 1))
    for keywords in ({}, {"tgt_mask": CAUSAL(length), "tgt_is_causal": True, "memory_key_padding_mask": hidden}):
        compare(nn.TransformerDecoderLayer(*args), torch.nn.TransformerDecoderLayer(*args), [x, memory], keywords, rng)


def test_one_sequence_without_a_batch(rng):
    x = rng.standard_normal((6, 8)).astype(np.float32)
    ours, theirs = nn.TransformerEncoderLayer(8, 2, 5), torch.nn.TransformerEncoderLayer(8, 2, 5)
    compare(ours, theirs, [x], {"src_mask": CAUSAL(6)}, rng)


@pytest.mark.parametrize("batch_first", [False, True])
def test_encoder_and_decoder_as_one(batch_first, rng):
    args = (16, 4, 2, 3, 32, 0.1)
    src, tgt = (rng.standard_normal((4, n if batch_first else 4, 16)).astype(np.float32) for n in (6, 5))
    length = tgt.shape[1] if batch_first else 4
    for keywords in ({}, {"tgt_mask": CAUSAL(length), "tgt_is_causal": True}):
        ours, theirs = nn.Transformer(*args, batch_first=batch_first), torch.nn.Transformer(*args, batch_first=batch_first)
        compare(ours, theirs, [src, tgt], keywords, rng)


def test_stacks_are_copies_with_a_norm_behind(rng):
    layer = nn.TransformerEncoderLayer(8, 2, 5)
    stack = nn.TransformerEncoder(layer, 3, nn.LayerNorm(8))
    theirs = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(8, 2, 5), 3, torch.nn.LayerNorm(8))
    assert list(stack.state_dict()) == list(theirs.state_dict())
    for copied in stack.layers:
        assert copied is not layer
        np.testing.assert_array_equal(copied.linear1.weight.data, layer.linear1.weight.data)
    compare(stack, theirs, [rng.standard_normal((4, 2, 8)).astype(np.float32)], {"mask": CAUSAL(4), "is_causal": True}, rng)
    assert nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 5), 2).norm is None


def test_a_function_as_activation(rng):
    ours = nn.TransformerEncoderLayer(8, 2, 5, activation=lambda x: fc.functional.silu(x))
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 5, activation=torch.nn.functional.silu)
    compare(ours, theirs, [rng.standard_normal((4, 2, 8)).astype(np.float32)], {}, rng)


def test_dropout_in_training_only(rng):
    layer = nn.TransformerEncoderLayer(8, 2, 5, dropout=0.5)
    x = rng.standard_normal((4, 2, 8)).astype(np.float32)
    engine = fc.compile(layer, x.shape, training=True)
    assert not np.array_equal(engine(x), engine(x))
    layer.eval()
    np.testing.assert_array_equal(engine(x), engine(x))


def test_it_learns_to_copy(rng):
    """A mask given as an input, trained from end to end: the target shifted by one is predicted from the source."""
    fc.manual_seed(0)

    class Copier(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.out = nn.Embedding(7, 16), nn.Linear(16, 7)
            self.position = nn.Parameter(rng.standard_normal((5, 16)).astype(np.float32))
            self.net = nn.Transformer(16, 2, 1, 1, 32, 0.0, batch_first=True)

        def forward(self, src, tgt):
            y = self.net(self.embed(src) + self.position, self.embed(tgt) + self.position, tgt_mask=CAUSAL(5))
            return self.out(y).transpose(1, 2)

    trainer = fc.Trainer(Copier(), nn.CrossEntropyLoss(), fc.optim.Adam(lr=0.01))
    losses = []
    for _ in range(120):
        src = rng.integers(1, 7, (32, 5))
        tgt = np.concatenate([np.zeros((32, 1), np.int64), src[:, :-1]], 1)
        losses.append(float(trainer.step(src, tgt, src)))
    assert losses[-1] < 0.5 * losses[0]


def test_initial_values():
    fc.manual_seed(0)
    net = nn.Transformer(32, 4, 1, 1, 64)
    bound = np.sqrt(6 / (64 + 32))
    assert 0.9 * bound < np.abs(net.encoder.layers[0].linear1.weight.data).max() <= bound
    own = copy.deepcopy(net.encoder)
    assert nn.Transformer(32, 4, 1, 1, 64, custom_encoder=own).encoder is own


@pytest.mark.parametrize("make, error, message", [
    (lambda: nn.TransformerEncoderLayer(8, 3), ValueError, "TransformerEncoderLayer: nhead=3 does not divide d_model=8"),
    (lambda: nn.TransformerEncoderLayer(8, 2, 0), ValueError, "dim_feedforward=0 must be at least 1"),
    (lambda: nn.TransformerDecoderLayer(8, 2, dropout=1.5), ValueError, "TransformerDecoderLayer: dropout=1.5"),
    (lambda: nn.TransformerDecoderLayer(8, 2, activation="tanh"), ValueError, "activation='tanh': expected 'relu', 'gelu'"),
    (lambda: nn.TransformerEncoder(3, 2), TypeError, "TransformerEncoder: encoder_layer is a int: expected a module"),
    (lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2), 0), ValueError, "TransformerDecoder: num_layers=0"),
    (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2), 1, 3), TypeError, "norm is a int: expected a module"),
    (lambda: nn.Transformer(9, 2), ValueError, "nhead=2 does not divide d_model=9"),
    (lambda: CAUSAL(-1), ValueError, "sz=-1 must be at least 0"),
    (lambda: fc.compile(nn.Transformer(8, 2, 1, 1, 4, batch_first=True), [(2, 3, 8), (2, 3, 6)]), ValueError,
     r"Transformer: tgt of shape \(2, 3, 6\)"),
    (lambda: fc.compile(nn.Transformer(8, 2, 1, 1, 4), [(2, 3, 8), (2, 4, 8)]), ValueError, "expected the same batch"),
    (lambda: fc.compile(With(nn.TransformerEncoderLayer(8, 2, 4), {"is_causal": True}), (2, 3, 8)), ValueError,
     "is_causal=True without src_mask"),
    (lambda: fc.compile(With(nn.TransformerEncoderLayer(8, 2, 4), {"src_mask": CAUSAL(5)}), (2, 3, 8)), ValueError,
     r"attn_mask of shape \(5, 5\): expected \(2, 2\)")])
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
