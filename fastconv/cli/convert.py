"""``fastconv convert``."""

from __future__ import annotations

import json
import os

from fastconv._arguments import UsageError, command, extent, whole
from fastconv._text import printable

ENDINGS = (".onnx", ".safetensors", ".npz", ".pt", ".pth", ".bin")


def add(commands) -> None:
    parser = command(commands, "convert", run, "write a network or its weights in another format", threads=False,
                     precision=False)
    parser.add_argument("source", help="an ONNX model, a model file of fastconv, or weights (.safetensors, .npz, .pth, "
                        ".keras, .h5)")
    parser.add_argument("target", help="the file to write: .onnx, .safetensors, .npz or .pth, by its ending")
    parser.add_argument("--network", metavar="NAME", help="the network of fastconv.zoo that weights belong to")
    parser.add_argument("--num-classes", type=whole, metavar="N", help="of --network (default: what its weights have)")
    parser.add_argument("--input-size", type=extent, metavar="SIZE", help="height and width of an input, for .onnx "
                        "(default: the model's, or the network's usual one; any, where an ONNX model takes any)")
    parser.add_argument("--force", action="store_true", help="write over a file that is there")


def run(arguments) -> None:
    """Reads one file, writes the other."""
    from fastconv.interop.native import save
    from fastconv.interop.weights import read_weights, write_weights

    source, target = arguments.source, arguments.target
    endings = [os.path.splitext(name)[1].lower() for name in (source, target)]
    if endings[1] not in ENDINGS:
        raise UsageError(f"target {target!r}: expected a file of one of the endings {', '.join(ENDINGS)}")
    if os.path.exists(target) and not arguments.force:
        raise FileExistsError(f"{target!r} is there already: --force writes over it")
    if os.path.isdir(source):
        raise IsADirectoryError(f"cannot read {source!r}: it is a directory")
    read = _as_read(arguments, endings)
    model = _network(arguments, endings[0]) if read is None else None
    if read is not None:
        save(read, target)
        count = len(read.state_dict())
    elif model is not None:
        shape = {i.name: ((1, *model.shape), i.dtype) for i in model.network.inputs} if \
            hasattr(model.network, "input_names") else (1, *model.shape)
        save(model.network, target, shape)
        count = len(model.network.state_dict())
    elif endings[1] == ".onnx":
        raise UsageError(f"{source!r} holds weights alone: --network says which network of fastconv.zoo they belong to")
    else:
        weights = read_weights(source)
        write_weights(target, weights)
        count = len(weights)
    if arguments.json:
        print(json.dumps({"source": source, "target": target, "arrays": count, "bytes": os.path.getsize(target)}))
    else:
        print(printable(f"{target}: {count} arrays, {os.path.getsize(target):,} bytes"))


def _as_read(arguments, endings: list[str]):
    """An ONNX model that is written without being traced, whatever inputs it takes: as it is, or its weights."""
    if endings[0] != ".onnx" or not os.path.isfile(arguments.source) or arguments.network or arguments.input_size:
        return None
    from fastconv.interop.onnx import load_onnx
    from fastconv.interop.onnx.kept import as_read

    network = load_onnx(arguments.source)
    return network if endings[1] != ".onnx" or as_read(network) is not None else None


def _network(arguments, ending: str):
    """The network of the source; None where it holds weights alone."""
    from fastconv import zoo
    from fastconv._model import open_model
    from fastconv.interop.weights import KERAS, read_weights
    from fastconv.train.files import load_metadata
    from fastconv.train.model import NETWORK

    source = arguments.source
    if arguments.network is None:
        if not os.path.exists(source) and source in zoo.NETWORKS:
            return open_model(source, arguments.input_size)
        others = (*ENDINGS[2:], *KERAS)
        if ending == ".onnx" or ending not in others and os.path.isfile(source) and NETWORK in load_metadata(source):
            return open_model(source, arguments.input_size)
        return None
    if arguments.network not in zoo.NETWORKS:
        raise UsageError(f"--network {arguments.network}: expected one of {', '.join(sorted(zoo.NETWORKS))}")
    weights = read_weights(source)
    classes = arguments.num_classes or list(weights.values())[-1].shape[0]
    from fastconv._model import Model
    from fastconv._recipes import recipe

    network = zoo.create(arguments.network, num_classes=int(classes))
    if ending in KERAS:
        from fastconv.interop.keras import load_keras

        load_keras(network, source)
    else:
        counts = {k: v for k, v in network.state_dict().items() if "num_batches_tracked" in k}
        network.load_state_dict({**counts, **weights})
    known = recipe(arguments.network)
    size = arguments.input_size or (known.size, known.size)
    channels = next(m.in_channels for m in network.modules() if hasattr(m, "in_channels"))
    return Model(arguments.network, network, (channels, *size), None, True)
