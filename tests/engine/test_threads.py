"""Where the number of threads comes from: OMP_NUM_THREADS, affinity, control groups; a fake tree stands for their files."""

import os
import shutil
import subprocess
import sys

import pytest

import fastconv as fc
from fastconv.kernels import threads

REPORT = ("import fastconv as fc; from fastconv.kernels.threads import threads_reason\n"
          "print(fc.get_num_threads(), threads_reason())")
TASKS = """
import os, numpy as np, fastconv as fc
net = fc.nn.Sequential(fc.nn.Conv2d(8, 32, 3, padding=1), fc.nn.ReLU(), fc.nn.Conv2d(32, 32, 3, padding=1))
before = len(os.listdir("/proc/self/task"))
fc.compile(net, (8, 8, 32, 32))(np.ones((8, 8, 32, 32), np.float32))
print(1 + len(os.listdir("/proc/self/task")) - before)
"""


def tree(root, cgroup="", **files):
    """Files of ``proc`` and ``sys`` below a folder."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        target = root / "sys/fs/cgroup" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return str(root)


V1 = "12:cpuset:/docker/x\n4:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n0::/docker/x\n"


@pytest.mark.parametrize(("cgroup", "files", "expected"), [
    ("0::/\n", {"cpu.max": "300000 100000\n"}, 3),
    ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),  # half a processor more is one more thread
    ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
    ("0::/\n", {"cpu.max": "max 100000\n"}, None),
    ("0::/\n", {}, None),
    # nested groups: the least of all counts, wherever it is
    ("0::/a/b/c\n", {"a/b/c/cpu.max": "max 100000", "a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2),
    ("0::/a/b\n", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "600000 100000", "cpu.max": "500000 100000"}, 4),
    ("0::/a/b\n", {"a/b/cpu.max": "400000 50000", "a/cpu.max": "600000 100000"}, 6),
    ("0::/a\n", {"b/cpu.max": "100000 100000"}, None),  # a group of others
    # a container sees its own group as the root, whatever path the host has for it
    ("0::/host/path\n", {"cpu.max": "200000 100000"}, 2),
    ("0::/../other\n", {"cpu.max": "200000 100000"}, 2),
    # version 1
    (V1, {"cpu,cpuacct/docker/x/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n"}, 3),
    (V1, {"cpu,cpuacct/docker/x/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n"}, None),
    (V1, {"cpu,cpuacct/docker/x/cpu.cfs_quota_us": "-1", "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000",
          "cpu,cpuacct/docker/cpu.cfs_quota_us": "100000", "cpu,cpuacct/docker/cpu.cfs_period_us": "50000"}, 2),
    (V1, {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),  # inside a container
    (V1, {"cpu,cpuacct/docker/x/cpu.cfs_quota_us": "100000"}, None),  # no period
    (V1, {"cpuset/docker/x/cpu.cfs_quota_us": "100000", "cpuset/docker/x/cpu.cfs_period_us": "100000"}, None),
    # broken files count as if they were not there
    ("0::/\n", {"cpu.max": ""}, None),
    ("0::/\n", {"cpu.max": "many 100000"}, None),
    ("0::/\n", {"cpu.max": "100000 0"}, None),
    ("0::/\n", {"cpu.max": "0 100000"}, None),
    ("nonsense\n::\n\n", {"cpu.max": "200000 100000"}, 2),
])
def test_quota(tmp_path, cgroup, files, expected):
    assert threads.cgroup_quota(tree(tmp_path, cgroup, **files)) == expected


def test_no_files_at_all(tmp_path):
    assert threads.cgroup_quota(str(tmp_path)) is None


@pytest.mark.parametrize(("quota", "affinity", "environment", "expected"), [
    ("300000 100000", 8, None, (3, "control group quota")),
    ("max 100000", 8, None, (8, "affinity mask")),
    ("900000 100000", 8, None, (8, "affinity mask")),
    ("300000 100000", 2, None, (2, "affinity mask")),
    ("300000 100000", 8, "6", (6, "OMP_NUM_THREADS")),  # who sets it knows
    ("300000 100000", 8, "5,2", (5, "OMP_NUM_THREADS")),
    ("300000 100000", 8, "", (3, "control group quota")),
    ("300000 100000", 8, "-2", (3, "control group quota")),
    ("300000 100000", 8, "5000", (1024, "OMP_NUM_THREADS, of which at most 1024")),
    ("max 100000", 0, None, (1, "affinity mask")),
])
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity masks on this system")
def test_the_least_counts_unless_the_environment_decides(tmp_path, monkeypatch, quota, affinity, environment, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if environment is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    assert threads.available_threads(tree(tmp_path, "0::/a\n", **{"a/cpu.max": quota})) == expected


def test_without_affinity_masks(tmp_path, monkeypatch):
    """macOS has none."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert threads.available_threads(str(tmp_path)) == (6, "number of processors")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.available_threads(str(tmp_path)) == (1, "number of processors")


def report(command, code=REPORT, **environment):
    """What a process of its own, started by a command, prints of its threads."""
    names = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    names["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run([*command, sys.executable, "-c", code], capture_output=True, text=True,
                          env={**names, **environment}, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("taskset") is None, reason="taskset (util-linux) is not installed")
def test_taskset():
    allowed = sorted(os.sched_getaffinity(0))
    quota = threads.cgroup_quota()
    assert report(["taskset", "-c", str(allowed[0])]) == "1 affinity mask"
    assert report(["taskset", "-c", str(allowed[0])], OMP_NUM_THREADS="3") == "3 OMP_NUM_THREADS"
    two = allowed[:2]
    if len(two) == 2 and (quota is None or quota >= 2):
        assert report(["taskset", "-c", ",".join(map(str, two))]) == "2 affinity mask"


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="no /proc to count a process's threads in")
@pytest.mark.parametrize("n", ["1", "3"])
def test_a_run_has_so_many_threads(n):
    assert report([], TASKS, OMP_NUM_THREADS=n, OPENBLAS_NUM_THREADS="1") == n


def test_results_do_not_depend_on_how_many():
    """Through the whole engine; each kernel by itself is tested in tests/kernels."""
    import numpy as np

    fc.manual_seed(0)
    net = fc.zoo.lenet5(10)
    x = np.random.default_rng(0).standard_normal((16, 1, 32, 32), dtype=np.float32)
    results = {fc.compile(net, x.shape, threads=n)(x).tobytes() for n in (1, 2, 3, 7)}
    assert len(results) == 1
