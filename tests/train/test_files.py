"""Files that are written whole or not at all, and model files."""

import json
import math
import os
import stat
import struct
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastconv._atomic import write_atomic
from fastconv.train.files import FORMAT_VERSION, load_model, save_model

# --- write_atomic ----------------------------------------------------------------------------------------------------


def test_new_content_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with write_atomic(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == 2  # the temporary file is in the same directory
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_leaves_everything_as_it_was(tmp_path, error, exists):
    path = tmp_path / "a"
    if exists:
        path.write_bytes(b"old")
    with pytest.raises(error):
        with write_atomic(path) as file:
            file.write(b"half")
            raise error
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"] * exists


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_disk_leaves_everything_as_it_was(tmp_path, monkeypatch, call):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        with write_atomic(path) as file:
            file.write(b"new")
    monkeypatch.undo()
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("path", ["a", b"a", os.path.join(".", "a")])
def test_relative_paths_of_every_kind(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with write_atomic(path) as file:
        file.write(b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


def test_a_name_as_long_as_the_system_allows(tmp_path):
    path = tmp_path / ("n" * 255)
    with write_atomic(path) as file:
        file.write(b"x")
    assert path.read_bytes() == b"x"


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_permissions(tmp_path):
    umask = os.umask(0o027)
    try:
        with write_atomic(tmp_path / "a"):
            pass
    finally:
        os.umask(umask)
    assert stat.S_IMODE(os.stat(tmp_path / "a").st_mode) == 0o640  # as open() would have made it
    os.chmod(tmp_path / "a", 0o604)
    with write_atomic(tmp_path / "a") as file:
        file.write(b"x")
    assert stat.S_IMODE(os.stat(tmp_path / "a").st_mode) == 0o604


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with write_atomic(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"new"


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path, error, message in [
        (tmp_path / "none" / "a", FileNotFoundError, "cannot write to directory .*none"),
        (tmp_path / "file" / "a", NotADirectoryError, "file"),
        (tmp_path, IsADirectoryError, "it is a directory"),
    ]:
        with pytest.raises(error, match=message):
            with write_atomic(path):
                raise AssertionError("the block must not run")
    if os.name == "posix":
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OSError, match="not a regular file"):
            with write_atomic(tmp_path / "pipe"):
                raise AssertionError("the block must not run")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_directory_without_permission(tmp_path):
    os.chmod(tmp_path, 0o500)
    try:
        with pytest.raises(PermissionError, match="cannot write to directory"):
            with write_atomic(tmp_path / "a"):
                raise AssertionError("the block must not run")
    finally:
        os.chmod(tmp_path, 0o700)


# --- model files -----------------------------------------------------------------------------------------------------


def some_arrays():
    rng = np.random.default_rng(0)
    return {
        "conv.weight": rng.standard_normal((4, 3, 2, 2)).astype(np.float32),
        "conv.bias": np.array([np.nan, np.inf, -0.0, 1e-40], np.float32),
        "steps": np.array(7),
        "empty": np.zeros((0, 3), np.float16),
        **{name: np.array([1, 0, 1]).astype(name) for name in ("bool", "int8", "uint64", "float64")},
    }


def test_round_trip(tmp_path):
    arrays, metadata = some_arrays(), {"epoch": "3", "words": "ü\n\0"}
    save_model(tmp_path / "m.safetensors", arrays, metadata)
    loaded, text = load_model(tmp_path / "m.safetensors")
    assert text == metadata and set(loaded) == set(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype and loaded[name].shape == array.shape
        assert loaded[name].tobytes() == array.tobytes() and loaded[name].flags.writeable
    save_model(tmp_path / "m.safetensors", {})
    assert load_model(tmp_path / "m.safetensors") == ({}, {})


def test_any_memory_layout_is_written_in_c_order(tmp_path):
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    layouts = {
        "fortran": np.asfortranarray(base), "strided": base[:, ::2], "reversed": base[::-1],
        "big endian": base.astype(">f4"), "list": [1.5, 2.5],
    }  # fmt: skip
    save_model(tmp_path / "m", layouts)
    loaded, _ = load_model(tmp_path / "m")
    for name, array in layouts.items():
        assert (loaded[name] == np.asarray(array)).all() and loaded[name].flags.c_contiguous


def test_the_file_is_safetensors_and_carries_its_version(tmp_path):
    save_model(tmp_path / "m", {"a": np.arange(3, dtype=np.int32)}, {"k": "v"})
    content = (tmp_path / "m").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert header["__metadata__"] == {"k": "v", "fastconv_format": str(FORMAT_VERSION)}
    assert header["a"] == {"dtype": "I32", "shape": [3], "data_offsets": [0, 12]}
    assert content[8 + length :] == np.arange(3, dtype="<i4").tobytes()


def test_the_same_content_gives_the_same_bytes(tmp_path):
    arrays = {"wörter": np.arange(3.0), "a": np.ones((2, 2), np.float32), "b": np.zeros(5, np.uint8)}
    names = [f"key {i}" for i in range(8)] + ["schlüssel"]
    for i in range(6):
        order = np.random.default_rng(i).permutation(names)
        save_model(tmp_path / f"{i}", arrays, {name: name[::-1] for name in order})
    contents = {(tmp_path / f"{i}").read_bytes() for i in range(6)}
    assert len(contents) == 1
    back, metadata = load_model(tmp_path / "0")
    assert metadata == {name: name[::-1] for name in names}
    assert all(np.array_equal(back[name], array) and back[name].dtype == array.dtype for name, array in arrays.items())


def test_files_of_others_are_read(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.ones(3, np.float32)}, tmp_path / "m")
    assert load_model(tmp_path / "m")[1] == {}
    save_file({"a": np.ones(3, np.float32)}, tmp_path / "m", {"format": "pt"})
    assert load_model(tmp_path / "m")[1] == {"format": "pt"}


@pytest.mark.parametrize(
    ("arrays", "metadata", "error", "message"),
    [
        ({1: np.ones(2)}, {}, TypeError, "array names must be str, got int"),
        ({"__metadata__": np.ones(2)}, {}, ValueError, "'__metadata__' is reserved"),
        ({"a": np.array([None])}, {}, TypeError, "array 'a' has dtype object, not one of bool"),
        ({"a": np.ones(2, complex)}, {}, TypeError, "dtype complex128"),
        ({"a": "text"}, {}, TypeError, "dtype <U4"),
        ({}, {"epoch": 3}, TypeError, "metadata must be str to str, got 'epoch': int"),
        ({}, {3: "x"}, TypeError, "metadata must be str to str"),
        ({}, {"fastconv_format": "1"}, ValueError, "'fastconv_format' is reserved"),
    ],
)
def test_what_cannot_be_saved_leaves_the_old_file(tmp_path, arrays, metadata, error, message):
    path = tmp_path / "m"
    path.write_bytes(b"old")
    with pytest.raises(error, match=message):
        save_model(path, arrays, metadata)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def model_bytes(header, values=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated, 0 bytes where the header's length needs 8"),
        (b"\0" * 7, "truncated, 7 bytes"),
        (model_bytes({"a": ENTRY}, bytes(8))[:20], "truncated, 20 bytes where the header ends at"),
        (model_bytes({"a": ENTRY}, bytes(7)), "truncated, .* where the header says"),
        (model_bytes({"a": ENTRY}, bytes(9)), "trailing bytes, "),
        (b"PK\x03\x04" + b"\0" * 100, "not a safetensors file, it does not begin with a header"),
        (b"\x89PNG\r\n\x1a\n" * 20, "not a safetensors file, it does not begin with a header"),
        (struct.pack("<Q", 5) + b"{abcd", "not a safetensors file, its header is malformed"),
        (struct.pack("<Q", 0), "not a safetensors file, its header is malformed"),
        (model_bytes({"a": 3}), "its header is malformed"),
        (model_bytes({"a": {"dtype": "F32"}}), "its header is malformed"),
        (model_bytes({"a": {**ENTRY, "data_offsets": [0, math.inf]}}), "its header is malformed"),
        (model_bytes({"a": {**ENTRY, "dtype": []}}, bytes(8)), "its header is malformed"),
        (model_bytes({"a": {**ENTRY, "shape": [3]}}, bytes(8)), "bytes 0 to 8: expected 12 from 0"),
        (model_bytes({"a": {**ENTRY, "data_offsets": [4, 8]}}, bytes(8)), "bytes 4 to 8: expected 8 from 0"),
        (model_bytes({"a": {**ENTRY, "shape": [-2]}}, bytes(8)), "its header is malformed"),
        (model_bytes({"a": {**ENTRY, "shape": [2.0]}}, bytes(8)), "its header is malformed"),
        (model_bytes({"a": {**ENTRY, "shape": [True, 2]}}, bytes(8)), "its header is malformed"),
        (model_bytes({"a": {**ENTRY, "shape": [2**63, 2**63]}}, bytes(8)), "its header is malformed"),
        (model_bytes({"a": {**ENTRY, "shape": [2**62, 2**62, 0], "data_offsets": [0, 8]}}, bytes(8)), "expected 0 from 0"),
        (model_bytes({"a": {**ENTRY, "shape": [1] * 99 + [2]}}, bytes(8)), "bytes 0 to 8"),
        (model_bytes({"a": ENTRY, "b": ENTRY}, bytes(8)), "array 'b' .* bytes 0 to 8: expected 8 from 8"),  # the same ones
        (model_bytes({"a": ENTRY, "b": {**ENTRY, "data_offsets": [16, 24]}}, bytes(24)), "16 to 24: expected 8 from 8"),
        (struct.pack("<Q", 17) + b'{"a": 1, "a": {}}', "'a' appears twice"),
        (model_bytes({"__metadata__": {"network": {}}}), "its header is malformed"),
        (struct.pack("<Q", 100_000) + b'{"a":' * 20_000, "its header is malformed"),
        (model_bytes({"a": {"dtype": "F8_E5M2", "shape": [8], "data_offsets": [0, 8]}}, bytes(8)), "array 'a' is F8_E5M2"),
        (model_bytes({"__metadata__": {"fastconv_format": "2"}}), "format 2 is from a newer fastconv, .* up to 1"),
        (model_bytes({"__metadata__": {"fastconv_format": "x"}}), "its header is malformed"),
    ],
)
def test_bad_model_files(tmp_path, content, message):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="bad.safetensors") as caught:
        load_model(path)
    assert caught.match(message)


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match="none"):
        load_model(tmp_path / "none")
    with pytest.raises(ValueError, match="it is a directory"):
        load_model(tmp_path)
    with pytest.raises(IsADirectoryError):
        save_model(tmp_path, {})
    with pytest.raises(FileNotFoundError, match="cannot write to directory"):
        save_model(tmp_path / "none" / "m", {})


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_model_files_give_valueerror(tmp_path_factory, draw):
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    header = {
        "__metadata__": {"k": "v", "fastconv_format": "1"},
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "I64", "shape": [3], "data_offsets": [16, 40]},
    }
    content = bytearray(model_bytes(header, bytes(40)))
    for _ in range(draw.draw(st.integers(0, 3))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    if draw.draw(st.booleans()):
        del content[draw.draw(st.integers(0, len(content))) :]
    path.write_bytes(content)
    try:
        load_model(path)
    except ValueError as error:
        assert "damaged.safetensors" in str(error)


def test_without_safetensors(tmp_path, monkeypatch):
    for module in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, module, None)
    for call in (lambda: save_model(tmp_path / "m", {}), lambda: load_model(tmp_path / "m")):
        with pytest.raises(ImportError, match=r"needs safetensors: pip install safetensors "):
            call()
    assert list(tmp_path.iterdir()) == []
