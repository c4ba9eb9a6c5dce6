# cython: language_level=3
"""Many steps as one, for problems that do not depend on one another: the phases of a transposed convolution."""

from libc.stdint cimport int64_t

from fastconv.kernels._args_many cimport ManyArgs
from fastconv.kernels._runtime cimport FcKernel, FcStep, Memory, Step, find_kernel


cpdef Step many(list steps):
    """One step of several, in any order; it bears the name of the first one's kernel."""
    cdef Step whole = Step(), part
    cdef Py_ssize_t i, count = len(steps)
    if count == 1:
        return steps[0]
    cdef Memory copies = Memory(count * sizeof(FcStep)), ends = Memory(count * sizeof(int64_t)), own = Memory(sizeof(FcKernel))
    cdef FcKernel* kernel = <FcKernel*> own.base
    kernel[0] = find_kernel("many")[0]
    for i in range(count):
        part = <Step> steps[i]
        (<FcStep*> copies.base)[i] = part.c
    kernel.name = (<FcStep*> copies.base).kernel.name
    cdef ManyArgs* a = <ManyArgs*> whole.bind(kernel, sizeof(ManyArgs))
    a.steps = <const FcStep*> copies.base
    a.ends = <int64_t*> ends.base
    a.count = count
    for kept in (steps, copies, ends, own):
        whole.keep(kept)
    return whole


def each(factory, list problems, str moved, list offsets, *arguments, **shared) -> Step:
    """One step of ``factory(*arguments, problem, **shared)`` for each problem; the address ``shared[moved]`` is moved by the
    problem's offset in bytes."""
    base = shared.pop(moved)
    return many([factory(*arguments, problem, **{moved: base + offset}, **shared)
                 for problem, offset in zip(problems, offsets, strict=True)])
