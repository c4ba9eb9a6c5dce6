"""From nodes to steps: each operator's ``lower`` emits steps whose addresses are references to buffers.

Lifetimes follow from the references alone: a buffer lives from the first step that names it to the last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from fastconv.graph.ir import DENSE, ITEMSIZE, PIXELS, Graph, Tensor, building, fail
from fastconv.graph.parameter import Parameter
from fastconv.kernels import copy as copy_kernels
from fastconv.kernels import layout as layout_kernels
from fastconv.lowering.choices import Choices
from fastconv.lowering.memory import ARENA, CONSTANT, HANDED, PARAMETER, WEIGHTS, place
from fastconv.lowering.places import (
    Buffer,
    Ref,
    Strided,
    View,
    alike,
    channels,
    pixel_strides,
    pixels_like,
    pixels_per_image,
    row_major,
    slot_extents,
    slot_shape,
    spatial3,
)
from fastconv.lowering.steps import SEGMENTS, Choice, DoorSpec, StepSpec

PRECISIONS = ("highest", "high", "medium")  # what a convolution may promise, the strictest first


class Lowering:
    """The context that operators lower into.

    Parameters
    ----------
    graph : Graph
        With all its passes done.
    batch : int
        The planned batch.
    algorithm : str, dict, Choices or None
        What the user asked for: for all operators, by module path, or what has been measured by problem.
    precision : str
        One of PRECISIONS: the promise that algorithms must keep.
    choose_for : int, optional
        The batch for which algorithms are chosen; default the planned one.
    all_pass : bool, default False
        Whether arrays of every dtype pass slots; else those of float32 alone do, and callers write and read the others.
    """

    def __init__(self, graph: Graph, batch: int, algorithm: str | dict | Choices | None = None, precision: str = "highest",
                 choose_for: int | None = None, all_pass: bool = False):
        self.graph, self.batch, self.algorithm, self.precision = graph, batch, algorithm, precision
        self.all_pass = all_pass
        self.choose_for = choose_for
        self.training = any(node.segment != "forward" for node in graph.nodes)  # parameters change with every run
        self.choice: Choice | None = None  # of the node being lowered
        self.specs: dict[str, list[StepSpec]] = {segment: [] for segment in SEGMENTS}
        self.buffers: list[Buffer] = []
        self.slots: dict[str, layout_kernels.Slot] = {}
        self.placed: dict[Tensor, tuple[Tensor, int]] = {}  # tensor -> (concatenation, first channel)
        self.extra: dict[Any, Any] = {}  # what operators share across a graph (random state, targets)
        self.checks: list[Callable[[int], None]] = []  # called with the batch before a forward; may refuse it
        self.given: set[Buffer] = set()  # that callers write: graph inputs that pass no slot
        self.before_runs: list[tuple[Strided, tuple, bool, Callable]] = []  # what is done with such, before a forward
        self.after_runs: list[tuple[str, Ref, Callable]] = []  # by segment: two int64, a flag that steps raise, and a value
        self.changed: list[Parameter] = []  # what a forward writes: running statistics
        self.counters: list[Any] = []  # and the integer arrays that it counts up
        self.kept: set[Tensor] = set()  # tensors that users are handed, and may keep: gradients
        self._views: dict[Tensor, View] = {}
        self._strided: dict[Tensor, Strided] = {}  # tensors that are other tensors' bytes, under strides of their own
        self._padded: dict[tuple, View] = {}
        self._constant: dict[Tensor, bool] = {}
        self._read: set[Tensor] | None = None
        self._zeros: Buffer | None = None
        self._doors: list[tuple[Tensor, View, DoorSpec]] = []
        self._unread: list[tuple[Tensor, StepSpec, dict]] = []
        self._node: Any = None  # the Node being lowered
        self._images: int | None = None  # and its first extent, where that is not the batch

    # ---- called by operators -------------------------------------------------------------------------------------

    def read(self, tensor: Tensor) -> View:
        """Where an input lies."""
        view = self._views.get(tensor)
        if view is None:
            view = self._views[tensor] = self._settle(tensor) if tensor in self._strided else self._enter(tensor)
        return view

    def view(self, tensor: Tensor, write: bool = False) -> Strided:
        """Where a tensor of any layout lies, or goes: nothing is copied."""
        if not write and tensor in self._strided:
            return self._strided[tensor]
        view = self.write(tensor) if write else self.read(tensor)
        if tensor.layout == PIXELS:
            return Strided(view.ref, pixel_strides(tensor.shape, view.ld), tensor.dtype)
        return Strided(view.ref, row_major(tensor.shape), tensor.dtype)

    def alias_view(self, tensor: Tensor, ref: Ref, strides: Sequence[int]) -> None:
        """Says that an output is another tensor's bytes, under these strides."""
        strides = tuple(strides)
        if tensor in self.placed or tensor in self.kept:
            self.copy(Strided(ref, strides, tensor.dtype), self.view(tensor, True), tensor.shape, tensor.batched)
            return
        natural = self._natural(tensor, strides)
        if natural is not None:
            self._views[tensor] = View(ref, natural)
        self._strided[tensor] = Strided(ref, strides, tensor.dtype)

    def _natural(self, tensor: Tensor, strides: tuple[int, ...]) -> int | None:
        """The pixel stride under which these strides are those of the tensor's layout; None where they are not."""
        if tensor.layout != PIXELS:
            return 0 if alike(tensor.shape, strides, row_major(tensor.shape)) else None
        return pixels_like(tensor.shape, strides)

    def _settle(self, tensor: Tensor) -> View:
        """A tensor that lies under strides of its own, copied into its layout."""
        source, before = self._strided.pop(tensor), (self._node, self._images)
        if self._node is None or self.is_constant(tensor):  # in the segment that makes it
            self._node, self._images = tensor.node, None
        view = self.write(tensor)
        self.copy(source, self.view(tensor, True), tensor.shape, tensor.batched)
        self._node, self._images = before
        return view

    def copy(self, source: Strided, target: Strided, shape: Sequence[int], batched: bool, op: str = "copy") -> None:
        """Emits the copy between two places of one shape, converted where their dtypes differ."""
        if prod(shape):
            self.step(copy_kernels.copy, x=tuple(source), y=tuple(target), shape=tuple(shape), batched=batched, op=op,
                      info={"input": tuple(shape), "output": tuple(shape)}).images = None

    def fill(self, tensor: Tensor, value: float) -> None:
        """Emits what makes every element of an output this number."""
        one = Strided(self.constant(np.array([value], tensor.dtype)), (0,) * tensor.ndim, tensor.dtype)
        self.copy(one, self.view(tensor, True), tensor.shape, tensor.batched, op="fill")

    def constant(self, array: np.ndarray) -> Ref:
        """Where numbers lie that the plan brings along."""
        buffer = Buffer(array.nbytes, CONSTANT, "constant", value=array)
        self.buffers.append(buffer)
        return buffer.at()

    def write(self, tensor: Tensor, ld: int | None = None) -> View:
        """Where an output goes: its own buffer, or its channels of a concatenation."""
        view = self._views.get(tensor)
        if view is not None:
            return view
        if tensor in self.placed:
            parent, channel = self.placed[tensor]
            whole = self.write(parent)
            view = View(whole.ref.plus(channel), whole.ld)
        elif tensor.layout != PIXELS:
            view = View(self._memory(tensor.type.nbytes, tensor).at(), 0)
        else:
            ld = ld or channels(tensor.shape)
            view = View(self._memory(ITEMSIZE[tensor.dtype] * ld * self.pixels(tensor), tensor).at(), ld)
        self._views[tensor] = view
        return view

    def alias(self, tensor: Tensor, view: View) -> None:
        """Says that an output is another tensor's bytes."""
        self._views[tensor] = view

    def pixels(self, tensor: Tensor) -> int:
        """Pixels of an activation at the planned batch."""
        return tensor.shape[0] * pixels_per_image(tensor.shape)

    def padded(self, tensor: Tensor, low: tuple[int, int, int], high: tuple[int, int, int]) -> View:
        """A copy of an activation inside a border of zeros; of a graph input straight from the user's array."""
        key = (tensor, low, high)
        view = self._padded.get(key)
        if view is None:
            size = spatial3(tensor.shape)
            outer = tuple(s + a + b for s, a, b in zip(size, low, high, strict=True))
            c = channels(tensor.shape)
            target = self.temp(4 * c * tensor.shape[0] * prod(outer), "padded")
            keywords: dict[str, Any] = {"channels": c, "size": size, "ld": c, "halo": low, "padded": outer}
            if tensor.node is None and tensor.parameter is None:
                self.step(layout_kernels.to_channels_last, self.slot(tensor), target, op="input",
                          segment=self._door_segment(tensor), **keywords)
            else:
                source = self.read(tensor)
                self.step(_pad, source.ref, target, source_ld=source.ld, op="pad", **keywords)
            view = self._padded[key] = View(target, c)
        return view

    def temp(self, nbytes: int, name: str = "temp") -> Ref:
        """Scratch that lives as long as steps name it."""
        buffer = Buffer(max(nbytes, 4), ARENA if self._segment() != "prepare" else WEIGHTS, name)
        self.buffers.append(buffer)
        return buffer.at()

    def packed(self, nbytes: int, *sources: Tensor) -> tuple[Ref, str]:
        """Memory for something made from parameters, and the segment that makes it.

        When all sources are constant between updates, it is made once per version (``prepare``) and kept.
        """
        constant = all(self.is_constant(t) for t in sources if t is not None)
        buffer = Buffer(max(nbytes, 4), WEIGHTS if constant else ARENA, "packed")
        self.buffers.append(buffer)
        return buffer.at(), "prepare" if constant else self._segment()

    def zeros(self, count: int) -> Ref:
        """A row of at least ``count`` floats that are zero and are never written."""
        if self._zeros is None:
            self._zeros = Buffer(0, WEIGHTS, "zeros")
            self.buffers.append(self._zeros)
        self._zeros.nbytes = max(self._zeros.nbytes, 4 * count + 64)
        return self._zeros.at()

    def persistent(self, nbytes: int, name: str) -> Ref:
        """Zeroed memory that keeps its contents from run to run."""
        buffer = Buffer(max(nbytes, 4), WEIGHTS, name)
        self.buffers.append(buffer)
        return buffer.at()

    def own(self, nbytes: int, name: str) -> Ref:
        """Zeroed memory that keeps its contents from run to run, and that no clone shares."""
        buffer = Buffer(max(nbytes, 4), HANDED, name)
        self.buffers.append(buffer)
        return buffer.at()

    @property
    def own_bytes(self) -> int:
        """Bytes of the memory that no clone shares, beside the arena."""
        return sum(b.nbytes for b in self.buffers if b.kind == HANDED)

    def before(self, tensor: Tensor, check: Callable) -> bool:
        """Has ``check``, which may refuse them, called with the values of an integer input before each forward; False, and
        nothing is done, where the tensor is no input."""
        operand = self.view(tensor)
        if operand.ref.buffer not in self.given:
            return False
        self.before_runs.append((operand, tensor.shape, tensor.batched, check))
        return True

    def after(self, flag: Ref, report: Callable) -> None:
        """Has ``report``, which raises, called with a value that a step of this segment has left behind a flag."""
        self.after_runs.append((self._segment(), flag, report))

    @property
    def plain(self) -> bool:
        """Whether a forward is its steps and nothing else, but for flags that steps raise."""
        return not (self.checks or self.changed or self.before_runs)

    def passes(self, tensor: Tensor) -> bool:
        """Whether arrays of an input or output pass a slot."""
        return self.all_pass or tensor.dtype == "float32"

    def slot(self, tensor: Tensor) -> layout_kernels.Slot:
        """The slot through which a graph input or output reaches the user's array."""
        return self.slots.setdefault(tensor.name, layout_kernels.Slot())

    def expect(self, name: str, tensor: Tensor, only: int | None = None) -> None:
        """Says which arrays the slot of this name takes."""
        self.slots[name].expect(slot_extents(tensor), tensor.batched, only=only, dtype=tensor.dtype,
                                row_major=tensor.layout == DENSE or tensor.dtype != "float32")

    def step(self, factory: Callable, *arguments, op: str = "", algorithm: str = "", segment: str | None = None,
             info: dict | None = None, **keywords) -> StepSpec:
        """Emits a step of the node being lowered. References among the arguments are resolved when it is bound."""
        node = self._node
        if self.choice and info:
            algorithm = algorithm or self.choice.algorithm
        spec = StepSpec(factory, arguments, keywords, segment or self._segment(), node.path if node else "",
                        op or (node.op.name if node else ""), algorithm, info or {}, self.choice, node, self._images)
        self.specs[spec.segment].append(spec)
        return spec

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether a tensor depends on parameters alone."""
        known = self._constant.get(tensor)
        if known is None:
            if tensor.node is None:
                known = tensor.parameter is not None or tensor.value is not None
            else:
                inputs = [t for t in tensor.node.inputs if t is not None]
                known = bool(inputs) and not tensor.node.attrs.get("effect") and all(map(self.is_constant, inputs))
            self._constant[tensor] = known
        return known

    def is_read(self, tensor: Tensor) -> bool:
        """Whether anything asks for the values of a tensor that a node makes."""
        if self._read is None:
            inputs = (t for node in self.graph.nodes for t in node.inputs if t is not None)
            self._read = {*inputs, *self.graph.outputs, *self.graph.roots, *self.kept}
        return tensor in self._read

    def asked_algorithm(self, which: str, problem: str, precision: str) -> tuple[str | None, bool]:
        """The algorithm that was named for this node, None where none was, and whether it is an error if it does not apply.

        A name for one operator must apply; one for a whole network, or for a forward whose gradient this is, is a wish.
        """
        attrs, asked = self._node.attrs, self.algorithm
        if attrs.get("algorithm") is not None:
            return attrs["algorithm"], not attrs.get("wish")
        if isinstance(asked, Choices):
            return asked.find(which, problem, precision), False
        if isinstance(asked, dict):
            named = asked.get(self._node.path)
            return (named.get(which), True) if isinstance(named, dict) else (named, which == "forward")
        return asked, False

    def chose(self, choice: Choice) -> None:
        """The algorithm of the node being lowered, for the steps that follow."""
        self.choice = choice

    def refuse(self, message: str) -> None:
        """Raises the house's error for the node being lowered."""
        with building(self.graph, self._node.path):
            fail(self._node.op.name, message)

    # ---- the graph ------------------------------------------------------------------------------------------------

    def run(self) -> Lowering:
        """Lowers the whole graph, entries and exits included, and plans the memory."""
        if isinstance(self.algorithm, dict):
            paths = {node.path for node in self.graph.nodes}
            unknown = [path for path in self.algorithm if path not in paths]
            if unknown:
                raise ValueError(f"algorithm={self.algorithm!r}: no operator has the path {unknown[0]!r}")
        for tensor in self.graph.inputs:
            if tensor.layout != PIXELS or tensor.dtype != "float32":  # written by the caller, whether or not a node reads it
                self._enter(tensor)
        for node in self.graph.nodes:
            self._node, self.choice = node, None
            self._images = None if node.op.general and not node.op.pointwise else next(
                (t.shape[0] for t in (*node.outputs, *node.inputs) if t is not None and t.type.fixed), None)
            if node.outputs and all(prod(t.shape) == 0 for t in node.outputs) and not node.attrs.get("effect"):
                for tensor in node.outputs:  # there is nothing to compute
                    self.write(tensor)
            else:
                node.op.lower(node, self)
        self._node = self.choice = self._images = None
        return self

    def exit(self, tensor: Tensor, segment: str, name: str) -> None:
        """Moves a tensor into the user's array of the slot of this name."""
        self._node = None
        if tensor.layout == PIXELS and tensor.dtype != "float32":
            raise RuntimeError(f"{tensor}: pixels of {tensor.dtype} pass no slot")
        view = self.read(tensor)
        slot = self.slots.setdefault(name, layout_kernels.Slot())
        if prod(tensor.shape) == 0:
            return
        if tensor.layout != PIXELS:
            step = self.step(copy_kernels.strided, slot, view.ref, shape=slot_shape(tensor), reverse=True,
                             dtype=tensor.dtype, op="output", segment=segment)
        else:
            step = self.step(layout_kernels.from_channels_last, slot, view.ref, channels=channels(tensor.shape),
                             size=spatial3(tensor.shape), ld=view.ld, op="output", segment=segment)
        self._doors.append((tensor, view, DoorSpec(slot, step, view.ref.buffer, False)))

    def keep_until_read(self, tensor: Tensor) -> Ref:
        """Where the values of an output that passes no slot are found after a run."""
        self._node = None
        source, shape = self.view(tensor), tensor.shape
        target = Strided(self.own(tensor.type.nbytes, f"read {tensor.name}"), row_major(shape), tensor.dtype)
        self.copy(source, target, shape, tensor.batched)
        return target.ref

    def drop_unread(self, tensor: Tensor, step: StepSpec, **changes) -> None:
        """Has the step that makes a tensor changed so that it does not, if nothing else turns out to read its memory."""
        self._unread.append((tensor, step, changes))

    def _drop(self, tensor: Tensor, step: StepSpec, changes: dict) -> None:
        buffer = self._views[tensor].ref.buffer
        others = (ref for specs in self.specs.values() for spec in specs if spec is not step for ref in spec.refs())
        if buffer.kind == ARENA and all(ref.buffer is not buffer for ref in others):
            step.keywords.update(changes)
            self.buffers.remove(buffer)
            del self._views[tensor]

    def finish(self) -> None:
        """Lifetimes and offsets: forward, backward and update are one time line."""
        for tensor, step, changes in self._unread:
            self._drop(tensor, step, changes)
        self.arena_bytes, self.weights_bytes = place([self.specs[segment] for segment in SEGMENTS], self.buffers)

    def doors(self, across: bool) -> list[DoorSpec]:
        """Those whose buffer is one tensor and passes one door only, so that an array can take its place; an input's also
        where it, or a part of it, is an output, which is copied from there.

        An input that a later segment reads must then live until that has run; ``across`` says that it does. Outputs are used
        by their own segment alone.
        """
        passing = Counter(id(view.ref.buffer) for _, view, _ in self._doors)
        entering = Counter(id(door.buffer) for _, _, door in self._doors if door.into)
        users, found = self.users(), []
        for tensor, view, door in self._doors:
            buffer = door.buffer
            dense = view.ref.offset == 0 and (tensor.layout != PIXELS or view.ld == channels(tensor.shape))
            if buffer.kind != ARENA or not dense or buffer.nbytes != tensor.type.nbytes or \
                    passing[id(buffer)] > 1 and not (door.into and entering[id(buffer)] == 1):
                continue
            if not (across and door.into) and any(segment != door.step.segment for segment, _, _ in users[id(buffer)]):
                continue
            found.append(door)
        return found

    def users(self) -> dict[int, list[tuple[str, int, int]]]:
        """By the ids of buffers, the steps that name them: segment, place in it, how many times."""
        found: dict[int, list[tuple[str, int, int]]] = {}
        for segment, specs in self.specs.items():
            for i, spec in enumerate(specs):
                for buffer, times in Counter(id(ref.buffer) for ref in spec.refs()).items():
                    found.setdefault(buffer, []).append((segment, i, times))
        return found

    def weights_layout(self) -> list[tuple[str, int, int]]:
        """Name, size and offset of everything that is kept from run to run: equal for lowerings that may share it."""
        return [(b.name, b.nbytes, b.offset) for b in self.buffers if b.kind == WEIGHTS]

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _segment(self) -> str:
        if self._node is None:
            return "forward"
        if all(map(self.is_constant, self._node.outputs)) and self._node.segment == "forward":
            return "prepare"
        return self._node.segment

    def _door_segment(self, tensor: Tensor) -> str:
        """Users' inputs are read during forward (later the array may be gone), gradients of outputs during backward."""
        return "backward" if tensor in self.graph.late_inputs else "forward"

    def _memory(self, nbytes: int, tensor: Tensor) -> Buffer:
        constant = self.is_constant(tensor) and self._segment() == "prepare"
        name = tensor.name or (f"{tensor.node.path or tensor.node.op.name}" if tensor.node else "")
        buffer = Buffer(max(nbytes, 4), HANDED if tensor in self.kept else WEIGHTS if constant else ARENA, name)
        self.buffers.append(buffer)
        return buffer

    def _enter(self, tensor: Tensor) -> View:
        """A parameter, or a graph input brought in through the door."""
        if tensor.parameter is not None:
            buffer = Buffer(4 * prod(tensor.shape), PARAMETER, tensor.name, tensor.parameter)
            self.buffers.append(buffer)
            view = View(buffer.at(), 0)
        elif tensor.value is not None:
            buffer = Buffer(tensor.type.nbytes, CONSTANT, tensor.name, value=tensor.value)
            self.buffers.append(buffer)
            view = View(buffer.at(), 0)
        elif tensor.node is not None:
            raise RuntimeError(f"{tensor} is read before it is written")
        elif not self.passes(tensor):
            view = View(self.own(tensor.type.nbytes, tensor.name), channels(tensor.shape))
            self.given.add(view.ref.buffer)
        else:
            segment = self._door_segment(tensor)
            slot = self.slot(tensor)
            (node, images), (self._node, self._images) = (self._node, self._images), (None, None)
            view = self.write(tensor)
            if prod(tensor.shape) == 0:
                self._node, self._images = node, images
                return view
            if tensor.layout != PIXELS or tensor.dtype != "float32":
                step = self.step(copy_kernels.strided, slot, view.ref, shape=slot_shape(tensor), dtype=tensor.dtype,
                                 op="input", segment=segment)
            else:
                step = self.step(layout_kernels.to_channels_last, slot, view.ref, ld=view.ld, op="input",
                                 channels=channels(tensor.shape), size=spatial3(tensor.shape), segment=segment)
            self._doors.append((tensor, view, DoorSpec(slot, step, view.ref.buffer, True)))
            self._node, self._images = node, images
        self._views[tensor] = view
        return view


def _pad(source: int, target: int, *, source_ld: int, channels: int, size, ld: int, halo, padded):
    """A step that copies a channels-last buffer into a larger one with a border of zeros."""
    d, h, w = size
    slot = layout_kernels.Slot()
    slot.set(source, d * h * w * source_ld, 1, h * w * source_ld, w * source_ld, source_ld)
    return layout_kernels.to_channels_last(slot, target, channels=channels, size=size, ld=ld, halo=halo, padded=padded)
