"""``python -m bench conv|train|infer``: fastconv and its peers in one run."""

from __future__ import annotations

import argparse
import importlib

from bench import report, timing
from bench.peers import CAPS, PEERS, installed
from bench.shapes import NETWORKS


def names(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def positive(text: str) -> list[int]:
    values = [int(part) for part in names(text)]
    if not values or min(values) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected integers of at least 1")
    return values


def among(known):
    """A type for argparse: a comma-separated list of known names."""
    def parse(text: str) -> list[str]:
        values = names(text)
        for value in values:
            if value not in known:
                raise argparse.ArgumentTypeError(f"{value!r}: expected some of {', '.join(known)}")
        return values
    return parse


def parser() -> argparse.ArgumentParser:
    from bench.conv import PASSES
    from fastconv.ops.conv import choose

    algorithms = choose.names()
    from fastconv.kernels.threads import available_threads

    threads = sorted({1, available_threads()[0]})
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--threads", type=positive, default=threads, help="for everyone; default 1 and all")
    common.add_argument("--isa", choices=list(CAPS), help="caps everyone's instruction set (ONNX Runtime's cannot be)")
    common.add_argument("--peers", type=among((*PEERS, "none")), default=list(PEERS), help="torch,onnxruntime or none")
    common.add_argument("--rounds", type=int, help="interleaved rounds; default 9, with --quick 3")
    common.add_argument("--seconds", type=float, help="of each burst; default 0.03, with --quick 0.003")
    common.add_argument("--quick", action="store_true", help="few and short rounds: whether it runs, not how fast")
    common.add_argument("--json", metavar="FILE", help="writes every time and all that is needed to take it again")
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = top.add_subparsers(dest="benchmark", required=True)
    conv = commands.add_parser("conv", parents=[common], help="the convolutions of five networks")
    conv.add_argument("--shapes", type=names, default=list(NETWORKS), metavar="NAMES",
                      help="networks (lenet5, alexnet, vgg16, resnet50, mobilenet) or layers (resnet50/layer1.3x3)")
    conv.add_argument("--batch", type=positive, default=[1], help="default 1")
    conv.add_argument("--passes", type=among(PASSES), default=list(PASSES), help=",".join(PASSES))
    conv.add_argument("--algorithms", type=among(algorithms), default=list(algorithms),
                      help=f"those to time beside the default; {','.join(algorithms)}")
    conv.add_argument("--end-to-end", action="store_true", help="NCHW in and out, layout moves included")
    train = commands.add_parser("train", parents=[common], help="a LeNet-5 training step")
    train.add_argument("--batch", type=positive, default=[64], help="default 64")
    infer = commands.add_parser("infer", parents=[common], help="LeNet-5 inference")
    infer.add_argument("--batch", type=positive, default=[1], help="default 1")
    return top


def main() -> None:
    top = parser()
    options = top.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 9)
    options.seconds = options.seconds or (0.003 if options.quick else 0.03)
    options.peers, missing = installed([p for p in options.peers if p != "none"])
    for line in missing:
        timing.progress(line)
    try:
        content = importlib.import_module(f"bench.{options.benchmark}").main(options)
    except ValueError as error:
        top.error(str(error))
    if options.json:
        report.write(options.json, {**content, "left_out": missing}, options)


if __name__ == "__main__":
    main()
