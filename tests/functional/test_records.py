"""Every record of :mod:`fastconv.functional`, by its own samples: values and gradients against an implementation that shares
no code with ours, bits against threads, memory and batch, errors against what they must say."""

import inspect

import numpy as np
import pytest
from everywhere import again
from fastconv.kernels._runtime import isa_info

import fastconv as fc
import fastconv.functional as F  # noqa: F401  (makes the records)
from fastconv.engine import general
from fastconv.functional.record import Made, Record, records, vjp

try:
    import torch
except ImportError:
    torch = None

SAMPLES = [pytest.param(record, i, id=f"{name}-{i}") for name, record in sorted(records.items())
           for i in range(len(record.samples()))]
WRONG = [pytest.param(record, w, id=f"{name}-{w.message}") for name, record in sorted(records.items())
         for w in record.wrong()]


def arrays_for(record: Record, i: int, seed: int = 0):
    """The arguments of a sample, shapes turned into arrays."""
    generator = np.random.default_rng(seed + i)
    one = record.samples()[i]
    bound = record.signature.bind(*one.args, **one.kwargs)

    def make(value, several=False):
        if isinstance(value, Made):
            return value.make(generator)
        if several and isinstance(value, (tuple, list)) and not all(isinstance(v, int) for v in value):
            return [make(v) for v in value]
        if isinstance(value, tuple) and all(isinstance(v, int) for v in value):
            return generator.standard_normal(value).astype(np.float32)
        return value

    for key in record.arrays:
        if key in bound.arguments:
            kind = record.signature.parameters[key].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                bound.arguments[key] = tuple(make(v) for v in bound.arguments[key])
            else:
                bound.arguments[key] = make(bound.arguments[key], key in record.several)
    return bound.args, bound.kwargs


def mapped(value, function):
    if isinstance(value, np.ndarray):
        return function(value)
    if isinstance(value, (tuple, list)):
        return type(value)(mapped(v, function) for v in value)
    if isinstance(value, dict):
        return {key: mapped(v, function) for key, v in value.items()}
    return value


def flat(value):
    if isinstance(value, (tuple, list)):
        return [leaf for v in value for leaf in flat(v)]
    return [] if value is None else [value]


def torch_function(name):
    for home in (torch.nn.functional, torch, torch.linalg, torch.special):
        if hasattr(home, name):
            return getattr(home, name)
    return None


def expected(record, args, kwargs):
    """Values, and a function that gives gradients for those of the outputs, in float64."""
    if record.reference is not None:
        wide = lambda a: a.astype(np.float64) if a.dtype == np.float32 else a  # noqa: E731
        return record.reference(*mapped(args, wide), **mapped(kwargs, wide)), None
    if torch is None or torch_function(record.name) is None:
        pytest.skip("PyTorch is not installed, or has no function of this name, and the record has no reference")
    def run(every: bool):
        leaves = []

        def take(a):
            if a.dtype != np.float32:
                return torch.from_numpy(a.copy())
            leaf = torch.from_numpy(a.astype(np.float64))
            leaves.append(leaf.requires_grad_(record.differentiable and (every or not leaves)))
            return leaf

        return torch_function(record.name)(*mapped(args, take), **mapped(kwargs, take)), leaves

    try:
        theirs, leaves = run(True)
    except RuntimeError as error:
        if "not differentiable with respect to argument" not in str(error):
            raise
        theirs, leaves = run(False)  # only of the first array
    outputs = [o for o in flat(list(theirs) if isinstance(theirs, tuple) else theirs) if isinstance(o, torch.Tensor)]

    def gradients(grads):
        total = sum((o * torch.from_numpy(g.astype(np.float64))).sum() for o, g in zip(outputs, grads, strict=True)
                    if g is not None and o.requires_grad)
        if not isinstance(total, torch.Tensor):
            return None
        found = iter(torch.autograd.grad(total, [leaf for leaf in leaves if leaf.requires_grad], allow_unused=True))
        return [None if not leaf.requires_grad else np.zeros(tuple(leaf.shape)) if (g := next(found)) is None else
                g.detach().numpy() for leaf in leaves]

    return [o.detach().numpy() for o in outputs], gradients


def close(got, want, what):
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, err_msg=what)
        return
    finite = np.isfinite(want)
    scale = max(1.0, np.abs(want[finite]).max()) if finite.any() else 1.0
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=2e-5, atol=2e-6 * scale, err_msg=what)


@pytest.mark.parametrize("record, i", SAMPLES)
def test_values_and_gradients(record, i):
    args, kwargs = arrays_for(record, i)
    outputs = flat(record(*args, **kwargs))
    want, gradients = expected(record, args, kwargs)
    want = flat(list(want) if isinstance(want, tuple) else want)
    assert len(outputs) == len(want)
    for k, (got, right) in enumerate(zip(outputs, want, strict=True)):
        close(got, right, f"output {k}")
    if gradients is None or not record.differentiable:
        return
    generator = np.random.default_rng(i)
    grads = [generator.standard_normal(o.shape).astype(np.float32) if o.dtype == np.float32 else None for o in outputs]
    right = gradients(grads)
    if right is None:
        return
    places, arrays, call = record.taken(args, kwargs)
    floats = [k for k, a in enumerate(arrays) if a.dtype == np.float32]
    got = general.vjp(record.name, call, places, arrays, grads, floats)
    for k, (mine, theirs) in enumerate(zip(got, right, strict=True)):
        if theirs is not None:
            close(mine, theirs, f"gradient of array {floats[k]}")


@pytest.mark.parametrize("record, i", SAMPLES)
def test_bits(record, i):
    """The same for one and two threads, and whatever the memory held before."""
    args, kwargs = arrays_for(record, i)
    places, arrays, call = record.taken(args, kwargs)
    compiled = general.compile_function(record.name, call, places, arrays)
    before = fc.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            fc.set_num_threads(threads)
            results.append(compiled.run(arrays, 1))
            memory = np.frombuffer(compiled.program.arena, np.uint8)
            memory[:] = 0xFF  # NaN, and the largest of everything else
    finally:
        fc.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert a.tobytes() == b.tobytes()


def apart(a):
    """The same values, no two of them side by side."""
    wide = np.zeros(tuple(2 * s for s in a.shape), a.dtype)
    wide[(slice(None, None, 2),) * a.ndim] = a
    return wide[(slice(None, None, 2),) * a.ndim] if a.ndim else wide


@pytest.mark.parametrize("record, i", SAMPLES)
def test_called_again(record, i):
    """What is kept of a call gives the same of the same values: of other arrays, whatever came between, wherever they lie.
    Nothing is written into what is given, and results are nobody else's memory."""
    function, (args, kwargs) = getattr(F, record.name, record), arrays_for(record, i)
    given, results = flat([*args, *kwargs.values()]), []
    arrays = [a for a in given if isinstance(a, np.ndarray)]
    before = [a.copy() for a in arrays]
    for change in (np.copy, np.copy, apart, np.copy, np.asarray):
        other, named = arrays_for(record, i, seed=1000)
        try:
            function(*other, **named)
        except (ValueError, IndexError):  # values that go together by the seed alone
            pass
        results.append(flat(function(*mapped(args, change), **mapped(kwargs, change))))
    for now, then in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(now, then)
    for later in results[1:]:
        for a, b in zip(results[0], later, strict=True):
            assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
            assert type(b) is np.ndarray and not np.shares_memory(a, b)
            assert not any(np.shares_memory(b, array) for array in arrays)


@pytest.mark.parametrize("record, w", WRONG)
def test_errors(record, w):
    one = type("One", (), {"args": w.args, "kwargs": w.kwargs})
    stand_in = Record(record.body, record.name, lambda: [one], list, None, False)
    args, kwargs = arrays_for(stand_in, 0)
    with pytest.raises(w.error) as caught:
        record(*args, **kwargs)
    assert record.name in str(caught.value) and w.message in str(caught.value), str(caught.value)


@pytest.mark.parametrize("isa", ["portable", "avx2"])
def test_at_other_instruction_sets(isa):
    if isa_info()["isa"] == "portable":
        pytest.skip("this machine has no other")
    again(isa, __file__, "-k", "values")


def test_vjp_of_a_composition():
    generator = np.random.default_rng(0)
    x, y = (generator.standard_normal((3, 4, 5)).astype(np.float32) for _ in range(2))
    out, (gx, gy) = vjp(lambda a, b: a * b + a, (x, y))
    np.testing.assert_allclose(out, x * y + x, rtol=1e-6)
    np.testing.assert_allclose(gx, y + 1, rtol=1e-6)
    np.testing.assert_allclose(gy, x, rtol=1e-6)


def test_there_are_records():
    print(f"{len(records)} records, {len(SAMPLES)} samples, {len(WRONG)} wrong calls")
