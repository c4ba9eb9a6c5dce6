"""``fastconv bench``."""

from __future__ import annotations

import argparse
import json
import statistics
import time

from fastconv.cli._arguments import MODEL, UsageError, command, extent, positive, whole

PEERS = ("torch", "onnxruntime", "openvino")
NOISY = 0.20  # a spread above this is called noise


def add(commands) -> None:
    parser = command(commands, "bench", run, "time a network, alone or against other engines with the same weights")
    parser.add_argument("model", nargs="?", default="lenet5", help=MODEL + "; default lenet5")
    parser.add_argument("--batch-size", type=whole, default=1, metavar="N", help="default 1")
    parser.add_argument("--input-size", type=extent, metavar="SIZE", help="height and width, such as 224 or 224x160")
    parser.add_argument("--against", type=_peers, default=[], metavar="PEERS", help="some of torch,onnxruntime,openvino, "
                        "each in a process of its own that stands still while another is timed")
    parser.add_argument("--seconds", type=positive, default=1.0, metavar="X", help="how long each is timed (default 1)")
    parser.add_argument("--profile", action="store_true", help="also the time of each step")


def _peers(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"{name!r} must be some of {','.join(PEERS)}")
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} must be some of {','.join(PEERS)}")
    return list(dict.fromkeys(names))


def run(arguments) -> None:
    """Prints the median time of a run, and of the peers'."""
    import numpy as np

    from fastconv.cli import _peers as peers
    from fastconv.cli._model import compiled, open_model
    from fastconv.kernels._runtime import isa_info
    from fastconv.kernels.threads import get_num_threads

    missing = [name for name in arguments.against if not peers.installed(name)]
    if missing:
        raise UsageError(f"--against {','.join(arguments.against)}: {', '.join(missing)} is not installed: "
                         f"pip install {' '.join(missing)}")
    if arguments.seconds > 3600:
        raise UsageError(f"--seconds {arguments.seconds:g}: at most 3600")
    model = open_model(arguments.model, arguments.input_size)
    shape = (arguments.batch_size, *model.shape)
    engine = compiled(model, arguments.batch_size, arguments)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    y = engine(x)
    facts = {"model": arguments.model, "input": list(shape), "precision": arguments.precision, "threads": get_num_threads(),
             "isa": isa_info()["isa"]}

    def burst(seconds: float) -> list[float]:
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < 2 or time.perf_counter() < end:
            start = time.perf_counter()
            engine(x, out=y)
            times.append(time.perf_counter() - start)
        return times

    if arguments.against:
        rounds = peers.race(arguments.against, model.network, x, y, burst, arguments.seconds, get_num_threads())
    else:
        rounds = {"fastconv": [burst(arguments.seconds / 5) for _ in range(5)]}
    results = {name: _statistics(bursts, arguments.batch_size) for name, bursts in rounds.items()}
    facts.update(results["fastconv"])
    if arguments.against:
        facts["peers"] = {name: {**result, "ratio": result["milliseconds"] / facts["milliseconds"]}
                          for name, result in results.items() if name != "fastconv"}
    profile = engine.profile() if arguments.profile else None
    if arguments.json:
        print(json.dumps({**facts, **({"profile": json.loads(profile.json())} if profile else {})}))
        return
    print(f"{arguments.model}, input {'x'.join(map(str, shape))}: {facts['milliseconds']:.4g} ms (median of "
          f"{facts['runs']} runs), {facts['images_per_second']:.4g} images/s, {facts['threads']} threads, {facts['isa']}")
    for name, result in facts.get("peers", {}).items():
        print(f"    {name}: {result['milliseconds']:.4g} ms, {result['ratio']:.2f} times fastconv's")
    noisy = [name for name, result in results.items() if result["spread"] > NOISY]
    if noisy:
        print(f"the machine was noisy: the medians of {', '.join(noisy)} differ by more than {NOISY:.0%} between rounds")
    if profile:
        print(profile)


def _statistics(bursts: list[list[float]], batch: int) -> dict:
    """The median of the rounds' medians, and how far these are apart (interquartile range by median)."""
    medians = [statistics.median(times) for times in bursts]
    median = statistics.median(medians)
    low, _, high = statistics.quantiles(medians, n=4)
    return {"milliseconds": 1000 * median, "images_per_second": batch / median, "runs": sum(map(len, bursts)),
            "spread": (high - low) / median}
