"""The Python blocks of README and docs run as they stand, those of a page one after the other in a folder of their own."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastconv

ROOT = Path(__file__).resolve().parents[2]
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if page.exists()]
BLOCK = re.compile(r"(?:^<!-- needs: ([\w, ]+) -->\n)?^```python\n(.*?)^```", re.M | re.S)
FRAGMENTS = {"kernels.md"}  # the steps of adding a kernel, which tests/follow_kernels.py takes


def blocks(page):
    return [(needs.replace(" ", "").split(",") if needs else [], code) for needs, code in BLOCK.findall(page.read_text())]


@pytest.mark.skipif(not PAGES, reason="README and docs are not beside the tests")
def test_there_are_blocks():
    assert len(blocks(ROOT / "README.md")) >= 2
    assert sum(len(blocks(page)) for page in PAGES) >= 10


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in FRAGMENTS and blocks(page)],
                         ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_run(page, tmp_path):
    program, left_out = [], []
    for needs, code in blocks(page):
        missing = [name for name in needs if importlib.util.find_spec(name) is None]
        if missing:
            left_out += missing
        else:
            program.append(code)
    script = tmp_path / "page.py"
    script.write_text("if __name__ == '__main__':\n" + "\n".join(f"    {line}" if line else "" for code in program
                                                            for line in code.splitlines()) + "\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    if left_out:
        pytest.skip(f"the other blocks ran; not installed: {', '.join(left_out)}")


def test_the_table_of_operators_is_current():
    path = ROOT / "docs" / "operators.py"
    if not path.exists():
        pytest.skip("docs are not beside the tests")
    spec = importlib.util.spec_from_file_location("operators_page", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.page()
    assert module.PAGE.read_text() == page, "python docs/operators.py writes it anew"
    named = set(re.findall(r"`(\w+)`", page))
    expand = {name.replace("N", n, 1) if "Nd" in name else name for name in named for n in "123"}
    expand |= {re.sub("Nd", f"{n}d", name) for name in named for n in "123"}
    functions = set(fastconv.functional.__all__) - {"GradcheckError", "gradcheck"}
    modules = set(fastconv.nn.__all__) - {"Module", "Parameter", "init", "utils"}
    assert functions | modules <= expand, (functions | modules) - expand
