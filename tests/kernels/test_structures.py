"""Cython's declarations of the argument structures, which the build makes of the headers: that they compile is tested by the
build itself, as every field is looked up in the structure of the header."""

import os

import pytest

from fastconv.kernels import structures

HEADER = """\
#define FC_MANY 4  // of them
enum FcKind { FC_ONE, FC_TWO = 5 };
typedef struct Other { int64_t n; } Other;
typedef struct BaseArgs {
    int64_t n;
    const float *x, *z;  // inputs: {both}
    float** rows;
} BaseArgs;
struct MoreArgs : BaseArgs {
    Other other[FC_MANY], pair[FC_TWO][2];
    int32_t from, to;
};
"""
MADE = """\
# Made of include/fastconv/family/args.h by structures.py.
from libc.stdint cimport int32_t, int64_t


cdef extern from "fastconv/family/args.h" nogil:
    const int FC_MANY

    enum FcKind:
        FC_ONE
        FC_TWO

    ctypedef struct Other:
        int64_t n

    ctypedef struct BaseArgs:
        int64_t n
        const float* x
        const float* z
        float** rows

    ctypedef struct MoreArgs:
        int64_t n
        const float* x
        const float* z
        float** rows
        Other other[4]
        Other pair[5][2]
        int32_t from_ "from"
        int32_t to
"""


def family(folder, text, name="args.h"):
    header = folder / "fastconv" / "family" / name
    header.parent.mkdir(parents=True, exist_ok=True)
    header.write_text(text)


def test_constants_bases_arrays_and_words_of_python(tmp_path):
    family(tmp_path, HEADER)
    [made] = structures.write(tmp_path, tmp_path)
    assert made.name == "_args_family.pxd" and made.read_text() == MADE


def test_structures_of_other_headers_are_imported(tmp_path):
    family(tmp_path, HEADER)
    family(tmp_path, "typedef struct ThirdArgs { Other* other; const FcStep* steps; } ThirdArgs;\n", "args_third.h")
    made = structures.write(tmp_path, tmp_path)
    assert [path.name for path in made] == ["_args_family.pxd", "_args_third.pxd"]
    assert ("from fastconv.kernels._runtime cimport FcStep\nfrom fastconv.kernels._args_family cimport Other\n"
            in made[1].read_text())


def test_what_has_not_changed_is_not_written_again(tmp_path):
    family(tmp_path, HEADER)
    [made] = structures.write(tmp_path, tmp_path)
    os.utime(made, (1, 1))
    structures.write(tmp_path, tmp_path)
    assert made.stat().st_mtime == 1
    family(tmp_path, HEADER.replace("rows", "lines"))
    structures.write(tmp_path, tmp_path)
    assert made.stat().st_mtime != 1 and "float** lines" in made.read_text()


def test_what_is_not_understood_ends_the_build(tmp_path):
    family(tmp_path, "typedef struct Args {\n    void (*call)(int);\n} Args;\n")
    with pytest.raises(SystemExit, match="not understood"):
        structures.write(tmp_path, tmp_path)
