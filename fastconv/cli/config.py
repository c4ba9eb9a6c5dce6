"""``fastconv config``."""

from __future__ import annotations

import json

from fastconv._arguments import command


def add(commands) -> None:
    command(commands, "config", run, "print what fastconv runs on, and why", threads=False, precision=False)


def run(arguments) -> None:
    """Prints what show_config() prints."""
    from fastconv.config import facts, show_config

    if arguments.json:
        print(json.dumps(facts()))
    else:
        show_config()
