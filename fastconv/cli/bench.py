"""``fastconv bench``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile

from fastconv._arguments import MODEL, Parser, UsageError, check_isa, choices_of, extent, positive, shared, whole
from fastconv._extra import how
from fastconv.bench import BENCHMARKS
from fastconv.bench.arguments import share as threshold
from fastconv.measure import CAPS, PEERS, READ_ONNX

ROUNDS = 7
USAGE = """fastconv bench [NETWORK|MODEL] [options]
       fastconv bench BENCHMARK [its options]
       fastconv bench --compare OLD NEW [--threshold SHARE]"""
DESCRIPTION = """Time a network, alone or against other engines with the same weights; or run a benchmark, whose options
'fastconv bench BENCHMARK --help' lists (a file of a benchmark's name is ./NAME); or compare two runs of one."""


def add(commands) -> None:
    """One parser shows everything; of two commands in one, what is no benchmark's name is a network's or a model's."""
    what = "time a network, alone or against other engines with the same weights; or run a benchmark"
    parser = commands.add_parser("bench", help=what, description=DESCRIPTION, formatter_class=argparse.RawTextHelpFormatter)
    parser.usage = USAGE
    benchmarks = parser.add_subparsers(metavar="BENCHMARK", parser_class=Parser, prog=parser.prog, help="one of")
    network = Parser(prog=parser.prog, add_help=False)
    for either in (network, parser):
        _options(either)
    for name, about in BENCHMARKS.items():
        benchmarks.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.", fill=_filler(name))
    parser.commands, parser.otherwise = benchmarks.choices, network


def _filler(name: str):
    def fill(parser) -> None:
        from fastconv.bench import options

        options.fill(parser, name)

    return fill


def _options(parser) -> None:
    shared(parser, run)
    parser.add_argument("model", nargs="?", help=MODEL + "; default lenet5")
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
    parser.add_argument("--compare", nargs=2, metavar=("OLD", "NEW"), help="what is slower between two JSON files of a "
                        "benchmark")
    parser.add_argument("--threshold", type=threshold, default=0.05, metavar="SHARE", help="with --compare: a smaller "
                        "change is nothing, however steady the machine; default 0.05")


def _peers(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"{name!r} must be some of {','.join(PEERS)}")
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} must be some of {','.join(PEERS)}")
    return list(dict.fromkeys(names))


def run(arguments) -> int:
    """Prints the median time of a run, its share of the machine's peak, and the peers' times. Or compares two runs."""
    if arguments.compare:
        from fastconv.bench import compare

        if arguments.model is not None:
            raise UsageError(f"--compare and {arguments.model}: one thing at a time")
        arguments.command = "bench --compare"
        old, new = arguments.compare
        return compare.main(old, new, arguments.threshold, arguments.json)
    from fastconv._model import open_model
    from fastconv.kernels.threads import get_num_threads
    from fastconv.measure import machine, race, subject
    from fastconv.measure.peers import PeerError

    arguments.model = arguments.model or "lenet5"
    _check(arguments)
    choices_of(arguments.tuned)  # here, where its errors are this command's
    model, threads = open_model(arguments.model, arguments.input_size), get_num_threads()
    mode, shape = "training" if arguments.training else "inference", (arguments.batch_size, *model.shape)
    with tempfile.TemporaryDirectory(prefix="fastconv-bench-") as folder:
        source = arguments.model if hasattr(model.network, "input_names") else None
        subject.write(folder, model.network, model.shape, [mode], source)
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
        return 0
    _show(facts, row)
    if profile:
        print(profile["text"])
    return 0


def _check(arguments) -> None:
    from fastconv.measure.peers import missing

    if arguments.model in BENCHMARKS and not os.path.exists(arguments.model):
        raise UsageError(f"{arguments.model}: a benchmark's name comes first, before its options")

    asked = f"--against {','.join(arguments.against)}"
    lacking = [module for name in arguments.against for module in missing(name)]
    if lacking:
        lacking = list(dict.fromkeys(lacking))
        raise ImportError(f"{asked}: {' and '.join(lacking)} not installed: {how(lacking, 'bench')}")
    if arguments.seconds > 3600:
        raise UsageError(f"--seconds {arguments.seconds:g}: at most 3600")
    wrong = [name for name in arguments.against if arguments.training and name in READ_ONNX]
    if wrong:
        raise UsageError(f"{asked} --training: {' and '.join(wrong)} cannot train")
    check_isa(arguments.isa)


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
