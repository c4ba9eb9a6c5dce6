"""``python -m bench conv|goals|accuracy|train|infer``: fastconv and its peers in one run."""

from __future__ import annotations

import argparse
import importlib

from bench import BadOption, picture, report, timing
from bench.networks import NETWORKS
from bench.peers import CAPS, PEERS, installed
from bench.shapes import GROUPS
from bench.variants import PASSES

PRECISIONS = ("highest", "high", "medium")


def names(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected an integer of at least 1")
    return int(text)


def positive(text: str) -> list[int]:
    if not names(text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected integers of at least 1")
    return [count(part) for part in names(text)]


def duration(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 3600.0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds above 0")
    return value


def part(text: str) -> tuple[int, int]:
    """"2/5"."""
    try:
        which, of = map(count, text.split("/"))
    except (ValueError, argparse.ArgumentTypeError):
        which, of = 1, 0
    if which > of:
        raise argparse.ArgumentTypeError(f"{text!r}: expected I/N with 1 <= I <= N")
    return which, of


def among(known):
    """A type for argparse: a comma-separated list of known names."""
    def parse(text: str) -> list[str]:
        values = names(text)
        for value in values:
            if value not in known:
                raise argparse.ArgumentTypeError(f"{value!r}: expected some of {', '.join(known)}")
        if not values:
            raise argparse.ArgumentTypeError(f"{text!r}: expected some of {', '.join(known)}")
        return values
    return parse


def common(threads: list[int]) -> argparse.ArgumentParser:
    """Options of every benchmark."""
    made = argparse.ArgumentParser(add_help=False)
    made.add_argument("--threads", type=positive, default=threads, help="for everyone; default 1 and all")
    made.add_argument("--isa", choices=list(CAPS),
                      help="caps everyone's instruction set (ONNX Runtime's and OpenVINO's cannot be)")
    made.add_argument("--peers", type=among((*PEERS, "none")), default=list(PEERS), help=f"{','.join(PEERS)} or none")
    made.add_argument("--rounds", type=count, help="interleaved rounds; default 9, with --quick 3")
    made.add_argument("--seconds", type=duration, help="of each burst; default 0.03, with --quick 0.003")
    made.add_argument("--quick", action="store_true", help="few and short rounds: whether it runs, not how fast")
    made.add_argument("--json", metavar="FILE", help="writes every time and all that is needed to take it again")
    return made


def pictures() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(add_help=False)
    made.add_argument("--picture", metavar="FILE.png", help="draws a roofline (needs matplotlib)")
    made.add_argument("--bars", metavar="FILE.png", help="draws the ratios to PyTorch (needs matplotlib)")
    return made


def parser() -> argparse.ArgumentParser:
    from fastconv.kernels.threads import available_threads
    from fastconv.ops.conv import choose

    known = choose.names()
    shared = common(sorted({1, available_threads()[0]}))
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = top.add_subparsers(dest="benchmark", required=True)

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
    accuracy = commands.add_parser("accuracy", parents=[shared], help="errors against float64")
    convolutions(accuracy, "default all")
    accuracy.set_defaults(precision=list(PRECISIONS), threads=[1])
    accuracy.add_argument("--data", type=among(("normal", "relu")), default=["normal"], help="normal, relu; default normal")
    accuracy.add_argument("--markdown", metavar="FILE", help="writes the tables")
    train = commands.add_parser("train", parents=[shared], help="a LeNet-5 training step")
    train.add_argument("--batch", type=positive, default=[64], help="default 64")
    infer = commands.add_parser("infer", parents=[shared], help="LeNet-5 inference")
    infer.add_argument("--batch", type=positive, default=[1], help="default 1")
    return top


def complete(options) -> list[str]:
    """Fills in the defaults that depend on other options; lines about peers that are left out."""
    if options.benchmark == "goals":
        return []
    options.rounds = options.rounds or (3 if options.quick else 9)
    options.seconds = options.seconds or (0.003 if options.quick else 0.03)
    if options.benchmark == "conv":
        if options.shapes is None:
            options.shapes, options.group = list(NETWORKS), options.group or ["figures"]
    if "all" in getattr(options, "algorithms", ()):
        from fastconv.ops.conv import choose

        options.algorithms = list(choose.names())
    options.peers, missing = installed([p for p in options.peers if p != "none"])
    return missing


def main() -> None:
    top = parser()
    options = top.parse_args()
    missing = complete(options)
    for line in missing:
        timing.progress(line)
    try:
        content = importlib.import_module(f"bench.{options.benchmark}").main(options)
    except BadOption as error:
        top.error(str(error))
    if options.json:
        report.write(options.json, {**content, "left_out": missing}, options)
    if "picture" in options:
        picture.draw(options, content["results"], content["bandwidths"])


if __name__ == "__main__":
    main()
