import pytest

import fastconv as fc
from cli.helpers import arrays, save


@pytest.fixture
def npz(tmp_path):
    return save(tmp_path / "tiny.npz", arrays())


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return str(tmp_path / "out")


@pytest.fixture(autouse=True)
def threads():
    before = fc.get_num_threads()
    yield
    fc.set_num_threads(before)
