"""Build: one object per instruction set and kernel family, then the Cython extensions, in parallel and incrementally.

Flags are probed with the compiler, never assumed: an instruction set whose flags the compiler lacks is dropped and said
so, and so is OpenMP. Environment: FASTCONV_WERROR=1 turns warnings into errors, FASTCONV_JOBS=n sets the parallel jobs,
FASTCONV_SANITIZE=address,undefined builds with these sanitizers, FASTCONV_CFLAGS adds flags to every object;
FASTCONV_ABI3=1 builds modules for every CPython from 3.11 on (the stable ABI), where this one is such.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent.resolve()
INCLUDE = ROOT / "include"
KERNELS = ROOT / "fastconv" / "kernels"
EXTENSIONS = sorted(p.stem for p in KERNELS.glob("*.pyx"))
ABI3 = (os.environ.get("FASTCONV_ABI3") == "1" and sys.version_info >= (3, 11)
        and not sysconfig.get_config_var("Py_GIL_DISABLED"))
JOBS = int(os.environ.get("FASTCONV_JOBS", 0)) or os.cpu_count() or 1

AVX2 = ["-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
ISA_FLAGS = {
    "avx2": AVX2,
    "avx512": AVX512,
    "avx512_bf16": [*AVX512, "-mavx512bf16"],
    "amx": [*AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"],
}
COMMON = ["-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno"]
# What a run passes through; the other modules only make steps, and are compiled for size: 0.3 MB of the wheel.
HOT = ("_runtime", "layout", "call")
# Where there are others, the portable kernels are for processors without AVX2: for size too, 0.17 MB of the wheel, but in
# the families where that takes longer (10 % for resnet18).
PORTABLE_FAST = ("conv", "winograd")
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


class Build(build_ext):
    """build_ext that compiles the kernel objects first and rebuilds only what changed."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = JOBS
        tag = f"{sys.implementation.cache_tag}-{platform.machine()}"
        self.objects_dir = ROOT / "build" / f"objects-{tag}"
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
        openmp = self.find_openmp()
        isas = self.find_isas()
        objects = self.build_objects(isas, [*COMMON, *BODY, *WARNINGS, *werror, *extra])
        for extension in self.extensions:
            size = [] if extension.name.rpartition(".")[2] in HOT else ["-Os"]
            extension.extra_compile_args += [*COMMON, *size, *WARNINGS, *GENERATED, *werror, *openmp, *extra]
            extension.extra_link_args += [*openmp, *extra]
            if not extra and sys.platform.startswith("linux"):
                extension.extra_link_args.append("-Wl,-s")
            extension.define_macros += [(f"FC_HAVE_{isa}", "1") for isa in isas]
            if openmp:
                extension.define_macros.append(("FC_HAVE_OPENMP", "1"))
            if extension.name.endswith("._runtime"):
                extension.extra_objects = objects
                extension.depends += objects
        super().build_extensions()

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

    def find_isas(self) -> list[str]:
        if platform.machine().lower() not in ("x86_64", "amd64"):
            print(f"fastconv: {platform.machine()}: building the portable kernels only", file=sys.stderr)
            return []
        found = [isa for isa, flags in ISA_FLAGS.items() if self.probe(flags, "#include <immintrin.h>\n")]
        for isa in ISA_FLAGS:
            if isa not in found:
                print(f"fastconv: the compiler lacks the flags of {isa}: built without it", file=sys.stderr)
        return found

    def build_objects(self, isas: list[str], flags: list[str]) -> list[str]:
        """Compiles kernels.cpp once per instruction set and family; returns the objects."""
        self.objects_dir.mkdir(parents=True, exist_ok=True)
        jobs = []
        for isa in ["portable", *isas]:
            for family in ["planes"] if isa in ("avx512_bf16", "amx") else families():
                defines = [f"-DFC_ISA={isa}", f"-DFC_FAMILY={family}", f'-DFC_BODY="fastconv/family_{family}.inl.h"']
                target = self.objects_dir / f"{isa}_{family}.o"
                small = isas and isa == "portable" and family not in PORTABLE_FAST
                command = [*self.cxx, *("-Os" if small and flag == "-O3" else flag for flag in flags),
                           *ISA_FLAGS.get(isa, []), *defines,
                           f"-I{INCLUDE}", "-MMD", "-MF", f"{target}.d", "-c", str(KERNELS / "isa" / "kernels.cpp"),
                           "-o", str(target)]
                if not up_to_date(target, command):
                    jobs.append((target, command))
        with ThreadPoolExecutor(JOBS) as pool:
            for future in [pool.submit(self.compile_object, *job) for job in jobs]:
                future.result()
        return [str(self.objects_dir / name) for name in sorted(os.listdir(self.objects_dir)) if name.endswith(".o")
                and name.split(".")[0] in self.object_names(isas)]

    @staticmethod
    def object_names(isas: list[str]) -> set[str]:
        names = {f"{isa}_{family}" for isa in ["portable", *isas] for family in families()}
        return names | {f"{isa}_planes" for isa in isas}

    @staticmethod
    def compile_object(target: Path, command: list[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True)
        sys.stderr.write(done.stderr)
        if done.returncode:
            raise SystemExit(f"fastconv: compiling {target.name} failed: {' '.join(command)}")
        Path(f"{target}.cmd").write_text(" ".join(command))


def up_to_date(target: Path, command: list[str]) -> bool:
    """Whether target was made by this very command and is newer than all that it includes (the compiler's .d file)."""
    made_by, listing = Path(f"{target}.cmd"), Path(f"{target}.d")
    if not (target.exists() and made_by.exists() and listing.exists() and made_by.read_text() == " ".join(command)):
        return False
    needs = listing.read_text().replace("\\\n", " ").split(":", 1)[1].split()
    time = target.stat().st_mtime
    return all(os.path.exists(need) and os.stat(need).st_mtime <= time for need in needs)


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


HEADERS = [str(p) for p in (INCLUDE / "fastconv").iterdir() if p.suffix in (".h", ".def")]  # not the bodies

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
                depends=HEADERS,
                language="c++",
            )
            for name in EXTENSIONS
        ],
        nthreads=JOBS,
        compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True,
                             "initializedcheck": False, "embedsignature": True, "freethreading_compatible": True},
    ),
    cmdclass={"build_ext": Build, "build_py": BuildPy},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if ABI3 else {},
)
