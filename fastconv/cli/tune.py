"""``fastconv tune``."""

from __future__ import annotations

import json
import os

from fastconv._arguments import MODEL, command, extent, whole


def add(commands) -> None:
    parser = command(commands, "tune", run, "time every algorithm on a network's convolutions and save the fastest",
                     tuned=False)
    parser.add_argument("model", help=MODEL)
    parser.add_argument("--save", required=True, metavar="FILE", help="where the choices go, for --tuned of other "
                        "commands and fastconv.compile(algorithm=fastconv.Choices.load(FILE)); those of a file that "
                        "is there are kept")
    parser.add_argument("--batch-size", type=whole, default=1, metavar="N", help="the batch that is timed; the choices are "
                        "for every batch (default 1)")
    parser.add_argument("--input-size", type=extent, metavar="SIZE", help="height and width, such as 224 or 224x160")
    parser.add_argument("--training", action="store_true", help="the passes of training, not inference")
    parser.add_argument("--rounds", type=whole, default=5, metavar="N", help="the least time of so many counts (default 5)")


def run(arguments) -> None:
    """Tunes and says what was gained."""
    from fastconv._model import open_model
    from fastconv._targets import writable
    from fastconv.engine.engine import compile
    from fastconv.kernels._runtime import isa_info
    from fastconv.kernels.threads import get_num_threads
    from fastconv.lowering.choices import Choices

    writable("--save", arguments.save)
    known = Choices.load(arguments.save) if os.path.exists(arguments.save) else Choices()
    model = open_model(arguments.model, arguments.input_size)
    shape = (arguments.batch_size, *model.shape)
    engine = compile(model.network, shape, training=arguments.training, precision=arguments.precision)
    before = _estimated(engine)
    found = tune_with_progress(engine.tune, rounds=arguments.rounds)
    known.update(found)
    known.save(arguments.save)
    rows = []
    for key in found:
        entry = found.entries[key]
        seconds = entry["seconds"]
        rows.append({"problem": key, "algorithm": entry["algorithm"], "milliseconds": 1e3 * seconds[entry["algorithm"]],
                     "others": {name: 1e3 * t for name, t in seconds.items() if name != entry["algorithm"]}})
    if arguments.json:
        print(json.dumps({"model": arguments.model, "input": list(shape), "training": arguments.training,
                          "file": arguments.save,
                          "threads": get_num_threads(), "isa": isa_info()["isa"], "problems": rows}))
        return
    for row in rows:
        others = ", ".join(f"{name} {ms:.3f}" for name, ms in sorted(row["others"].items(), key=lambda item: item[1]))
        print(f"{row['problem']}: {row['algorithm']} {row['milliseconds']:.3f} ms" + (f" ({others})" if others else ""))
    changed = sum(1 for a, b in zip(before, _estimated(engine), strict=False) if a != b)
    print(f"{len(rows)} problems measured, {changed} of {len(before)} steps compute by another algorithm than before; saved "
          f"{arguments.save}")


def _estimated(engine) -> list[str]:
    """The algorithms of the steps that do arithmetic."""
    return [step.algorithm for step in engine.steps() if step.multiply_adds]


def tune_with_progress(tune, *arguments, **keywords):
    """Calls a ``tune`` that reports (done, of how many, name) with a progress bar on terminals."""
    from fastconv.train.progress import progress

    bar = None

    def report(done, total, name):
        nonlocal bar
        if bar is None:
            bar = progress(total, "tune", leave=False)
        else:
            bar.update()
        bar.set_postfix(algorithm=name)

    try:
        return tune(*arguments, progress=report, **keywords)
    finally:
        if bar is not None:
            bar.close()
