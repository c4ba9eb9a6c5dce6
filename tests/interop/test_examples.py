"""The example that trains an imported model further, on the real model and pictures where they lie beside the repository."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
EXAMPLE = ROOT / "examples" / "finetune.py"


@pytest.mark.skipif(not EXAMPLE.exists(), reason="examples are not beside the tests")
@pytest.mark.skipif(not (SHARED / "models").is_dir(), reason="../shared/models is not there")
@pytest.mark.parametrize("more", [[], ["--all", "--rate", "0.001"]])
def test_fine_tuning(tmp_path, more):
    for package in ("onnx", "onnxruntime", "PIL"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    (tmp_path / "pictures").mkdir()
    for file in sorted((SHARED / "images").glob("cifar10_*.png")):
        (tmp_path / "pictures" / file.name).write_bytes(file.read_bytes())
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), str(SHARED / "models" / "cifar10_cnn_fp32.onnx"), str(tmp_path / "pictures"),
         "--head", "Gemm_70", "--without", "Relu_71", "--size", "32", "--epochs", "40",
         "--output", str(tmp_path / "f.onnx"), *more],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert "Gemm_70 becomes Linear(512, 8)" in done.stdout
    right = int(re.search(r"^(\d+) of 20 pictures right", done.stdout, re.M)[1])
    assert right >= 15, done.stdout
    found = re.search(r"(\d+) right, largest difference (\S+) of (\S+)", done.stdout)
    assert int(found[1]) == right and float(found[2]) < 1e-4 * float(found[3])
