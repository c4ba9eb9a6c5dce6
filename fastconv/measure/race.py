"""One network in one setting, measured in all libraries: what becomes a row of a report."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastconv.measure import READ_ONNX, subject, timing
from fastconv.measure.peers import Peer, PeerError
from fastconv.measure.timing import Disagreement as Disagreement

MODULE = "fastconv.measure.networks"
DROP = 1.5  # a variant so many times slower than its library's best in the first round is not timed again
TOLERANCES = {"highest": 1e-3, "high": 1e-3, "medium": 5e-2}  # of outputs, by their root mean square
USUAL = {  # the variant that is likely the fastest of a library, where none are timed
    "inference": {"fastconv": "engine(x, out=y)", "torch": "TorchScript channels_last", "onnxruntime": "run_with_iobinding",
                  "openvino": "request.infer"},
    "training": {"fastconv": "step", "torch": "channels_last fused"},
}
OF_LOSSES = 2e-2  # batch normalisation of few images is chaotic: PyTorch's memory formats differ by nearly as much


def job(folder, mode: str, shape, threads: int, precision: str = "highest", choices: str | None = None) -> dict:
    """What ``networks.py`` is told; ``folder``: of :func:`fastconv.measure.subject.write`; ``shape``: of a batch."""
    return {"folder": str(folder), "mode": mode, "shape": list(shape), "threads": threads, "precision": precision,
            "choices": choices}


def run(name: str, asked: dict, peers: Mapping[str, Peer], *, rounds: int, seconds: float, limit: float = math.inf,
        failures: list | None = None, progress: Callable[[str], None] | None = None) -> dict:
    """Times a job in all processes.

    ``failures`` as for :func:`fastconv.measure.timing.compare`.

    Returns
    -------
    dict
        The setting, ``flops``, ``cases`` (a variant each), ``ratios`` by library (its best variant's time by fastconv's),
        the largest ``difference`` of outputs, the ``peak_gflops`` of the same rounds.
    """
    present = dict(peers)
    if asked["mode"] == "training":
        present = {n: p for n, p in present.items() if n not in READ_ONNX}
    try:
        write_onnx(asked, present)
    except PeerError as error:
        if failures is None:
            raise
        for reader in READ_ONNX:
            if present.pop(reader, None):
                failures.append((reader, str(error).partition(": ")[2]))
    tolerance = max(TOLERANCES[asked["precision"]], OF_LOSSES if asked["mode"] == "training" else 0.0)
    measured, difference = timing.compare(present, MODULE, {**asked, "name": f"{name}, {asked['mode']}"}, rounds, seconds,
                                          failures, DROP, limit, tolerance, progress)
    peak = next(m for m in measured if m.info.get("peak"))
    measured.remove(peak)
    ours = next(m for m in measured if m.peer == "fastconv")
    best = {n: timing.best([m for m in measured if m.peer == n]) for n in present if n != "fastconv"}
    batch = asked["shape"][0]
    flops = subject.flops(asked["folder"], asked["mode"], batch)
    cases = [{**m.json(), "gflops": flops / m.median / 1e9, "share_of_peak": timing.share_of_peak(m, flops, peak),
              "images_per_second": batch / m.median} for m in measured]
    return {"network": name, "mode": asked["mode"], "input": asked["shape"], "batch": batch, "threads": asked["threads"],
            "precision": asked["precision"], "flops": flops, "cases": cases,
            "ratios": {n: timing.ratio(ours, m) for n, m in best.items() if m}, "difference": difference,
            "peak_gflops": timing.peak_flops(peak) / 1e9, "peak_seconds": peak.seconds}


def write_onnx(asked: dict, peers) -> None:
    """The ONNX model for those that read one."""
    if asked["mode"] == "inference" and any(n in peers for n in READ_ONNX):
        with Peer("onnx", asked["threads"]) as writer:
            writer.ask(do="compute", module=MODULE, job=asked)


def memory(asked: dict, variants: Mapping[str, str], isa: str | None = None,
           failures: list | None = None) -> dict[str, dict[str, Any]]:
    """What memory each library's process takes with one variant of a job, in a process that does nothing else. ``failures``
    as for :func:`run`.

    Returns
    -------
    dict
        By library: bytes resident with the library ``imported``, at most until the network has run (``peak``) and at most
        while it runs (``running``, 0 where that cannot be told apart), and ``info`` of the variant.
    """
    if not Path(asked["folder"], "model.onnx").exists() and not subject.source(asked["folder"], asked["mode"]):
        write_onnx(asked, variants)
    found = {}
    for name, variant in variants.items():
        try:
            with Peer(name, asked["threads"], isa) as peer:
                said = peer.ask(do="memory", module=MODULE, job={**asked, "only": variant})
        except PeerError as error:
            if failures is None or name == "fastconv":
                raise
            failures.append((name, str(error)))
            continue
        found[name] = {"variant": variant, **{key: said[key] for key in ("imported", "peak", "running", "info")}}
    return found


def best_variants(row: dict) -> dict[str, str]:
    """The variant that counts, by library."""
    ours = next(c["variant"] for c in row["cases"] if c["peer"] == "fastconv")
    return {"fastconv": ours, **{name: r["variant"] for name, r in row["ratios"].items()}}


def noise(rows: list[dict]) -> list[str]:
    """Warnings about the quietness of the machine while these were measured."""
    peaks = [timing.Measurement("fastconv", "peak", {}, row["peak_seconds"]) for row in rows]
    return timing.noise_lines([ratio for row in rows for ratio in row["ratios"].values()], peaks)
