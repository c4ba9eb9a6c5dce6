"""Times of two runs side by side: what counts as slower, what is refused. The numbers are made up."""

import copy
import json

import pytest
from cli.helpers import benchmark as main
from cli.helpers import refused

MACHINE = {"cpu": "One (family 1, model 2, stepping 3)", "cores": 2, "caches": {"L1d": "48K"}, "isa": "avx2",
           "python": "3.12.1", "isa_reason": "", "isa_available": ["avx2"], "memory": 2**34, "numpy": "2.0", "blas": [],
           "system": "Linux", "versions": {"fastconv": "0.1.0", "torch": "2.13"}, "commit": "abc", "date": "today"}


def steady(median):
    """Five rounds without any spread."""
    return [median] * 5


def case(peer, seconds, variant="v", **more):
    return {"peer": peer, "variant": variant, "info": {}, "seconds": seconds, **more}


def run(*rows, benchmark="nets", threads=(1,), machine=None, **more):
    return {"format": 1, "benchmark": benchmark, "machine": {**MACHINE, **(machine or {})},
            "options": {"threads": list(threads)}, "results": list(rows), **more}


def row(*cases, network="lenet5", **more):
    return {"network": network, "mode": "inference", "batch": 1, "threads": 1, "isa": "avx2", "precision": "highest",
            "cases": list(cases), **more}


@pytest.fixture
def compared(tmp_path, capsys):
    def compare(old, new, *options):
        for name, content in (("old", old), ("new", new)):
            (tmp_path / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
        code = main(["--compare", str(tmp_path / "old.json"), str(tmp_path / "new.json"), *options])
        said = capsys.readouterr()
        if code == 2:
            assert said.err.count("\n") == 1 and said.err.startswith("fastconv bench --compare: error: ") and not said.out
        else:
            assert not said.err
        return code, said.out + said.err
    return compare


@pytest.mark.parametrize("old, new, code, verdict", [
    (steady(1.0), steady(1.04), 0, None),            # below the threshold of 5 %
    (steady(1.0), steady(1.06), 1, "SLOWER"),
    (steady(1.0), steady(0.94), 0, "faster"),
    (steady(1.0), steady(0.96), 0, None),
    ([0.9, 0.95, 1.0, 1.05, 1.1], steady(1.08), 0, None),   # a spread of 10 % allows 8 %
    ([0.9, 0.95, 1.0, 1.05, 1.1], steady(1.12), 1, "SLOWER"),
    (steady(1.0), [0.99, 1.045, 1.1, 1.155, 1.2], 0, None),  # the new run's spread counts as well
    ([0.97, 0.97, 1.0, 1.03, 1.03], [1.0, 1.037, 1.07, 1.103, 1.2], 0, None),  # 6 % each: 8.5 % together
    ([0.97, 0.97, 1.0, 1.03, 1.03], [1.0, 1.067, 1.10, 1.133, 1.2], 1, "SLOWER"),
])
def test_what_is_slower(old, new, code, verdict, compared):
    got, text = compared(run(row(case("fastconv", old))), run(row(case("fastconv", new))))
    assert got == code and ("SLOWER" in text, "faster" in text) == (verdict == "SLOWER", verdict == "faster")
    assert f"{code} of 1 worse beyond noise" in text


def test_the_threshold_is_an_option(compared):
    old, new = run(row(case("fastconv", steady(1.0)))), run(row(case("fastconv", steady(1.08))))
    assert compared(old, new)[0] == 1 and compared(old, new, "--threshold", "0.1")[0] == 0
    assert compared(old, run(row(case("fastconv", steady(1.0001)))), "--threshold", "0")[0] == 1


def test_bytes_have_no_noise(compared):
    old = run(row({"peer": "fastconv", "variant": "v", "bytes": {"peak": 100, "arena": 10, "running": 0}}),
              benchmark="memory")
    new = copy.deepcopy(old)
    new["results"][0]["cases"][0]["bytes"] = {"peak": 90, "arena": 11, "running": 0}
    code, text = compared(old, new)
    assert code == 1 and "LARGER" in text and "smaller" in text and "1 of 2 worse beyond noise, 1 better" in text


def test_the_default_is_followed_when_its_algorithm_changes(compared):
    def conv(default, **seconds):
        cases = [case("fastconv", steady(t), name) for name, t in seconds.items()]
        return run({"network": "vgg16", "layer": "conv1_1", "pass": "forward", "batch": 1, "threads": 1, "isa": "avx2",
                    "cases": cases, "defaults": {"highest": default}}, benchmark="conv")

    code, text = compared(conv("direct", direct=1.0, winograd=2.0), conv("winograd", direct=1.0, winograd=2.0))
    assert code == 1 and "default at highest" in text and "1 of 3 worse" in text


def test_peers_are_not_judged_but_tell_of_the_machine(compared):
    old = run(row(case("fastconv", steady(1.0)), case("torch", steady(2.0))))
    code, text = compared(old, run(row(case("fastconv", steady(1.0)), case("torch", steady(3.0)))))
    assert code == 0 and "WARNING: the peers took 1.50 times as long as before" in text
    code, text = compared(old, run(row(case("fastconv", steady(1.0)), case("torch", steady(2.05)))))
    assert code == 0 and "WARNING" not in text


def test_notes(compared):
    old = run(row(case("fastconv", steady(1.0))), noise=["WARNING: the machine was noisy: all of it"])
    new = run(row(case("fastconv", steady(1.0))), row(case("fastconv", steady(1.0)), network="unet"),
              machine={"numpy": "2.1"})
    code, text = compared(old, new)
    assert code == 0 and "old run: WARNING: the machine was noisy" in text and "note: numpy 2.0 and 2.1" in text
    assert "1 results in the old run, 2 in the new one" in text and "0 of 1 worse" in text


@pytest.mark.parametrize("change, message", [
    ({"machine": {"cpu": "Two"}}, "different machines or instruction sets, cpu One (family 1, model 2, stepping 3) and Two"),
    ({"machine": {"cores": 4}}, "cores 2 and 4: not compared"),
    ({"machine": {"caches": {"L1d": "32K"}}}, "caches L1d 48K and L1d 32K"),
    ({"machine": {"isa": "avx512"}}, "isa avx2 and avx512"),
    ({"threads": [1, 2]}, "different numbers of threads, [1] and [1, 2]"),
    ({"benchmark": "conv"}, "different benchmarks, nets and conv"),
])
def test_runs_that_are_not_comparable_are_refused(change, message, compared):
    rows = row(case("fastconv", steady(1.0)))
    code, text = compared(run(rows), run(rows, **change))
    assert code == 2 and message in text


def test_nothing_in_common(compared):
    code, text = compared(run(row(case("fastconv", steady(1.0)))), run(row(case("fastconv", steady(1.0)), network="unet")))
    assert code == 2 and "have nothing in common" in text
    assert compared(run(), run())[0] == 2


@pytest.mark.parametrize("content, message", [
    ("{", "new.json': not JSON (Expecting"), ("", "new.json': not JSON"), ("[]", "new.json': not what fastconv bench"),
    ("{}", "not what fastconv bench"), ('"text"', "not what fastconv bench"),
    (run() | {"format": 2}, "new.json': format 2, this reads format 1"),
    (run() | {"machine": 3}, "not what fastconv bench"), (run() | {"results": {}}, "not what fastconv bench"),
    (run(row()) | {"results": [{}]}, "result 0 is not what fastconv bench writes (KeyError: 'cases')"),
    (run(row(case("fastconv", []))), "result 0 is not what"), (run(row(case("fastconv", ["a"]))), "result 0 is not what"),
    (run(row(case("fastconv", 3))), "result 0 is not what"), (run(3), "result 0 is not what"),
])
def test_broken_files(content, message, compared):
    code, text = compared(run(row(case("fastconv", steady(1.0)))), content)
    assert code == 2 and message in text


def test_files_that_cannot_be_read(tmp_path, capsys):
    for name, message in ((tmp_path / "none.json", "No such file or directory"), (tmp_path, "Is a directory")):
        assert main(["--compare", str(name), str(name)]) == 2
        said = capsys.readouterr()
        assert message in said.err and said.err.count("\n") == 1
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00")
    assert main(["--compare", str(binary), str(binary)]) == 2 and "not JSON" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [
    ["--compare", "one.json"], ["--compare", "a", "b", "--threshold", "-1"], ["--compare", "a", "b", "--threshold", "nan"],
    ["--compare", "a", "b", "infer"], ["infer", "--compare", "a", "b"], ["--quick", "infer"], ["--threads", "1", "infer"]])
def test_wrong_usage(arguments, capsys):
    refused(capsys, 2, "", "bench", *arguments)


def test_json(compared):
    old = run(row(case("fastconv", steady(1.0))), row(case("fastconv", steady(1.0)), network="unet"))
    new = run(row(case("fastconv", steady(1.2))), row(case("fastconv", steady(1.0)), network="unet"), machine={"numpy": "3"})
    code, text = compared(old, new, "--json")
    said = json.loads(text)
    assert code == 1 and text.count("\n") == 1 and said["worse"] == 1 and said["notes"] == ["note: numpy 2.0 and 3"]
    assert [(c["verdict"], c["ratio"]) for c in said["changes"]] == [("slower", 1.2), ("", 1.0)]


# ---- several runs of nets together --------------------------------------------------------------------------------------


def measured(network, ours, **peers):
    """A row as ``bench nets`` writes it."""
    def full(peer, seconds):
        return case(peer, steady(seconds), f"{peer} way", median_seconds=seconds, spread=0.0, share_of_peak=0.5)

    ratios = {name: {"peer": name, "variant": f"{name} way", "ratio": t / ours, "spread": 0.0} for name, t in peers.items()}
    memory = {name: {"running": 0, "peak": 5e6} for name in ("fastconv", *peers)}
    return row(full("fastconv", ours), *(full(name, t) for name, t in peers.items()), network=network, ratios=ratios,
               memory=memory, flops=1e9, peak_gflops=100.0, peak_seconds=steady(1.0))


def test_reports_of_several_runs(tmp_path, capsys):
    files = [tmp_path / f"{name}.json" for name in "abc"]
    files[0].write_text(json.dumps(run(measured("lenet5", 1e-3, torch=4e-3), measured("unet", 1.0, torch=2.0))))
    files[1].write_text(json.dumps(run(measured("lenet5", 2e-3, openvino=1e-3), noise=["WARNING: noisy"],
                                       machine={"versions": {"fastconv": "0.1.0", "openvino": "2026"}})))
    files[2].write_text(json.dumps(run(measured("lenet5", 1e-3), machine={"isa": "portable"})))
    names = [str(f) for f in files[:2]]
    assert main(["report", *names, "--json", str(tmp_path / "all.json"), "--markdown", str(tmp_path / "t.md")]) == 0
    text, content = capsys.readouterr().out, json.loads((tmp_path / "all.json").read_text())
    assert len(content["results"]) == 2 and "b.json: WARNING: noisy" in text and "openvino 2026" in text
    lenet = next(r for r in content["results"] if r["network"] == "lenet5")
    assert {name: r["ratio"] for name, r in lenet["ratios"].items()} == {"torch": 4.0, "openvino": 0.5}
    assert [c["peer"] for c in lenet["cases"]] == ["fastconv", "openvino", "torch"] and set(lenet["memory"]) == {
        "fastconv", "openvino", "torch"}
    table = (tmp_path / "t.md").read_text().splitlines()
    assert table[0] == "inference, batch 1, 1 thread, avx2:" and "4.00 ms (4.00)" in table[4]
    assert [c.strip() for c in table[2].split("|")[1:-1]] == [
        "network", "GFLOP", "fastconv", "of peak", "spread", "MB", "PyTorch", "MB", "OpenVINO", "MB"]
    assert "(2.83)" in table[6] and "(0.50)" in table[6]  # geometric means, of one network for OpenVINO
    assert main(["report", *map(str, files)]) == 0  # other instruction sets of a machine stand side by side
    files[2].write_text(json.dumps(run(measured("lenet5", 1e-3), machine={"cpu": "Two"})))
    capsys.readouterr()
    assert main(["report", *map(str, files)]) == 1
    assert "c.json' are from different machines, cpu One" in capsys.readouterr().err
    files[2].write_text(json.dumps(run(benchmark="conv")))
    assert main(["report", *map(str, files)]) == 1
    assert "of the benchmark 'conv', expected nets or infer" in capsys.readouterr().err
    files[2].write_text(json.dumps(run({"network": "lenet5"})))
    assert main(["report", *map(str, files)]) == 1
    assert "c.json': result 0 is not what fastconv bench writes" in capsys.readouterr().err


def test_a_picture_of_ratios(tmp_path):
    pytest.importorskip("matplotlib", reason="draws pictures")
    source, target = tmp_path / "a.json", tmp_path / "b.png"
    source.write_text(json.dumps(run(measured("lenet5", 1e-3, torch=4e-3), measured("unet", 1.0, torch=2.0, openvino=0.5))))
    assert main(["report", str(source), "--picture", str(target)]) == 0
    assert target.read_bytes().startswith(b"\x89PNG")
