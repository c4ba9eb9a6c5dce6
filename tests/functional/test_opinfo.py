"""PyTorch's own samples of its operators, and its own wrong arguments, given to the functions of the same names.

All samples must be right but for what APART says. Random operators are held to their definition.
"""

import os
import warnings

import numpy as np
import pytest

from fastconv import functional as F

torch = pytest.importorskip("torch", reason="the samples are PyTorch's, which is not installed")
methods = pytest.importorskip("torch.testing._internal.common_methods_invocations",
                              reason="this PyTorch comes without the samples of its operators")
SAMPLES = int(os.environ.get("FASTCONV_TEST_SAMPLES", "6"))  # of an operator
PREFIXES = ("nn.functional.", "special.", "linalg.")
ELSEWHERE = {("linalg.norm", ""), ("normal", "in_place")}  # whose name means another function
FLOAT64 = "asks for float64, which fastconv does not have"
APART = {  # operators of which samples are refused, and why
    "softmax": FLOAT64, "nn.functional.softmin": FLOAT64, "log_softmax": FLOAT64, "zeros_like": FLOAT64,
    "ones_like": FLOAT64, "rand_like": FLOAT64, "randn_like": FLOAT64,
    "full_like": FLOAT64, "empty_like": FLOAT64, "float_power": FLOAT64,
    "norm": "nuclear norms are singular values",
    "nn.functional.batch_norm": "a negative momentum, and no channels, are refused", "linalg.vector_norm": FLOAT64,
}
LENIENT = {"clamp_max", "clamp_min"}  # numbers as bounds are taken
RANDOM = {
    "nn.functional.dropout", "nn.functional.dropout1d", "nn.functional.dropout2d", "nn.functional.dropout3d",
    "nn.functional.alpha_dropout", "nn.functional.feature_alpha_dropout", "nn.functional.rrelu",
    "nn.functional.fractional_max_pool2d", "nn.functional.fractional_max_pool3d", "bernoulli", "empty", "empty_like",
    "normal", "rand_like", "randint", "randint_like", "randn", "randn_like",
}
ORDER = {  # operators that take their arguments otherwise than their samples have them
    "einsum": lambda x, equation: F.einsum(equation, *x), "polygamma": lambda x, n: F.polygamma(n, x),
    "special.polygamma": lambda x, n: F.polygamma(n, x), "where": lambda x, condition, other: F.where(condition, x, other),
    "unfold": lambda x, *args: F.unfold_copy(x, *args),
    "nn.functional.embedding": lambda weight, index, **more: F.embedding(index, weight, **more),
    "nn.functional.embedding_bag": lambda weight, index, **more: F.embedding_bag(index, weight, **more),
}


def ours(op):
    if (op.name, op.variant_test_name) in ELSEWHERE:
        return None
    name = op.name
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return ORDER.get(op.name, None if "." in name else getattr(F, name, None))


OPERATORS = [op for op in methods.op_db if torch.float32 in op.supported_dtypes("cpu") and ours(op) is not None]


def as_arrays(value):
    if isinstance(value, torch.Tensor):
        return value.detach().numpy().copy()
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, (tuple, list)):
        return type(value)(as_arrays(v) for v in value)
    if isinstance(value, dict):
        return {key: as_arrays(v) for key, v in value.items()}
    if isinstance(value, torch.nn.PairwiseDistance) or value is torch.nn.functional.pairwise_distance:
        return F.pairwise_distance
    return value


def leaves(value):
    return [leaf for v in value for leaf in leaves(v)] if isinstance(value, (tuple, list)) else [value]


def differs(got, want) -> str:
    """What differs from PyTorch's result; nothing where all is right."""
    got, want = leaves(got), leaves(want)
    if len(got) != len(want):
        return f"{len(got)} results, expected {len(want)}"
    for g, w in zip(got, want, strict=True):
        if not isinstance(w, torch.Tensor):
            if g != w:
                return f"{g}, expected {w}"
            continue
        w, g = w.detach().numpy(), np.asarray(g)
        if g.shape != w.shape or g.dtype != w.dtype and not (w.dtype.kind in "iu" and g.dtype.kind in "iu"):
            return f"{g.dtype} of shape {g.shape}, expected {w.dtype} of shape {w.shape}"
        if w.dtype.kind != "f":
            if not np.array_equal(g, w):
                return "other values"
            continue
        finite = np.isfinite(w)
        scale = max(1e-30, float(np.abs(w[finite]).max())) if finite.any() else 1.0
        if not np.allclose(g, w, rtol=2e-4, atol=2e-5 * scale, equal_nan=True):
            return f"values differ by {np.nanmax(np.abs(g - w))}"
    return ""


def is_random(name, args, keywords) -> bool:
    """Whether a sample's result is not the same twice."""
    if name == "nn.functional.scaled_dot_product_attention":
        return keywords.get("dropout_p", 0.0) > 0
    if name == "nn.functional.multi_head_attention_forward":
        return args[9] > 0 and keywords.get("training", True)  # dropout_p
    return name in RANDOM


def as_defined(name, x, args, keywords, got, want) -> str:
    """What is wrong about a random result: its shape, or values that it cannot have."""
    got, want = leaves(got), leaves(want)
    if [np.shape(g) for g in got] != [tuple(w.shape) for w in want]:
        return "another shape"
    if name.startswith("nn.functional.dropout"):
        p = keywords.get("p", 0.5) if keywords.get("training", True) else 0.0
        kept = np.isclose(got[0], x / (1 - p) if p < 1 else 0 * x, rtol=1e-5)
        return "" if (kept | (got[0] == 0)).all() else "values that are neither 0 nor scaled"
    if name == "nn.functional.rrelu":
        given = dict(zip(("lower", "upper"), args, strict=False)) | keywords
        ends = [np.where(x < 0, x * given.get(key, usual), x) for key, usual in (("lower", 1 / 8), ("upper", 1 / 3))]
        inside = (got[0] >= np.minimum(*ends) - 1e-6) & (got[0] <= np.maximum(*ends) + 1e-6)
        return "" if inside.all() else "another slope"
    if name in ("rand_like", "bernoulli"):
        return "" if ((got[0] >= 0) & (got[0] <= 1)).all() else "values outside of 0 to 1"
    if name.startswith("randint"):
        bounds = sorted(int(v) for v in (x, *args) if np.ndim(v) == 0 and not isinstance(v, str))[-2:]
        low, high = bounds if len(bounds) == 2 else (0, bounds[0])
        return "" if ((got[0] >= low) & (got[0] < high)).all() else f"values outside of {low} to {high}"
    if name.startswith("nn.functional.fractional"):
        return "" if np.isin(got[0], x).all() else "values that are not the input's"
    return ""


@pytest.mark.parametrize("op", OPERATORS, ids=[f"{op.name}{'.' if op.variant_test_name else ''}{op.variant_test_name}"
                                               for op in OPERATORS])
def test_samples(op):
    function = ours(op)
    wrong, count = [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for sample in list(op.sample_inputs("cpu", torch.float32, requires_grad=False))[:SAMPLES]:
            try:
                torch.manual_seed(0)
                want = op.op(sample.input, *sample.args, **sample.kwargs)
            except Exception:
                continue  # not for this machine
            x, args, keywords = map(as_arrays, (sample.input, sample.args, sample.kwargs))
            keywords = {key: value for key, value in keywords.items() if value is not torch.strided}
            count += 1
            try:
                got = function(x, *args, **keywords)
            except Exception as error:
                said = f"{type(error).__name__}: {str(error)[:150]}"
            else:
                said = differs(got, want)
                if said and is_random(op.name, args, keywords):
                    said = as_defined(op.name, x, args, keywords, got, want)
            if said:
                shapes = [getattr(v, "shape", v) for v in leaves([x, list(args)])]
                wrong.append(f"{shapes} {keywords if len(str(keywords)) < 200 else ''}: {said}")
    if op.name in APART:
        known = ("dtype", "float64", "nuc", "momentum", "every extent")
        assert all(any(word in w for word in known) for w in wrong), wrong[0]
        return
    assert not wrong, f"{len(wrong)} of {count}: {wrong[0]}"


@pytest.mark.parametrize("op", [op for op in OPERATORS if op.error_inputs_func],
                         ids=lambda op: f"{op.name}{'.' if op.variant_test_name else ''}{op.variant_test_name}")
def test_wrong_arguments(op):
    function, accepted = ours(op), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for error in op.error_inputs("cpu"):
            sample = error.sample_input
            try:
                x, args, keywords = map(as_arrays, (sample.input, sample.args, sample.kwargs))
            except (TypeError, ValueError, RuntimeError):
                continue  # a tensor that NumPy has not
            try:
                function(x, *args, **keywords)
            except (TypeError, ValueError, IndexError, MemoryError, ZeroDivisionError, OverflowError):
                continue
            shapes = [getattr(v, "shape", v) for v in leaves([x, list(args)])]
            accepted.append(f"{error.error_regex!r}: {shapes} {keywords}")
    assert not accepted or op.name in LENIENT, accepted[0]
