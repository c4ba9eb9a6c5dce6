"""What is timed of a convolution: fastconv's algorithms, in fastconv's own process; the peers' are imported from here too.

A job is a dict that went through JSON: ``conv`` (a :class:`fastconv.bench.shapes.Conv`), ``batch``, ``threads``, ``pass``,
``precisions``, ``algorithms``, ``end_to_end``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastconv.bench.operands import arrays
from fastconv.bench.shapes import from_json
from fastconv.bench.variants_onnx import prepare_onnxruntime, prepare_openvino  # noqa: F401  (found by name)
from fastconv.bench.variants_torch import prepare_torch  # noqa: F401
from fastconv.measure.peak import peaks
from fastconv.measure.timing import Variant

PASSES = ("forward", "backward_data", "backward_weight")
TOLERANCES = {"highest": 1e-3, "high": 1e-3, "medium": 5e-2}  # of outputs, by their root mean square


def prepare_fastconv(job: dict) -> list[Variant]:
    """The peaks; for each precision what is chosen when no algorithm is named (marked as its default), and those named.

    An algorithm that computes the same bits at two precisions is timed at the first one that was asked for.
    """
    made: list[Variant] = []
    for precision in job["precisions"]:
        for name in (None, *job["algorithms"]):
            try:
                variant = prepare_algorithm(job, name, precision)
            except ValueError as error:
                if "does not apply" not in str(error):
                    raise
                continue
            same = next((v for v in made if v.info["algorithm"] == variant.info["algorithm"]
                         and same_bits(v, variant)), None)
            if same is None:
                made.append(variant)
            elif name is None:
                same.info["default"].append(precision)
    return peaks(job["threads"]) + made


def same_bits(one: Variant, other: Variant) -> bool:
    assert one.output is not None and other.output is not None
    return np.array_equal(one.output, other.output)


def compiled(job: dict, algorithm: str | None, precision: str, operands: tuple | None = None, keep: bool = False):
    """The engine of one convolution as a network of its own, and its inputs; operands: default :func:`arrays`.

    keep: the inputs are outputs too, so that no buffer is laid over theirs and the steps between the doors can be repeated.
    """
    from fastconv import functional as F
    from fastconv.engine.engine import compile
    from fastconv.graph.parameter import Parameter

    c, which = from_json(job["conv"]), job["pass"]
    x, w, gy = operands or arrays(job)
    options = {"stride": c.stride, "dilation": c.dilation, "groups": c.groups, "precision": precision}
    options["padding"] = [p[0] for p in c.padding] if c.transposed else list(c.padding)
    if c.transposed:
        options["output_padding"] = c.output_padding
    if algorithm is not None:
        options["algorithm"] = algorithm
    name = f"conv{'_transpose' if c.transposed else ''}{c.dims}d"
    call = getattr(F, name if which == "forward" else f"{name}_{which}")
    weight = Parameter(w)
    cases: dict[str, tuple[Callable, list]] = {
        "forward": (lambda x: call(x, weight, **options), [x]),
        "backward_data": (lambda g: call(g, weight, x.shape, **options), [gy]),
        "backward_weight": (lambda g, x: call(g, x, w.shape, **options), [gy, x]),
    }
    function, inputs = cases[which]
    whole = (lambda *xs: (function(*xs), *xs)) if keep else function
    return compile(whole, [a.shape for a in inputs], threads=job["threads"], precision=precision), inputs


def described(engine, precision: str) -> tuple[str, dict]:
    """What was chosen: a name of algorithm, tile of a Winograd form and a precision other than "highest"; the same in parts,
    whether it keeps the precision, and why it was chosen."""
    spec = next(s for s in engine._current[0].lowered.specs["forward"] if s.why)
    tile = next(("x".join(map(str, a["tile"])) for a in spec.arguments if isinstance(a, dict) and "tile" in a), None)
    name = " ".join(filter(None, (spec.algorithm, tile, None if precision == "highest" else precision)))
    return name, {"algorithm": spec.algorithm, "precision": precision, "tile": tile, "keeps": spec.choice.keeps,
                  "why": spec.why}


def prepare_algorithm(job: dict, algorithm: str | None, precision: str) -> Variant:
    """What runs are the steps of the engine without those at the doors (all of them, and the doors, end to end)."""
    engine, inputs = compiled(job, algorithm, precision, keep=not job["end_to_end"])
    out = engine(*inputs)
    first = out if job["end_to_end"] else out[0]
    rows = [row for row in engine.steps() if row.segment == "forward"]
    inner = [i for i, row in enumerate(rows) if row.op not in ("input", "output")]
    runs = [(i, i + 1) for i in inner]  # the doors may lie between them: each input is split when it has come in
    for i in range(len(runs) - 1, 0, -1):
        if runs[i - 1][1] == runs[i][0]:
            runs[i - 1: i + 1] = [(runs[i - 1][0], runs[i][1])]
    steps, threads = engine._current[1].segments["forward"], job["threads"]
    name, info = described(engine, precision)
    info |= {"default": [precision] if algorithm is None else [], "kernels": [rows[i].kernel for i in inner],
             "tolerance": TOLERANCES[precision if info["keeps"] else "medium"]}

    def whole():
        engine(*inputs, out=out)

    def alone():
        for first, last in runs:
            steps.run(threads, first, last)

    return Variant(name, whole if job["end_to_end"] else alone, first.copy(), whole, info)
