"""Finding the BLAS that NumPy has loaded, and the guard over its threads."""

import os
import shutil
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import threadpoolctl
from fastconv.kernels._runtime import StepList

from fastconv.kernels import blas, im2col, layout

needs_blas = pytest.mark.skipif(blas.blas_info() is None, reason=f"no BLAS: {blas.blas_reason()}")


def inner(code, **environment):
    """Runs code in a fresh interpreter; what it printed."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env={**os.environ, **environment},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def blas_threads():
    path = blas.blas_info()["file"]
    return next(i["num_threads"] for i in threadpoolctl.threadpool_info() if os.path.basename(i["filepath"]) == path)


@pytest.fixture
def four_threads():
    """The library set to more than one thread, so that the guard has something to restore."""
    controller = threadpoolctl.ThreadpoolController()
    with controller.limit(limits=4, user_api="blas"):
        if blas_threads() == 1:
            pytest.skip("this BLAS has one thread")
        yield blas_threads()


def product_step(rows=300):
    """A step with a BLAS call in it, what it writes, and what that should be."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((rows, 64), np.float32), rng.standard_normal((64, 32), np.float32)
    y = np.full((rows, 32), np.nan, np.float32)
    size = (1, 1, rows)
    geometry = {"taps": [(0, 0, 0)], "groups": 1, "channels": 64, "filters": 32, "ldx": 64, "input": size,
                "space": size, "stride": (1, 1, 1), "output": size}
    step = im2col.forward(geometry, x=x.ctypes.data, w=w.ctypes.data, y=y.ctypes.data, ldy=32)
    step.keep((x, w, y))
    return step, y, x.astype(np.float64) @ w


@needs_blas
def test_info_is_that_of_numpys_library():
    info = blas.blas_info()
    known = [i for i in threadpoolctl.threadpool_info() if i["user_api"] == "blas"]
    mine = next(i for i in known if os.path.basename(i["filepath"]) == info["file"])
    assert (info["name"], info["version"]) == (mine["internal_api"], mine["version"])
    assert info["architecture"] == mine.get("architecture")
    assert "cblas_sgemm" in info["symbol"]
    if info["symbol"].endswith(("64_", "_64")):
        assert info["integer_bits"] == 64


def test_nothing_is_looked_for_at_import():
    out = inner("""
        import sys, fastconv, fastconv.kernels.im2col, fastconv.kernels.blas
        print("threadpoolctl" in sys.modules)
        fastconv.kernels.blas.blas_info()
        print("threadpoolctl" in sys.modules)
    """, FASTCONV_BLAS="")
    assert out.split() == ["False", "True"]


def test_none_can_be_asked_for_and_nothing_else():
    code = "from fastconv.kernels import blas; print(blas.blas_info(), blas.blas_reason())"
    assert inner(code, FASTCONV_BLAS="none") == "None FASTCONV_BLAS=none"
    code = "from fastconv.kernels import blas\ntry:\n    blas.blas_info()\nexcept ValueError as e:\n    print(e)"
    assert inner(code, FASTCONV_BLAS="mkl") == "FASTCONV_BLAS='mkl': it is 'none' or not set"


@needs_blas
def test_guard_sets_one_thread_and_restores(four_threads):
    with blas.guard:
        assert blas_threads() == 1
        with blas.guard:
            assert blas_threads() == 1 and blas.guard.holders == 2
        assert blas_threads() == 1
    assert blas_threads() == four_threads and blas.guard.holders == 0


@needs_blas
def test_guard_can_be_released_by_another_thread(four_threads):
    blas.guard.acquire()
    thread = threading.Thread(target=blas.guard.release)
    thread.start()
    thread.join()
    assert blas_threads() == four_threads


@needs_blas
def test_guard_from_many_threads(four_threads):
    start, wrong = threading.Barrier(8), []

    def work():
        start.wait()
        for _ in range(50):
            with blas.guard:
                if blas_threads() != 1:
                    wrong.append(blas_threads())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong and blas.guard.holders == 0 and blas_threads() == four_threads


@needs_blas
def test_guard_leaves_a_limit_of_one_and_a_limit_that_somebody_else_set(four_threads):
    controller = threadpoolctl.ThreadpoolController()
    with controller.limit(limits=1, user_api="blas"):
        with blas.guard:
            pass
        assert blas_threads() == 1
    with controller.limit(limits=4, user_api="blas"):
        with blas.guard:
            controller.limit(limits=2, user_api="blas")
        assert blas_threads() == 2


def test_release_without_acquire():
    with pytest.raises(RuntimeError, match="more often"):
        blas.guard.release()


class Recorder:
    """A guard that writes down what happens to it."""

    def __init__(self):
        self.calls = []

    def acquire(self):
        self.calls.append(("acquire", blas.guard.holders))
        blas.guard.acquire()

    def release(self):
        blas.guard.release()
        self.calls.append(("release", blas.guard.holders))


def test_a_run_holds_the_guard_and_only_a_run():
    step, y, truth = product_step()
    step.guard = recorder = Recorder()
    steps = StepList([step], 1)
    assert recorder.calls == []
    steps.run(2)
    assert recorder.calls == [("acquire", 0), ("release", 0)]
    np.testing.assert_allclose(y, truth, rtol=1e-4, atol=1e-4)


@needs_blas
def test_steps_with_blas_have_the_guard_and_others_do_not(four_threads):
    step, y, truth = product_step()
    assert step.guard is blas.guard
    flat, packed = np.ones(4, np.float32), np.zeros(4, np.float32)
    assert layout.pack_weight(flat.ctypes.data, packed.ctypes.data, taps=[0], filters=2, channels=2, filter_stride=2,
                              channel_stride=1, block=2).guard is None
    StepList([step], 1).run(2)
    assert blas_threads() == four_threads
    np.testing.assert_allclose(y, truth, rtol=1e-4, atol=1e-4)


@needs_blas
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_not_bound_by_its_parents_threads():
    out = inner("""
        import os
        from fastconv.kernels import blas
        import threadpoolctl
        threads = lambda: [i["num_threads"] for i in threadpoolctl.threadpool_info() if i["user_api"] == "blas"]
        threadpoolctl.threadpool_limits(2, "blas")
        blas.blas_info()
        blas.guard.acquire()
        child = os.fork()
        if child == 0:
            print(blas.guard.holders, threads(), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(blas.guard.holders, threads())
    """, OPENBLAS_NUM_THREADS="2")
    assert out.splitlines() == ["0 [2]", "1 [1]"]


FAKE = r"""
static __thread int limit = 4;
static int calls;
#ifdef MKL
int MKL_Set_Num_Threads_Local(int n) { int before = limit; limit = n; return before; }
#else
int omp_get_max_threads(void) { return limit; }
void omp_set_num_threads(int n) { limit = n; }
const char* openblas_get_config(void) { return CONFIG; }
const char* scipy_openblas_get_config(void) { return CONFIG; }
#endif
int limit_here(void) { return limit; }
int single_threaded_calls(void) { return calls; }
void SGEMM(int order, int ta, int tb, INT m, INT n, INT k, float alpha, const float* a, INT lda, const float* b,
           INT ldb, float beta, float* c, INT ldc) {
    if (limit == 1 && order == 101) __sync_fetch_and_add(&calls, 1);
    for (INT i = 0; i < m; ++i)
        for (INT j = 0; j < n; ++j) {
            float sum = beta ? beta * c[i * ldc + j] : 0;
            for (INT p = 0; p < k; ++p)
                sum += alpha * (ta == 112 ? a[p * lda + i] : a[i * lda + p]) *
                       (tb == 112 ? b[j * ldb + p] : b[p * ldb + j]);
            c[i * ldc + j] = sum;
        }
}
"""

LIBRARIES = {
    "openblas 32": ("openblas", "cblas_sgemm", "int", "OpenBLAS 0.3.0 Zen", 32),
    "openblas 64 by configuration": ("openblas", "cblas_sgemm", "long", "OpenBLAS 0.3.0 USE64BITINT Zen", 64),
    "openblas 64 by suffix": ("openblas", "cblas_sgemm64_", "long", "OpenBLAS 0.3.0", 64),
    "openblas prefix": ("openblas", "scipy_cblas_sgemm", "int", "OpenBLAS 0.3.0", 32),
    "mkl": ("mkl", "cblas_sgemm", "int", "", 32),
    "mkl 64": ("mkl", "cblas_sgemm_64", "long", "", 64),
}


@pytest.mark.parametrize("name", list(LIBRARIES))
def test_libraries_of_other_kinds(name, tmp_path):
    """Stand-ins for libraries that keep their limit per thread: found by their names, called on one thread each."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    api, symbol, integer, config, bits = LIBRARIES[name]
    source, library = tmp_path / "fake.c", tmp_path / "libfake.so"
    source.write_text(FAKE)
    defines = [f"-DSGEMM={symbol}", f"-DINT={integer}", f'-DCONFIG="{config}"', *(["-DMKL"] if api == "mkl" else [])]
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", *defines, str(source), "-o", str(library)], check=True)
    path = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), os.path.dirname(os.path.dirname(__file__))]
    out = inner(f"""
        import ctypes
        import numpy as np
        fake = ctypes.CDLL({str(library)!r})
        from fastconv.kernels import blas
        from kernels.test_blas import StepList, product_step
        blas.use({{"filepath": {str(library)!r}, "internal_api": {api!r}, "threading_layer": "openmp"}})
        info = blas.blas_info()
        assert (info["symbol"], info["integer_bits"]) == ({symbol!r}, {bits}), info
        step, y, truth = product_step()
        steps = StepList([step], 1)
        for threads in (1, 2):
            y[...] = np.nan
            steps.run(threads)
            np.testing.assert_allclose(y, truth, rtol=1e-4, atol=1e-4)
        print(fake.single_threaded_calls() == 2 * step.tiles(1), fake.limit_here())
    """, FASTCONV_BLAS="", PYTHONPATH=os.pathsep.join(p for p in path if p))
    assert out == "True 4"
