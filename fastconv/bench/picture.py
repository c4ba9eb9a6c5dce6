"""Pictures of a run: a roofline, and bars of the ratios to PyTorch. Drawn by matplotlib, which is optional."""

from __future__ import annotations

import textwrap

from fastconv._arguments import UsageError
from fastconv._picture import Picture
from fastconv.bench import report, subjects
from fastconv.measure import timing

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")  # Tol's bright, for any eyes
MARKS = {"forward": "o", "backward_data": "^", "backward_weight": "s"}


def check(options) -> None:
    """Before anything is measured: whether the pictures that are asked for can be drawn.

    Raises
    ------
    UsageError
        For a name that is not that of a PNG.
    ImportError
        Without matplotlib.
    """
    for option in ("picture", "bars"):
        if getattr(options, option, None):
            try:
                Picture("bench", getattr(options, option), 1, 1)
            except ValueError as error:
                raise UsageError(f"--{option}: {error}") from None
            except ImportError as error:
                raise ImportError(f"--{option}: {error}") from None


def _picture(name: str, width: float, height: float) -> Picture:
    return Picture("bench", name, width, height)


def draw(options, content: dict) -> None:
    if options.picture:
        roofline(options.picture, content)
    if options.bars:
        bars(options.bars, content)


def _caption(picture: Picture, content: dict) -> None:
    """The machine, the versions and the noise, below the axes."""
    lines = report.facts(content["machine"], content.get("noise", []), "")
    width = int(picture.figure.get_figwidth() * 22)
    picture.figure.supxlabel("\n".join(part for line in lines for part in textwrap.wrap(line, width)), fontsize=5.5, x=0.01,
                             ha="left")


def roofline(name: str, content: dict) -> None:
    """GFLOP/s over arithmetic intensity: one point per shape, pass and algorithm, under the roofs of the fewest threads."""
    results, bandwidths = content["results"], content["bandwidths"]
    threads = min(r["threads"] for r in results)
    rows = [r for r in results if r["threads"] == threads]
    picture = _picture(name, 9, 6)
    axes = picture.figure.subplots()
    points = [(r["flops"] / r["nbytes"], case["gflops"], case["variant"], r["pass"])
              for r in rows for case in r["cases"] if case["peer"] == "fastconv"]
    low, high = min(x for x, *_ in points) / 2, max(x for x, *_ in points) * 2
    peaks: dict[str, float] = {}
    lower = any(case["info"].get("precision") not in (None, "highest") for r in rows for case in r["cases"])
    for r in rows:
        for label, value in r["peaks_gflops"].items():
            if label == "peak" or lower:  # products of bfloat16 are no roof of float32
                peaks[label] = max(value, peaks.get(label, 0.0))
    top = max(peaks.values())
    for label, value in peaks.items():
        axes.axhline(value, color="black", linewidth=1.2)
        text = f"{'FMA peak' if label == 'peak' else label}: {value:.0f} GFLOP/s"
        axes.annotate(text, (0.97 * high, value), ha="right", va="bottom", fontsize=8)
    speeds = bandwidths[str(threads)]
    for level, style in (("L2", "-"), ("L3", "--"), ("memory", ":")):
        speed = speeds[f"{level} read"]
        axes.plot([low, top / speed], [low * speed, top], style, color="grey", linewidth=1,
                  label=f"{level}: {speed:.0f} GB/s read")
    for number, variant in enumerate(dict.fromkeys(v for *_, v, _ in points)):
        for which in dict.fromkeys(w for *_, w in points):
            some = [(x, y) for x, y, v, w in points if (v, w) == (variant, which)]
            if some:
                axes.scatter(*zip(*some, strict=True), s=26, marker=MARKS[which], color=COLOURS[number % len(COLOURS)],
                             alpha=0.75, linewidths=0, label=f"{variant}, {which}")
    axes.set(xscale="log", yscale="log", xlim=(low, high), xlabel="FLOP per byte of input, weight and output",
             ylabel=f"GFLOP/s, {report.count(threads, 'thread')}",
             ylim=(min(y for _, y, *_ in points) / 1.5, 1.4 * max(top, *(y for _, y, *_ in points))))
    axes.legend(fontsize=7, loc="lower right")
    _caption(picture, content)
    picture.save()


def bars(name: str, content: dict) -> None:
    """For each setting and network the geometric mean of the ratios to PyTorch, and the least and the largest."""
    groups: dict[str, dict[str, list[float]]] = {}
    for r in content["results"]:
        if r["ratio"]:
            setting = f"{r['pass']}, batch {r['batch']}, {report.count(r['threads'], 'thread')}, {r['isa']}"
            groups.setdefault(setting, {}).setdefault(r["network"], []).append(r["ratio"]["ratio"])
    if not groups:
        timing.progress("bars: not drawn: this run has no ratios to PyTorch")
        return
    networks = list(dict.fromkeys(n for g in groups.values() for n in g))
    picture = _picture(name, max(6.0, 1.1 * len(networks) + 2), 4.5)
    axes = picture.figure.subplots()
    width = 0.8 / len(groups)
    for number, (setting, by_network) in enumerate(groups.items()):
        at = [networks.index(n) + (number - (len(groups) - 1) / 2) * width for n in by_network]
        means = [timing.geometric_mean(v) for v in by_network.values()]
        spans = [[max(0.0, m - min(v)) for m, v in zip(means, by_network.values(), strict=True)],
                 [max(0.0, max(v) - m) for m, v in zip(means, by_network.values(), strict=True)]]
        axes.bar(at, means, width * 0.9, yerr=spans, color=COLOURS[number % len(COLOURS)], label=setting,
                 error_kw={"linewidth": 0.7})
    axes.axhline(1.0, color="black", linewidth=1)
    axes.set_xticks(range(len(networks)), networks, fontsize=8)
    axes.set(ylabel="PyTorch's time by fastconv's", yscale="log")
    axes.legend(fontsize=7)
    _caption(picture, content)
    picture.save()


def ratios(name: str, content: dict) -> None:
    """Whole networks: for each setting a panel, in it for each network a bar per library, its time by fastconv's."""
    from fastconv.bench.nets import LABELS, libraries, settings

    results = content["results"]
    panels = [(title, rows) for title, rows in settings(results) if any(row["ratios"] for row in rows)]
    if not panels:
        timing.progress("picture: not drawn: this run has no peers")
        return
    networks = max(len(rows) for _, rows in panels)
    picture = _picture(name, max(6.0, 0.9 * networks + 2), 0.6 + 2.6 * len(panels))
    axes_of = picture.figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    known = libraries(results)
    for axes, (title, rows) in zip(axes_of, panels, strict=True):
        axes.set_axisbelow(True)
        axes.grid(axis="y", alpha=0.3)
        here = libraries(rows)
        width = 0.8 / len(here)
        for number, library in enumerate(here):
            some = [(i, row["ratios"][library]) for i, row in enumerate(rows) if library in row["ratios"]]
            at = [i + (number - (len(here) - 1) / 2) * width for i, _ in some]
            heights = [r["ratio"] for _, r in some]
            bars = axes.bar(at, [h - 1.0 for h in heights], 0.9 * width, bottom=1.0,
                            color=COLOURS[known.index(library) % len(COLOURS)],
                            label=LABELS.get(library, library))
            axes.bar_label(bars, [f"{h:.2f}" for h in heights], fontsize=6, padding=1)
        axes.axhline(1.0, color="black", linewidth=1)
        axes.set_yscale("log")
        found = [r["ratio"] for row in rows for r in row["ratios"].values()]
        low, high = min(0.9, *found) / 1.15, max(1.1, *found) * 1.25
        ticks = [t for t in (0.1, 0.2, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100) if low <= t <= high]
        axes.set_yticks(ticks, [f"{t:g}" for t in ticks], fontsize=8)
        axes.minorticks_off()
        axes.set_ylim(low, high)
        axes.set_xlim(-0.6, networks - 0.4)  # a bar is as wide in every panel
        axes.set_xticks(range(len(rows)), [subjects.label(row["network"]) for row in rows], fontsize=8)
        axes.set_title(title, fontsize=9)
        axes.set_ylabel("time by fastconv's", fontsize=8)
    fullest = max(axes_of, key=lambda axes: len(axes.get_legend_handles_labels()[0]))
    fullest.legend(fontsize=7, ncols=len(known), title="above 1 fastconv is faster", title_fontsize=7, loc="best")
    _caption(picture, content)
    picture.save()
