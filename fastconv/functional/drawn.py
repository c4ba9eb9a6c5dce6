"""Random tensors: numbers that each run of a ``forward`` draws anew; outside of one, arrays."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fastconv._values import plain, shown
from fastconv.engine.general import as_array
from fastconv.functional.arrays import bare
from fastconv.functional.constants import check_device, dtype_name, made, named_size, zeros, zeros_like
from fastconv.functional.parametric import where
from fastconv.functional.pointwise import lt
from fastconv.functional.record import fail
from fastconv.functional.selection import argsort
from fastconv.functional.structure import several
from fastconv.graph.ir import Tensor, current_graph
from fastconv.graph.random import default_generator
from fastconv.ops.arguments import integer, number
from fastconv.ops.map import draw, fused
from fastconv.ops.views import tensor as as_symbolic

__all__ = ["bernoulli", "normal", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm"]


def _uniform(like: Tensor) -> Tensor:
    return fused(lambda z, u: z + u, like, draw(like, like.type.shape))


def _normal(like: Tensor) -> Tensor:
    """By Box and Muller (1958)."""
    return fused(lambda z, u, v: z + ((1.0 - u).log() * -2.0).sqrt() * (v * (2 * math.pi)).cos(), like,
                 draw(like, like.type.shape), draw(like, like.type.shape))


def _drawn(op: str, size: tuple, named: dict, symbolic: Callable, array: Callable, generator, dtype, device, requires_grad):
    name = dtype_name(op, dtype or "float32")
    if name != "float32":
        fail(op, f"dtype={name}: expected float32", TypeError)
    if generator is not None and not isinstance(generator, np.random.Generator):
        fail(op, f"generator={shown(generator)}: expected a numpy.random.Generator", TypeError)
    size = named_size(op, size, named)
    if current_graph() is not None:
        if generator is not None:
            fail(op, "generator: a forward draws from what manual_seed() seeds: expected None")
        return symbolic(zeros(*size, device=device, requires_grad=requires_grad))
    shape = zeros(*size).shape
    return made(op, np.asarray(array(generator or default_generator(), shape), np.float32), device, requires_grad)


def rand(*size, generator=None, dtype=None, device=None, requires_grad=False, **named):
    """Uniform numbers in [0, 1), float32; ``size`` as integers or as one sequence."""
    return _drawn("rand", size, named, _uniform, lambda g, shape: g.random(shape, np.float32), generator, dtype, device,
                  requires_grad)


def randn(*size, generator=None, dtype=None, device=None, requires_grad=False, **named):
    """Standard normal numbers, float32; ``size`` as integers or as one sequence."""
    return _drawn("randn", size, named, _normal, lambda g, shape: g.standard_normal(shape, np.float32), generator, dtype,
                  device, requires_grad)


def _like(op: str, input, symbolic: Callable, array: Callable, dtype, device, requires_grad, generator=None):
    name = dtype_name(op, dtype or "float32")
    if name != "float32":
        fail(op, f"dtype={name}: expected float32", TypeError)
    check_device(op, device)
    if not isinstance(input, Tensor):
        input = np.asarray(as_array(op, "input", bare(input)))
    base = zeros_like(input, dtype=name, requires_grad=requires_grad)
    if not isinstance(base, Tensor):
        return _drawn(op, base.shape or ((),), {}, symbolic, array, generator, dtype, device, requires_grad)
    return symbolic(base)


def rand_like(input, *, generator=None, dtype=None, device=None, requires_grad=False):
    """:func:`rand` in the shape of an array or a tensor; of a batch of any size, where that has one."""
    return _like("rand_like", input, _uniform, lambda g, shape: g.random(shape, np.float32), dtype, device, requires_grad,
                 generator)


def randn_like(input, *, generator=None, dtype=None, device=None, requires_grad=False):
    """:func:`randn` in the shape of an array or a tensor; of a batch of any size, where that has one."""
    return _like("randn_like", input, _normal, lambda g, shape: g.standard_normal(shape, np.float32), dtype, device,
                 requires_grad, generator)


def randint(*args, low=0, high=None, size=None, generator=None, dtype=None, device=None, requires_grad=False):
    """Whole numbers from ``low`` (0) to before ``high``, int64: ``randint(high, size)`` or ``randint(low, high, size)``."""
    given = list(args)
    if size is None and given:
        size = given.pop()
    if high is None and given:
        high = given.pop()
    if given:
        low = given.pop()
    if given or high is None or size is None:
        fail("randint", f"got {len(args)} arguments: expected low, high and size", TypeError)
    first, last = integer("randint", "low", low), integer("randint", "high", high)
    if first >= last:
        fail("randint", f"low={first}, high={last}: expected low to be less than high")
    name = dtype_name("randint", dtype or "int64")
    if current_graph() is None:
        found = (generator or default_generator()).integers(first, last, several((size,)))
        return made("randint", found.astype(name), device, requires_grad)
    if last - first > 2**24:
        fail("randint", f"low={first}, high={last}: expected at most 2**24 numbers in a forward")
    check_device("randint", device)
    base = zeros(size)
    drawn = fused(lambda z, u: z + ((u * float(last - first)).floor() + float(first)), base, draw(base, base.type.shape))
    return drawn.to(name)


def randint_like(input, low, high=None, *, dtype=None, device=None):
    """:func:`randint` in the shape and dtype of an array or a tensor: ``randint_like(x, high)`` or ``(x, low, high)``."""
    first, last = (0, low) if high is None else (low, high)
    return randint(first, last, tuple(input.shape), dtype=input.dtype if dtype is None else dtype, device=device)


def randperm(n, *, generator=None, dtype=None, device=None, requires_grad=False):
    """The numbers from 0 to before ``n`` in random order, int64."""
    count = integer("randperm", "n", n)
    if count < 0:
        fail("randperm", f"n={count}: expected at least 0")
    name = dtype_name("randperm", dtype or "int64")
    if current_graph() is not None:
        return argsort(_uniform(zeros(count))).to(name)
    return made("randperm", (generator or default_generator()).permutation(count).astype(name), device, requires_grad)


def normal(mean=0.0, std=1.0, size=None, *, generator=None, dtype=None, device=None, requires_grad=False):
    """Normal numbers of these means and deviations, which are arrays or tensors, or numbers with a shape ``size``."""
    mean, std = plain(mean), plain(std)
    for name, value in (("mean", mean), ("std", std)):
        if not hasattr(value, "shape"):
            number("normal", name, value)
    if isinstance(std, (int, float)) and std < 0:
        fail("normal", f"std={std}: expected at least 0")
    if size is not None:
        return randn(size, generator=generator, dtype=dtype, device=device, requires_grad=requires_grad) * std + mean
    like = next((v for v in (mean, std) if hasattr(v, "shape")), None)
    if like is None:
        fail("normal", "mean and std are numbers: expected size as well", TypeError)
    both = like if not (hasattr(mean, "shape") and hasattr(std, "shape")) else mean + std
    return randn_like(both, generator=generator, dtype=dtype, device=device, requires_grad=requires_grad) * std + mean


def bernoulli(input, p=None, *, generator=None):
    """Ones with the probabilities ``input``, or ``p`` where that is given, else zeros; float32, without a gradient."""
    if p is not None and not 0 <= number("bernoulli", "p", p) <= 1:
        fail("bernoulli", f"p={p}: expected 0 to 1")
    drawn = rand_like(input, generator=generator)
    if isinstance(drawn, Tensor):
        return where(lt(drawn, as_symbolic("bernoulli", "input", input) if p is None else float(p)), 1.0, 0.0)
    chance = np.asarray(bare(input)) if p is None else np.asarray(p, np.float32)
    if chance.size and not (chance.min() >= 0 and chance.max() <= 1):
        fail("bernoulli", "input: expected probabilities from 0 to 1")
    return made("bernoulli", (np.asarray(drawn) < chance).astype(np.float32))
