"""The public names and their parameters, as they are listed in public_api.txt: none changes or vanishes by accident.

After a change that was meant: ``python tests/house/test_public_api.py > tests/public_api.txt``; what the list says goes into
the changelog too.
"""

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]
LIST = HERE / "public_api.txt"
API = HERE.parent / "docs" / "api.rst"
MODULES = ("fastconv", "fastconv.nn", "fastconv.nn.init", "fastconv.functional", "fastconv.optim", "fastconv.data",
           "fastconv.train", "fastconv.zoo", "fastconv.interop")


def members(owner):
    """Public methods and properties that a class defines, or inherits from another class of fastconv."""
    for name in sorted(dir(owner)):
        value = inspect.getattr_static(owner, name)
        by = next(c for c in owner.__mro__ if name in c.__dict__)
        if name.startswith("_") and name != "__call__" or not by.__module__.startswith("fastconv"):
            continue
        if isinstance(value, (property, classmethod, staticmethod)) or inspect.isroutine(value):
            yield name, value


def signature(value):
    """Names and defaults of parameters, without annotations."""
    value = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
    found = inspect.signature(value)
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in found.parameters.values()
             if p.name != "self" and p.name != "cls"]
    return re.sub(r"<function (\w+) at 0x[0-9a-f]+>", r"\1", str(inspect.Signature(plain)))


def public():
    """A line per name: ``module.name(parameters)``."""
    for module in MODULES:
        place = importlib.import_module(module)
        for name in sorted(place.__all__):
            value, full = getattr(place, name), f"{module}.{name}"
            if inspect.isclass(value):
                yield full + signature(value)
                inherited = {n for b in value.__bases__ for n, _ in members(b)} if value.__bases__ != (object,) else set()
                for member, found in members(value):
                    if member in inherited and member not in vars(value):
                        continue
                    yield f"{full}.{member}" + ("" if isinstance(found, property) else signature(found))
            elif inspect.isroutine(value):
                yield full + signature(value)
            else:
                yield full


def test_names_and_parameters():
    expected, found = LIST.read_text().splitlines(), list(public())
    gone, new = [line for line in expected if line not in found], [line for line in found if line not in expected]
    assert not gone and not new, f"no longer there: {gone}\nnot in the list: {new}"


@pytest.mark.parametrize("module", MODULES)
def test_what_is_listed_is_all_there_is(module):
    """``__all__`` without repetitions, names nothing that is not there, and leaves out nothing that was made to be found."""
    place = importlib.import_module(module)
    assert len(set(place.__all__)) == len(place.__all__)
    assert set(place.__all__) <= set(dir(place))
    if module in ("fastconv.nn", "fastconv.functional", "fastconv.optim", "fastconv.data", "fastconv.train"):
        shown = {name for name in dir(place) if not name.startswith("_") and not inspect.ismodule(getattr(place, name))}
        assert shown <= set(place.__all__)


def test_star_imports():
    for module in MODULES:
        names: dict = {}
        exec(f"from {module} import *", names)
        assert set(importlib.import_module(module).__all__) <= set(names)


@pytest.mark.skipif(not API.exists(), reason="docs are not beside the tests")
def test_all_of_it_is_in_the_reference():
    """Autodoc shows what has a docstring, in the modules and classes that api.rst names with their members."""
    current, documented, whole, options = "", set(), set(), None
    for line in API.read_text().splitlines():
        found = re.match(r"\.\. (currentmodule|auto\w+|py:data):: ([\w.]+)", line)
        if found:
            kind, name = found.groups()
            if kind == "currentmodule":
                current = name
                continue
            options = name if name.startswith("fastconv.") else f"{current}.{name}"
            documented.add(options)
        elif line.strip().startswith(":members:") and options:
            whole.add(options)
    missing = []
    for line in public():
        name = line.split("(")[0]
        owner, _, last = name.rpartition(".")
        value = importlib.import_module("fastconv")
        for part in name.split(".")[1:]:
            value = inspect.getattr_static(value, part) if inspect.isclass(value) else getattr(value, part)
        value = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if inspect.ismodule(value) or last in ("forward", "__version__", "__call__"):
            continue  # forward: what a layer computes stands in the docstring of its class
        listed = name in documented or owner in whole or any(name.startswith(f"{other}.") for other in whole)
        if not listed or not inspect.getdoc(value):
            missing.append(name)
    assert not missing, missing


if __name__ == "__main__":
    sys.stdout.writelines(line + "\n" for line in public())
