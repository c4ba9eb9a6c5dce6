"""The house's floors: imports point downwards only, and floors do not know what they need not."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = {
    "fastconv._version": 0,
    "fastconv._include": 0,
    "fastconv._arrays": 0,
    "fastconv._atomic": 0,
    "fastconv._extra": 0,
    "fastconv._picture": 0,
    "fastconv._text": 0,
    "fastconv._values": 0,
    "fastconv.kernels": 1,
    "fastconv.graph": 2,
    "fastconv.lowering": 2.1,
    "fastconv.ops": 2.2,
    "fastconv.report": 2.3,
    "fastconv.engine": 2.4,
    "fastconv.config": 2.4,
    "fastconv.functional": 2.5,
    "fastconv.nn": 3,
    "fastconv.train": 4,
    "fastconv.data": 4,
    "fastconv.optim": 4,
    "fastconv._arguments": 5,
    "fastconv._model": 5,
    "fastconv._recipes": 5,
    "fastconv._targets": 5,
    "fastconv.bench": 5,
    "fastconv.measure": 5,
    "fastconv.zoo": 5,
    "fastconv.vision": 5,
    "fastconv.sklearn": 5,
    "fastconv.interop": 5,
    "fastconv.distributed": 5,
    "fastconv.cli": 5.5,
    "fastconv.__main__": 5.5,
    "fastconv": 6,  # names the public API
}
SOURCES = sorted(p for p in (ROOT / "fastconv").rglob("*") if p.suffix in (".py", ".pyx", ".pxd"))
CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+(\.*[\w.]*)\s+c?import\s+\(?\s*(.*)|c?import\s+(.*))$", re.MULTILINE)
ISA_NAME = re.compile(r"(?<![a-z])(avx|amx|sse[0-9]|neon(?![a-z])|fma3)", re.IGNORECASE)


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor(module):
    while module not in FLOORS:
        assert "." in module, f"{module} is on no floor"
        module = module.rpartition(".")[0]
    return FLOORS[module]


def is_module(name):
    path = ROOT / Path(*name.split("."))
    return path.is_dir() or any(path.with_suffix(s).exists() for s in (".py", ".pyx"))


def pairs(source, cython):
    """(level, module, names) of every import statement, those inside functions included."""
    if not cython:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom):
                yield node.level, node.module or "", [alias.name for alias in node.names]
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    yield 0, alias.name, []
        return
    for match in CYTHON_IMPORT.finditer(source):
        module, names, plain = match.groups()
        if plain is not None:
            for name in plain.split(","):
                yield 0, name.split(" as ")[0].strip(), []
        else:
            level = len(module) - len(module.lstrip("."))
            yield level, module[level:], [n.split(" as ")[0].strip(" )") for n in names.split(",")]


def imports(source, module, package, cython=False):
    """Modules of fastconv that a source names in its imports."""
    found = set()
    for level, name, names in pairs(source, cython):
        if level:
            base = (module if package else module.rpartition(".")[0]).split(".")
            name = ".".join([*base[: len(base) - level + 1], *([name] if name else [])])
        if name.split(".")[0] != "fastconv":
            continue
        children = {f"{name}.{n}" for n in names if is_module(f"{name}.{n}")}
        found |= children
        if len(children) < len(names) or not names:
            found.add(name)
    return found


def offences(source, module, package=False, cython=False):
    return sorted(target for target in imports(source, module, package, cython) if floor(target) > floor(module))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path):
    module, package = module_name(path), path.stem == "__init__"
    assert offences(path.read_text(), module, package, path.suffix != ".py") == []


def test_the_check_finds_what_it_is_for():
    assert offences("import fastconv.nn", "fastconv.graph.ir") == ["fastconv.nn"]
    assert offences("from fastconv import nn", "fastconv.ops.conv") == ["fastconv.nn"]
    assert offences("from fastconv import compile", "fastconv.nn.module") == ["fastconv"]
    assert offences("def f():\n    from ..train import files", "fastconv.nn.module") == ["fastconv.train.files"]
    assert offences("from . import nn", "fastconv", package=True) == []
    assert offences("from fastconv.graph.ir cimport x", "fastconv.kernels.conv", cython=True) == ["fastconv.graph.ir"]
    assert offences("from .conv cimport fill", "fastconv.kernels.im2col", cython=True) == []


def circles(edges):
    """Names that reach one another: strongly connected components of more than one (Tarjan, SIAM J. Comput. 1, 1972)."""
    found, index, low, stack = [], {}, {}, []

    def visit(name):
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in edges.get(name, ()):
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            at = stack.index(name)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for name in edges:
        if name not in index:
            visit(name)
    return found


def test_no_circle_between_modules_or_rooms():
    """Imports inside functions count; those for type checkers alone do not."""
    modules = {}
    for path in SOURCES:
        if path.suffix == ".pxd":
            continue
        name, text = module_name(path), re.sub(r"(?m)^if TYPE_CHECKING:\n(?:[ \t]+.*\n|\n)+", "", path.read_text())
        used = imports(text, name, path.stem == "__init__", path.suffix == ".pyx")
        modules[name] = sorted(u for u in used if u != name and is_module(u))
    assert circles(modules) == []
    rooms = {}
    for name, used in modules.items():
        if name != "fastconv":
            room = rooms.setdefault(".".join(name.split(".")[:2]), set())
            room |= {".".join(u.split(".")[:2]) for u in used} - {"fastconv"}
    assert circles({room: sorted(used - {room}) for room, used in rooms.items()}) == []


def test_the_search_finds_circles():
    assert circles({"a": ["b"], "b": ["c"], "c": ["a", "d"], "d": []}) == [["a", "b", "c"]]
    assert circles({"a": ["b", "c"], "b": ["c"], "c": []}) == []


@pytest.mark.parametrize("folder", ["graph", "lowering", "ops", "report", "engine"])
def test_graph_names_no_instruction_set(folder):
    for path in (ROOT / "fastconv" / folder).rglob("*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not ISA_NAME.search(line), f"{path.name}:{number}: {line}"


def test_modules_know_the_graph_alone():
    allowed = ("fastconv.nn", "fastconv._arrays", "fastconv._text", "fastconv._values", "fastconv.graph.ir",
               "fastconv.graph.parameter", "fastconv.graph.random", "fastconv.graph.traced", "fastconv.engine.losses",
               "fastconv.engine.updating", "fastconv.functional")
    for path in (ROOT / "fastconv" / "nn").rglob("*.py"):
        for target in imports(path.read_text(), module_name(path), path.stem == "__init__"):
            assert target.startswith(allowed), f"{path.name} imports {target}"


def test_data_stands_alone():
    for path in (ROOT / "fastconv" / "data").rglob("*.py"):
        for target in imports(path.read_text(), module_name(path), path.stem == "__init__"):
            allowed = ("fastconv.data", "fastconv.kernels", "fastconv._arrays", "fastconv._atomic", "fastconv._extra",
                       "fastconv._text", "fastconv._values")
            assert target.startswith(allowed), f"{path.name} imports {target}"


def test_headers_know_no_python():
    for path in (ROOT / "include").rglob("*"):
        if path.is_file():
            for line in path.read_text().splitlines():
                assert not re.match(r'\s*#\s*include\s*["<](Python\.h|numpy/)', line), f"{path.name}: {line}"


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_fastconv_imports_next_to_nothing():
    loaded = run("import sys; before = set(sys.modules); import fastconv; print(*sorted(set(sys.modules) - before))")
    assert "fastconv" in loaded
    heavy = [m for m in loaded if m.split(".")[0] in ("numpy", "threadpoolctl", "tqdm", "matplotlib", "torch", "onnx")]
    assert heavy == []
    assert [m for m in loaded if m.startswith("fastconv.")] == ["fastconv._path", "fastconv._version"]


HEAVY = ("asyncio", "concurrent", "decimal", "email", "http", "matplotlib", "multiprocessing", "onnx", "PIL", "safetensors",
         "scipy", "ssl", "statistics", "tempfile", "torch", "tqdm", "unittest")


def test_compiling_a_network_imports_nothing_heavy():
    code = ("import sys, numpy; before = set(sys.modules); import fastconv as fc;"
            "net = fc.nn.Sequential(fc.nn.Conv2d(1, 2, 3), fc.nn.ReLU(), fc.nn.Flatten(), fc.nn.Linear(18, 2));"
            "fc.compile(net, (1, 1, 5, 5))(numpy.zeros((1, 1, 5, 5), numpy.float32));"
            "print(*sorted(set(sys.modules) - before))")
    loaded = run(code)
    assert "fastconv.engine.engine" in loaded
    assert [m for m in loaded if m.split(".")[0] in HEAVY] == []
    assert not [m for m in loaded if m.startswith(("fastconv.cli", "fastconv.data", "fastconv.interop", "fastconv.optim",
                                                   "fastconv.train", "fastconv.zoo"))]


def test_every_public_name_is_there():
    import fastconv

    for name in fastconv.__all__:
        assert getattr(fastconv, name) is not None
        assert name in dir(fastconv)
    assert set(fastconv.__all__) - {"__version__"} == {*fastconv._NAMES, *fastconv._MODULES}
    with pytest.raises(AttributeError, match="module 'fastconv' has no attribute 'conv9d'"):
        fastconv.conv9d  # noqa: B018
    assert fastconv.conv2d is fastconv.functional.conv2d  # as torch.cat: `import fastconv as torch` finds functions


def test_headers_are_where_get_include_says():
    import fastconv

    assert (Path(fastconv.get_include()) / "fastconv" / "kernels.def").is_file()
