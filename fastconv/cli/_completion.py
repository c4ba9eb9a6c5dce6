"""``fastconv --print-completion SHELL``: a script by which a shell completes commands, options, networks and files."""

from __future__ import annotations

import argparse

from fastconv._arguments import MODEL

SHELLS = ("bash", "zsh", "tcsh", "fish")
FILES = {"FILE", "PATH", "CHECKPOINT", "WEIGHTS"}  # metavars; positionals by their names
POSITIONAL_FILES = {"model", "images", "files"}
# the networks' names, or files, for a place that takes either
EITHER = {
    "bash": "_fastconv_network_or_file() {{\n  compgen -W '{names}' -- \"$1\"\n  compgen -f -- \"$1\"\n}}\n",
    "zsh": "_fastconv_network_or_file() {{\n  _alternative 'networks:network:({names})' 'files:file:_files'\n}}\n",
    "fish": "function _fastconv_network_or_file\n  printf '%s\\n' {names}\n  __fish_complete_path (commandline -ct)\nend\n",
}


class PrintCompletion(argparse.Action):
    """Has shtab make the script of the parser; nothing else happens."""

    def __call__(self, parser, namespace, shell, option_string=None):
        from fastconv._extra import require
        from fastconv.zoo import NETWORKS

        try:
            shtab = require("shtab", "--print-completion", "completion")
        except ImportError as error:
            parser.exit(1, f"{parser.prog}: error: {error}\n")
        if shell not in shtab.SUPPORTED_SHELLS:
            parser.exit(1, f"{parser.prog}: error: --print-completion {shell}: shtab {shtab.__version__} does not know it: "
                           "a newer one does\n")
        networks = sorted(NETWORKS)
        names = " ".join(networks)
        for action in actions(parser, networks):
            if not action.option_strings and (action.help or "").startswith(MODEL):
                action.complete = {"bash": "_fastconv_network_or_file", "zsh": "_fastconv_network_or_file",
                                   "fish": "(_fastconv_network_or_file)", "tcsh": f"`echo {names}; ls`"}
            elif action.metavar in FILES or (not action.option_strings and action.dest in POSITIONAL_FILES):
                action.complete = shtab.FILE
            elif action.metavar == "DIR":
                action.complete = shtab.DIRECTORY
            elif not action.option_strings and action.dest == "network":
                action.choices = networks
        print(shtab.complete(parser, shell=shell, preamble={key: text.format(names=names) for key, text in EITHER.items()}))
        if shell == "bash":  # files where nothing else fits: shtab takes commands or files for a place, bench either
            print(f"complete -o bashdefault -o default -F _shtab_{parser.prog} {parser.prog}")
        parser.exit()


def actions(parser, networks=()):
    """The arguments of a parser and of all its commands; a parser with an ``otherwise`` gets ``networks`` as commands."""
    for action in parser.filled()._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            if parser.otherwise is not None:
                for name in networks:
                    action.add_parser(name, help="a network of fastconv.zoo", parents=[parser.otherwise])
            for command in action.choices.values():
                yield from actions(command, networks)
