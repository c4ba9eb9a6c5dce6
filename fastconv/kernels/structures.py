"""Cython's declarations of the argument structures in include/fastconv: the build makes them of the headers.

A family's ``args.h`` becomes ``_args_<family>.pxd``, another header ``args_<what>.h`` becomes ``_args_<what>.pxd``:
constants, enumerations and structures with all their fields, those of a base written out. A field whose name is a word of
Python's has an underscore behind it.
"""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from typing import NamedTuple

STEP = "fastconv.kernels._runtime"  # declares the structures of step.h
STRUCT = re.compile(r"^(?:typedef )?struct (\w+)(?: : (\w+))? \{([^}]*)\}(?: \w+)?;", re.M)
ENUM = re.compile(r"^enum ?(\w*) \{([^}]*)\};", re.M)
DEFINE = re.compile(r"^#define (FC_\w+) +(\d+)$", re.M)
FIELD = re.compile(r"((?:const )?\w+)((?:[\s*]+\w+(?:\[\w+\])*,?)+)")  # a type, and what is declared of it
NAME = re.compile(r"([\s*]+)(\w+)((?:\[\w+\])*)")  # pointers, name, extents
BUILTIN = {"char", "double", "float", "int", "void"}


class Structure(NamedTuple):
    module: str  # where Cython finds it
    base: str
    fields: str


def plain(header: Path) -> str:
    """A header without its comments."""
    return re.sub(r"[ \t]*//[^\n]*", "", header.read_text())


def module_of(header: Path) -> str:
    what = header.stem.partition("_")[2] or header.parent.name
    return f"fastconv.kernels._args_{what}"


def members(text: str) -> list[tuple[str, str]]:
    """(name, value) of an enumeration's; the value is empty where the compiler counts."""
    pairs = (member.partition("=") for member in text.split(","))
    return [(name.strip(), value.strip()) for name, _, value in pairs if name.strip()]


def fields(structure: Structure, known: dict[str, Structure]) -> list[tuple[str, str, str]]:
    """(type, name, extents) of a structure's fields, its base's first."""
    found = fields(known[structure.base], known) if structure.base else []
    for statement in filter(None, (s.strip() for s in structure.fields.split(";"))):
        match = FIELD.fullmatch(statement)
        if match is None:
            raise SystemExit(f"fastconv: {structure.module}: not understood: {statement}")
        for stars, name, extents in NAME.findall(match[2]):
            found.append((match[1] + "".join(stars.split()), name, extents))
    return found


def declaration(header: Path, known: dict[str, Structure], constants: dict[str, str], include: Path) -> str:
    """The text of a header's .pxd."""
    text = plain(header)
    own = {match[1]: known[match[1]] for match in STRUCT.finditer(text)}
    body: list[str] = []
    if defined := DEFINE.findall(text):
        body.append(f"    const int {', '.join(name for name, _ in defined)}\n")
    for match in ENUM.finditer(text):
        names = "".join(f"        {name}\n" for name, _ in members(match[2]))
        body.append(f"    {f'enum {match[1]}'.strip()}:\n{names}")
    types: set[str] = set()
    for name, structure in own.items():
        lines = []
        for kind, field, extents in fields(structure, known):
            types.add(re.sub(r"const |\*", "", kind))
            sizes = re.sub(r"\[(\w+)\]", lambda m: f"[{constants.get(m[1], m[1])}]", extents)
            lines.append(f"        {kind} {field}_{sizes} \"{field}\"\n" if keyword.iskeyword(field) else
                         f"        {kind} {field}{sizes}\n")
        body.append(f"    ctypedef struct {name}:\n{''.join(lines)}")
    standard = sorted(t for t in types if t.endswith("_t"))
    imports = [f"from libc.stdint cimport {', '.join(standard)}\n"] if standard else []
    for other in sorted(types - own.keys() - set(standard) - BUILTIN):
        place = known[other].module if other in known else STEP
        imports.append(f"from {place} cimport {other}\n")
    path = header.relative_to(include).as_posix()
    return (f"# Made of include/{path} by {Path(__file__).name}.\n{''.join(imports)}\n\n"
            f'cdef extern from "{path}" nogil:\n{chr(10).join(body)}')


def write(include: Path, target: Path) -> list[Path]:
    """Writes the declarations of all argument structures; those that are as they were keep their time. What was written."""
    headers = sorted((include / "fastconv").glob("*/args*.h"))
    known = {match[1]: Structure(module_of(header), match[2] or "", match[3])
             for header in headers for match in STRUCT.finditer(plain(header))}
    constants: dict[str, str] = {}
    for header in headers:
        constants |= dict(DEFINE.findall(plain(header)))
        for match in ENUM.finditer(plain(header)):
            constants |= {name: value for name, value in members(match[2]) if value}
    made = {target / f"{module_of(header).rpartition('.')[2]}.pxd": declaration(header, known, constants, include)
            for header in headers}
    for path, text in made.items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    return [*made]
