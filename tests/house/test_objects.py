"""The kernel objects: one exported symbol each, nothing weak, no static initialisers; dispatch by FASTCONV_ISA."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fastconv.kernels._runtime import isa_info, kernel_names

ROOT = Path(__file__).resolve().parents[2]
OBJECTS = sorted((ROOT / "build").glob(f"objects-{sys.implementation.cache_tag}-*/*.o"))


@pytest.mark.skipif(not OBJECTS, reason="the kernel objects are not there: the package was not built in this folder")
@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
def test_each_object_exports_one_symbol_and_no_weak_one():
    for path in OBJECTS:
        listing = subprocess.run(["nm", str(path)], capture_output=True, text=True, check=True).stdout
        symbols = [line.split()[-2:] for line in listing.splitlines()]
        defined = [name for kind, name in symbols if kind.isupper() and kind not in "UW"]
        weak = [name for kind, name in symbols if kind in "WwVvu" and not name.startswith("__")]
        assert defined == [f"fastconv_{path.stem}"], path
        assert not weak, f"{path}: {weak}"
        sections = subprocess.run(["objdump", "-h", str(path)], capture_output=True, text=True).stdout
        assert ".init_array" not in sections and ".ctors" not in sections, path


def dynamic_symbols(path):
    """(kind, name) of what a shared object offers and needs; versions left out."""
    listing = subprocess.run(["nm", "-D", str(path)], capture_output=True, text=True, check=True).stdout
    return [(line.split()[-2], line.split()[-1].partition("@")[0]) for line in listing.splitlines()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at ELF files")
@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
def test_each_module_exports_its_init_function_alone_and_is_stripped():
    import fastconv

    modules = sorted(path for folder in fastconv.__path__ for path in Path(folder).rglob("*.so"))
    assert len(modules) > 10
    for path in modules:
        symbols = dynamic_symbols(path)
        if any(name.startswith(("__asan_", "__ubsan_")) for _, name in symbols):
            pytest.skip("this build has sanitizers, whose symbols are exported")
        offered = [name for kind, name in symbols if kind not in "Uw"]
        assert offered == [f"PyInit_{path.name.partition('.')[0]}"], path
        table = subprocess.run(["nm", str(path)], capture_output=True, text=True, check=True)
        assert not table.stdout.strip(), f"{path} is not stripped"


def test_the_table_has_every_kernel_of_kernels_def():
    path = ROOT / "include" / "fastconv" / "kernels.def"
    text = "".join(line for line in path.read_text().splitlines(True) if not line.startswith("//"))
    assert re.findall(r"X\((\w+), \w+\)", text) == kernel_names()


def run(code, **environment):
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True)


@pytest.mark.parametrize("isa", isa_info()["available"])
def test_the_cap_is_obeyed(isa):
    code = "from fastconv.kernels._runtime import isa_info; print(isa_info()['isa'], '|', isa_info()['reason'])"
    done = run(code, FASTCONV_ISA=isa)
    assert done.stdout.strip() == f"{isa} | FASTCONV_ISA={isa}", done.stderr


@pytest.mark.parametrize("isa", ["avx3", "neon", "portable2"])
def test_an_unknown_cap_is_an_import_error(isa):
    done = run("import fastconv.kernels._runtime", FASTCONV_ISA=isa)
    assert done.returncode != 0
    assert f"ImportError: FASTCONV_ISA={isa!r}: no such instruction set" in done.stderr


def test_an_unsupported_cap_is_an_import_error():
    missing = [i for i in ("avx2", "avx512", "avx512_bf16", "amx") if i not in isa_info()["available"]]
    if not missing:
        pytest.skip("this machine has every instruction set")
    done = run("import fastconv.kernels._runtime", FASTCONV_ISA=missing[-1])
    assert done.returncode != 0
    assert f"ImportError: FASTCONV_ISA={missing[-1]!r}" in done.stderr and "usable here are" in done.stderr
