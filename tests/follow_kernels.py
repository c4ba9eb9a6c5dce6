"""Takes the steps of docs/kernels.md in a copy of the sources, as they stand there, builds, and runs what they ask for.

    git clone . ../try && cd ../try && python tests/follow_kernels.py

Changes the sources it lies in: refuses to run where the working tree has changes. A step is a block of code behind a
comment: ``<!-- new FILE -->``, ``<!-- add to FILE before|after "TEXT" -->`` (the last line that holds the text), ``<!-- add
to FILE at the end -->`` or ``<!-- run -->``.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STEP = re.compile(r"^   <!-- (.+?) -->\n   ```\w*\n(.*?)^   ```$", re.M | re.S)


def take(what: str, code: str) -> None:
    if found := re.fullmatch(r"new (\S+)", what):
        (ROOT / found[1]).write_text(code)
    elif found := re.fullmatch(r'add to (\S+) (?:(before|after) "(.+)"|at the end)', what):
        path, where, text = ROOT / found[1], found[2], found[3]
        lines = path.read_text().splitlines(True)
        at = len(lines)
        if where:
            at = max(i for i, line in enumerate(lines) if text in line) + (where == "after")
        path.write_text("".join([*lines[:at], code, *lines[at:]]))
    else:
        sys.exit(f"docs/kernels.md: no such step: {what}")


def main() -> None:
    if subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=ROOT, capture_output=True, check=True).stdout:
        sys.exit("the working tree has changes: run this in a clone made for it")
    page = (ROOT / "docs" / "kernels.md").read_text()
    steps = [(what, re.sub("^   ", "", code, flags=re.M)) for what, code in STEP.findall(page)]
    if len(steps) < 10:
        sys.exit(f"docs/kernels.md: {len(steps)} steps")
    for what, code in steps:
        if what != "run":
            take(what, code)
    commands = ["python setup.py build_ext --inplace",
                *(line for what, code in steps if what == "run" for line in code.splitlines()),
                "python -m pytest -q tests/kernels/test_cube.py tests/house/test_public_api.py tests/house/test_objects.py "
                "tests/house/test_docs.py -k 'not python_blocks'",
                "python -m pytest -q tests/kernels/test_map.py tests/functional/test_records.py "
                "-k 'smoothstep or squash or every_instruction'"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for command in commands:
        command = re.sub(r"^python\b", sys.executable, command)
        print(command, flush=True)
        subprocess.run(command, cwd=ROOT, env=environment, shell=True, check=True)


if __name__ == "__main__":
    main()
