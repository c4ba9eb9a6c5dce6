"""Random chains of what moves elements, in training engines, beside PyTorch: python tests/fuzz_views.py --seconds 60

The same calls run on our tensors and PyTorch's. Values are compared for equality, for the planned batch and smaller ones;
gradients of a weight too, as far as sums of float32 allow.
"""

import argparse
import time

import numpy as np

import fastconv as fc
import fastconv.functional as F

KINDS = ["permute", "transpose", "flip", "slice", "step", "select", "unsqueeze", "squeeze", "narrow", "reshape", "flatten",
         "cat",
         "stack", "repeat", "roll", "chunk", "expand", "pad", "interleave", "diagonal", "unfold", "tril", "add"]


def steps(rng, shape, functional, free):
    """A random call for a tensor of this shape, as (description, function); ``free``: dimension 0 is left alone."""
    rank, low = len(shape), int(free)
    dims = range(low, rank)
    dim = int(rng.choice(dims)) if len(dims) else 0
    kind = rng.choice(KINDS)
    if not len(dims) and kind not in ("unsqueeze", "add"):
        kind = "unsqueeze"
    n = shape[dim] if shape else 1
    both = lambda name: (lambda t: getattr(F if functional(t) else __import__("torch"), name))  # noqa: E731
    if kind == "permute":
        order = [*range(low), *map(int, rng.permutation(list(dims)))]
        return f"permute{order}", lambda t: t.permute(order)
    if kind == "transpose":
        other = int(rng.choice(dims))
        return f"transpose{dim, other}", lambda t: t.transpose(dim, other)
    if kind == "flip":
        return f"flip{dim}", lambda t: t.flip(dim)
    if kind == "slice":
        a = int(rng.integers(0, n))
        b = int(rng.integers(a + 1, n + 1))
        return f"[{dim}:{a}:{b}]", lambda t: t[(slice(None),) * dim + (slice(a, b),)]
    if kind == "step":
        by = int(rng.integers(1, 4))
        return f"[{dim}::{by}]", lambda t: t[(slice(None),) * dim + (slice(None, None, by),)]
    if kind == "select" and rank > 1:
        a = int(rng.integers(-n, n))
        return f"[{dim}]{a}", lambda t: t[(slice(None),) * dim + (a,)]
    if kind == "unsqueeze" and rank < 6:
        at = int(rng.integers(low, rank + 1))
        return f"unsqueeze{at}", lambda t: t.unsqueeze(at)
    if kind == "squeeze":
        return f"squeeze{dim}", lambda t: t.squeeze(dim)
    if kind == "narrow":
        a = int(rng.integers(0, n))
        return f"narrow{dim, a}", lambda t: t.narrow(dim, a, n - a)
    if kind == "reshape" and rank > low + 1:
        return f"join{low}", lambda t: t.reshape(*(t.shape[:low]), -1,
                                                 shape[-1]) if rank > low + 2 else t.reshape(*t.shape[:low], -1)
    if kind == "flatten":
        return f"flatten{dim}", lambda t: t.flatten(dim)
    if kind == "cat":
        return f"cat{dim}", lambda t: both("cat")(t)([t, t.flip(dim), t], dim)
    if kind == "stack" and rank < 6:
        at = int(rng.integers(low, rank + 1))
        return f"stack{at}", lambda t: both("stack")(t)([t, t], at)
    if kind == "repeat":
        times = [1] * low + [int(v) for v in rng.integers(1, 3, rank - low)]
        return f"repeat{times}", lambda t: t.repeat(*times)
    if kind == "roll":
        by = int(rng.integers(-5, 6))
        return f"roll{dim, by}", lambda t: t.roll(by, dim)
    if kind == "chunk":
        return f"chunk{dim}", lambda t: t.chunk(2, dim)[-1]
    if kind == "expand" and rank < 6:
        sizes = [3 if d == dim else -1 for d in range(rank + 1)]
        return f"expand{dim}", lambda t: t.unsqueeze(dim).expand(*sizes)
    if kind == "pad":
        return "pad", lambda t: (F if functional(t) else __import__("torch").nn.functional).pad(t, (1, 2))
    if kind == "interleave":
        return f"interleave{dim}", lambda t: t.repeat_interleave(2, dim)
    if kind == "diagonal" and rank - low > 1:
        other = int(rng.choice([d for d in dims if d != dim]))
        return f"diagonal{dim, other}", lambda t: t.diagonal(0, dim, other)
    if kind == "unfold" and rank < 6:
        size, by = int(rng.integers(1, n + 1)), int(rng.integers(1, 3))
        return f"unfold{dim, size, by}", lambda t: t.unfold(dim, size, by)
    if kind == "tril" and rank - low > 1:
        return "tril", lambda t: t.tril()
    return "add", lambda t: t + t.flip(dim) if len(dims) else t + t


def chain(rng, shape, free, torch):
    """A chain of calls for tensors of this shape, and what it is."""
    calls, names, probe = [], [], torch.zeros(shape)
    for _ in range(int(rng.integers(1, 7))):
        name, call = steps(rng, tuple(probe.shape), lambda t: not isinstance(t, torch.Tensor), free)
        after = call(probe)
        if after.numel() > 20000 or after.dim() > 7 or after.dim() == 0 or 0 in after.shape:
            continue
        probe = after
        calls.append(call)
        names.append(name)

    def network(t):
        for call in calls:
            t = call(t)
        return t

    return network, names


def one(seed, torch):
    """Compares one chain; returns what it was."""
    rng = np.random.default_rng(seed)
    free = bool(rng.random() < 0.7)
    shape = tuple(int(v) for v in rng.integers(2, 6, int(rng.integers(2, 6))))
    network, names = chain(rng, (shape[0], 2 * shape[1], *shape[2:]), free, torch)
    w = fc.Parameter(rng.integers(-4, 5, (1, *shape[1:])).astype(np.float32))
    rest = (-1,) * (len(shape) - 1)
    engine = fc.compile(lambda t: network(F.cat([t, w.expand(t.shape[0], *rest)], 1)), shape, training=True)
    for n in (shape[0], 1) if free else (shape[0],):
        x = rng.integers(-9, 10, (n, *shape[1:])).astype(np.float32)
        tw = torch.from_numpy(w.data.copy()).requires_grad_(True)
        want = network(torch.cat([torch.from_numpy(x), tw.expand(n, *rest)], 1))
        got = engine(x)
        assert tuple(got.shape) == tuple(want.shape), (seed, shape, names, got.shape, want.shape)
        np.testing.assert_array_equal(got, want.detach().numpy(), err_msg=f"seed {seed}: {shape} {names}")
        g = rng.integers(-3, 4, got.shape).astype(np.float32)
        w.grad = None
        engine.backward(g)
        (want_g,) = torch.autograd.grad(want, tw, torch.from_numpy(g))
        np.testing.assert_array_equal(w.grad, want_g.numpy(), err_msg=f"seed {seed}: gradient, {shape} {names}")  # integers
    return shape, names


if __name__ == "__main__":
    import torch

    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    end, seed = time.monotonic() + options.seconds, options.seed
    while time.monotonic() < end:
        one(seed, torch)
        seed += 1
    print(f"{seed - options.seed} chains agree")
