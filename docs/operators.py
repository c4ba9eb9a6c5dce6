"""Writes docs/operators.md, the table of what fastconv computes, from its public names: python docs/operators.py"""

import inspect
import re
from pathlib import Path

import fastconv
from fastconv import functional, nn
from fastconv.graph.ir import Tensor

PAGE = Path(__file__).with_name("operators.md")
HEAD = """# Operators

What `fastconv.nn` has as modules and `fastconv.functional` as functions on arrays. Names, arguments and defaults are
PyTorch's. Functions work on NumPy arrays and, inside a `forward`, on what is traced; a column says which functions compute
the gradients on arrays (a network's are made by `compile(training=True)` and `Trainer`). `N` stands for 1, 2 and 3
dimensions. This page is written from the code by `python docs/operators.py`; signatures and details are in the
[API reference](api.rst), what differs from PyTorch in [coming from PyTorch](porting.md).
"""
SYMBOLS = {  # of traced tensors: what is said of a method that is there
    "__add__": "`x + y`, `x + 1.0`", "__sub__": "`x - y`", "__mul__": "`x * y`, `x * 2.0`", "__neg__": "`-x`",
    "__truediv__": "`x / 2.0`", "__getitem__": "`x[...]`", "__len__": "`len(x)`", "shape": "`x.shape`",
    "size": "`x.size(dim)`", "flatten": "`x.flatten(start_dim, end_dim)`", "view": "`x.view(...)`",
    "reshape": "`x.reshape(...)`"}


def key(name: str) -> str:
    """max_pool2d and MaxPool2d, cross_entropy and CrossEntropyLoss are one operator, of any number of dimensions."""
    return re.sub(r"[123]d$", "Nd", name).replace("_", "").lower().removesuffix("loss").removesuffix("nd")


def names(found: list[str]) -> str:
    """`conv1d`, `conv2d`, `conv3d` as `convNd`, where all three are there."""
    every = [re.sub(r"[123]d(?=_|$)", "Nd", name) for name in found]
    kept = [every[i] if every.count(every[i]) == 3 else name for i, name in enumerate(found)]
    return ", ".join(f"`{name}`" for name in dict.fromkeys(kept))


def arguments(names: list[str], of) -> str:
    """The parameters behind the operands, with their defaults."""
    if not names:
        return ""
    shown = [p for p in inspect.signature(getattr(of, names[-1])).parameters.values() if p.name != "self"]
    return ", ".join(str(p).split(":")[0] if p.default is p.empty else f"{p.name}={p.default!r}" for p in shown)


def table() -> list[str]:
    modules = [n for n in nn.__all__ if inspect.isclass(getattr(nn, n)) and issubclass(getattr(nn, n), nn.Module)]
    modules = [n for n in modules if n not in ("Module", "ModuleDict", "ModuleList", "Sequential")]
    functions = [n for n in functional.__all__ if inspect.isfunction(getattr(functional, n)) and n != "gradcheck"]
    rows: dict[str, tuple[list, list, list]] = {}
    for name in functions:
        forward, _, _ = name.partition("_backward")
        rows.setdefault(key(forward), ([], [], []))[2 if "_backward" in name else 1].append(name)
    for name in modules:
        of = rows.setdefault("pad" if key(name).endswith("pad") and "pad" in rows else key(name), ([], [], []))
        of[0].append(name)
    lines = ["| module | function | gradients on arrays | arguments |", "|---|---|---|---|"]
    for of_modules, of_functions, gradients in (rows[k] for k in sorted(rows)):
        said = arguments(of_functions, functional) or arguments(of_modules, nn)
        cells = [names(sorted(of_modules)), names(of_functions), names(gradients), f"`{said}`" if said else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def page() -> str:
    traced = [text for name, text in SYMBOLS.items() if hasattr(Tensor, name)]
    zoo = ", ".join(f"`{name}`" for name in fastconv.zoo.NETWORKS)
    rules = [n for n in fastconv.optim.__all__ if inspect.isclass(getattr(fastconv.optim, n))]
    return "\n".join([HEAD, *table(), "", f"On traced tensors, inside a `forward`: {', '.join(traced)}.", "",
                      "Containers: `Sequential`, `ModuleList`, `ModuleDict`, and modules of one's own.", "",
                      f"Update rules and schedules (`fastconv.optim`): {', '.join(f'`{n}`' for n in rules)}.", "",
                      f"Networks (`fastconv.zoo`): {zoo}.", ""])


if __name__ == "__main__":
    PAGE.write_text(page())
