"""Which algorithm computes a convolution: an ordered list, a cost model, and what the user or a measurement has named.

The choice depends on the problem, the precision and the instruction set, never on the number of threads; on the batch that
it is made for (``Lowering.choose_for``), not on the one that is planned or run.
"""

from __future__ import annotations

import logging
import os
from typing import NamedTuple

from fastconv._text import note
from fastconv._values import shown
from fastconv.graph.ir import Node
from fastconv.kernels.cpu import Cpu, cpu
from fastconv.lowering.choices import Choices
from fastconv.lowering.lower import PRECISIONS, Lowering
from fastconv.lowering.steps import Choice
from fastconv.ops.conv.problem import Problem

PASSES = ("forward", "backward_data", "backward_weight")
_algorithms: list[Algorithm] = []
log = logging.getLogger("fastconv")


class Algorithm:
    """One way to compute a convolution.

    The three ``lower_`` methods emit the steps of a node into the context; those that :meth:`refuses` excludes are never
    called.
    """

    name = ""
    fuses_backward_data = False  # whether lower_backward_data takes an epilogue (bias and so on of a transposed convolution)
    takes_cropped = False  # whether it serves problems that are cropped: see Problem

    @property
    def note(self) -> str:
        """What the reason for a choice should add."""
        return ""

    def refuses(self, which: str, p: Problem) -> str | None:
        """Why pass ``which`` of this problem is not for this algorithm, as the end of "does not apply: ..."; None: it is."""
        raise NotImplementedError

    def keeps(self, which: str, p: Problem, precision: str) -> str:
        """The promise that it keeps when ``precision`` is asked for: one of PRECISIONS."""
        return "highest"

    def cycles(self, which: str, p: Problem, cpu: Cpu, precision: str) -> float:
        """Estimated cycles of one core for the whole batch."""
        raise NotImplementedError

    def lower_forward(self, node: Node, p: Problem, cx: Lowering) -> None:
        """inputs: x, weight, [bias, [residual]]; see problem.epilogue."""
        raise NotImplementedError

    def lower_backward_data(self, node: Node, p: Problem, cx: Lowering) -> None:
        """inputs: gradient of the output, weight, and [bias, [residual]] where it fuses them."""
        raise NotImplementedError

    def lower_backward_weight(self, node: Node, p: Problem, cx: Lowering) -> None:
        """inputs: gradient of the output, x."""
        raise NotImplementedError


def promise(cx: Lowering) -> str:
    """The precision that was asked for, of the convolution being lowered."""
    if cx.choice is None:
        raise AssertionError("a convolution is lowered before its algorithm is chosen")
    return cx.choice.precision


class Candidate(NamedTuple):
    """An algorithm that applies, and what the cost model says of it."""

    cycles: float
    algorithm: Algorithm


def offer(algorithm: Algorithm) -> None:
    """Adds an algorithm to the list; of two that cost the same, the one offered first is taken."""
    _algorithms.append(algorithm)


def names() -> tuple[str, ...]:
    """The algorithms in order."""
    return tuple(a.name for a in _algorithms)


def refusal(a: Algorithm, which: str, p: Problem) -> str | None:
    """Why an algorithm is not for this pass of this problem, or None."""
    if p.cropped and not a.takes_cropped:
        return "not for an output_padding beyond the stride"
    return a.refuses(which, p)


def candidates(which: str, p: Problem, precision: str) -> list[Candidate]:
    """The algorithms that apply and keep the promise, the best first by the cost model."""
    machine, rank = cpu(), PRECISIONS.index(precision)
    found = [Candidate(a.cycles(which, p, machine, precision), a) for a in _algorithms
             if refusal(a, which, p) is None and PRECISIONS.index(a.keeps(which, p, precision)) <= rank]
    return sorted(found, key=lambda c: c.cycles)


def choose(which: str, node: Node, p: Problem, cx: Lowering) -> Algorithm:
    """The algorithm of a node: what was named where it applies, else what was measured, else the cost model's best.

    Sets ``cx.choice`` for the steps that follow. An algorithm that the user names is used though it may keep less than the
    precision asks for.
    """
    precision = node.attrs.get("precision") or cx.precision
    p.training = cx.training
    if cx.choose_for and which != "backward_weight":  # that one is a sum over the batch
        p.chosen = cx.choose_for
    planned, p = p.key(), p.as_chosen()
    asked, strict = cx.asked_algorithm(which, p.key(), precision)
    best = candidates(which, p, precision)
    chosen = best[0].algorithm
    why = "estimated Mcycles: " + ", ".join(f"{c.algorithm.name} {c.cycles / 1e6:.3g}" for c in best)
    if asked is not None:
        found = next((a for a in _algorithms if a.name == asked), None)
        reason = refusal(found, which, p) if found else f"there is no such algorithm; known are {', '.join(names())}"
        if found is not None and reason is None:
            chosen, why = found, "measured by tune()" if isinstance(cx.algorithm, Choices) else "named by the user"
        elif strict:
            usable = [a.name for a in _algorithms if refusal(a, which, p) is None]
            cx.refuse(f"algorithm={shown(asked)} does not apply to this problem; these do: {', '.join(usable)} "
                      f"({asked}: {reason})")
        else:
            why = f"{asked} does not apply ({reason}); {why}"
    why = f"{why}; {chosen.note}" if chosen.note else why
    keeps = PRECISIONS.index(chosen.keeps(which, p, precision)) <= PRECISIONS.index(precision)
    cx.chose(Choice(which, p.key(), precision, chosen.name, why, keeps))
    verbose = os.environ.get("FASTCONV_VERBOSE", "0") not in ("", "0")
    if verbose or log.isEnabledFor(logging.DEBUG):
        text = f"{node.op.name} {node.path!r} {planned} {precision}: {chosen.name} ({why})"
        log.debug("%s", text)
        if verbose:
            note(f"fastconv: {text}")
    return chosen
