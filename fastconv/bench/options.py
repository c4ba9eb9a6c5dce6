"""The options of each benchmark, and running it: ``fastconv bench BENCHMARK``."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys

from fastconv._arguments import PRECISIONS, UsageError, check_isa, whole
from fastconv._targets import writable
from fastconv._text import note
from fastconv.bench import BENCHMARKS, picture, report
from fastconv.bench.arguments import among, counts, duration, names, part, subjects, threads
from fastconv.bench.groups import GROUPS
from fastconv.bench.networks import NETWORKS
from fastconv.bench.record import Record
from fastconv.bench.subjects import SUBJECTS
from fastconv.bench.variants import PASSES
from fastconv.kernels.threads import available_threads
from fastconv.measure import CAPS, PEERS, timing
from fastconv.measure.peers import installed
from fastconv.measure.subject import MODES
from fastconv.ops.conv import choose

ELSEWHERE = {"infer": "nets", "train": "nets", "report": "nets"}  # the module, where it is not of the benchmark's own name
OF_FILES = {"goals": "main", "report": "merge"}  # benchmarks that measure nothing: the function
FILES = ("json", "markdown", "picture", "bars")  # options that name a file to write


def fill(parser: argparse.ArgumentParser, benchmark: str) -> None:
    """Adds a benchmark's options to its parser."""
    {"conv": conv, "goals": several, "report": several, "accuracy": accuracy, "memory": memory,
     "overhead": overhead}.get(benchmark, networks)(parser, benchmark)
    parser.add_argument("--json", metavar="FILE", nargs="?", const=report.STDOUT, help="every time and all that is needed "
                        "to take it again, in a file, row by row; an unfinished run in it goes on. Without FILE on stdout, "
                        "and nothing else there")
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    parser.set_defaults(run=run, benchmark=benchmark, command=f"bench {benchmark}")


def conv(parser, benchmark: str) -> None:
    parser.add_argument("--shapes", type=names, metavar="NAMES",
                        help=f"networks ({', '.join(NETWORKS)}) or layers (resnet50/layer1.3x3); default all")
    parser.add_argument("--group", type=among(GROUPS), metavar="NAMES",
                        help=f"of these, those in a group: {', '.join(GROUPS)}; default figures where no shapes are named")
    parser.add_argument("--sample", type=whole, metavar="N", help="N of them, from the least work to the most")
    slices(parser)
    batches(parser, [1, 16])
    convolutions(parser, "those to time beside what is chosen when none is named, at each precision")
    parser.add_argument("--end-to-end", action="store_true", help="NCHW in and out, layout moves included")
    everyones(parser)
    pictures(parser)


def accuracy(parser, benchmark: str) -> None:
    convolutions(parser, "default all", list(PRECISIONS))
    parser.add_argument("--data", type=among(("normal", "relu")), default=["normal"], metavar="NAMES",
                        help="normal, relu; default normal")
    everyones(parser, [1])
    tables(parser)


def networks(parser, benchmark: str) -> None:
    some, modes, batch = {"nets": (list(SUBJECTS), MODES, [1, 16]), "infer": (["lenet5"], MODES[:1], [1]),
                          "train": (["lenet5"], MODES[1:], [64])}[benchmark]
    selection(parser, some, modes, batch, [16])
    parser.add_argument("--limit", type=duration, metavar="SECONDS", help="of a network: no round begins after so many, "
                        "once there were three")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leaves the peak memory out")
    everyones(parser)
    pictures(parser, "the ratios to the peers", roofline=False)


def memory(parser, benchmark: str) -> None:
    selection(parser, list(SUBJECTS), MODES, [1, 16], [16])
    parser.add_argument("--wheel", metavar="FILE", help="a wheel whose size is reported too")
    everyones(parser, timed=False)


def overhead(parser, benchmark: str) -> None:
    selection(parser, list(SUBJECTS), MODES[:1], [1], [])
    everyones(parser)


def several(parser, benchmark: str) -> None:
    """Of files that were written before."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="what runs have written with --json")
    tables(parser)
    if benchmark == "goals":
        pictures(parser)
    else:
        pictures(parser, "the ratios to the peers", roofline=False)


# ---- what several have ------------------------------------------------------------------------------------------------


def everyones(parser, default: list[int] | None = None, timed: bool = True) -> None:
    """Options about the libraries, and about rounds."""
    parser.add_argument("--threads", type=threads, default=default or sorted({1, available_threads()[0]}), metavar="NUMBERS",
                        help="for everyone; default 1" + ("" if default else " and all"))
    parser.add_argument("--isa", choices=list(CAPS),
                        help="caps everyone's instruction set (ONNX Runtime's and OpenVINO's cannot be)")
    parser.add_argument("--peers", type=among((*PEERS, "none")), metavar="NAMES",
                        help=f"{','.join(PEERS)} or none; default those installed")
    if timed:
        parser.add_argument("--rounds", type=whole, metavar="N", help="interleaved rounds; default 9, with --quick 3")
        parser.add_argument("--seconds", type=duration, metavar="X", help="of each burst; default 0.03, with --quick 0.003")
        parser.add_argument("--quick", action="store_true", help="few and short rounds: whether it runs, not how fast")


def convolutions(parser, algorithms: str, precision: list[str] | None = None) -> None:
    known = choose.names()
    parser.add_argument("--passes", type=among(PASSES), default=list(PASSES), metavar="NAMES", help=",".join(PASSES))
    parser.add_argument("--algorithms", type=among((*known, "all")), default=[], metavar="NAMES",
                        help=f"{algorithms}; all or some of {','.join(known)}")
    parser.add_argument("--precision", type=among(PRECISIONS), default=precision or ["highest"], metavar="NAMES",
                        help=f"some of {','.join(PRECISIONS)}; default {','.join(precision or ['highest'])}")


def selection(parser, networks: list[str], modes, batch: list[int], training: list[int]) -> None:
    parser.add_argument("--networks", type=subjects, default=networks, metavar="NAMES",
                        help=f"some of {', '.join(SUBJECTS)}, and ONNX files, in inference (FILE.onnx@320x240 where height "
                        f"and width may be any); default {'all' if len(networks) > 1 else networks[0]}")
    if len(modes) > 1:
        parser.add_argument("--modes", type=among(MODES), default=list(modes), metavar="NAMES",
                            help=f"{','.join(MODES)}; default both")
        parser.add_argument("--training-batch", type=counts, default=training, metavar="NUMBERS",
                            help=f"default {','.join(map(str, training))}")
    else:
        parser.set_defaults(modes=list(modes), training_batch=training)
    batches(parser, batch, "; of inference" if len(modes) > 1 else "")
    parser.add_argument("--precision", choices=PRECISIONS, default="highest", help="of fastconv; default highest")
    slices(parser)
    tables(parser)


def batches(parser, default: list[int], more: str = "") -> None:
    parser.add_argument("--batch", type=counts, default=default, metavar="NUMBERS",
                        help=f"default {','.join(map(str, default))}{more}")


def slices(parser) -> None:
    parser.add_argument("--slice", type=part, metavar="I/N", help="the I-th of every N: a long run in parts")


def tables(parser) -> None:
    parser.add_argument("--markdown", metavar="FILE", help="writes the tables")


def pictures(parser, bars: str = "the ratios to PyTorch", roofline: bool = True) -> None:
    if roofline:
        parser.add_argument("--picture", metavar="FILE.png", help="draws a roofline (needs matplotlib)")
    parser.add_argument("--bars" if roofline else "--picture", metavar="FILE.png", help=f"draws {bars} (needs matplotlib)")


# ---- running ----------------------------------------------------------------------------------------------------------


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
        options.algorithms = list(choose.names())
    for option in FILES:
        name = getattr(options, option, None)
        if name and (option, name) != ("json", report.STDOUT):
            writable(f"--{option}", name)
            if any(os.path.realpath(name) == os.path.realpath(file) for file in getattr(options, "files", ())):
                raise UsageError(f"--{option} {name!r}: it is one of the files that are read")
    if "peers" not in options:
        return []
    check_isa(options.isa)
    asked = options.peers
    options.peers, missing = installed([p for p in asked or PEERS if p != "none"])
    if asked and missing:
        raise ImportError(f"--peers {','.join(asked)}: {missing[0]}")
    return missing


def run(options) -> int:
    """Measures, prints rows as they come and tables of them all, writes the files that are asked for; 1 where fastconv
    itself failed. Whoever stops it gets the same of what was measured until then."""
    missing = complete(options)
    for line in missing:
        timing.progress(f"left out: {line}")
    assert options.benchmark in BENCHMARKS
    module = importlib.import_module(f"fastconv.bench.{ELSEWHERE.get(options.benchmark, options.benchmark)}")
    picture.check(options)
    if options.benchmark not in OF_FILES:
        getattr(module, "check", lambda options: None)(options)
    stopped: BaseException | None = None
    try:
        with contextlib.redirect_stdout(io.StringIO() if options.json == report.STDOUT else sys.stdout):
            if options.benchmark in OF_FILES:
                content = getattr(module, OF_FILES[options.benchmark])(options)
            else:
                content, stopped = _measured(module, options)
        report.write(options, {**content, "left_out": missing})
        if "bars" in options:
            picture.draw(options, content)
        elif getattr(options, "picture", None):
            picture.ratios(options.picture, content)
    except RuntimeError as error:  # a library's, in its own process
        if options.debug:
            note(getattr(error, "traceback", ""))
        raise ValueError(str(error)) from error
    if stopped is not None:
        raise stopped
    return 1 if content.get("failures") else 0


def _measured(module, options) -> tuple[dict, BaseException | None]:
    """What goes into the JSON, and what has stopped the run."""
    record, stopped = Record(options, module.FIELDS), None
    try:
        module.measure(options, record)
    except (KeyboardInterrupt, SystemExit) as stop:
        if not record.results:
            raise
        stopped = stop
        rest = f"in {options.json!r}, and the same command goes on" if options.json not in (None, report.STDOUT) else "above"
        stop.hint = f"; what was measured, {report.count(len(record.results), 'row')}, is {rest}"  # type: ignore[union-attr]
    if not record.results:
        raise ValueError("; ".join(dict.fromkeys(why for *_, why in record.failures)))
    if record.resumed:
        timing.progress(f"{report.count(record.resumed, 'row')} of {len(record.results)} were in {options.json!r} already")
    content = module.conclude(options, record)
    return {"machine": record.machine, "results": record.results, "failures": record.failures, "more": record.more,
            "complete": stopped is None, **content}, stopped
