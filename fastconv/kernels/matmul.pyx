# cython: language_level=3
"""Steps of the matrix products: contractions of two operands with any strides (kernels/products.py says how they are cut).

Operands are (address, strides in elements, one per dimension of ``shape``, dtype); ``kinds`` has a letter per dimension.
"""

from libc.stdint cimport int64_t

from fastconv.kernels._args_matmul cimport MatmulArgs
from fastconv.kernels._runtime cimport Step

from fastconv.kernels.conv import ACTIVATIONS
from fastconv.kernels.products import PACKED, VARY, contraction


cdef MatmulArgs* bind(Step step, str kernel, plan) except NULL:
    """All but the addresses; an image's extent where it varies, not that of the planned batch."""
    cdef MatmulArgs* a = <MatmulArgs*> step.bind_name(kernel, sizeof(MatmulArgs))
    cdef int i
    m, n, k, e = plan.m, plan.n, plan.k, plan.e
    a.vary, a.dims = VARY[plan.vary], len(plan.batch)
    for i, d in enumerate(plan.batch):
        a.extent[i], a.a_step[i], a.b_step[i], a.c_step[i], a.d_step[i] = d.extent, d.a, d.b, d.c, d.d
    a.M, a.N, a.K, a.E = m.extent, n.extent, k.extent, e.extent
    a.a_row, a.a_column, a.b_row, a.b_column, a.a_sum, a.b_sum = m.a, k.a, k.b, n.b, e.a, e.b
    a.c_row, a.c_column, a.d_row, a.d_column = m.c, n.c if n.extent > 1 else 1, m.d, n.d
    a.b_how, a.chunk, a.group, a.pack_a, a.stage = plan.how, plan.chunk, plan.group, plan.pack_a, plan.stage
    a.parts, a.part, a.part_outer = plan.parts, plan.part, plan.e.extent > 1 or plan.vary == "e"
    a.alpha = a.beta = 1.0
    return a


cdef plan_of(shape, str kinds, a, b, c, d, bint batched, str constant):
    return contraction(shape, kinds, a[1], b[1], c[1], d[1] if d is not None else None, batched, constant)


cdef void per_image(MatmulArgs* a, plan, int64_t planned):
    """The planned batch out of the extent that varies."""
    if plan.vary == "b":
        a.extent[0] //= planned
    elif plan.vary == "m":
        a.M //= planned
    elif plan.vary == "n":
        a.N //= planned
    elif plan.vary == "e":
        a.E //= planned
    elif plan.vary == "k":
        a.K //= planned


cdef void follow(MatmulArgs* a, dict epilogue):
    a.alpha, a.beta = epilogue.get("alpha", 1.0), epilogue.get("beta", 1.0)
    a.accumulate = epilogue.get("accumulate", False)
    a.act = ACTIVATIONS[epilogue.get("act")]
    a.act_a, a.act_b = epilogue.get("act_a", 0.0), epilogue.get("act_b", 0.0)


def needs(*, shape, kinds, a, b, c, d=None, batched=False, constant="") -> tuple:
    """Floats of memory of its own that a product needs: for b in blocks, and for the parts of its sums; 0 where it has no step
    of that kind. Operands as those of :func:`product`, of which strides matter alone."""
    plan = plan_of(shape, kinds, a, b, c, d, batched, constant)
    return plan.packed, plan.partials


def packing(*, shape, kinds, a, b, c, d=None, batched=False, constant="") -> tuple:
    """What the blocks of b consist of: equal for products that can share them."""
    plan = plan_of(shape, kinds, a, b, c, d, batched, constant)
    some = [(dim.extent, dim.b) for dim in (plan.n, plan.k, plan.e, *plan.batch) if dim.b or dim is plan.n or dim is plan.k]
    return (plan.swapped, *some)


def pack(*, shape, kinds, a, b, c, size_t packed, d=None, batched=False, constant="") -> Step:
    """b (a, where they change places) into blocks of columns."""
    plan = plan_of(shape, kinds, a, b, c, d, batched, constant)
    cdef Step step = Step()
    cdef MatmulArgs* args = bind(step, "f32_matmul_pack", plan)
    cdef int i
    args.dims = 0
    for i, (dim, place) in enumerate(zip(plan.batch, plan.packed_steps)):
        if dim.b:
            args.extent[args.dims], args.b_step[args.dims], args.c_step[args.dims] = dim.extent, dim.b, place
            args.dims += 1
    if plan.vary == "m" or plan.vary == "b" and not plan.batch[0].b:
        args.vary = 0
    else:
        per_image(args, plan, shape[0])
    args.b, args.c = <const float*> <size_t> (a if plan.swapped else b)[0], <float*> packed
    return step


def product(*, shape, kinds, a, b, c, d=None, batched=False, constant="", size_t packed=0, size_t partials=0, **epilogue) -> Step:
    """c = act(alpha * sum over k of a * b + beta * d); d may be None. ``accumulate``: to what c holds (alpha is 1 then, and there is
    neither d nor act). Extents of k of 0 give sums of 0.

    Where :func:`needs` says so, b is read from ``packed``, and sums are written to ``partials``, which :func:`sum_parts` adds up.
    """
    plan = plan_of(shape, kinds, a, b, c, d, batched, constant)
    cdef Step step = Step()
    cdef MatmulArgs* args = bind(step, "f32_matmul", plan)
    cdef int i
    first, second = (b, a) if plan.swapped else (a, b)
    args.a, args.b, args.c = <const float*> <size_t> first[0], <const float*> <size_t> second[0], <float*> <size_t> c[0]
    if plan.how == PACKED:
        args.b = <const float*> packed
        for i, place in enumerate(plan.packed_steps):
            args.b_step[i] = place
    if plan.parts > 1:
        args.c = <float*> partials
        args.c_part, args.c_row, args.c_column = plan.matrices * plan.m.extent * plan.n.extent, plan.n.extent, 1
        for i, place in enumerate(plan.partial_steps):
            args.c_step[i] = place
    else:
        args.d = <const float*> <size_t> d[0] if d is not None else NULL
        follow(args, epilogue)
    if batched:
        per_image(args, plan, shape[0])
    return step


def sum_parts(*, shape, kinds, a, b, c, size_t partials, d=None, batched=False, constant="", **epilogue) -> Step:
    """The parts of the sums added up in order, and what follows."""
    plan = plan_of(shape, kinds, a, b, c, d, batched, constant)
    cdef Step step = Step()
    cdef MatmulArgs* args = bind(step, "f32_matmul_sum", plan)
    cdef int i
    args.vary = 0
    args.a, args.c = <const float*> partials, <float*> <size_t> c[0]
    args.c_part, args.a_row = plan.matrices * plan.m.extent * plan.n.extent, plan.n.extent
    for i, place in enumerate(plan.partial_steps):
        args.a_step[i] = place
    args.d = <const float*> <size_t> d[0] if d is not None else NULL
    follow(args, epilogue)
    return step
