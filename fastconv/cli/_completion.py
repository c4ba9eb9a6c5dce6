"""``fastconv --print-completion SHELL``: a script by which a shell completes commands, options, networks and files."""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "tcsh")
FILES = {"FILE", "PATH", "CHECKPOINT"}  # metavars; positionals by their names
POSITIONAL_FILES = {"model", "images", "files"}


class PrintCompletion(argparse.Action):
    """Has shtab make the script of the parser; nothing else happens."""

    def __call__(self, parser, namespace, shell, option_string=None):
        from fastconv._extra import require

        try:
            shtab = require("shtab", "--print-completion", "completion")
        except ImportError as error:
            parser.exit(1, f"{parser.prog}: error: {error}\n")
        for action in actions(parser):
            if action.metavar in FILES or (not action.option_strings and action.dest in POSITIONAL_FILES):
                action.complete = shtab.FILE
            elif action.metavar == "DIR":
                action.complete = shtab.DIRECTORY
            elif not action.option_strings and action.dest == "network":
                from fastconv.zoo import NETWORKS

                action.choices = sorted(NETWORKS)
        print(shtab.complete(parser, shell=shell))
        if shell == "bash":  # files where nothing else fits: shtab takes commands or files for a place, bench either
            print(f"complete -o bashdefault -o default -F _shtab_{parser.prog} {parser.prog}")
        parser.exit()


def actions(parser):
    """The arguments of a parser and of all its commands."""
    for action in parser.filled()._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from actions(command)
