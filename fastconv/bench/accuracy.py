"""How far results are from float64: every algorithm and precision, PyTorch, and what arithmetic alone would give.

A pass of a convolution is a matrix product: an unfolded operand of M rows and L columns times one of L rows and N columns.
The yardsticks are computed on these: one sequential float32 FMA accumulator per output, which is what "highest" promises
to be no worse than; and exact sums of operands rounded to TF32's or bfloat16's mantissa, which is the least error that such
products can have.
"""

from __future__ import annotations

import itertools

import numpy as np

from fastconv.bench import report, variants
from fastconv.bench.record import Record
from fastconv.bench.shapes import Conv, conv, from_json
from fastconv.measure import timing
from fastconv.measure.peers import PeerError

YARDSTICK = "one float32 FMA accumulator"
SLACK = 1.01  # another order of the same sums is not worse for differing in the third digit
BFLOAT16 = "bfloat16 operands, exact sums"
PROMISES = {"highest": f"no worse than {YARDSTICK}", "high": "1e-5", "medium": f"no worse than 1.1 times {BFLOAT16}"}
NOTE = ("Relative L2 error: of all outputs together, against float64. Largest error: in units of the outputs' root mean "
        "square. Operands are normally distributed ('normal'), or the input is a ReLU of that and the weights still have "
        "both signs ('relu'). 'PyTorch bf16' has its result rounded to bfloat16 as well. TF32 itself needs another machine: "
        "its operands keep 10 bits of mantissa behind the point, and PyTorch's notes on CUDA semantics give, for a product "
        "of two 10240 x 10240 matrices on a GA100, a largest error of 0.0022 of the mean magnitude with TF32, of 0.000039 "
        "without; here its rounding is applied to the operands and the sums are exact.")


def problems(quick: bool) -> list[Conv]:
    """C * R * S from 9 to 25,088; images as small as leaves outputs enough to take a mean of."""
    rows = [("3x3", 1, 3), ("3x3", 3, 3), ("7x7", 3, 7), ("1x1", 256, 1), ("3x3", 64, 3), ("3x3", 128, 3), ("3x3", 256, 3),
            ("3x3", 512, 3), ("9x9", 64, 9), ("3x3", 1024, 3), ("31x31", 16, 31), ("7x7", 512, 7)]
    rows = [rows[0], rows[4]] if quick else rows
    return [conv("accuracy", f"{name} C={channels}", 1, channels, 16, 64, kernel, 1, kernel // 2)
            for name, channels, kernel in rows]


# ---- operands -------------------------------------------------------------------------------------------------------


def operands(job: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input, weight, gradient of the output, the same in every process; outputs are of the order of 1."""
    c = from_json(job["conv"])
    rng = np.random.default_rng(11)
    x = rng.standard_normal(c.input_shape(1), np.float32)
    w = rng.standard_normal(c.weight_shape, np.float32) / np.float32(np.sqrt(c.depth))
    if job["data"] == "relu":
        np.maximum(x, 0, out=x)
    return x, w, rng.standard_normal(c.output_shape(1), np.float32)


def unfold(x: np.ndarray, kernel: tuple[int, ...], padding: tuple[int, int]) -> np.ndarray:
    """(pixels, taps * channels) of one image at stride 1."""
    padded = np.pad(x[0], ((0, 0), padding, padding))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, (1, 2))  # C, P, Q, R, S
    return windows.transpose(1, 2, 3, 4, 0).reshape(windows.shape[1] * windows.shape[2], -1)


def matrices(job: dict) -> tuple[np.ndarray, np.ndarray]:
    """The two factors of the pass, in float32."""
    c, which = from_json(job["conv"]), job["pass"]
    x, w, gy = operands(job)
    low, size = c.padding[0][0], c.kernel[0]
    pixels = unfold(x, c.kernel, (low, low))
    if which == "forward":
        return pixels, w.transpose(2, 3, 1, 0).reshape(-1, c.filters)
    if which == "backward_weight":
        return pixels.T, gy[0].reshape(c.filters, -1).T
    back = size - 1 - low
    return unfold(gy, c.kernel, (back, back)), w[:, :, ::-1, ::-1].transpose(2, 3, 0, 1).reshape(-1, c.channels)


def as_product(job: dict, result: np.ndarray) -> np.ndarray:
    """A library's result in the form of the product of :func:`matrices`."""
    if job["pass"] == "backward_weight":
        return result.transpose(2, 3, 1, 0).reshape(-1, result.shape[0])
    return result[0].reshape(result.shape[1], -1).T


def fma_chain(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b by one float32 accumulator per output, in order: acc = round(acc + a * b).

    The product of two float32 is exact in float64. The sum is rounded to float64 and then to float32, which differs from
    one rounding only where the first one lands exactly between two float32, once in about 2**29 sums.
    """
    acc = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for left, right in zip(a.T.astype(np.float64), b.astype(np.float64), strict=True):
        acc = (acc + left[:, None] * right).astype(np.float32)
    return acc


def rounded(a: np.ndarray, bits: int) -> np.ndarray:
    """float32 with so many bits of mantissa behind the point, ties to even, as float64."""
    drop = 23 - bits
    raw = a.view(np.uint32) if a.flags.c_contiguous else np.ascontiguousarray(a).view(np.uint32)
    raw = raw + np.uint32((1 << (drop - 1)) - 1) + ((raw >> np.uint32(drop)) & np.uint32(1))
    return (raw & np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)).view(np.float32).astype(np.float64)


def errors(got: np.ndarray, exact: np.ndarray) -> dict:
    difference = got.astype(np.float64) - exact
    scale = float(np.sqrt(np.mean(exact**2)))
    return {"l2": float(np.linalg.norm(difference) / np.linalg.norm(exact)),
            "largest": float(np.max(np.abs(difference))) / scale}


def yardsticks(job: dict) -> list[dict]:
    a, b = matrices(job)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    rows = [(YARDSTICK, fma_chain(a, b)), ("TF32 operands, exact sums", rounded(a, 10) @ rounded(b, 10)),
            (BFLOAT16, rounded(a, 7) @ rounded(b, 7))]
    return [{"who": who, **errors(result, exact)} for who, result in rows]


# ---- in the processes of the peers ----------------------------------------------------------------------------------


def exactly(job: dict) -> np.ndarray:
    a, b = matrices(job)
    return a.astype(np.float64) @ b.astype(np.float64)


def compute_fastconv(job: dict) -> list[dict]:
    """Each algorithm at each precision; where a higher precision was kept with the same bits it is not repeated."""
    from fastconv.ops.conv import choose

    exact, made = exactly(job), []
    seen: dict = {}
    for precision in job["precisions"]:
        for algorithm in job["algorithms"] or choose.names():
            try:
                engine, inputs = variants.compiled(job, algorithm, precision, operands(job))
            except ValueError as error:
                if "does not apply" not in str(error):
                    raise
                continue
            result = engine(*inputs)
            if any(np.array_equal(result, known) for known in seen.get(algorithm, ())):
                continue
            name, info = variants.described(engine, precision)
            if info["keeps"]:
                seen.setdefault(algorithm, []).append(result)
            made.append({"who": name if info["keeps"] else f"{name}, no promise", **info,
                         **errors(as_product(job, result), exact)})
    kept = {(r["algorithm"], r["l2"]) for r in made if r["keeps"]}
    return [r for r in made if r["keeps"] or (r["algorithm"], r["l2"]) not in kept]


def compute_torch(job: dict) -> list[dict]:
    """float32, and bfloat16 tensors."""
    import torch

    torch.set_num_threads(job["threads"])
    c, number = from_json(job["conv"]), ("forward", "backward_data", "backward_weight").index(job["pass"])
    padding, exact, made = [p[0] for p in c.padding], exactly(job), []
    for who, dtype in (("PyTorch float32", torch.float32), ("PyTorch bf16", torch.bfloat16)):
        x, w, gy = (torch.from_numpy(a).to(dtype) for a in operands(job))
        if number == 0:
            result = torch.nn.functional.conv2d(x, w, None, 1, padding)
        else:
            mask, one = [number == 1, number == 2, False], [1, 1]
            backward = torch.ops.aten.convolution_backward
            result = backward(gy, x, w, None, one, padding, one, False, [0, 0], 1, mask)[number - 1]
        made.append({"who": who, **errors(as_product(job, result.float().numpy()), exact)})
    return made


# ---- in the parent --------------------------------------------------------------------------------------------------


FIELDS = ("problem", "pass", "data", "isa")  # that tell one row from another


def measure(options, record: Record) -> None:
    """Measures problem by problem, and says the worst of each. A row is all that one problem's results are."""
    threads = options.threads[0]
    print(NOTE)
    with record.opened(threads) as peers:
        for data, which, c in itertools.product(options.data, options.passes, problems(options.quick)):
            if record.has(problem=c.layer, data=data, **{"pass": which}):
                continue
            what = f"{c.layer}, {which}, {data}"
            timing.progress(what)
            job = {"conv": list(c), "batch": 1, "pass": which, "data": data, "threads": threads,
                   "precisions": options.precision, "algorithms": options.algorithms}
            with record.attempt(what):
                found, failed = yardsticks(job), []
                for name in peers:
                    if name in ("fastconv", "torch"):
                        try:
                            found += peers[name].ask(do="compute", module="fastconv.bench.accuracy", job=job)["result"]
                        except PeerError as error:
                            if name == "fastconv":
                                raise
                            failed.append((name, str(error)))
                length = matrices(job)[0].shape[1]
                record.add({"problem": c.layer, "length": length, "pass": which, "data": data, "errors": found}, failed)
                worst = max((row for row in found if row.get("keeps")), key=lambda row: row["l2"], default=None)
                if worst:
                    print(f"{what}: relative L2 error up to {worst['l2']:.1e} ({worst['who']})", flush=True)


def conclude(options, record: Record) -> dict:
    """Prints the tables; what goes into the JSON."""
    rows = flat(record.results)
    kept, text = promises(rows), markdown(rows, record.machine)
    print(text, end="\n\n")
    report.table(["pass", "data", "algorithm, precision", "promise", "worst", "in", "kept"],
                 [[k["pass"], k["data"], k["who"], k["promise"], f"{k['worst']:.2f} of it", k["problem"],
                   "yes" if k["kept"] else "NO"] for k in kept])
    if options.markdown:
        report.write_text(options.markdown, report.document(text, record.machine, record.warnings()))
    return {"notes": NOTE, "promises": kept}


def flat(results: list[dict]) -> list[dict]:
    """A row per problem and result."""
    return [{**{key: row[key] for key in ("problem", "length", "pass", "data")}, **error}
            for row in results for error in row["errors"]]


def promises(rows: list[dict]) -> list[dict]:
    """For each algorithm and precision, pass and data: the worst error by what is promised, and where."""
    allowed = {}
    for r in rows:
        at = (r["pass"], r["data"], r["problem"])
        if r["who"] == YARDSTICK:
            allowed[at + ("highest",)] = r["l2"]
            allowed[at + ("high",)] = 1e-5
        if r["who"] == BFLOAT16:
            allowed[at + ("medium",)] = 1.1 * r["l2"]
    worst: dict[tuple, tuple[float, str]] = {}
    for r in rows:
        if r.get("keeps"):
            key = (r["pass"], r["data"], r["who"], r["precision"])
            share = r["l2"] / allowed[(r["pass"], r["data"], r["problem"], r["precision"])]
            worst[key] = max(worst.get(key, (0.0, "")), (share, r["problem"]))
    return [{"pass": which, "data": data, "who": who, "precision": precision, "promise": PROMISES[precision], "worst": share,
             "problem": problem, "kept": share <= SLACK}
            for (which, data, who, precision), (share, problem) in worst.items()]


def markdown(rows: list[dict], machine: dict) -> str:
    """Two tables per pass and kind of data: who by length of the sum."""
    blocks, algorithms = [], list(dict.fromkeys(r["algorithm"] for r in rows if "algorithm" in r))

    def order(who: str) -> tuple:
        first = next(r for r in rows if r["who"] == who)
        return (algorithms.index(first["algorithm"]) + 1 if "algorithm" in first else 99 * who.startswith("PyTorch"), who)

    for which, data in dict.fromkeys((r["pass"], r["data"]) for r in rows):
        some = [r for r in rows if (r["pass"], r["data"]) == (which, data)]
        columns = list(dict.fromkeys((r["length"], r["problem"]) for r in some))
        for key, title in (("l2", "relative L2 error"), ("largest", "largest error by the root mean square")):
            blocks.append(f"\n{which}, {data} data, {machine['isa']}: {title}; columns: products per sum\n")
            head = ["", *(f"{length} ({problem})" for length, problem in columns)]
            lines = []
            for who in sorted(dict.fromkeys(r["who"] for r in some), key=order):
                by_problem = {r["problem"]: r[key] for r in some if r["who"] == who}
                lines.append([who, *(f"{by_problem[p]:.1e}" if p in by_problem else "" for _, p in columns)])
            blocks.append(report.markdown(head, lines))
    return "\n".join(blocks)
