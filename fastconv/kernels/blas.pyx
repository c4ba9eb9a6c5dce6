# cython: language_level=3
"""The BLAS that NumPy has loaded: its cblas_sgemm as a C pointer, and one guard over its number of threads.

There is never a second BLAS in the process. Where NumPy's cannot be used (none that is known, or FASTCONV_BLAS=none in
the environment when the first engine asks), the f32_gemm kernel takes its place.

A convolution calls sgemm from several OpenMP threads, so the library must run each call on one thread. Libraries keep
that limit in one of two places. Process-wide (OpenBLAS on pthreads, BLIS): `guard` sets it to 1 while engines with a
BLAS step run. Per thread (MKL, OpenBLAS on OpenMP): the thread that calls sets it around its calls (enter_thread).
The setters are called directly: since threadpoolctl 3.8 a limit set by another thread than the first one that set any
is dropped without a word, and a restore that is dropped would leave NumPy on one thread for good.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

from fastconv.kernels._args_im2col cimport GemmArgs
from fastconv.kernels._runtime cimport find_kernel

from fastconv.kernels.locks import Lock

import os

ctypedef void (*sgemm32)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*,
                         int) noexcept nogil
ctypedef void (*sgemm64)(int, int, int, int64_t, int64_t, int64_t, float, const float*, int64_t, const float*,
                         int64_t, float, float*, int64_t) noexcept nogil
ctypedef int (*get_function)() noexcept nogil
ctypedef int (*set_function)(int) noexcept nogil

cdef enum:
    ROW_MAJOR = 101
    NO_TRANS = 111
    TRANS = 112

AFFIXES = [(prefix, suffix) for suffix in ("64_", "_64", "") for prefix in ("scipy_", "")]

cdef Gemm _gemm
memset(&_gemm, 0, sizeof(Gemm))
_state = {"searched": False, "info": None, "reason": "not looked for yet"}
_lock = Lock("search for a BLAS")


# ---- finding it ---------------------------------------------------------------------------------------------------

def loaded(str path):
    """A handle on a shared library that the process has loaded already; OSError where it has not."""
    import ctypes
    return ctypes.CDLL(path, mode=getattr(os, "RTLD_NOLOAD", 0) | getattr(os, "RTLD_NOW", 0))


def address_of(library, str name) -> int:
    """The address of a function of a library, 0 where it has none of that name."""
    import ctypes
    function = getattr(library, name, None)
    return ctypes.cast(function, ctypes.c_void_p).value or 0 if function is not None else 0


def find_sgemm(library, str api) -> tuple:
    """(symbol, address, bits of its integers) of a library's cblas_sgemm; None where it has none."""
    import ctypes
    for prefix, suffix in AFFIXES:
        symbol = f"{prefix}cblas_sgemm{suffix}"
        address = address_of(library, symbol)
        if not address:
            continue
        bits = 64 if suffix else 32
        if not suffix and api == "openblas" and address_of(library, f"{prefix}openblas_get_config"):
            config = getattr(library, f"{prefix}openblas_get_config")
            config.restype = ctypes.c_char_p
            bits = 64 if b"USE64BITINT" in config() else 32
        elif not suffix and api == "blis" and address_of(library, "bli_info_get_blas_int_size"):
            bits = library.bli_info_get_blas_int_size()
        return symbol, address, bits
    return None


def find_threads(library, str api, str layer) -> tuple:
    """(addresses of getter and setter of the number of threads, whether the limit is kept per thread).

    MKL's setter returns the previous limit, so it has no getter (0). (0, 0, False) where nothing is known.
    """
    if api == "mkl":
        return 0, address_of(library, "MKL_Set_Num_Threads_Local"), True
    if api == "blis":
        return address_of(library, "bli_thread_get_num_threads"), address_of(library, "bli_thread_set_num_threads"), \
            False
    if api == "openblas" and layer == "openmp":  # found in the OpenMP runtime that the library depends on
        return address_of(library, "omp_get_max_threads"), address_of(library, "omp_set_num_threads"), True
    for prefix, suffix in AFFIXES:
        getter = address_of(library, f"{prefix}openblas_get_num_threads{suffix}")
        if getter:
            return getter, address_of(library, f"{prefix}openblas_set_num_threads{suffix}"), False
    return 0, 0, False


def candidates() -> list:
    """What threadpoolctl knows of the loaded BLAS libraries, the one that NumPy itself calls first."""
    import numpy
    import threadpoolctl
    found = [info for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]
    core = getattr(numpy, "_core", None) or numpy.core
    try:  # a lookup through NumPy's extension goes through the libraries that it was linked with
        numpys = loaded(core._multiarray_umath.__file__)
        own = {address_of(numpys, f"{prefix}cblas_sgemm{suffix}") for prefix, suffix in AFFIXES} - {0}
    except (OSError, AttributeError):
        own = set()

    def rank(info):
        try:
            sgemm = find_sgemm(loaded(info["filepath"]), info["internal_api"])
        except OSError:
            return 2
        return 2 if sgemm is None else 0 if sgemm[1] in own else 1

    ranked = sorted(((rank(info), i) for i, info in enumerate(found)))
    return [found[i] for r, i in ranked if r < 2]


def _search():
    """Looks for the BLAS, once."""
    with _lock:
        if _state["searched"]:
            return
        _gemm.own = find_kernel("f32_gemm")
        choice = os.environ.get("FASTCONV_BLAS", "").strip().lower()
        if choice not in ("", "none"):
            raise ValueError(f"FASTCONV_BLAS={choice!r}: it is 'none' or not set")
        found = [] if choice else candidates()
        if found:
            use(found[0])
        else:
            _state["reason"] = "FASTCONV_BLAS=none" if choice else "no BLAS with a cblas_sgemm is loaded"
        _state["searched"] = True


def use(dict info):
    """Takes the library that threadpoolctl described: fills the C structure, the guard and blas_info()."""
    cdef size_t address
    library = loaded(info["filepath"])
    symbol, sgemm, bits = find_sgemm(library, info["internal_api"])
    getter, setter, local = find_threads(library, info["internal_api"], info.get("threading_layer"))
    address = sgemm
    _gemm.sgemm = <void*> address
    _gemm.wide = bits == 64
    _gemm.set_returns_old = local and not getter
    address = getter if local else 0
    _gemm.get_local = <get_function> address
    address = setter if local else 0
    _gemm.set_local = <set_function> address
    guard.bind(0 if local else getter, 0 if local else setter)
    _state["reason"] = "the BLAS that NumPy has loaded"
    _state["info"] = {
        "name": info["internal_api"], "version": info.get("version"), "architecture": info.get("architecture"),
        "threading_layer": info.get("threading_layer"), "symbol": symbol, "integer_bits": bits,
        "file": os.path.basename(info["filepath"]),
    }


def blas_info():
    """The BLAS in use: name, version, architecture, threading_layer, symbol, integer_bits, file. None: our own GEMM."""
    _search()
    return dict(_state["info"]) if _state["info"] else None


def blas_reason() -> str:
    """Why blas_info() says what it says."""
    _search()
    return _state["reason"]


# ---- the guard ----------------------------------------------------------------------------------------------------

cdef class Guard:
    """Counts the engines that run a BLAS step: the first sets the library to one thread, the last restores it.

    A context manager, usable from any thread and any number of times at once. A library that keeps its limit per
    thread, and our own GEMM, need none: then it only counts.
    """

    cdef get_function get
    cdef set_function set
    cdef object lock
    cdef int before
    cdef readonly int holders

    def __cinit__(self):
        self.lock = Lock("BLAS guard")
        self.holders = 0

    def bind(self, size_t getter, size_t setter):
        """The library's functions; 0 where there are none."""
        self.get = <get_function> getter
        self.set = <set_function> setter

    def acquire(self):
        with self.lock:
            if self.holders == 0 and self.get != NULL and self.set != NULL:
                self.before = self.get()
                if self.before != 1:
                    self.set(1)
            self.holders += 1

    def release(self):
        with self.lock:
            if self.holders == 0:
                raise RuntimeError("the BLAS guard is released more often than it was acquired")
            self.holders -= 1
            self.restore()

    def restore(self):
        """Restores the limit where nobody holds it, unless somebody else has changed it meanwhile."""
        if self.holders == 0 and self.get != NULL and self.set != NULL and self.before != 1 and self.get() == 1:
            self.set(self.before)

    def after_fork(self):
        """In a forked child, the engines that ran in other threads are gone."""
        if self.holders:
            self.holders = 0
            self.restore()

    def __enter__(self):
        self.acquire()
        return self

    def __exit__(self, *exception):
        self.release()


guard = Guard()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=guard.after_fork)


# ---- for the steps ------------------------------------------------------------------------------------------------

cdef const Gemm* find_gemm() except NULL:
    _search()
    return &_gemm


cdef size_t gemm_scratch(const Gemm* gemm) noexcept nogil:
    """Bytes of scratch that gemm_run wants."""
    return gemm.own.scratch(NULL) if gemm.sgemm == NULL else 0


cdef int enter_thread(const Gemm* gemm) noexcept nogil:
    """Sets this thread's own limit to 1, where the library keeps one per thread; what leave_thread wants."""
    cdef int before
    if gemm.set_local == NULL:
        return 0
    if gemm.set_returns_old:
        return gemm.set_local(1)
    before = gemm.get_local()
    gemm.set_local(1)
    return before


cdef void leave_thread(const Gemm* gemm, int state) noexcept nogil:
    if gemm.set_local != NULL:
        gemm.set_local(state)


cdef void gemm_run(const Gemm* gemm, bint trans_a, bint trans_b, int64_t m, int64_t n, int64_t k, const float* a,
                   int64_t lda, const float* b, int64_t ldb, bint accumulate, float* c, int64_t ldc,
                   void* scratch) noexcept nogil:
    """c (m x n) = a (m x k) times b (k x n), row-major, a and b transposed where said; added to c with `accumulate`."""
    cdef GemmArgs args
    cdef int ta = TRANS if trans_a else NO_TRANS, tb = TRANS if trans_b else NO_TRANS
    cdef float beta = 1.0 if accumulate else 0.0
    if gemm.sgemm == NULL:
        args.a, args.b, args.c = a, b, c
        args.M, args.N, args.K = m, n, k
        args.a_row, args.a_column = 1 if trans_a else lda, lda if trans_a else 1
        args.b_row, args.b_column = 1 if trans_b else ldb, ldb if trans_b else 1
        args.ldc = ldc
        args.accumulate = accumulate
        gemm.own.run(&args, 0, gemm.own.tiles(&args, 1), scratch)
    elif gemm.wide:
        (<sgemm64> gemm.sgemm)(ROW_MAJOR, ta, tb, m, n, k, 1.0, a, lda, b, ldb, beta, c, ldc)
    else:
        (<sgemm32> gemm.sgemm)(ROW_MAJOR, ta, tb, <int> m, <int> n, <int> k, 1.0, a, <int> lda, b, <int> ldb, beta, c,
                               <int> ldc)
