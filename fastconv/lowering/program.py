"""A lowered graph bound to memory: the tape. Its runs allocate nothing."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fastconv.graph import parameter as parameters
from fastconv.graph.ir import ITEMSIZE
from fastconv.graph.parameter import Parameter
from fastconv.kernels._runtime import Memory, StepList
from fastconv.kernels.call import Door
from fastconv.kernels.locks import Lock
from fastconv.kernels.threads import threads_for
from fastconv.lowering.lower import Lowering
from fastconv.lowering.memory import ARENA, CONSTANT, HANDED, WEIGHTS
from fastconv.lowering.places import Buffer, Ref, Strided
from fastconv.lowering.steps import SEGMENTS, DoorSpec

# Upper 24 bits of addresses that stand for buffers, and how many there are: of no memory, and, seen as the constants that
# lie among a step's addresses, of no number either, but of signalling NaNs, which neither arithmetic nor conversions give.
STAND_IN, STAND_INS = 0x7FF001, 1024
MAPPED, PAGE = 4 << 20, 2 << 20  # bytes: from there on memory is a mapping, of such pages


class Snapshot(dict):
    """The parameters that frozen programs are bound to, by the ids of those that were traced: (traced, bound).

    ``copied``: they are copies; else the traced ones themselves, which nobody else has.
    """

    def __init__(self, copied: bool):
        super().__init__()
        self.copied = copied

    def take(self, parameter: Parameter) -> None:
        if id(parameter) not in self:  # it is kept itself, too: no other may take its id
            self[id(parameter)] = parameter, Parameter(parameter.data) if self.copied else parameter


class Program:
    """Bound steps by segment, with an arena of its own.

    Parameters
    ----------
    lowered : Lowering
        Finished (:meth:`Lowering.finish`).
    shared : Program, optional
        Another binding of the same lowering whose packed weights this one uses.
    snapshot : Snapshot, optional
        Bind to its parameters, once and for all; those that it lacks it takes.
    across : bool, default False
        Whether the arrays of a run live, unchanged, through all of its segments, not only through the first.
    """

    def __init__(self, lowered: Lowering, shared: Program | None = None, snapshot: Snapshot | None = None,
                 across: bool = False):
        self.lowered: Lowering
        self.weights: Memory
        self._snapshot: Snapshot | None
        self._packing: Lock
        self._versions: list[Any]
        if shared is not None and lowered.weights_layout() != shared.lowered.weights_layout():
            raise RuntimeError("a program can share packed weights only with another of the same lowering")
        self.lowered = lowered
        self.arena = Memory(lowered.arena_bytes)
        self._handed = {id(b): Memory(b.nbytes) for b in lowered.buffers if b.kind == HANDED}
        self._snapshot = shared._snapshot if shared else snapshot
        self.weights = shared.weights if shared else Memory(lowered.weights_bytes)
        self._packing = shared._packing if shared else Lock("packing of weights")  # clones run in threads of their own
        self.parameters = list({id(b.parameter): b.parameter for b in lowered.buffers if b.parameter}.values())
        if self._snapshot is not None:
            for p in self.parameters:
                self._snapshot.take(p)
        self._versions = shared._versions if shared else [None, -1]  # epoch, sum of versions: shared with the weights
        self._bind_all(lowered.doors(across))
        self._before = [(self.strided(operand, shape), batched, check)
                        for operand, shape, batched, check in lowered.before_runs]
        self.flags = [(segment, self.array(flag, (2,), np.int64), report) for segment, flag, report in lowered.after_runs]
        self.threads = 0
        self.gradients: list[tuple[Parameter, np.ndarray]] = []
        self._prepare = self.segments["prepare"]

    def _bind_all(self, specs: Sequence[DoorSpec]) -> None:
        """Binds all segments, with addresses for the doors' buffers that no memory has, by which their users are found.

        A door that a step knows in some other way than by an address is left as a copy.
        """
        self._stand_ins = {id(d.buffer): (STAND_IN + i) << 40 for i, d in enumerate(specs[:STAND_INS])}
        self.segments = {name: self._bind(name) for name in SEGMENTS}
        self.doors: dict[str, list[Door]] = {name: [] for name in SEGMENTS}
        self._behind: list[tuple[Door, Buffer]] = []
        found, missed, users = [], set(), self.lowered.users()
        at = {id(s): i for specs_of in self.lowered.specs.values() for i, s in enumerate(specs_of)}
        for spec in specs[:STAND_INS]:
            base, segment = self._stand_ins[id(spec.buffer)], spec.step.segment
            door = Door(spec.slot, self.segments[segment], at[id(spec.step)], self.arena.address + spec.buffer.offset, base,
                        1 << 40)
            for name, i, expected in users[id(spec.buffer)]:
                if door.find(self.segments[name], i) < expected:
                    missed.add(id(spec.buffer))
            found.append((segment, door))
            self._behind.append((door, spec.buffer))
        if missed:
            self._bind_all([d for d in specs if id(d.buffer) not in missed])
            return
        self._stand_ins = {}
        for segment, door in found:
            door.release(self.lowered.batch)
            self.doors[segment].append(door)

    def settle(self, segments: Sequence[str], n: int) -> None:
        """Has the arrays that the slots point to used in place where they lie as the plan wants them, for the coming runs of
        these segments on ``n`` images; without it, all are copied."""
        for segment in segments:
            self.segments[segment].set_batch(n)
        for segment in segments:
            for door in self.doors[segment]:
                door.settle(n)

    @property
    def prepared(self) -> bool:
        """Whether a forward has nothing to pack, now and later."""
        return not self.lowered.specs["prepare"] or not self.parameters and self._versions[1] == 0

    @property
    def touched(self) -> int:
        """Bytes of the arena that runs have used: pages of a mapping behind doors at which all arrays were bound are not."""
        whole, end, total = self.lowered.arena_bytes, 0, 0
        if whole < MAPPED or not self._behind:
            return whole
        never = {id(buffer) for door, buffer in self._behind if not door.used}
        for buffer in sorted((b for b in self.lowered.buffers if b.kind == ARENA and id(b) not in never),
                             key=lambda b: b.offset):
            low, high = buffer.offset // PAGE * PAGE, -(-(buffer.offset + buffer.nbytes) // PAGE) * PAGE
            total += max(0, high - max(low, end))
            end = max(end, high)
        return min(total, whole)

    def release(self, n: int) -> None:
        """Has everything copied again."""
        for doors in self.doors.values():
            for door in doors:
                door.release(n)

    def _bind(self, segment: str) -> StepList:
        steps = []
        for spec in self.lowered.specs[segment]:
            arguments = [self.resolve(a) for a in spec.arguments]
            keywords = {key: self.resolve(a) for key, a in spec.keywords.items()}
            steps.append(spec.factory(*arguments, **keywords))
            if spec.images is not None:
                steps[-1].images = spec.images
        return StepList(steps, self.lowered.batch)

    def resolve(self, value):
        """Addresses for references, also for those in lists and tuples; other values as they are."""
        if isinstance(value, Ref):
            return self.address(value.buffer) + value.offset
        if isinstance(value, (list, tuple)):
            return type(value)(self.resolve(v) for v in value)
        return value

    def address(self, buffer: Buffer) -> int:
        if buffer.kind == ARENA:
            return self._stand_ins.get(id(buffer)) or self.arena.address + buffer.offset
        if buffer.kind == WEIGHTS:
            return self.weights.address + buffer.offset
        if buffer.kind == HANDED:
            return self._handed[id(buffer)].address
        if buffer.kind == CONSTANT:
            return buffer.value.ctypes.data  # type: ignore[union-attr]  # its kind says that it has one
        if self._snapshot is not None:
            return self._snapshot[id(buffer.parameter)][1].address
        return buffer.parameter.address  # type: ignore[union-attr]  # its kind says that it has one

    def array(self, ref: Ref, shape, dtype=np.float32) -> np.ndarray:
        """A view of planned memory, which it keeps alive: all of the arena or the weights; what is handed out by itself."""
        kind = ref.buffer.kind
        memory = self._handed[id(ref.buffer)] if kind == HANDED else self.arena if kind == ARENA else self.weights
        start = ref.buffer.offset + ref.offset
        return np.frombuffer(memory, dtype=dtype, count=prod(shape), offset=start).reshape(shape)

    def strided(self, place: Strided, shape) -> np.ndarray:
        """The same under strides of its own, in memory that is handed out."""
        size = ITEMSIZE[place.dtype]
        return np.ndarray(shape, place.dtype, self._handed[id(place.ref.buffer)], place.ref.offset,
                          tuple(s * size for s in place.strides))

    def prepare(self, threads: int) -> None:
        """Packs the weights again if a parameter has changed."""
        if self._versions[0] is parameters.epoch() or (self._snapshot is not None and self._versions[0] is not None):
            return
        with self._packing:
            now, total = parameters.epoch(), sum(p.version for p in self.parameters)
            if total != self._versions[1]:
                self._prepare.run(threads)
            self._versions[:] = now, total  # last: who finds these runs at once

    def run(self, segment: str, batch: int) -> None:
        """Runs a segment for the first ``batch`` images of the planned batch."""
        threads = threads_for(self.threads)
        steps = self.ready(segment, batch)
        if segment == "forward":
            for check in self.lowered.checks:
                check(batch)
            for values, batched, refuse in self._before:
                refuse(values[:batch] if batched else values)
            self.prepare(threads)
            if self.lowered.changed:
                with parameters.changing(self.lowered.changed):
                    steps.run(threads)
                self.look(segment)
                return
        steps.run(threads)
        self.look(segment)

    def look(self, segment: str) -> None:
        """Raises what the steps of a segment have found wrong with values."""
        for of, flag, report in self.flags:
            if flag[0] and of == segment:
                flag[0] = 0
                report(int(flag[1]))

    def ready(self, segment: str, batch: int) -> StepList:
        """The steps of a segment, for so many images."""
        steps = self.segments[segment]
        if steps.batch != batch:
            steps.set_batch(batch)
        return steps
