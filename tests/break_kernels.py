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

OTHERS = ("bench", "docs", "floors", "public_api", "objects", "everywhere", "zoo")  # that test no kernel's results


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
    return any(rule.search(header.read_text()) for header in (ROOT / "include" / "fastconv").rglob("*.inl.h"))


def files(family: str, name: str) -> tuple[list[str], list[str]]:
    """The test files that name the kernel, its family's module or its family, nearest first; and all the others."""
    def nearness(path: Path) -> int:
        text = path.read_text()
        module = rf"\bkernels\.{family}\b|\bfrom fastconv\.kernels import [^\n]*\b{family}\b"
        return (4 * bool(re.search(rf"\b{name}\b", text)) + 2 * (family in path.stem) + 2 * bool(re.search(module, text))
                + (path.parent.name == "kernels"))

    tests = [path for path in sorted((ROOT / "tests").rglob("test_*.py"))
             if path.parent.name not in ("cli", "day", "interop") and not any(word in path.stem for word in OTHERS)]
    found = sorted(tests, key=lambda path: (-nearness(path), path.stat().st_size))
    near = [str(path.relative_to(ROOT)) for path in found if nearness(path) > 1]
    return near, [str(path.relative_to(ROOT)) for path in found if nearness(path) <= 1]


def first_failure(family: str, name: str, how: str) -> str | None:
    """The first test that fails (or crashes, or hangs), of the nearest files or else of any; None where all pass."""
    return next(filter(None, (failure(some, f"{how}:{name}") for some in files(family, name))), None)


def failure(files: list[str], setting: str) -> str | None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FASTCONV_BREAK": setting, "FASTCONV_TEST_INNER": "1"}
    if setting.endswith(":f32_gemm"):
        environment["FASTCONV_BLAS"] = "none"  # what it stands in for
    command = [sys.executable, "-m", "pytest", "-vvx", "--tb=no", "-p", "no:cacheprovider", "-W", "ignore", *files]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200)
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
            caught = first_failure(families[name], name, how)
            survivors += caught is None
            print(f"{name}\t{how}\t{caught or 'SURVIVED'}", flush=True)
    return survivors


if __name__ == "__main__":
    sys.exit(main())
