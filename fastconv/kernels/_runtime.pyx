# cython: language_level=3
"""The kernel table, bound steps, and the one parallel loop that runs them."""

from cpython.buffer cimport PyBuffer_FillInfo
from cython.parallel cimport parallel
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

import os
import warnings


cdef extern from *:
    """
    #include <stdlib.h>
    #include <string.h>
    #if defined(__linux__)
    #include <sys/mman.h>
    #include <unistd.h>
    #endif
    #define FC_HUGE ((size_t)2 << 20)
    /* Zeros. Much memory is a mapping of its own: the pages that nobody touches cost nothing, as those of buffers whose place
       arrays take, and the others are first touched by the threads that use them. */
    static void* fc_allocate(size_t nbytes) {
        void* p = NULL;
    #if defined(__linux__)
        if (nbytes >= 2 * FC_HUGE) {
            if (nbytes > (size_t)-1 - FC_HUGE) return NULL;
            char* base = (char*)mmap(NULL, nbytes + FC_HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (base == (char*)MAP_FAILED) return NULL;
            const size_t page = (size_t)sysconf(_SC_PAGESIZE), before = (FC_HUGE - (size_t)base % FC_HUGE) % FC_HUGE;
            char* begin = base + before;
            char* end = begin + (nbytes + page - 1) / page * page;
            if (before) munmap(base, before);
            if (end < base + nbytes + FC_HUGE) munmap(end, (size_t)(base + nbytes + FC_HUGE - end));
    #if defined(MADV_HUGEPAGE)
            madvise(begin, nbytes, MADV_HUGEPAGE);
    #endif
            return begin;
        }
    #endif
        if (posix_memalign(&p, nbytes >= 2 * FC_HUGE ? FC_HUGE : 64, nbytes ? nbytes : 64)) return NULL;
        return memset(p, 0, nbytes);
    }
    static void fc_release(void* p, size_t nbytes) {
    #if defined(__linux__)
        if (nbytes >= 2 * FC_HUGE) {
            munmap(p, nbytes);
            return;
        }
    #endif
        free(p);
    }
    #include <time.h>
    static double fc_now(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    }
    #ifdef FC_HAVE_OPENMP
    #define FC_OPENMP 1
    #else
    #define FC_OPENMP 0
    #endif
    """
    void* fc_allocate(size_t nbytes) nogil
    void fc_release(void* p, size_t nbytes) nogil
    double fc_now() nogil
    const int FC_OPENMP

cdef extern from "fastconv/fpenv.h" nogil:
    uint64_t fc_fp_enter() noexcept
    void fc_fp_leave(uint64_t) noexcept

cdef extern from "fastconv/threads.h" nogil:
    int fc_try_team(int members) noexcept

cdef extern from "fastconv/team.h" nogil:
    void fc_team_reset(FcTeam* team, Py_ssize_t begin, Py_ssize_t end) noexcept
    void fc_team_work(FcTeam* team, const FcStep* steps, Py_ssize_t begin, Py_ssize_t end, char* scratch,
                      size_t stride) noexcept

cdef extern from "fastconv/dispatch.h" nogil:
    const int FC_KERNEL_COUNT
    const int FC_ISA_COUNT
    const char** fc_isa_names
    unsigned fc_detect_isa() noexcept
    unsigned fc_compiled_isa() noexcept
    void fc_resolve(int level, const FcKernel** out) noexcept


# ---- dispatch, once, at import ------------------------------------------------------------------------------------

cdef const FcKernel* _table[256]
_by_name = {}
_isa_info = {}


def _dispatch():
    cdef unsigned found = fc_detect_isa(), compiled = fc_compiled_isa()
    names = [fc_isa_names[i].decode() for i in range(FC_ISA_COUNT)]
    usable = [i for i in range(FC_ISA_COUNT) if (found >> i) & 1 and (compiled >> i) & 1]
    cap = os.environ.get("FASTCONV_ISA", "").strip().lower()
    level = usable[len(usable) - 1]
    reason = "the highest that this processor has and this build contains"
    if cap:
        if cap not in names:
            raise ImportError(f"FASTCONV_ISA={cap!r}: no such instruction set; known are {', '.join(names)}")
        level = names.index(cap)
        if level not in usable:
            what = "this processor or its operating system lacks it" if not (found >> level) & 1 else \
                "this build does not contain it"
            raise ImportError(f"FASTCONV_ISA={cap!r}: {what}; usable here are {', '.join(names[i] for i in usable)}")
        reason = f"FASTCONV_ISA={cap}"
    if FC_KERNEL_COUNT > 256:
        raise ImportError("the kernel table is too small for this build")
    fc_resolve(level, _table)
    for i in range(FC_KERNEL_COUNT):
        _by_name[_table[i].name.decode()] = i
    _isa_info.update(known=names, isa=names[level], lanes={"portable": 4, "avx2": 8}.get(names[level], 16),
                     reason=reason, available=[names[i] for i in usable],
                     detected=[n for i, n in enumerate(names) if (found >> i) & 1],
                     compiled=[n for i, n in enumerate(names) if (compiled >> i) & 1], openmp=bool(FC_OPENMP))


_dispatch()


def isa_info() -> dict:
    """The instruction set in use, why, and which are available: keys known, isa, lanes (floats of a vector), reason, available, detected,
    compiled, openmp."""
    return dict(_isa_info)


def kernel_names() -> list:
    """The names of all kernels of kernels.def, in its order."""
    return list(_by_name)


cdef const FcKernel* find_kernel(str name) except NULL:
    return _table[<int> _by_name[name]]


# ---- memory -------------------------------------------------------------------------------------------------------

cdef class Memory:
    """`nbytes` bytes aligned to 64 (large ones to a huge page), zeroed; freed with the object."""

    def __cinit__(self, size_t nbytes):
        self.base = fc_allocate(nbytes)
        if self.base == NULL:
            raise MemoryError(f"{nbytes} bytes could not be allocated")
        self.nbytes = nbytes

    def __dealloc__(self):
        if self.base != NULL:
            fc_release(self.base, self.nbytes)

    @property
    def address(self) -> int:
        return <size_t> self.base

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.base, self.nbytes, 0, flags)


# ---- steps --------------------------------------------------------------------------------------------------------

cdef class Step:
    """A kernel bound to its arguments.

    `guard` is None, or what a StepList with this step holds while it runs (acquire, release): BLAS on one thread.
    `images`: for how many it runs whatever the batch; -1: for the batch.
    """

    def __cinit__(self):
        self.c.kernel = NULL
        self.c.args = NULL
        self.owned = []
        self.images = -1

    def __dealloc__(self):
        free(self.c.args)

    cdef void* bind(self, const FcKernel* kernel, size_t args_bytes) except NULL:
        self.c.args = calloc(1, args_bytes)
        if self.c.args == NULL:
            raise MemoryError(f"{args_bytes} bytes could not be allocated")
        self.c.kernel = kernel
        self.nbytes = args_bytes
        return self.c.args

    cdef void* bind_name(self, str name, size_t args_bytes) except NULL:
        return self.bind(find_kernel(name), args_bytes)

    cdef int32_t* ints(self, object values) except NULL:
        """A copy of a flat sequence of integers that lives as long as the step."""
        values = list(values)
        cdef Memory memory = Memory(4 * max(1, len(values)))
        cdef int32_t* p = <int32_t*> memory.base
        for i, v in enumerate(values):
            p[i] = v
        self.owned.append(memory)
        return p

    def keep(self, obj):
        """Keeps obj alive as long as the step."""
        self.owned.append(obj)

    @property
    def kernel(self) -> str:
        return self.c.kernel.name.decode()

    def tiles(self, int64_t n) -> int:
        """Sets the batch; the number of tiles into which the problem is cut."""
        self.c.tiles = self.c.kernel.tiles(self.c.args, n)
        return self.c.tiles

    def scratch(self) -> int:
        """Bytes of scratch per thread, for the batch last given to tiles()."""
        return self.c.kernel.scratch(self.c.args)


cdef bint _alone = False  # whether threads could not be created


cdef int team(int threads) except -1:
    """How many of these threads a run has: one, which is said once, where they cannot be created."""
    global _alone
    if _alone or not FC_OPENMP:
        return 1
    cdef int error = fc_try_team(threads)
    if error == 0:
        return threads
    _alone = True
    warnings.warn(f"fastconv: {threads} threads cannot be created ({os.strerror(error)}): from now on runs have one thread, "
                  "until set_num_threads() is called", RuntimeWarning, stacklevel=2)
    return 1


def try_again():
    """Has the next run try to create its threads, where they could not be created before."""
    global _alone
    _alone = False


cdef void run_steps(FcTeam* team, const FcStep* steps, Py_ssize_t begin, Py_ssize_t end, int threads, char* scratch,
                    size_t stride) noexcept nogil:
    """The one parallel loop: one region over all steps; what happens inside it is team.h."""
    cdef uint64_t mode
    cdef Py_ssize_t s
    if threads <= 1:
        mode = fc_fp_enter()
        for s in range(begin, end):
            if steps[s].tiles:
                steps[s].kernel.run(steps[s].args, 0, steps[s].tiles, scratch)
        fc_fp_leave(mode)
        return
    fc_team_reset(team, begin, end)
    with parallel(num_threads=threads):
        fc_team_work(team, steps, begin, end, scratch, stride)


cdef class StepList:
    """Bound steps in order, with their scratch: what a tape replays.

    Parameters
    ----------
    steps : list of Step
    batch : int
        The planned batch, the largest that set_batch takes. Scratch is sized for it.
    """

    def __cinit__(self, list steps, int64_t batch):
        self.keep = steps
        self.count = len(steps)
        self.planned = batch
        self.steps = <FcStep*> calloc(max(1, self.count), sizeof(FcStep))
        self.team.next = <atomic_counter*> calloc(max(1, self.count), sizeof(atomic_counter))
        self.team.done = <atomic_counter*> calloc(max(1, self.count), sizeof(atomic_counter))
        if self.steps == NULL or self.team.next == NULL or self.team.done == NULL:
            raise MemoryError("no memory for the steps")
        cdef Py_ssize_t i
        cdef Step step
        cdef size_t need = 0, most = 0
        for i in range(self.count):
            step = steps[i]
            self.guard = step.guard if step.guard is not None else self.guard
            self.steps[i] = step.c
            self.steps[i].tiles = step.c.kernel.tiles(step.c.args, batch if step.images < 0 else step.images)
            need = step.c.kernel.scratch(step.c.args)
            most = need if need > most else most
        self.stride = (most + 127) // 64 * 64
        self.granted = 0
        self.batch = -1
        self.set_batch(batch)

    def __dealloc__(self):
        free(self.steps)
        free(self.team.next)
        free(self.team.done)

    cpdef set_batch(self, int64_t n):
        """Sets the batch of the following runs, 0 <= n <= planned."""
        if n == self.batch:
            return
        if n < 0 or n > self.planned:
            raise ValueError(f"batch={n} is not in 0..{self.planned}, the planned batch")
        cdef Step step
        self.widest = 0
        for i in range(self.count):
            step = <Step> self.keep[i]
            self.steps[i].tiles = self.steps[i].kernel.tiles(self.steps[i].args, n if step.images < 0 else step.images)
            if self.steps[i].tiles > self.widest:
                self.widest = self.steps[i].tiles
        self.batch = n

    def time(self, int threads, int rounds) -> list:
        """Seconds of each step, the least of ``rounds`` runs in order; each step is a parallel region of its own here."""
        cdef Py_ssize_t i
        cdef double begin, took
        least = [float("inf")] * self.count
        for _ in range(rounds):
            for i in range(self.count):
                begin = fc_now()
                self.run(threads if self.steps[i].tiles > 1 else 1, i, i + 1)
                took = fc_now() - begin
                if took < <double> least[i]:
                    least[i] = took
        return least

    def kernels(self) -> list:
        """The kernels' names in order."""
        return [self.steps[i].kernel.name.decode() for i in range(self.count)]

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch per thread."""
        return self.stride

    cpdef run(self, int threads, Py_ssize_t begin=0, Py_ssize_t end=-1):
        """Runs the steps [begin, end) without the GIL and, once scratch is there, without allocating."""
        if end < 0:
            end = self.count
        if threads > self.granted:
            self.memory = Memory(self.stride * threads)
            self.granted = threads
        if self.widest <= 1:
            threads = 1
        elif threads > 1:
            threads = team(threads)
        if self.guard is not None:
            self.guard.acquire()
        with nogil:
            run_steps(&self.team, self.steps, begin, end, threads, <char*> self.memory.base, self.stride)
        if self.guard is not None:
            self.guard.release()
