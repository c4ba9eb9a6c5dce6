"""How a contraction of two operands is worked off: which dimensions are rows, columns, sum and batch of the matrix product,
how its operands are read, and into what it is cut. By the problem alone, never by threads."""

from __future__ import annotations

import math
from typing import NamedTuple

from fastconv.kernels.cpu import cpu

DIRECT, PACKED, SCRATCH, DOT, THIN = range(5)  # args_matmul.h
VARY = {None: 0, "b": 1, "m": 2, "n": 3, "k": 4, "e": 5}
CHAIN = 384  # blocks.inl.h: products in the shortest run of a sum
MOST_DIMS = 8  # of the batch

SMALL = 24 << 10  # bytes of b that stay in the first-level cache as they lie
FAR = 16384  # floats of b that do not come by themselves
ALONE = 256  # rows up to which b is packed on the way, once
WORK = 32768  # vector multiply-adds that an item is worth
PART = 1024  # products below which a part of a sum is not worth its own
FEW, MANY = 8, 16  # items that many threads can share, and better
WIDE = 16  # blocks


class Dim(NamedTuple):
    """A dimension of the iteration space; strides of a, b, c, d in elements."""

    kind: str
    extent: int
    a: int
    b: int
    c: int
    d: int
    vary: bool = False  # the extent of an image, times the batch of the run

    def onto(self, inner: Dim) -> Dim | None:
        """This dimension and the one that it steps over, as one."""
        steps = zip(self[2:6], inner[2:6], strict=True)
        if inner.vary or self.kind != inner.kind or any(s != t * inner.extent for s, t in steps):
            return None
        return inner._replace(extent=self.extent * inner.extent, vary=self.vary)


class Contraction(NamedTuple):
    """c[b, m, n] = sum over e, k of a[b, e, m, k] b[b, e, k, n], as the kernel takes it; ``swapped``: a and b have changed
    places. ``packed`` and ``partials``: floats that it needs for b in blocks, and for the parts of the sums."""

    swapped: bool
    batch: list[Dim]
    m: Dim
    n: Dim
    k: Dim
    e: Dim
    vary: str | None
    how: int
    chunk: int
    group: int
    pack_a: bool
    stage: bool
    parts: int
    part: int
    packed: int
    partials: int

    @property
    def packed_steps(self) -> list[int]:
        """The step of each batch dimension over packed matrices; 0 where they are the same."""
        size = self.k.extent * self.e.extent * packed_columns(self.n.extent)
        return _dense([0 if d.b == 0 else d.extent for d in self.batch], size)

    @property
    def partial_steps(self) -> list[int]:
        """The step of each batch dimension over the matrices of a part."""
        return _dense([d.extent for d in self.batch], self.m.extent * self.n.extent)

    @property
    def matrices(self) -> int:
        return math.prod(d.extent for d in self.batch)


def _dense(extents: list[int], size: int) -> list[int]:
    steps = []
    for extent in reversed(extents):
        steps.append(size if extent else 0)
        size *= extent or 1
    return steps[::-1]


def packed_columns(columns: int) -> int:
    """The columns of all blocks of a packed matrix: the last one is as wide as it has to be."""
    width = cpu().width
    tail = columns % (2 * width)
    return columns - tail + (2 * width if tail > width else width if tail else 0)


def contraction(shape, kinds: str, a, b, c, d=None, batched: bool = False, constant: str = "") -> Contraction:
    """How ``c = sum over k of a * b`` is worked off.

    Parameters
    ----------
    shape : sequence of int
        The iteration space.
    kinds : str
        One letter per dimension: ``b`` in a, b and c; ``m`` in a and c; ``n`` in b and c; ``k`` summed over, in a and b.
    a, b, c, d : sequences of int
        Strides in elements, one per dimension, 0 where an operand repeats or lacks it.
    batched : bool
        Dimension 0 is the batch of the run, of which ``shape[0]`` is what was planned.
    constant : str
        ``"a"`` or ``"b"``, where that operand is packed once and for all.

    Raises
    ------
    ValueError
        Where the strides leave more dimensions than the kernel has: operands are to be copied then.
    """
    d = d if d is not None else [0] * len(shape)
    dims = [Dim(_kind(kind, extent, *steps), extent, *steps, batched and i == 0)
            for i, (kind, extent, steps) in enumerate(zip(kinds, shape, zip(a, b, c, d, strict=True), strict=True))
            if extent != 1 or batched and i == 0]
    dims = _merged(dims)
    vary = next((dim for dim in dims if dim.vary), None)
    rows, columns, sums, batch = ([dim for dim in dims if dim.kind == kind] for kind in "mnkb")
    m, n = (_taken(some, lambda dim: (dim.c == 1, dim.extent), batch) for some in (rows, columns))
    sums_left: list[Dim] = []
    too_many: list[Dim] = []
    k = _taken(sums, lambda dim: (dim.a == 1 or dim.b == 1, dim.extent), sums_left)
    e = _taken(sums_left, lambda dim: dim.extent, too_many)
    if too_many or len(batch) > MOST_DIMS:
        raise ValueError(f"shape={tuple(shape)}: strides that leave {len(batch)} dimensions of a batch and "
                         f"{2 + len(too_many)} of a sum")
    if vary is not None and vary is not k and vary is not e and vary in sums:
        raise ValueError("the batch of the run is in the middle of a sum")
    swapped = (m.c == 1 and n.c != 1 and m.extent > 1) if n.extent > 1 else m.extent > 1 and constant != "b"
    if swapped:
        m, n, batch = _exchanged(n), _exchanged(m), [_exchanged(dim) for dim in batch]
        k, e = _exchanged(k), _exchanged(e)
    batch.sort(key=lambda dim: (not dim.vary, -abs(dim.c)))
    varies = None if vary is None else "m" if m.vary else "n" if n.vary else "k" if k.vary else "e" if e.vary else "b"
    return _cut(swapped, batch, m, n, k, e, varies, bool(constant) and constant == ("a" if swapped else "b"))


def _kind(kind: str, extent: int, a: int, b: int, c: int, d: int) -> str:
    if kind == "b" and c and extent != 1:
        return "m" if a and not b else "n" if b and not a else "b"
    return kind


def _merged(dims: list[Dim]) -> list[Dim]:
    dims = list(dims)
    again = True
    while again:
        again = False
        for outer in dims:
            for inner in dims:
                one = outer.onto(inner) if outer is not inner else None
                if one is not None:
                    dims = [dim for dim in dims if dim is not outer and dim is not inner] + [one]
                    again = True
                    break
            if again:
                break
    return dims


def _taken(some: list[Dim], value, rest: list[Dim]) -> Dim:
    """The best of some dimensions; the others go to the rest."""
    if not some:
        return Dim("-", 1, 0, 0, 0, 0)
    best = max(some, key=value)
    rest.extend(dim for dim in some if dim is not best)
    return best


def _exchanged(dim: Dim) -> Dim:
    return dim._replace(a=dim.b, b=dim.a)


def _cut(swapped: bool, batch: list[Dim], m: Dim, n: Dim, k: Dim, e: Dim, vary: str | None, constant: bool) -> Contraction:
    width = cpu().width
    tile, block = {16: 14, 8: 6}.get(width, 4), 2 * width
    rows, columns, sums = m.extent, n.extent, k.extent * e.extent
    if m.extent == 1:
        m = m._replace(a=0)
    blocks = -(-columns // block)
    if constant:
        how = PACKED
    elif rows <= 4 and vary != "m" and k.a == 1 and k.b == 1 and n.b != 1 and k.extent >= 2 * width:
        how = DOT
    elif n.b == 1 and rows <= (3 if width == 16 else 2) and sums * columns > FAR and k.extent > 16:
        how = THIN
    elif n.b == 1 and (rows <= 2 * tile or 4 * sums * columns <= SMALL):
        how = DIRECT
    else:
        how = SCRATCH if rows <= ALONE else PACKED
    chunk = 4 if how == DOT else ALONE if how == SCRATCH else 8 * tile
    pack_a = how != DOT and rows >= 8 and columns >= 3 * block and k.extent >= 32 and not (
        k.a == 1 and (4 * m.a) % 2048 or m.a == 1 and k.a <= 16)
    work = max(1, 2 * min(chunk, max(1, rows)) * sums)
    group = max(1, WORK // work)
    if how == THIN:
        chunk, group = max(1, rows), max(group, min(128, max(4, math.prod(d.extent for d in batch) * blocks // 2)))
    elif how != DOT and min(chunk, rows) <= 3:
        group = max(4 if rows < 3 else 2, group)
    if pack_a or (k.extent >= 2 * CHAIN and rows > tile):  # a, or a run of it, meets many blocks while it is near
        shared = math.prod(d.extent for d in batch) * -(-rows // chunk) * blocks // MANY
        group = max(group, min(WIDE, max(4, shared)))
    group = min(group, max(1, blocks))
    stage = how == THIN or how != DOT and rows >= tile and k.extent >= 2 * CHAIN and m.c * 4 % 2048 == 0 and n.c == 1
    parts, part = 1, 0
    if vary in (None, "k", "e"):
        items = math.prod(d.extent for d in batch) * -(-rows // chunk) * -(-blocks // group)
        if 0 < items < FEW and sums >= 2 * PART and items * work * group >= 2 * WORK:
            cut = e.extent if e.extent > 1 or vary == "e" else k.extent
            parts = min(-(-FEW // items), sums // PART, cut)
            part = -(-cut // parts)
    matrices = math.prod(d.extent for d in batch)
    own = math.prod(d.extent for d in batch if d.b)
    return Contraction(swapped, batch, m, n, k, e, vary, how, chunk, group, pack_a, stage, parts, part,
                       own * sums * packed_columns(columns) if how == PACKED else 0,
                       parts * matrices * rows * columns if parts > 1 else 0)
