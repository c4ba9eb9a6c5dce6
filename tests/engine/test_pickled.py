"""State dicts of PyTorch without PyTorch: real files, damaged ones, and ones that would do something else."""

import collections
import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from fastconv.interop.pickled import MAGIC, read_state_dict
from fastconv.interop.weights import read_weights

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")


def tensors():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(6, 8, generator=generator)
    return collections.OrderedDict(
        a=base, transposed=base.t(), part=base[1:4, ::2], scalar=torch.tensor(3.5), empty=torch.zeros(0, 3),
        double=torch.randn(3, dtype=torch.float64, generator=generator), half=torch.arange(5).half() / 3,
        bf=torch.randn(7, generator=generator).bfloat16(), long=torch.arange(4), int=torch.arange(4, dtype=torch.int32),
        short=torch.arange(4, dtype=torch.int16), char=torch.arange(-2, 2, dtype=torch.int8), byte=torch.arange(4).byte(),
        bool=torch.tensor([True, False]), parameter=torch.nn.Parameter(torch.ones(2, 2)),
        expanded=torch.arange(3.0).expand(4, 3))


@needs_torch
@pytest.mark.parametrize("zipped", [True, False])
def test_every_dtype_and_view(tmp_path, zipped):
    path = tmp_path / "w.pth"
    saved = tensors()
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    found = read_state_dict(path)
    assert list(found) == list(saved)
    for name, tensor in saved.items():
        want = tensor.detach().float().numpy() if tensor.dtype == torch.bfloat16 else tensor.detach().numpy()
        assert found[name].dtype == want.dtype, name
        np.testing.assert_array_equal(found[name], want, err_msg=name)


@needs_torch
@pytest.mark.parametrize("zipped", [True, False])
def test_a_network_and_a_checkpoint(tmp_path, zipped):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(6, 2))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.zeros(1, 3, 5, 8)).sum().backward()
    optimizer.step()
    path = tmp_path / "checkpoint.pt"
    torch.save({"epoch": 3, "state_dict": network.state_dict(), "optimizer": optimizer.state_dict(), "note": "best"}, path,
               _use_new_zipfile_serialization=zipped)
    weights = read_weights(path)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            np.testing.assert_array_equal(weights[name], tensor.numpy())


@needs_torch
def test_without_torch(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"w": torch.arange(6.0).reshape(2, 3)}, path)
    code = ("import sys; sys.modules['torch'] = None; from fastconv.interop.weights import read_weights;"
            f"print(read_weights({str(path)!r})['w'].sum())")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "15.0", done.stderr


# ---- attacks ------------------------------------------------------------------------------------------------------------


class Attack:
    def __init__(self, *made):
        self.made = made

    def __reduce__(self):
        return self.made


def archive(data: bytes, entries=(), method=zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        file.writestr("archive/data.pkl", data)
        for name, content in entries:
            file.writestr(name, content)
    return out.getvalue()


def attacks(touch: str):
    yield "os.system", Attack(os.system, (f"touch {touch}",))
    yield "eval", Attack(eval, (f"open({touch!r}, 'w')",))
    yield "exec", Attack(exec, (f"open({touch!r}, 'w')",))
    yield "open", Attack(open, (touch, "w"))
    yield "getattr", Attack(getattr, ("", "__class__"))
    yield "subprocess", Attack(subprocess.Popen, (["touch", touch],))
    yield "import", Attack(__import__, ("os",))
    yield "numpy", Attack(np.fromfile, (touch,))


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_is_run(tmp_path, legacy):
    touch = str(tmp_path / "touched")
    for name, attack in attacks(touch):
        for value in (attack, {"w": attack}, [collections.OrderedDict(w=attack)]):
            path = tmp_path / "attack.pth"
            if legacy:
                path.write_bytes(pickle.dumps(MAGIC) + pickle.dumps(1001) + pickle.dumps({}) + pickle.dumps(value))
            else:
                path.write_bytes(archive(pickle.dumps(value)))
            with pytest.raises(ValueError, match=r"is not a state dict of PyTorch \(it asks for") as caught:
                read_state_dict(path)
            assert "only tensors, containers and numbers" in str(caught.value), name
            assert not os.path.exists(touch), name


def reference(kind="FloatStorage", key="0", numel=4, rebuild="_rebuild_tensor_v2", args="(I0\n(I2\nI2\nt(I2\nI1\ntI00\nNt"):
    """A pickle of one tensor, in text."""
    return (f"ctorch._utils\n{rebuild}\n((S'storage'\nctorch\n{kind}\nS'{key}'\nS'cpu'\nI{numel}\ntQ").encode() \
        + args[1:].encode() + b"R."


@pytest.mark.parametrize(("data", "entries", "message"), [
    (reference(), [("archive/data/0", bytes(16))], None),
    (reference(), [], "storage '0' is missing"),
    (reference(), [("archive/data/0", bytes(12))], "has 12 bytes: expected 16"),
    (reference(numel=2**60), [("archive/data/0", bytes(16))], "expected"),
    (reference(numel=-1), [("archive/data/0", bytes(16))], "no storage of numbers"),
    (reference(args="(I1\n(I2\nI2\nt(I2\nI1\ntI00\nNt"), [("archive/data/0", bytes(16))], "reaches beyond its storage"),
    (reference(args="(I0\n(I2\nI2\nt(I-2\nI1\ntI00\nNt"), [("archive/data/0", bytes(16))], "integers of at least 0"),
    (reference(args="(I0\n(I2\nI2\nt(I2\ntI00\nNt"), [("archive/data/0", bytes(16))], "size"),
    (reference(args=f"(I0\n(I{2**40}\nt(I0\ntI00\nNt"), [("archive/data/0", bytes(16))], "elements over 4 numbers"),
    (reference(kind="ComplexFloatStorage"), [("archive/data/0", bytes(32))], "ComplexFloatStorage"),
    (b"", [], "("), (b"\x80\x05", [], "("), (b"garbage", [], "("), (pickle.dumps(3)[:-1], [], "("),
    (b"(" * 100_000 + b".", [], "("), (b"N" + b"2" * 1000 + b".", [], None)])
def test_claims_are_held_against_the_file(tmp_path, data, entries, message):
    path = tmp_path / "w.pth"
    path.write_bytes(archive(data, entries))
    if message is None:
        read_state_dict(path)
        return
    with pytest.raises(ValueError) as caught:
        read_state_dict(path)
    assert "is not a state dict of PyTorch" in str(caught.value) and message in str(caught.value)


def test_deep_nesting_and_compressed_entries(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(archive(b"]" * 1 + b"(]" * 3000 + b"l" * 3000 + b"."))
    with pytest.raises(ValueError, match="is not a state dict"):
        read_state_dict(path)
    path.write_bytes(archive(reference(), [("archive/data/0", bytes(1 << 20))], zipfile.ZIP_DEFLATED))
    with pytest.raises(ValueError, match="compressed"):
        read_state_dict(path)


def test_damaged_files(tmp_path):
    """Cut, and with bytes changed: a named error, or something that was read; never anything else."""
    whole = archive(reference(), [("archive/data/0", np.arange(4, dtype=np.float32).tobytes())])
    old = pickle.dumps(MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2) + reference() + \
        pickle.dumps(["0"], 2) + struct.pack("<q", 4) + bytes(16)
    path, generator = tmp_path / "w.pth", np.random.default_rng(0)
    for data in (whole, old):
        path.write_bytes(data)
        assert read_state_dict(path).shape == (2, 2)
        for trial in range(600):
            changed = bytearray(data)
            for _ in range(generator.integers(1, 5)):
                changed[generator.integers(len(data))] = generator.integers(256)
            path.write_bytes(changed if trial % 2 else data[: generator.integers(len(data))])
            try:
                read_state_dict(path)
            except ValueError as error:
                assert "is not a state dict of PyTorch" in str(error)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_state_dict(tmp_path / "none.pth")
    with pytest.raises(OSError):
        read_state_dict(tmp_path)
