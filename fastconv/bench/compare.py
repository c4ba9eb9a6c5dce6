"""``fastconv bench --compare OLD.json NEW.json``: what of fastconv has become slower, or larger, beyond the noise.

A change counts when it exceeds the threshold (a share; 5 % unless said otherwise) and what the two files say of their own
noise: the root of the sum of the squares of both spreads (interquartile range of the rounds by their median).
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from typing import NamedTuple

from fastconv._arguments import UsageError
from fastconv.bench import report
from fastconv.bench.nets import WHOLE
from fastconv.measure import machine, timing

FIELDS = ("what", "name", "network", "layer", "mode", "pass", "batch", "precision", "threads", "isa")
SUPPORT = ("python", "numpy", "blas", "system", "versions")  # what is told, where it differs, and not refused
DRIFT = 0.05  # the peers' times of both runs: a larger change is the machine's, not ours


class Value(NamedTuple):
    """Seconds, or bytes."""

    median: float
    spread: float
    unit: str


class Change(NamedTuple):
    what: str
    old: Value
    new: Value
    allowed: float

    @property
    def ratio(self) -> float:
        """The new value by the old one: above 1 it is worse."""
        return self.new.median / self.old.median

    @property
    def verdict(self) -> str:
        worse, better = ("larger", "smaller") if self.old.unit == "bytes" else ("SLOWER", "faster")
        return worse.upper() if self.ratio > 1 + self.allowed else better if self.ratio < 1 / (1 + self.allowed) else ""

    def json(self) -> dict:
        return {"what": self.what, "old": self.old.median, "new": self.new.median, "unit": self.old.unit,
                "ratio": self.ratio, "noise": self.allowed, "verdict": self.verdict.lower()}


def main(old_name: str, new_name: str, threshold: float, as_json: bool = False) -> int:
    """Prints the changes; 1 where something is worse, else 0.

    Raises
    ------
    UsageError
        For files that cannot be read, and for runs that cannot be compared: of other benchmarks, machines, instruction sets
        or numbers of threads.
    """
    try:
        old, new = report.read(old_name), report.read(new_name)
        ours = values(old, old_name, "fastconv"), values(new, new_name, "fastconv")
        drift = drifted(values(old, old_name), values(new, new_name))
    except ValueError as error:
        raise UsageError(str(error)) from None
    comparable(old, new)
    changes = compared(*ours, threshold)
    if not changes:
        raise UsageError(f"{old_name!r} and {new_name!r} have nothing in common")
    worse = [c for c in changes if c.verdict in ("SLOWER", "LARGER")]
    said = [*notes(old, new), *([drift] if drift else [])]
    if as_json:
        print(json.dumps({"old": old_name, "new": new_name, "threshold": threshold, "worse": len(worse),
                          "changes": [c.json() for c in changes], "notes": said}))
        return 1 if worse else 0
    show(changes, old, new)
    for line in said:
        print(line)
    print(f"{len(worse)} of {len(changes)} worse beyond noise, {sum(c.verdict in ('faster', 'smaller') for c in changes)} "
          "better")
    return 1 if worse else 0


def comparable(old: dict, new: dict) -> None:
    if len({"nets" if c["benchmark"] in WHOLE else c["benchmark"] for c in (old, new)}) > 1:
        raise UsageError(f"of different benchmarks, {old['benchmark']} and {new['benchmark']}: not compared")
    other = machine.differences(old["machine"], new["machine"])
    if other:
        raise UsageError(f"from different machines or instruction sets, {'; '.join(other)}: not compared")
    asked = [content.get("options", {}).get("threads") for content in (old, new)]
    if asked[0] != asked[1]:
        raise UsageError(f"with different numbers of threads, {asked[0]} and {asked[1]}: not compared")


def values(content: dict, name: str, peer: str | None = None) -> dict[tuple, Value]:
    """Every number of a run by its setting: fastconv's, or with no ``peer`` those of all others.

    Raises
    ------
    ValueError
        When the rows are not as the benchmarks write them.
    """
    found: dict[tuple, Value] = {}
    for number, row in enumerate(content["results"]):
        try:
            setting = tuple(str(row[field]) for field in FIELDS if field in row)
            for case in row["cases"]:
                if (case["peer"] == "fastconv") == (peer == "fastconv"):
                    for variant, value in _of_case(row, case):
                        found[setting + variant] = value
        except (KeyError, TypeError, ValueError, AttributeError, statistics.StatisticsError) as error:
            raise ValueError(f"{name!r}: result {number} is not what fastconv bench writes ({type(error).__name__}: "
                            f"{error})") from None
    return found


def _of_case(row: dict, case: dict) -> Iterator[tuple[tuple[str, ...], Value]]:
    """What is chosen by default is known by that too: the algorithm's name may be another one in the next run."""
    who = () if case["peer"] == "fastconv" else (case["peer"],)
    for key, nbytes in case.get("bytes", {}).items():
        if nbytes:
            yield (*who, key), Value(float(nbytes), 0.0, "bytes")
    if "seconds" not in case:
        return
    seconds = [float(s) for s in case["seconds"]]
    value = Value(statistics.median(seconds), timing.spread(seconds), "seconds")
    if value.median <= 0:
        return
    defaults = [f"default at {p}" for p, v in row.get("defaults", {}).items() if v == case["variant"]] if not who else []
    for variant in [case["variant"], *defaults]:
        yield (*who, variant), value


def compared(old: dict[tuple, Value], new: dict[tuple, Value], threshold: float) -> list[Change]:
    """What is in both, the worst first."""
    changes = [Change(" ".join(key), old[key], new[key], max(threshold, math.hypot(old[key].spread, new[key].spread)))
               for key in old if key in new]
    return sorted(changes, key=lambda c: -c.ratio)


def drifted(old: dict[tuple, Value], new: dict[tuple, Value]) -> str | None:
    """A warning where the peers, which have not changed, take another time than before."""
    ratios = [new[key].median / old[key].median for key in old if key in new and old[key].unit == "seconds"]
    mean = timing.geometric_mean(ratios) if ratios else 1.0
    if abs(math.log(mean)) <= math.log(1 + DRIFT):
        return None
    return f"WARNING: the peers took {mean:.2f} times as long as before: the machine was not in the same state"


def notes(old: dict, new: dict) -> list[str]:
    lines = [f"note: {name} {old['machine'].get(name)} and {new['machine'].get(name)}" for name in SUPPORT
             if old["machine"].get(name) != new["machine"].get(name)]
    for which, content in (("old", old), ("new", new)):
        lines += [f"{which} run: {line}" for line in content.get("noise", [])]
    missing = {len(content["results"]) for content in (old, new)}
    if len(missing) > 1:
        lines.append(f"note: {len(old['results'])} results in the old run, {len(new['results'])} in the new one")
    return lines


def show(changes: list[Change], old: dict, new: dict) -> None:
    """The changes beyond noise, and the three largest of the others."""
    told = [c for c in changes if c.verdict]
    quiet = sorted((c for c in changes if not c.verdict), key=lambda c: -abs(math.log(c.ratio)))[:3]
    print(f"{old['benchmark']}: {old['machine'].get('commit')} of {old['machine'].get('date')}, "
          f"{new['machine'].get('commit')} of {new['machine'].get('date')}")
    report.table(["what", "", "old", "new", "new by old", "noise"],
                 [[c.what, c.verdict, _unit(c.old), _unit(c.new), f"{c.ratio:.3f}", f"{c.allowed:.0%}"]
                  for c in told + quiet])


def _unit(value: Value) -> str:
    return timing.show_seconds(value.median) if value.unit == "seconds" else f"{value.median / 1e6:.2f} MB"
