"""``fastconv summary``."""

from __future__ import annotations

import json

from fastconv._arguments import MODEL, command, extent, whole


def add(commands) -> None:
    parser = command(commands, "summary", run, "list a network's layers: shapes, parameters, multiply-adds, activation "
                     "bytes, receptive fields", threads=False, precision=False)
    parser.add_argument("model", help=MODEL)
    parser.add_argument("--input-size", type=extent, metavar="SIZE", help="height and width, such as 224 or 224x160 "
                        "(default: the model's, or the network's usual one)")
    parser.add_argument("--batch-size", type=whole, default=1, metavar="N", help="default 1")


def run(arguments) -> None:
    """Prints fastconv.summary of the model."""
    from fastconv._model import open_model
    from fastconv.report.summary import summary

    model = open_model(arguments.model, arguments.input_size)
    result = summary(model.network, (arguments.batch_size, *model.shape))
    if arguments.json:
        print(json.dumps({"model": arguments.model, **result.to_dict()}))
    else:
        print(result)
