"""Geometric means over the rows of ``bench conv``."""

from __future__ import annotations

from fastconv.bench import report
from fastconv.measure import timing


def case_of(row: dict, variant: str | None) -> dict | None:
    """fastconv's case of this name."""
    return next((c for c in row["cases"] if c["peer"] == "fastconv" and c["variant"] == variant), None)


def summary(results: list[dict]) -> list[dict]:
    """Geometric means per pass, batch, threads and network, and over all networks: share of the peak, ratios to peers."""
    means = []
    peers = list(dict.fromkeys(name for r in results for name in r["ratios"]))
    for which, batch, threads in dict.fromkeys((r["pass"], r["batch"], r["threads"]) for r in results):
        group = [r for r in results if (r["pass"], r["batch"], r["threads"]) == (which, batch, threads)]
        for network in [*dict.fromkeys(r["network"] for r in group), "all"]:
            some = [r for r in group if network in (r["network"], "all")]
            shares = [case["share_of_peak"] for r in some if (case := case_of(r, r["default"]))]
            ratios = {name: [r["ratios"][name]["ratio"] for r in some if name in r["ratios"]] for name in peers}
            means.append({"pass": which, "batch": batch, "threads": threads, "network": network, "shapes": len(some),
                          "share_of_peak": timing.geometric_mean(shares),
                          "ratios": {name: {"geometric_mean": timing.geometric_mean(v), "least": min(v), "shapes": len(v),
                                            "won": sum(x > 1 for x in v)} for name, v in ratios.items() if v}})
    print("\nGeometric means: the default algorithm's share of the FMA peak; the peer's best time by the default's (above 1 "
          "fastconv is faster), and in how many shapes it is")
    report.table(*means_table(means))
    return means


def means_table(means: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the table of :func:`summary`."""
    peers, lines = list(dict.fromkeys(name for m in means for name in m["ratios"])), []
    for m in means:
        line = [m["pass"], m["network"], str(m["batch"]), str(m["threads"]), str(m["shapes"]), f"{m['share_of_peak']:.0%}"]
        for name in peers:
            r = m["ratios"].get(name)
            line += [f"{r['geometric_mean']:.2f}", f"{r['won']} of {r['shapes']}"] if r else ["", ""]
        lines.append(line)
    head = ["pass", "network", "batch", "threads", "shapes", "share"]
    return [*head, *(n for name in peers for n in (name, "faster in"))], lines
