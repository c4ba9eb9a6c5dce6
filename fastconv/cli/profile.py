"""``fastconv profile``."""

from __future__ import annotations

from fastconv._arguments import MODEL, command, extent, whole


def add(commands) -> None:
    parser = command(commands, "profile", run, "time every step of a network: milliseconds, arithmetic, bytes, kernel")
    parser.add_argument("model", help=MODEL)
    parser.add_argument("--input-size", type=extent, metavar="SIZE", help="height and width, such as 224 or 224x160")
    parser.add_argument("--batch-size", type=whole, default=1, metavar="N", help="default 1")
    parser.add_argument("--training", action="store_true", help="forward and backward of training, not inference")
    parser.add_argument("--rounds", type=whole, default=10, metavar="N", help="the least time of so many counts "
                        "(default 10)")


def run(arguments) -> None:
    """Prints what engine.profile() measures."""
    from fastconv._arguments import choices_of
    from fastconv._model import open_model
    from fastconv.engine.engine import compile

    algorithm = choices_of(arguments.tuned)
    model = open_model(arguments.model, arguments.input_size)
    engine = compile(model.network, (arguments.batch_size, *model.shape), training=arguments.training,
                     precision=arguments.precision, algorithm=algorithm)
    found = engine.profile(arguments.rounds)
    print(found.json() if arguments.json else found)
