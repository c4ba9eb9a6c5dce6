"""The figures that convolution is to reach, and whether a run reached them: a table from the rows of ``bench conv``.

    fastconv bench goals FILE...     from the JSON of several runs, where one would take too long
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from fastconv.bench import report
from fastconv.bench.groups import GROUPS
from fastconv.bench.means import case_of, means_table, summary
from fastconv.bench.shapes import Conv, from_json
from fastconv.measure import timing

MET, MISSED, UNMEASURED, IMPOSSIBLE = "met", "NOT MET", "not in this run", "not measurable here"
ONE_PASS = ("forward",)
ALL_PASSES = ("forward", "backward_data", "backward_weight")


class Goal(NamedTuple):
    """``value`` of a row (None: it says nothing); the geometric mean, or with ``each`` the least, of all rows is to reach
    ``target``. ``isa`` says whether the instruction set of a row can tell."""

    text: str
    target: float
    value: Callable[[Row], float | None]
    group: Callable[[Conv], bool]
    passes: tuple[str, ...] = ONE_PASS
    batches: tuple[int, ...] | None = None
    isa: Callable[[str], bool] = lambda name: True
    each: bool = False
    needs: str = ""


class Row:
    """A row of the JSON, and its forward where the row is of another pass."""

    def __init__(self, row: dict, forward: dict | None):
        self.row, self.forward = row, forward
        self.conv = from_json(row["conv"])

    def default(self, precision: str) -> dict | None:
        return default(self.row, precision)

    def named(self, *algorithms: str, tile: str | None = None) -> dict | None:
        """The fastest of these algorithms (with this tile)."""
        cases = [c for c in self.row["cases"] if c["peer"] == "fastconv" and c["info"]["algorithm"] in algorithms
                 and tile in (None, c["info"]["tile"])]
        return min(cases, key=lambda c: c["median_seconds"], default=None)


def default(row: dict, precision: str) -> dict | None:
    """The case of what is chosen at a precision when no algorithm is named."""
    return case_of(row, row["defaults"].get(precision))


def _share(pick: Callable[[Row], dict | None]) -> Callable[[Row], float | None]:
    def value(r: Row) -> float | None:
        case = pick(r)
        return case["share_of_peak"] if case else None
    return value


def _of_other_peak(name: str, precision: str) -> Callable[[Row], float | None]:
    def value(r: Row) -> float | None:
        case, peak = r.default(precision), r.row["peaks_gflops"].get(name)
        return case["gflops"] / peak if case and peak else None
    return value


def _by_direct(tile: str) -> Callable[[Row], float | None]:
    def value(r: Row) -> float | None:
        fast, direct = r.named("winograd", tile=tile), r.named("direct")
        return direct["median_seconds"] / fast["median_seconds"] if fast and direct else None
    return value


def _by_torch(r: Row) -> float | None:
    case = r.default("highest")
    return case.get("ratio") if case else None


def _by_forward(r: Row) -> float | None:
    case, forward = r.default("highest"), r.forward and default(r.forward, "highest")
    return case["gflops"] / forward["gflops"] if case and forward else None


def _is(prefix: str) -> Callable[[str], bool]:
    return lambda name: name.startswith(prefix)


_direct = _share(lambda r: r.named("direct", "pointwise"))
_deep, _3x3, _winograd, _figures = (GROUPS[name] for name in ("deep", "3x3", "winograd", "figures"))
_AMX = "AMX"
GOALS = [
    *(Goal(f"direct on {isa.upper()}, C*R*S >= 256, batch {batch}: share of the FMA peak", target, _direct, _deep,
           batches=(batch,), isa=_is(isa), needs=f"FASTCONV_ISA={isa}")
      for isa in ("avx512", "avx2") for batch, target in ((16, 0.90), (1, 0.82))),
    Goal("highest on AMX, 3x3, batch 16: by the FMA peak", 1.7, _share(lambda r: r.default("highest")), _3x3, batches=(16,),
         isa=_is("amx"), needs=_AMX),
    Goal("high on AMX, 3x3, batch 16: by the FMA peak", 3.0, _share(lambda r: r.default("high")), _3x3, batches=(16,),
         isa=_is("amx"), needs=_AMX),
    Goal("medium on AMX, 3x3, batch 16: share of the AMX peak", 0.65, _of_other_peak("amx peak", "medium"), _3x3,
         batches=(16,), isa=_is("amx"), needs=_AMX),
    Goal("Winograd F(4x4), 3x3, C, K >= 64, batch 16: direct's time by its", 2.0, _by_direct("4x4"), _winograd,
         batches=(16,), isa=_is("avx512")),
    Goal("Winograd F(2x2), 3x3, C, K >= 64, batch 16: direct's time by its", 1.4, _by_direct("2x2"), _winograd,
         batches=(16,), isa=_is("avx512")),
    Goal("depthwise 3x3: PyTorch's time by ours", 2.0, _by_torch, GROUPS["depthwise"], ALL_PASSES),
    Goal("backward to data: by the forward's rate", 0.85, _by_forward, _figures, ("backward_data",)),
    Goal("backward to weights: by the forward's rate", 0.85, _by_forward, _figures, ("backward_weight",)),
    Goal("figures: PyTorch's time by ours, every shape", 1.0, _by_torch, _figures, ALL_PASSES, each=True),
    Goal("figures on AVX-512: PyTorch's time by ours", 1.3, _by_torch, _figures, ALL_PASSES, isa=_is("avx512")),
    Goal("figures on AMX: PyTorch's time by ours", 2.0, _by_torch, _figures, ALL_PASSES, isa=_is("amx"), needs=_AMX),
    Goal("odd: PyTorch's time by ours, every shape", 0.9, _by_torch, GROUPS["odd"], ALL_PASSES, each=True),
    Goal("odd: PyTorch's time by ours", 1.5, _by_torch, GROUPS["odd"], ALL_PASSES),
]


def evaluate(results: list[dict]) -> list[dict]:
    """One row per goal and setting (pass, batch, threads, instruction set) that the results allow to say something about."""
    forwards = {_key(r): r for r in results if r["pass"] == "forward"}
    rows = [Row(r, forwards.get(_key(r))) for r in results]
    return [line for goal in GOALS for line in _judge(goal, rows)]


def _key(row: dict) -> tuple:
    return row["network"], row["layer"], row["batch"], row["threads"], row["isa"]


def _judge(goal: Goal, rows: list[Row]) -> Iterator[dict]:
    values: dict[tuple, list[tuple[float, str]]] = {}
    for r in rows:
        row = r.row
        if row["pass"] not in goal.passes or not goal.isa(row["isa"]) or not goal.group(r.conv) or \
                (goal.batches and row["batch"] not in goal.batches):
            continue
        value = goal.value(r)
        if value is not None:
            setting = (row["pass"], row["batch"], row["threads"], row["isa"])
            values.setdefault(setting, []).append((value, f"{row['network']}/{row['layer']}"))
    common = {"goal": goal.text, "target": goal.target, "kind": "least" if goal.each else "geometric mean"}
    if not values:
        possible = not goal.needs or any(goal.isa(r.row["isa"]) for r in rows)
        yield {**common, "setting": "" if possible else f"needs {goal.needs}", "shapes": 0, "measured": None,
               "verdict": UNMEASURED if possible else IMPOSSIBLE, "least": None, "worst": ""}
    for (which, batch, threads, isa), found in values.items():
        least, worst = min(found)
        measured = least if goal.each else timing.geometric_mean([v for v, _ in found])
        where = f"{which}, batch {batch}, {report.count(threads, 'thread')}, {isa}"
        yield {**common, "setting": where, "shapes": len(found), "measured": measured,
               "verdict": MET if measured >= goal.target else MISSED, "least": least, "worst": worst}


def show(reached: list[dict]) -> None:
    """The closing table."""
    if not reached:
        return
    print("\nGoals: geometric means, or the least where it says every shape; the shape in which least was measured")
    report.table(*goals_table(reached))


def goals_table(reached: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the closing table."""
    lines = [[r["goal"], r["setting"], str(r["shapes"] or ""), f"{r['target']:.2f}",
              "" if r["measured"] is None else f"{r['measured']:.2f}", r["verdict"],
              "" if r["least"] is None else f"{r['least']:.2f}", r["worst"]] for r in reached]
    return ["goal", "setting", "shapes", "goal", "measured", "", "least", "in"], lines


def main(options) -> dict:
    """The tables of several runs together; of a row that is in several files, the last one counts."""
    merged: dict[tuple, dict] = {}
    bandwidths: dict[str, dict] = {}
    machines, tables, noise = [], [], []
    for name in options.files:
        content = report.read(name, ("conv",))
        machines.append(content["machine"])
        if content["machine"]["cpu"] != machines[0]["cpu"]:
            raise ValueError(f"{name!r}: measured on {content['machine']['cpu']}, {options.files[0]!r} on "
                             f"{machines[0]['cpu']}")
        bandwidths |= content["bandwidths"]
        noise += [f"{name}: {line}" for line in content.get("noise", [])]
        for row in content["results"]:
            merged[_key(row) + (row["pass"],)] = row
    results = list(merged.values())
    for isa in dict.fromkeys(r["isa"] for r in results):
        print(f"\n{machines[0]['cpu']}, {isa}; {report.count(len(options.files), 'file')}")
        means = summary([r for r in results if r["isa"] == isa])
        tables.append(f"{isa}:\n\n{report.markdown(*means_table(means))}")
    reached = evaluate(results)
    show(reached)
    report.footer(machines[0], noise)
    if options.markdown:
        text = "\n\n".join([*tables, report.markdown(*goals_table(reached))])
        report.write_text(options.markdown, report.document(text, machines[0], noise))
    return {"machine": machines[0], "files": options.files, "bandwidths": bandwidths, "results": results, "goals": reached,
            "noise": noise}
