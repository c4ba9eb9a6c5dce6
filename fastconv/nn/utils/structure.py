"""Networks taken apart: features of layers inside, parameters frozen by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from fastconv._values import shown
from fastconv.nn.module import Enough, Module, watching


class Features(Module):
    """What layers inside a network compute; what comes behind the last of them is not traced. See :func:`features`."""

    def __init__(self, net: Module, layers: dict[str, str], single: bool = False):
        super().__init__()
        self.net, self.single = net, single
        self.layers = tuple(layers.items())

    def forward(self, *inputs):
        wanted = {id(self.net.get_submodule(path)): path for path, _ in self.layers}
        found: dict[str, object] = {}

        def seen(module: Module, result) -> None:
            path = wanted.get(id(module))
            if path is not None and path not in found:
                found[path] = result
                if len(found) == len(self.layers):
                    raise Enough

        with watching(seen):
            try:
                self.net(*inputs)
            except Enough:
                pass
        missing = [path for path, _ in self.layers if path not in found]
        if missing:
            raise ValueError(f"features: the layer {missing[0]!r} is not called by forward()")
        return found[self.layers[0][0]] if self.single else {name: found[path] for path, name in self.layers}

    def extra_repr(self) -> str:
        return f"layers={[path for path, _ in self.layers]}"


def features(net: Module, layers: str | Sequence[str] | Mapping[str, str]) -> Features:
    """A network that gives the results of layers inside another, whose parameters it shares.

    Parameters
    ----------
    net : Module
    layers : str, sequence of str, or mapping
        Paths such as ``"layer3"`` or ``"features.7"``; a mapping gives each a name of its own. Of a layer that is called
        several times the first call counts.

    Returns
    -------
    Module
        Its ``forward`` returns a dict by name, or for a single str the result itself. Layers behind the last one wanted are
        not computed.

    Raises
    ------
    AttributeError
        Where a path leads to no module.
    TypeError, ValueError
        For paths that are none, or none at all; while tracing, for a layer that ``forward`` does not call.
    """
    if not isinstance(net, Module):
        raise TypeError(f"features: net is a {type(net).__name__}: expected a Module")
    single = isinstance(layers, str)
    named = {layers: layers} if isinstance(layers, str) else dict(layers) if isinstance(layers, Mapping) else \
        {path: path for path in layers}
    if not named:
        raise ValueError("features: layers is empty: expected one path at least")
    for path, name in named.items():
        if not isinstance(path, str) or not isinstance(name, str):
            raise TypeError(f"features: layers={shown(layers)}: expected paths of layers as str")
        net.get_submodule(path)
    return Features(net, named, single)


def freeze(net: Module, *patterns: str) -> list[str]:
    """Parameters that match are not trained any more; see :func:`unfreeze`.

    Parameters
    ----------
    net : Module
    patterns : str
        Paths of layers or names of parameters, with ``*``, ``?`` and ``[...]`` as in file names: ``"layer1"`` and
        ``"layer1.*"`` are all parameters below it, ``"*.bias"`` all biases. Without any, all parameters.

    Returns
    -------
    list of str
        The names of the parameters that match. Their gradients are not computed any more, nor is what only they needed.

    Raises
    ------
    TypeError, ValueError
        For a pattern that is no str, or that no parameter matches.
    """
    return _train("freeze", net, patterns, False)


def unfreeze(net: Module, *patterns: str) -> list[str]:
    """Parameters that match are trained again; arguments and result as for :func:`freeze`."""
    return _train("unfreeze", net, patterns, True)


def _train(op: str, net: Module, patterns: Sequence[str], trained: bool) -> list[str]:
    if not isinstance(net, Module):
        raise TypeError(f"{op}: net is a {type(net).__name__}: expected a Module")
    matching = {}
    for pattern in patterns or ("*",):
        if not isinstance(pattern, str):
            raise TypeError(f"{op}: pattern {shown(pattern)}: expected a str")
        found = {name: p for name, p in net.named_parameters()
                 if fnmatchcase(name, pattern) or fnmatchcase(name, pattern + ".*")}
        if not found:
            raise ValueError(f"{op}: no parameter matches {pattern!r}")
        matching.update(found)
    for parameter in matching.values():
        parameter.requires_grad = trained
    return [name for name, _ in net.named_parameters() if name in matching]
