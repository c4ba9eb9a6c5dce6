"""Lines of a ``forward`` as people write them for PyTorch: values, dtypes and gradients, in inference and in training."""

import re

import numpy as np
import pytest

import fastconv as fc
from fastconv import functional, nn

from .lines import LINES

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
THEIRS = {"np": np, "torch": torch, "nn": torch.nn, "F": torch.nn.functional}
OURS = {"np": np, "torch": fc, "nn": nn, "F": functional}
SNIPPETS = [block.strip("\n").split("\n") for block in re.split(r"^@@ ?", LINES, flags=re.MULTILINE) if block.strip()]


def network(names, lines):
    made = ["class Net(nn.Module):", "  def __init__(self):", "    super().__init__()"]
    made += [f"    {line[1:]}" for line in lines if line.startswith("!")]
    made += ["  def forward(self, x, y=None):"] + [f"    {line}" for line in lines if not line.startswith("!")]
    names = dict(names)
    exec("\n".join(made), names)
    return names["Net"]()


def leaves(value):
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for v in value for leaf in leaves(v)] if isinstance(value, (tuple, list)) else [value]


def close(mine, right, rtol, atol):
    right = np.asarray(right)
    assert mine.shape == right.shape
    if right.dtype.kind == "f":
        assert mine.dtype == np.float32
        finite = np.abs(right[np.isfinite(right)]).max(initial=1)
        np.testing.assert_allclose(mine, right, rtol=rtol, atol=atol * finite)
    else:
        assert mine.dtype == right.dtype
        np.testing.assert_array_equal(mine, right)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda lines: re.sub(r"\W+", "-", lines[-1])[:50])
def test_lines(snippet, training):
    torch.manual_seed(0)
    shapes, generator = eval(snippet[0]), np.random.default_rng(0)
    theirs, ours = network(THEIRS, snippet[1:]).double().train(training), network(OURS, snippet[1:])
    ours.load_state_dict({k: (v.float() if v.is_floating_point() else v).numpy() for k, v in theirs.state_dict().items()})
    arrays = [generator.integers(0, s[1], s[0]) if isinstance(s[0], tuple) else
              generator.standard_normal(s).astype(np.float32) for s in shapes]
    tensors = [torch.from_numpy(a.astype(np.float64) if a.dtype == np.float32 else a) for a in arrays]
    trained = [t.requires_grad_(training) for t in tensors if t.is_floating_point()]
    given = [a.shape if a.dtype == np.float32 else (a.shape, "int64") for a in arrays]
    want = leaves(theirs(*(t * 1 for t in tensors)))  # which lines may write in place
    engine = fc.compile(ours if training else ours.eval(), given if len(given) > 1 else given[0], training=training,
                        input_gradients=training)
    got = leaves(engine(*arrays))
    assert len(got) == len(want)
    for mine, right in zip(got, want, strict=True):
        close(mine, right.detach().numpy(), 2e-4, 2e-5)
    used = [isinstance(w, torch.Tensor) and w.requires_grad for w in want]
    if not training or not any(used):
        return
    grads = [generator.standard_normal(g.shape).astype(np.float32) if u else None for g, u in zip(got, used, strict=True)]
    found = [g for g in engine.backward(*grads) if g is not None]
    sum((w * torch.from_numpy(g).double()).sum() for w, g in zip(want, grads, strict=True) if g is not None).backward()
    for mine, t in zip(found, trained, strict=True):
        close(mine, np.zeros(t.shape) if t.grad is None else t.grad.numpy(), 1e-3, 1e-4)
    parameters = dict(ours.named_parameters())
    for name, p in theirs.named_parameters():
        if p.grad is not None:
            close(parameters[name].grad, p.grad.numpy(), 1e-3, 1e-4)
