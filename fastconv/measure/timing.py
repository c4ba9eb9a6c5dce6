"""How times are taken and compared: bursts, interleaved rounds, medians of pairs."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from fastconv._text import note

NOISY = 0.20  # a spread above this is called noise
LONG = 0.5  # seconds: a call of this length needs no other before it
FEWEST = 3  # rounds, however long they take


@dataclass
class Variant:
    """Something to time, inside its process: ``run`` once, ``refresh`` before a burst (default: a run), its output, and
    a context that bursts run in."""

    name: str
    run: Callable[[], object]
    output: np.ndarray | None = None
    refresh: Callable[[], object] | None = None
    info: dict = field(default_factory=dict)
    context: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext


@dataclass
class Measurement:
    """The times of one variant of one peer: one median per round, in seconds."""

    peer: str
    variant: str
    info: dict
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def json(self) -> dict:
        return {"peer": self.peer, "variant": self.variant, "info": self.info, "seconds": self.seconds,
                "median_seconds": self.median, "spread": spread(self.seconds)}


# ---- in the process of the peer -------------------------------------------------------------------------------------


def burst(variant: Variant, seconds: float) -> float:
    """Seconds per call: the median over groups of calls that together take about ``seconds``; at least one call.

    The first call wakes threads and warms caches and is not counted, unless it takes so long that this is nothing to it.
    """
    run = variant.run
    begin = time.perf_counter()
    (variant.refresh or run)()
    once = time.perf_counter() - begin
    if variant.refresh is None and once >= LONG:
        return once
    begin = time.perf_counter()
    run()
    once = time.perf_counter() - begin
    if once >= seconds:
        return once
    count = max(1, int(seconds / 5 / max(once, 1e-7)))
    samples, spent = [], 0.0
    while spent < seconds:
        begin = time.perf_counter()
        for _ in range(count):
            run()
        took = time.perf_counter() - begin
        samples.append(took / count)
        spent += took
    return statistics.median(samples)


def digest(array: np.ndarray | None) -> dict | None:
    """Enough of an output to compare it across processes: shape, root mean square and up to 256 of its values."""
    if array is None:
        return None
    flat = np.asarray(array, np.float64).reshape(-1)
    some = flat[:: max(1, flat.size // 256)][:256]
    return {"shape": list(np.shape(array)), "rms": float(np.sqrt(np.mean(flat**2))), "values": some.tolist()}


# ---- in the parent --------------------------------------------------------------------------------------------------


LEAST = 1e-3


class Disagreement(RuntimeError):
    """Libraries that compute different things."""


def check_agreement(name: str, digests: Sequence[tuple[str, dict]], tolerance: float = 1e-3) -> float:
    """The largest difference of the outputs, relative to their root mean square; that of values from 0 to 1, as of a sigmoid
    (ONNX Runtime's errs by 1e-7 beside 0), to ``LEAST`` at the least.

    A digest may bring a tolerance of its own, that of arithmetic with fewer bits; the result is over those that do not
    exceed ``tolerance``.

    Raises
    ------
    Disagreement
        When one exceeds the tolerance: what does not compute the same is not worth timing.
    """
    worst = 0.0
    first, expected = digests[0]
    for other, got in digests[1:]:
        likely = all(0.0 <= value <= 1.0 for d in (expected, got) for value in d["values"])
        scale = max(expected["rms"], LEAST if likely else 1e-30)
        same = got["shape"] == expected["shape"]
        error = float(np.max(np.abs(np.subtract(got["values"], expected["values"])))) / scale if same else math.inf
        allowed = max(d.get("tolerance", tolerance) for d in (expected, got))
        if not error <= allowed:
            raise Disagreement(f"{name}: {other} and {first} differ by {error:.2g} of the root mean square; shapes "
                               f"{got['shape']} and {expected['shape']}")
        if allowed <= tolerance:
            worst = max(worst, error)
    return worst


def compare(peers: dict, module: str, job: dict, rounds: int, seconds: float, failures: list | None = None,
            drop: float = math.inf, limit: float = math.inf, tolerance: float = 1e-3,
            progress: Callable[[str], None] | None = None) -> tuple[list[Measurement], float]:
    """Prepares a job in every peer, checks that outputs agree, and times all variants in interleaved rounds.

    ``failures``: a peer other than fastconv that cannot prepare the job, fails while it is timed, or computes something
    else, is left out, and said so there (peer, message); without it that is an error. ``drop``: a variant that took so many
    times as long as its peer's best in the first round is not timed again. ``limit``: no round begins after so many
    seconds, once there have been three. ``tolerance`` of outputs, by their root mean square. ``progress`` is told what
    happens.

    Returns
    -------
    measurements, difference
        One measurement per variant, and the largest relative difference of their outputs.
    """
    measurements: list[Measurement] = []
    digests: list[tuple[str, dict]] = []
    out: set[str] = set()
    tell, title, difference = progress or (lambda text: None), str(job.get("name", module)), 0.0

    def left_out(name: str, error: RuntimeError) -> None:
        if failures is None or name == "fastconv":
            raise error
        failures.append((name, str(error).strip().splitlines()[-1]))
        out.add(name)

    for name, peer in peers.items():
        tell(f"{name} gets ready")
        try:
            prepared = peer.ask(do="prepare", module=module, job=job)["variants"]
            said = []
            for row in prepared:
                if row["digest"] is not None:
                    own = {"tolerance": row["info"]["tolerance"]} if "tolerance" in row["info"] else {}
                    said.append((f"{name} {row['name']}", {**row["digest"], **own}))
            if digests + said:
                difference = max(difference, check_agreement(title, digests + said, tolerance))
        except RuntimeError as error:
            left_out(name, error)
            continue
        digests += said
        measurements += [Measurement(name, row["name"], row["info"]) for row in prepared]
    running, begin = list(measurements), time.monotonic()
    for number in range(rounds):
        if number >= FEWEST and time.monotonic() - begin > limit:
            break
        tell(f"round {number + 1} of {rounds}")
        turn = number % len(running)  # so that no one always comes first
        for m in running[turn:] + running[:turn]:
            if m.peer not in out:
                try:
                    m.seconds.append(peers[m.peer].ask(do="time", variant=m.variant, seconds=seconds)["seconds"])
                except RuntimeError as error:
                    left_out(m.peer, error)
        running, measurements = ([m for m in some if m.peer not in out] for some in (running, measurements))
        if number == 0:
            running = [m for m in running if m.seconds[0] <= drop * min(o.seconds[0] for o in running if rivals(m, o))]
    for name, peer in peers.items():
        if name not in out:
            peer.ask(do="release")
    return measurements, difference


def spread(values: Sequence[float]) -> float:
    """The interquartile range as a share of the median."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float((high - low) / middle) if middle > 0 else 0.0


def rivals(a: Measurement, b: Measurement) -> bool:
    """Whether two variants (or one) are ways of the same library to compute the same."""
    return a.peer == b.peer and bool(a.info.get("peak")) == bool(b.info.get("peak"))


def best(measurements: Sequence[Measurement]) -> Measurement | None:
    """The one with the least median time, of those that ran in every round."""
    rounds = max((len(m.seconds) for m in measurements), default=0)
    return min((m for m in measurements if len(m.seconds) == rounds), key=lambda m: m.median, default=None)


def ratio(ours: Measurement, peer: Measurement) -> dict:
    """How many times faster than the peer: the median over rounds of the peer's time by ours, above 1 where ours wins."""
    pairs = [b / a for a, b in zip(ours.seconds, peer.seconds, strict=True)]
    return {"peer": peer.peer, "variant": peer.variant, "ratio": statistics.median(pairs), "spread": spread(pairs),
            "pairs": pairs}


def share_of_peak(m: Measurement, flops: float, peak: Measurement) -> float:
    """This variant's median FLOP/s by the peak's best round: noise makes the share smaller, never more than there is."""
    return flops / m.median / peak_flops(peak)


def peak_flops(peak: Measurement) -> float:
    """FLOP/s of the best round."""
    return peak.info["flops"] / min(peak.seconds)


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def noise_lines(ratios: Sequence[dict], peaks: Sequence[Measurement]) -> list[str]:
    """Warnings about the quietness of the machine, for the end of a report."""
    lines = []
    noisy = [r for r in ratios if r["spread"] > NOISY]
    if noisy:
        lines.append(f"WARNING: the machine was noisy: {len(noisy)} of {len(ratios)} ratios have a spread (interquartile "
                     f"range by median) above {NOISY:.0%}, up to {show_share(max(r['spread'] for r in noisy))}")
    unsteady = [p for p in peaks if spread(p.seconds) > NOISY]
    if unsteady:
        lines.append(f"WARNING: the FMA peak itself was unsteady in {len(unsteady)} of {len(peaks)} problems (its best "
                     "round counts)")
    return lines


def show_seconds(t: float) -> str:
    if t < 1e-6:
        return f"{t * 1e9:.0f} ns"
    return f"{t * 1e6:.1f} us" if t < 1e-3 else f"{t * 1e3:.2f} ms" if t < 1 else f"{t:.2f} s"


def show_share(share: float) -> str:
    """A spread: ten times the median and more is noise, however much."""
    return f"{share:.0%}" if share < 10 else ">1000%"


def progress(text: str) -> None:
    note(text)
