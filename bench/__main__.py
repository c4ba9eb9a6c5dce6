"""``python -m bench conv|goals|accuracy|nets|infer|train|overhead|memory|report``: fastconv and its peers in one run.

``python -m bench --compare OLD.json NEW.json`` says what has become slower. Exit codes: 0 done; 1 something has become
slower, or a measurement failed; 2 wrong usage, files that cannot be read, runs that cannot be compared; 130 interrupted; 143
terminated.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys

from bench import BadOption, picture, report
from bench.arguments import among, check_target, count, duration, names, part, positive, share, threads
from bench.networks import NETWORKS
from bench.shapes import GROUPS
from bench.variants import PASSES
from fastconv.cli._arguments import PRECISIONS, Parser
from fastconv.measure import CAPS, PEERS, timing
from fastconv.measure.peers import PeerError, installed
from fastconv.measure.subject import MODES

SHARED = {"infer": ("nets", "main"), "train": ("nets", "main"), "report": ("nets", "merge")}
FILES = ("json", "markdown", "picture", "bars")  # options that name a file to write


def common(default: list[int], timed: bool = True) -> argparse.ArgumentParser:
    """Options of every benchmark."""
    made = argparse.ArgumentParser(add_help=False)
    made.add_argument("--threads", type=threads, default=default, help="for everyone; default 1 and all")
    made.add_argument("--isa", choices=list(CAPS),
                      help="caps everyone's instruction set (ONNX Runtime's and OpenVINO's cannot be)")
    made.add_argument("--peers", type=among((*PEERS, "none")), help=f"{','.join(PEERS)} or none; default those installed")
    if timed:
        made.add_argument("--rounds", type=count, help="interleaved rounds; default 9, with --quick 3")
        made.add_argument("--seconds", type=duration, help="of each burst; default 0.03, with --quick 0.003")
        made.add_argument("--quick", action="store_true", help="few and short rounds: whether it runs, not how fast")
    made.add_argument("--json", metavar="FILE", help="writes every time and all that is needed to take it again")
    made.add_argument("--debug", action="store_true", help="shows tracebacks")
    return made


def pictures(bars: str = "the ratios to PyTorch", roofline: bool = True) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(add_help=False)
    if roofline:
        made.add_argument("--picture", metavar="FILE.png", help="draws a roofline (needs matplotlib)")
    made.add_argument("--bars" if roofline else "--picture", metavar="FILE.png", help=f"draws {bars} (needs matplotlib)")
    return made


def parser() -> argparse.ArgumentParser:
    from fastconv.kernels.threads import available_threads
    from fastconv.ops.conv import choose

    known = choose.names()
    default = sorted({1, available_threads()[0]})
    shared = common(default)
    top = Parser(prog="python -m bench", description=__doc__)
    top.add_argument("--compare", nargs=2, metavar=("OLD", "NEW"), help="what has become slower between two JSON files")
    top.add_argument("--threshold", type=share, default=0.05, metavar="SHARE", help="with --compare: a smaller change is "
                     "nothing, however steady the machine; default 0.05")
    commands = top.add_subparsers(dest="benchmark", parser_class=Parser)

    def convolutions(command: argparse.ArgumentParser, algorithms: str) -> None:
        command.add_argument("--passes", type=among(PASSES), default=list(PASSES), help=",".join(PASSES))
        command.add_argument("--algorithms", type=among((*known, "all")), default=[],
                             help=f"{algorithms}; all or some of {','.join(known)}")
        command.add_argument("--precision", type=among(PRECISIONS), default=["highest"],
                             help=f"some of {','.join(PRECISIONS)}; default highest")

    conv = commands.add_parser("conv", parents=[shared, pictures()], help="convolutions, and the goals they are to reach")
    conv.add_argument("--shapes", type=names, metavar="NAMES",
                      help=f"networks ({', '.join(NETWORKS)}) or layers (resnet50/layer1.3x3); default all")
    conv.add_argument("--group", type=among(GROUPS),
                      help=f"of these, those in a group: {', '.join(GROUPS)}; default figures where no shapes are named")
    conv.add_argument("--sample", type=count, metavar="N", help="N of them, from the least work to the most")
    conv.add_argument("--slice", type=part, metavar="I/N", help="the I-th of every N: a long run in parts")
    conv.add_argument("--batch", type=positive, default=[1, 16], help="default 1,16")
    convolutions(conv, "those to time beside what is chosen when none is named, at each precision")
    conv.add_argument("--end-to-end", action="store_true", help="NCHW in and out, layout moves included")
    goals = commands.add_parser("goals", parents=[pictures()], help="the goals, from the JSON of several runs of conv")
    goals.add_argument("files", nargs="+", metavar="FILE")
    goals.add_argument("--markdown", metavar="FILE", help="writes the tables")
    goals.add_argument("--json", metavar="FILE", help="writes the rows of all files, and the goals")
    accuracy = commands.add_parser("accuracy", parents=[common([1])], help="errors against float64")
    convolutions(accuracy, "default all")
    accuracy.set_defaults(precision=list(PRECISIONS))
    accuracy.add_argument("--data", type=among(("normal", "relu")), default=["normal"], help="normal, relu; default normal")
    accuracy.add_argument("--markdown", metavar="FILE", help="writes the tables")
    whole_networks(commands, shared, common(default, timed=False))
    return top


def whole_networks(commands, shared: argparse.ArgumentParser, untimed: argparse.ArgumentParser) -> None:
    """The benchmarks that are about networks."""
    from bench.subjects import SUBJECTS

    def selection(command, networks: list[str], modes, batch: list[int], training: list[int]) -> None:
        command.add_argument("--networks", type=among(tuple(SUBJECTS)), default=networks, metavar="NAMES",
                             help=f"some of {', '.join(SUBJECTS)}; default {'all' if len(networks) > 1 else networks[0]}")
        if len(modes) > 1:
            command.add_argument("--modes", type=among(MODES), default=list(modes), help=f"{','.join(MODES)}; default both")
            command.add_argument("--training-batch", type=positive, default=training,
                                 help=f"default {','.join(map(str, training))}")
        else:
            command.set_defaults(modes=list(modes), training_batch=training)
        command.add_argument("--batch", type=positive, default=batch, help=f"default {','.join(map(str, batch))}"
                             + ("; of inference" if len(modes) > 1 else ""))
        command.add_argument("--precision", choices=PRECISIONS, default="highest", help="of fastconv; default highest")
        command.add_argument("--slice", type=part, metavar="I/N", help="the I-th of every N: a long run in parts")
        command.add_argument("--markdown", metavar="FILE", help="writes the tables")

    everything, bars = list(SUBJECTS), pictures("the ratios to the peers", roofline=False)
    for name, networks, modes, batch, help in (
            ("nets", everything, MODES, [1, 16], "whole networks, inference and training"),
            ("infer", ["lenet5"], MODES[:1], [1], "nets with LeNet-5's inference alone"),
            ("train", ["lenet5"], MODES[1:], [64], "nets with LeNet-5's training step alone")):
        command = commands.add_parser(name, parents=[shared, bars], help=help)
        selection(command, networks, modes, batch, [16])
        command.add_argument("--limit", type=duration, metavar="SECONDS", help="of a network: no round begins after so "
                             "many, once there were three")
        command.add_argument("--no-memory", dest="memory", action="store_false", help="leaves the peak memory out")
    memory = commands.add_parser("memory", parents=[untimed], help="memory of whole networks, sizes of the packages")
    selection(memory, everything, MODES, [1, 16], [16])
    memory.add_argument("--wheel", metavar="FILE", help="a wheel whose size is reported too")
    overhead = commands.add_parser("overhead", parents=[shared], help="the cost of a call, of a step, of an import, of "
                                   "compiling")
    selection(overhead, everything, MODES[:1], [1], [])
    merged = commands.add_parser("report", parents=[bars], help="the tables of several runs of nets")
    merged.add_argument("files", nargs="+", metavar="FILE")
    merged.add_argument("--markdown", metavar="FILE", help="writes the tables")
    merged.add_argument("--json", metavar="FILE", help="writes the rows of all files")
    merged.add_argument("--debug", action="store_true", help="shows tracebacks")


def complete(options) -> list[str]:
    """Fills in the defaults that depend on other options; lines about peers that are left out."""
    if options.benchmark == "train":
        options.training_batch = options.batch
    if "rounds" in options:
        options.rounds = options.rounds or (3 if options.quick else 9)
        options.seconds = options.seconds or (0.003 if options.quick else 0.03)
    if options.benchmark == "conv" and options.shapes is None:
        options.shapes, options.group = list(NETWORKS), options.group or ["figures"]
    if "all" in getattr(options, "algorithms", ()):
        from fastconv.ops.conv import choose

        options.algorithms = list(choose.names())
    for option in FILES:
        if getattr(options, option, None):
            check_target(f"--{option}", getattr(options, option))
    if "peers" not in options:
        return []
    asked = options.peers
    options.peers, missing = installed([p for p in asked or PEERS if p != "none"])
    if asked and missing:
        raise BadOption(f"--peers {','.join(asked)}: {missing[0]}")
    return missing


def main(arguments: list[str] | None = None) -> int:
    """Runs a benchmark; returns the exit code."""
    top = parser()
    options = top.parse_args(arguments)
    command = f"{top.prog} {options.benchmark or '--compare'}"
    try:
        if options.compare:
            if options.benchmark:
                top.error(f"--compare and {options.benchmark}: one thing at a time")
            from bench import compare

            return compare.main(*options.compare, options.threshold)
        if not options.benchmark:
            top.error("expected a benchmark, or --compare OLD NEW")
        missing = complete(options)
        for line in missing:
            timing.progress(line)
        module, function = SHARED.get(options.benchmark, (options.benchmark, "main"))
        content = getattr(importlib.import_module(f"bench.{module}"), function)(options)
        if getattr(options, "json", None):
            report.write(options.json, {**content, "left_out": missing}, options)
        if "bars" in options:
            picture.draw(options, content["results"], content["bandwidths"])
        elif getattr(options, "picture", None):
            picture.ratios(options.picture, content["results"])
    except BadOption as error:
        print(f"{command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{command}: interrupted, nothing was written", file=sys.stderr)
        return 130
    except (PeerError, RuntimeError, OSError) as error:
        if getattr(options, "debug", False):
            print(getattr(error, "traceback", ""), file=sys.stderr)
            raise
        print(f"{command}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def terminate(number: int, frame) -> None:
    """SIGTERM: the processes of the peers and the temporary folders go first."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminate)
    sys.exit(main())
