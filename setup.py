"""Build: one object per instruction set and kernel family, and the Cython extensions, in parallel and incrementally: what
was made by the same command from files with the same contents is not made again.

Flags are probed with the compiler, never assumed: an instruction set whose flags the compiler lacks is dropped and said
so, and so is OpenMP. Environment: FASTCONV_WERROR=1 turns warnings into errors, FASTCONV_JOBS=n sets the parallel jobs,
FASTCONV_SANITIZE=address,undefined builds with these sanitizers, FASTCONV_CFLAGS adds flags to every object;
FASTCONV_ABI3=1 builds modules for every CPython from 3.11 on (the stable ABI), where this one is such.
"""

from __future__ import annotations

import filecmp
import functools
import hashlib
import logging
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

try:
    import numpy
    from Cython.Build import cythonize
except ImportError as error:
    sys.exit(f"fastconv: to build in place: {error}. Everything that it takes: pip install '.[dev]'")
import setuptools
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

if int(setuptools.__version__.split(".")[0]) < 77:  # the first that reads pyproject.toml's licence
    sys.exit(f"fastconv: setuptools {setuptools.__version__} is too old: pip install 'setuptools>=77'")

ROOT = Path(__file__).parent.resolve()
INCLUDE = ROOT / "include"
KERNELS = ROOT / "fastconv" / "kernels"
EXTENSIONS = sorted(p.stem for p in KERNELS.glob("*.pyx"))
ABI3 = (os.environ.get("FASTCONV_ABI3") == "1" and sys.version_info >= (3, 11)
        and not sysconfig.get_config_var("Py_GIL_DISABLED"))
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
JOBS = int(os.environ.get("FASTCONV_JOBS", 0)) or CORES or 1

AVX2 = ["-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
ISA_FLAGS = {
    "avx2": AVX2,
    "avx512": AVX512,
    "avx512_bf16": [*AVX512, "-mavx512bf16"],
    "amx": [*AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"],
}
COMMON = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno"]
# What a run passes through; the other modules only make steps, and are compiled for size. Of the wheel's bytes: -Os there
# 0.3 MB, plain functions in place of Cython's own kind (binding) 0.13 MB, no tables for unwinding 0.05 MB.
HOT = ("_runtime", "layout", "call")
MODULE = ["-fno-exceptions", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]
# How kernels are compiled, by family, or by instruction set and family; their bits do not depend on it. At -O2 the wheel is
# 0.25 MB smaller than at -O3, and what does not say otherwise here takes as long (each step of training ResNet-18, MobileNet
# v2 and LeNet-5, and of what they lack, at AVX-512 and AVX2, interleaved). norm would take up to 30 % longer, fft and
# elementwise with short loops not unrolled up to 20 %. At -Os depthwise and winograd take as long as at -O3 (depthwise at
# -O2 5 % longer) and are 0.13 MB smaller; pool takes 4 to 17 % less with AVX-512 and is 0.03 MB smaller, with AVX2 averages
# take 12 % longer. AVX2's planes emulate what only newer processors have.
UNROLLED = ["-O2", "-fpeel-loops"]
VECTORISED = ["-O2", "-ftree-vectorize"]  # what copy converts and picks out: at -O2 alone a quarter to a tenth of the speed
LEVELS = {"conv": ["-O3"], "norm": ["-O3"], "copy": VECTORISED, "map": VECTORISED, "reduce": VECTORISED,
          "resample": VECTORISED, "update": VECTORISED, "augment": ["-Os"], "fft": UNROLLED, "elementwise": UNROLLED,
          "depthwise": ["-Os"], "winograd": ["-Os"], "avx512_pool": ["-Os"], "avx2_planes": ["-Os"]}
# Where there are others, the portable kernels are for processors without AVX2: for size, 0.25 MB of the wheel (resnet18 is
# 10 % slower there).
# What takes the compiler longest is begun first, so that all cores end together.
SLOW = ("depthwise", "conv", "pool", "planes", "winograd", "fft")
# Kernels throw nothing, so nobody unwinds through them: the tables for that would be 0.05 MB of the wheel.
BODY = ["-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-fno-asynchronous-unwind-tables"]
WARNINGS = ["-Wall", "-Wextra", "-Wno-psabi", "-Wno-unknown-warning-option"]
GENERATED = ["-Wno-unused-function", "-Wno-unused-variable", "-Wno-unused-parameter", "-Wno-missing-field-initializers",
             "-Wno-cast-function-type", "-Wno-maybe-uninitialized", "-Wno-deprecated-declarations"]


def families() -> list[str]:
    """The families of include/fastconv/kernels.def, in order."""
    return re.findall(r"^#define FC_KERNELS_(\w+)\(X\)", (INCLUDE / "fastconv" / "kernels.def").read_text(), re.M)


def sanitizers() -> list[str]:
    """The flags of FASTCONV_SANITIZE. Any finding ends the process; -O1 keeps the build and its stack frames readable."""
    names = os.environ.get("FASTCONV_SANITIZE", "")
    return [f"-fsanitize={names}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1", "-O1"] if names else []


@functools.cache
def contents(path: str, family: str) -> bytes:
    """What an object is made from; of kernels.def, which all include, the kernels of the object's own family."""
    try:
        data = Path(path).read_bytes()
    except OSError:
        return b"missing"
    if family and path.endswith("kernels.def"):
        data = re.search(rb"^#define FC_KERNELS_%s\(.*?(?=^#|\Z)" % family.encode(), data, re.M | re.S).group()
    return hashlib.sha256(data).digest()


def inputs(target: Path, command: str, family: str = "") -> str:
    """The command that makes target, and a hash of this tree's files that the compiler read for it (its .d file)."""
    try:
        listing = Path(f"{target}.d").read_text().replace("\\\n", " ").split(": ", 1)[1]
    except (OSError, IndexError):
        return ""
    paths = [path.replace("\\ ", " ") for path in re.split(r"(?<!\\)\s+", listing.strip())]
    read = sorted(path for path in {os.path.abspath(path) for path in paths} if path.startswith(f"{ROOT}{os.sep}"))
    made_from = hashlib.sha256(b"".join(path.encode() + contents(path, family) for path in read))
    return f"{made_from.hexdigest()} {command}"


def up_to_date(target: Path, command: str, family: str = "") -> bool:
    made = Path(f"{target}.made")
    return target.exists() and made.exists() and made.read_text() == inputs(target, command, family) != ""


class Build(build_ext):
    """build_ext that makes kernel objects and extensions side by side, and only those whose sources have changed."""

    def finalize_options(self):
        super().finalize_options()
        self.force = True  # what is here decides, by contents; setuptools would by times
        tag = f"{sys.implementation.cache_tag}-{platform.machine()}"
        self.objects_dir = ROOT / "build" / f"objects-{tag}"
        self.modules_dir = ROOT / "build" / f"modules-{tag}{'-abi3' * ABI3}"
        # kept: an editable install would use a new folder each time
        self.build_temp = str(ROOT / "build" / f"temp-{tag}{'-abi3' * ABI3}")

    def probe(self, flags: list[str], source: str = "int main() { return 0; }\n", link: bool = False) -> bool:
        """Whether the compiler takes these flags for this source."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "probe.cpp"
            file.write_text(source)
            command = [*self.cxx, *flags, str(file), "-o", str(Path(folder) / "probe")]
            done = subprocess.run(command if link else [*command, "-c"], capture_output=True, text=True)
            return done.returncode == 0 and "unknown" not in done.stderr

    def build_extensions(self):
        self.cxx = list(getattr(self.compiler, "compiler_cxx", None) or self.compiler.compiler_so)[:1]
        if os.environ.get("CXX"):
            self.cxx = os.environ["CXX"].split()
        extra = [*sanitizers(), *os.environ.get("FASTCONV_CFLAGS", "").split()]
        werror = ["-Werror"] if os.environ.get("FASTCONV_WERROR") == "1" else []
        with ThreadPoolExecutor(JOBS) as pool:
            openmp = pool.submit(self.find_openmp)
            isas, openmp = self.find_isas(pool), openmp.result()
        for folder in (self.objects_dir, self.modules_dir):
            folder.mkdir(parents=True, exist_ok=True)
        for extension in self.extensions:
            size = ["-O2" if self.short(extension) in HOT else "-Os"]
            extension.extra_compile_args += ["-g0", *COMMON, *size, *MODULE, *WARNINGS, *GENERATED, *werror, *openmp, *extra]
            extension.extra_link_args += [*openmp, *extra]
            if not extra and sys.platform.startswith("linux"):
                extension.extra_link_args.append("-Wl,-s")
            extension.define_macros += [(f"FC_HAVE_{isa}", "1") for isa in isas]
            if openmp:
                extension.define_macros.append(("FC_HAVE_OPENMP", "1"))
        self.make(self.kernel_objects(isas, [*COMMON, *BODY, *WARNINGS, *werror, *extra]))

    @staticmethod
    def short(extension: Extension) -> str:
        return extension.name.rpartition(".")[2]

    def make(self, objects: dict[Path, tuple[str, list[str]]]) -> None:
        """Makes what is not up to date: the kernel objects, then the extensions; _runtime, which has the objects, when
        they are there. A line for each that was made."""
        began = time.monotonic()
        stale = {path: job for path, job in objects.items() if not up_to_date(path, " ".join(job[1]), job[0])}
        runtime = next(extension for extension in self.extensions if self.short(extension) == "_runtime")
        runtime.extra_objects = sorted(map(str, objects))
        others = [each for each in self.extensions if each is not runtime]
        changed = [each for each in others if not self.module_is_up_to_date(each)]
        relinked = bool(stale) or not self.module_is_up_to_date(runtime)
        self.made, self.count, self.lock = 0, len(stale) + len(changed) + relinked, threading.Lock()
        if self.count:
            print(f"fastconv: {self.count} objects to compile, {JOBS} at a time", flush=True)
        with ThreadPoolExecutor(JOBS) as pool:
            kernels = [pool.submit(self.make_kernel, path, *job) for path, job in stale.items()]
            modules = [pool.submit(self.make_module, runtime, kernels)]
            modules += [pool.submit(self.make_module, each, []) for each in others]
            logging.disable(logging.INFO)  # setuptools' command lines, ten lines each
            try:
                for future in [*kernels, *modules]:
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                logging.disable(logging.NOTSET)
        if self.count:
            print(f"fastconv: built in {time.monotonic() - began:.0f} s", flush=True)

    def find_openmp(self) -> list[str]:
        source = "#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n"
        apple = ["-Xpreprocessor", "-fopenmp", "-lomp"]  # Apple's compiler comes without the runtime; Homebrew has it
        brewed = [[f"-I{place}/opt/libomp/include", f"-L{place}/opt/libomp/lib", *apple]
                  for place in ("/opt/homebrew", "/usr/local")]
        for flags in (["-fopenmp"], apple, *(brewed if sys.platform == "darwin" else [])):
            if self.probe(flags, source, link=True):
                return flags
        print("fastconv: the compiler has no OpenMP (-fopenmp): building single-threaded", file=sys.stderr)
        return []

    def find_isas(self, pool: ThreadPoolExecutor) -> list[str]:
        if platform.machine().lower() not in ("x86_64", "amd64"):
            print(f"fastconv: {platform.machine()}: building the portable kernels only", file=sys.stderr)
            return []
        taken = pool.map(lambda flags: self.probe(flags, "#include <immintrin.h>\n"), ISA_FLAGS.values())
        found = [isa for isa, takes in zip(ISA_FLAGS, taken, strict=True) if takes]
        for isa in ISA_FLAGS:
            if isa not in found:
                print(f"fastconv: the compiler lacks the flags of {isa}: built without it", file=sys.stderr)
        return found

    def kernel_objects(self, isas: list[str], flags: list[str]) -> dict[Path, tuple[str, list[str]]]:
        """The objects, longest first: kernels.cpp compiled once per set and family. (family, command) of each."""
        objects = {}
        for family in sorted(families(), key=lambda name: SLOW.index(name) if name in SLOW else len(SLOW)):
            for isa in [*reversed(isas), "portable"]:
                if isa in ("avx512_bf16", "amx") and family != "planes" or (isa, family) == ("avx512", "planes"):
                    continue  # see kernels.def
                defines = [f"-DFC_ISA={isa}", f"-DFC_FAMILY={family}", f'-DFC_BODY="fastconv/{family}/family.inl.h"']
                target = self.objects_dir / f"{isa}_{family}.o"
                small = isas and isa == "portable"
                level = ["-Os"] if small else LEVELS.get(f"{isa}_{family}", LEVELS.get(family, ["-O2"]))
                command = [*self.cxx, *level, *flags,
                           *ISA_FLAGS.get(isa, []), *defines,
                           f"-I{INCLUDE}", "-MMD", "-MF", f"{target}.d", "-c", str(KERNELS / "isa" / "kernels.cpp"),
                           "-o", str(target)]
                objects[target] = (family, command)
        return objects

    def make_kernel(self, target: Path, family: str, command: list[str]) -> None:
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True)
        sys.stderr.write(done.stderr)
        if done.returncode:
            raise SystemExit(f"fastconv: compiling {target.name} failed: {' '.join(command)}")
        Path(f"{target}.made").write_text(inputs(target, " ".join(command), family))
        self.report(target.name, began)

    def module_command(self, extension: Extension) -> str:
        """What an extension is compiled and linked with; not the folders of headers, which differ from one isolated build to
        the next."""
        objects = [Path(f"{path}.made").read_text() for path in extension.extra_objects]
        flags = [*map(str, extension.define_macros), *extension.extra_compile_args, *extension.extra_link_args]
        linked = hashlib.sha256("".join(objects).encode()).hexdigest()
        return " ".join([*self.compiler.compiler_so, *self.cxx, *flags, linked])

    def module_path(self, extension: Extension) -> Path:
        """Where an extension is kept between builds; it is built into a new folder each time by pip."""
        return self.modules_dir / Path(self.get_ext_fullpath(extension.name)).name

    def module_is_up_to_date(self, extension: Extension) -> bool:
        return up_to_date(self.module_path(extension), self.module_command(extension))

    def make_module(self, extension: Extension, kernels: list) -> None:
        for future in kernels:
            future.result()
        kept, target = self.module_path(extension), Path(self.get_ext_fullpath(extension.name))
        if not self.module_is_up_to_date(extension):
            began, command = time.monotonic(), self.module_command(extension)
            extension.extra_compile_args += ["-MMD", "-MF", f"{kept}.d"]
            self.build_extension(extension)
            shutil.copy2(target, kept)
            Path(f"{kept}.made").write_text(inputs(kept, command))
            self.report(kept.name, began)
        elif not target.exists() or not filecmp.cmp(kept, target, shallow=False):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # never written over: a process may have it mapped
            shutil.copy2(kept, target)

    def report(self, name: str, began: float) -> None:
        with self.lock:
            self.made += 1
            print(f"fastconv: {self.made}/{self.count} {name} {time.monotonic() - began:.1f} s", flush=True)


class BuildPy(build_py):
    """build_py that puts the C++ headers where fastconv.get_include() finds them in an installed package, and removes what
    an earlier build of this tree has left behind: modules for another ABI, files that have gone since."""

    def run(self):
        if not self.editable_mode:
            made = {os.path.abspath(path) for command in (self, self.get_finalized_command("build_ext"))
                    for path in command.get_outputs()}
            for path in (Path(self.build_lib) / "fastconv").rglob("*"):
                if path.is_file() and os.path.abspath(path) not in made:
                    path.unlink()
        super().run()
        if not self.editable_mode:
            shutil.copytree(INCLUDE, Path(self.build_lib) / "fastconv" / "include", dirs_exist_ok=True)


runpy.run_path(str(KERNELS / "structures.py"))["write"](INCLUDE, KERNELS)
setup(
    ext_modules=cythonize(
        [
            Extension(
                f"fastconv.kernels.{name}",
                [f"fastconv/kernels/{name}.pyx"],
                include_dirs=["include", numpy.get_include()],
                define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"),
                               *([("Py_LIMITED_API", "0x030B0000")] if ABI3 else [])],
                py_limited_api=ABI3,
                language="c++",
            )
            for name in EXTENSIONS
        ],
        nthreads=JOBS,
        compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True,
                             "initializedcheck": False, "embedsignature": True, "binding": False,
                             "freethreading_compatible": True},
    ),
    cmdclass={"build_ext": Build, "build_py": BuildPy},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if ABI3 else {},
)
