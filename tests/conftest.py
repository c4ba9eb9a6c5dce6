"""What every test starts from."""

import signal

import pytest

import fastconv as fc


@pytest.fixture(autouse=True)
def _seed():
    """A test's weights are its own, whichever tests ran before it in its process."""
    fc.manual_seed(0)


def pytest_configure(config):
    """SIGINT and SIGTERM as a terminal's child has them, for this process and all that tests start from it.

    A background job of a script, or a step of some CI, is started with SIGINT ignored, and what it starts inherits that:
    the tests that interrupt something would then wait for ever.
    """
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    for number, handler in defaults.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, defaults)
