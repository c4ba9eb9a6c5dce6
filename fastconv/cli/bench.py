"""``fastconv bench``."""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile

from fastconv.cli._arguments import MODEL, UsageError, choices_of, command, extent, positive, whole
from fastconv.measure import CAPS, PEERS, READ_ONNX

ROUNDS = 7


def add(commands) -> None:
    parser = command(commands, "bench", run, "time a network, alone or against other engines with the same weights")
    parser.add_argument("model", nargs="?", default="lenet5", help=MODEL + "; default lenet5")
    parser.add_argument("--batch-size", type=whole, default=1, metavar="N", help="default 1")
    parser.add_argument("--input-size", type=extent, metavar="SIZE", help="height and width, such as 224 or 224x160")
    parser.add_argument("--training", action="store_true", help="time a training step, not an inference")
    parser.add_argument("--against", type=_peers, default=[], metavar="PEERS", help="some of torch,onnxruntime,openvino, "
                        "each in a process of its own that stands still while another is timed")
    parser.add_argument("--isa", choices=tuple(CAPS), help="cap the instruction set, PyTorch's too (ONNX Runtime and "
                        "OpenVINO have no such option)")
    parser.add_argument("--seconds", type=positive, default=1.0, metavar="X", help="how long each is timed (default 1)")
    parser.add_argument("--memory", action="store_true", help="also the peak memory of each, in one more process")
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
    """Prints the median time of a run, its share of the machine's peak, and the peers' times."""
    from fastconv.cli._model import open_model
    from fastconv.kernels.threads import get_num_threads
    from fastconv.measure import machine, race, subject
    from fastconv.measure.peers import PeerError

    _check(arguments)
    choices_of(arguments.tuned)  # here, where its errors are this command's
    model, threads = open_model(arguments.model, arguments.input_size), get_num_threads()
    mode, shape = "training" if arguments.training else "inference", (arguments.batch_size, *model.shape)
    with tempfile.TemporaryDirectory(prefix="fastconv-bench-") as folder:
        subject.write(folder, model.network, model.shape, [mode])
        asked = race.job(folder, mode, shape, threads, arguments.precision, arguments.tuned)
        with _progress(ROUNDS + 1 + len(arguments.against)) as tell:
            try:
                with machine.opened(["fastconv", *arguments.against], threads, arguments.isa) as peers:
                    known = machine.describe(peers)
                    row = race.run(arguments.model, asked, peers, rounds=ROUNDS, seconds=arguments.seconds / ROUNDS,
                                   progress=tell)
                    profile = peers["fastconv"].ask(do="compute", module=race.MODULE, job=asked)["result"] \
                        if arguments.profile else None
                if arguments.memory:
                    tell("memory")
                    row["memory"] = race.memory(asked, race.best_variants(row), arguments.isa)
            except PeerError as error:
                own = str(error).startswith("fastconv: ")
                raise ValueError(str(error).partition(": ")[2] if own else f"--against {error}") from error
            except race.Disagreement as error:
                raise ValueError(f"--against {','.join(arguments.against)}: {error}") from error
    noise = race.noise([row])
    facts = {**_facts(arguments.model, row, known), "noise": noise, "machine": known}
    if arguments.json:
        print(json.dumps({**facts, **({"profile": json.loads(profile["json"])} if profile else {})}))
        return
    _show(facts, row)
    if profile:
        print(profile["text"])


def _check(arguments) -> None:
    from fastconv.kernels._runtime import isa_info
    from fastconv.measure.peers import missing

    asked = f"--against {','.join(arguments.against)}"
    lacking = [module for name in arguments.against for module in missing(name)]
    if lacking:
        lacking = list(dict.fromkeys(lacking))
        raise UsageError(f"{asked}: {' and '.join(lacking)} not installed: pip install {' '.join(lacking)}")
    if arguments.seconds > 3600:
        raise UsageError(f"--seconds {arguments.seconds:g}: at most 3600")
    wrong = [name for name in arguments.against if arguments.training and name in READ_ONNX]
    if wrong:
        raise UsageError(f"{asked} --training: {' and '.join(wrong)} cannot train")
    available = isa_info()["available"]
    if arguments.isa and arguments.isa not in available:
        raise UsageError(f"--isa {arguments.isa}: this machine and build have {', '.join(available)}")


@contextlib.contextmanager
def _progress(steps: int):
    """Something to call with what comes next; shown on terminals alone."""
    from fastconv.train.progress import progress

    with progress(steps, "bench", leave=False) as bar:
        def tell(text: str) -> None:
            bar.update()
            bar.set_postfix(now=text)

        yield tell


def _facts(name: str, row: dict, machine: dict) -> dict:
    """What is said of a measurement; the peers by library, version and variant."""
    cases = {(case["peer"], case["variant"]): case for case in row["cases"]}
    ours = next(case for case in row["cases"] if case["peer"] == "fastconv")
    facts = {"model": name, "mode": row["mode"], "input": row["input"], "precision": row["precision"],
             "threads": row["threads"], "isa": machine["isa"], **_times(ours), "gflops": ours["gflops"],
             "peak_gflops": row["peak_gflops"], "ready_seconds": ours["info"]["ready_seconds"], "peers": {}}
    for peer, ratio in row["ratios"].items():
        variant = ratio["variant"]
        facts["peers"][f"{peer} {machine['versions'][peer]} ({variant})"] = {
            **_times(cases[peer, variant]), "ratio": ratio["ratio"], "ratio_spread": ratio["spread"]}
    if "memory" in row:
        for said, found in zip([facts, *facts["peers"].values()], row["memory"].values(), strict=True):
            said["memory_bytes"] = found["running"] or found["peak"]
    return facts


def _times(case: dict) -> dict:
    return {"milliseconds": 1e3 * case["median_seconds"], "images_per_second": case["images_per_second"],
            "rounds": len(case["seconds"]), "spread": case["spread"], "share_of_peak": case["share_of_peak"]}


def _show(facts: dict, row: dict) -> None:
    def memory(said: dict) -> str:
        return f", {said['memory_bytes'] / 1e6:.0f} MB" if "memory_bytes" in said else ""

    what = " training step" if row["mode"] == "training" else ""
    print(f"{facts['model']}{what}, input {'x'.join(map(str, facts['input']))}: {facts['milliseconds']:.4g} ms (median of "
          f"{facts['rounds']} rounds), {facts['images_per_second']:.4g} images/s, {facts['share_of_peak']:.0%} of the FMA "
          f"peak of {facts['peak_gflops']:.0f} GFLOP/s, {facts['threads']} threads, {facts['isa']}{memory(facts)}")
    for name, result in facts["peers"].items():
        print(f"    {name}: {result['milliseconds']:.4g} ms, {result['ratio']:.2f} times fastconv's{memory(result)}")
    for line in facts["noise"]:
        print(line)
