"""The table of networks; each network remembers how it was made."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

from fastconv.graph.traced import About
from fastconv.nn import Module
from fastconv.nn.describe import made, plain

NETWORKS: dict[str, Callable[..., Module]] = {}


def network(function: Callable[..., Module]) -> Callable[..., Module]:
    """Adds a constructor to the table.

    What it makes has an attribute ``network``, ``{"name": ..., "arguments": {...}}``: what a model file needs for the
    network to be rebuilt.

    Whatever is replaced later is found by comparison when it is saved: :mod:`fastconv.nn.describe`.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def build(*arguments, **keywords):
        module = function(*arguments, **keywords)
        bound = signature.bind(*arguments, **keywords)
        bound.apply_defaults()
        module.network = About(name=function.__name__, arguments=plain(bound.arguments))
        made(module, **module.network)
        return module

    NETWORKS[function.__name__] = build
    return build
