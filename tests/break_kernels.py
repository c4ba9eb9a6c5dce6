"""Breaks each kernel in a copy of the sources and reports the first test that notices.

    git clone . ../copy && cd ../copy && python tests/break_kernels.py [kernel ...]

Changes the sources it lies in: refuses to run where the working tree has changes. Two breaks per kernel: `nothing`, its
run returns at once; `short`, its run leaves out the last tile where there is more than one. A kernel that survives lacks
a test. The answers are written as they come; the exit status counts the survivors.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNTIME = ROOT / "fastconv" / "kernels" / "_runtime.pyx"
MARK = "_broken_run"

WRAPPER = '''
cdef FcKernel _real, _broken
_break, _, _victim = os.environ.get("FASTCONV_BREAK", "").encode().partition(b":")
cdef bint _short = _break == b"short"


cdef void _broken_run(const void* args, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    cdef int64_t tiles
    if _short:
        tiles = _real.tiles(<void*> args, (<const int64_t*> args)[0])
        if tiles > 1 and end == tiles:
            end -= 1
        if begin < end:
            _real.run(args, begin, end, scratch)


cdef const FcKernel* _break_it(const FcKernel* kernel):
    global _real, _broken
    if kernel == &_broken or kernel.name != _victim:
        return kernel
    _real = kernel[0]
    _broken = kernel[0]
    _broken.run = _broken_run
    return &_broken


cdef const FcKernel* find_kernel('''
PATCHES = [
    ("\ncdef const FcKernel* find_kernel(", WRAPPER),
    ("return _table[<int> _by_name[name]]", "return _break_it(_table[<int> _by_name[name]])"),
    ("self.c.kernel = kernel\n", "self.c.kernel = _break_it(kernel)\n"),
]

# Where the tests of a family are, nearest first.
FILES = {
    "layout": ["kernels/test_layout.py", "kernels/test_pad.py", "kernels/test_conv.py", "test_nn.py", "test_batch_norm.py"],
    "conv": ["kernels/test_conv.py", "kernels/test_many.py", "kernels/test_fma_peak.py", "kernels/test_bandwidth.py"],
    "depthwise": ["kernels/test_depthwise.py", "kernels/test_depthwise_rows.py"],
    "fft": ["kernels/test_fft.py", "test_conv_fft.py"],
    "winograd": ["kernels/test_winograd.py", "test_conv_winograd.py"],
    "norm": ["kernels/test_norm.py", "test_batch_norm.py"],
    "update": ["kernels/test_update.py"],
    "im2col": ["kernels/test_im2col.py", "kernels/test_blas.py", "test_unfold.py"],
    "elementwise": ["kernels/test_elementwise.py", "kernels/test_sums.py", "test_elementwise_ops.py"],
    "loss": ["kernels/test_loss.py"],
    "pool": ["kernels/test_pool.py", "test_ops_pool.py"],
    "planes": ["kernels/test_planes.py", "kernels/test_planes_weight.py"],
}


def prepare() -> None:
    """Patches the one place through which every kernel goes, and builds."""
    text = RUNTIME.read_text()
    if MARK not in text:
        if subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=ROOT, capture_output=True).stdout:
            sys.exit("the working tree has changes: run this in a clone made for it")
        for old, new in PATCHES:
            if text.count(old) != 1:
                sys.exit(f"{RUNTIME.name}: {old.strip()!r} occurs {text.count(old)} times: PATCHES needs an update")
            text = text.replace(old, new)
        RUNTIME.write_text(text)
    subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL)


def kernels() -> dict[str, str]:
    """Every kernel and its family: those of kernels.def and those written in Cython."""
    found, family = {}, None
    for line in (ROOT / "include" / "fastconv" / "kernels.def").read_text().splitlines():
        if match := re.match(r"#define FC_KERNELS_(\w+)\(X\)", line):
            family = match[1]
        elif match := re.match(r"\s+X\((\w+), \w+\)", line):
            found[match[1]] = family
    for source in RUNTIME.parent.glob("*.pyx"):
        for name in re.findall(r'FcKernel\("(\w+)"', source.read_text()):
            found[name] = source.stem
    return found


def always_one_tile(name: str) -> bool:
    rule = re.compile(rf"\b{name}_tiles\([^)]*\) {{ return 1; }}")
    return any(rule.search(header.read_text()) for header in (ROOT / "include" / "fastconv").glob("*.inl.h"))


def first_failure(family: str, setting: str) -> str | None:
    """The first test of the family's files that fails (or crashes, or hangs), None where all pass."""
    files = [f"tests/{f}" for f in FILES[family] if (ROOT / "tests" / f).exists()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FASTCONV_BREAK": setting, "FASTCONV_TEST_INNER": "1"}
    if setting.endswith(":f32_gemm"):
        environment["FASTCONV_BLAS"] = "none"  # what it stands in for
    command = [sys.executable, "-m", "pytest", "-vvx", "--tb=no", "-p", "no:cacheprovider", "-W", "ignore", *files]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        output, how = done.stdout, "" if done.returncode == 1 else "crash in "
        if done.returncode == 0:
            return None
    except subprocess.TimeoutExpired as error:
        output, how = (error.stdout or b"").decode(), "hang in "
    if match := re.search(r"^(?:FAILED|ERROR) tests/(\S+.*?)(?: - .*)?$", output, re.M):
        return match[1]
    begun = re.findall(r"^tests/(\S+::.*?)(?: (?:PASSED|SKIPPED).*)?$", output, re.M)
    return how + (begun[-1].strip() if begun else "collection")


def main() -> int:
    prepare()
    families, survivors = kernels(), 0
    for name in sys.argv[1:] or families:
        for how in ("nothing",) if always_one_tile(name) else ("nothing", "short"):
            caught = first_failure(families[name], f"{how}:{name}")
            survivors += caught is None
            print(f"{name}\t{how}\t{caught or 'SURVIVED'}", flush=True)
    return survivors


if __name__ == "__main__":
    sys.exit(main())
