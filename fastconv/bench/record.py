"""What a run has measured so far: saved row by row, so that whoever stops it keeps what it had, and it can go on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from fastconv._arguments import UsageError
from fastconv.bench import report, subjects
from fastconv.measure import machine as machines
from fastconv.measure.peers import Peer, PeerError
from fastconv.measure.timing import Disagreement

SAME = (*machines.SAME, "commit", "versions", "numpy", "python")  # of the machine: what an unfinished run must agree in
# Options that say what is asked for, or where it goes; all others say how it is measured.
WHAT = ("networks", "modes", "batch", "training_batch", "shapes", "group", "sample", "slice", "passes", "threads", "data",
        "json", "markdown", "picture", "bars", "words", "debug", "wheel", "memory", "peers")


class Record:
    """The rows of a run, its machine, and what failed. With ``--json FILE`` the file is written again after each row, whole
    or not at all; where it holds an unfinished run of the same command, the rows that are there are not measured again.

    ``fields`` of a row, and its peers, say which it is.
    """

    def __init__(self, options, fields: Sequence[str]):
        self.options, self.fields = options, fields
        self.results: list[dict] = []
        self.failures: list[tuple[str, str, str]] = []
        self.machine: dict = {}
        self.more: dict = {}
        self.resumed = 0
        self.before = self._unfinished()

    def _unfinished(self) -> dict | None:
        name = self.options.json
        if not name or name == report.STDOUT or not os.path.isfile(name):
            return None
        try:
            content = report.read(name)
        except ValueError:  # something else: it is replaced, as it always was
            return None
        if content.get("complete", True):
            return None
        mine = report.kept(self.options)
        other = [] if content["benchmark"] == mine["benchmark"] else [f"benchmark {content['benchmark']}"]
        other += [f"--{key.replace('_', '-')} {content['options'].get(key)} and {value}" for key, value in mine.items()
                  if key not in WHAT and content["options"].get(key) != value]
        self._refuse(other)
        return content

    def _refuse(self, other: list[str]) -> None:
        if other:
            raise UsageError(f"--json {self.options.json!r}: an unfinished run of something else, {'; '.join(other)}: name "
                             "another file, or remove it")

    @contextlib.contextmanager
    def opened(self, threads: int) -> Iterator[dict[str, Peer]]:
        """The processes of fastconv and the peers; the machine is that of all of them.

        Raises
        ------
        UsageError
            When the unfinished run is of another machine, or of other versions.
        """
        with machines.opened(["fastconv", *self.options.peers], threads, self.options.isa) as peers:
            first = not self.machine
            self.machine = machines.describe(peers, self.machine)
            if first and self.before:
                before = self.before["machine"]
                common = {name: before["versions"].get(name, version) for name, version in self.machine["versions"].items()}
                self._refuse(machines.differences({**before, "versions": common}, self.machine, SAME))
                self.machine["versions"] = {**before["versions"], **self.machine["versions"]}
                self.more = {**self.before.get("more", {})}
            yield peers

    def has(self, **key) -> bool:
        """Whether an unfinished run had this row with all its peers: then it is taken from there."""
        for row in (self.before or {"results": []})["results"]:
            if all(row.get(field) == key.get(field, self.machine.get(field)) for field in self.fields):
                named = {case["peer"] for case in row.get("cases", ())} | set(row.get("left_out", {}))
                if set(row.get("asked", named)) >= set(self.options.peers):
                    self.results.append(row)
                    self.resumed += 1
                    return True
        return False

    def add(self, row: dict, failed: Sequence[tuple[str, str]] = ()) -> dict:
        """Keeps a row; ``failed``: peers that are not in it, and why. Returns the row as it is kept."""
        row = {**row, "isa": self.machine["isa"], "asked": list(self.options.peers), "left_out": dict(failed)}
        self.results.append(row)
        self.save()
        return row

    @contextlib.contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Where fastconv itself fails, or the results differ, there is no such row; the next ones are measured."""
        try:
            yield
        except (PeerError, Disagreement) as error:
            if self.options.debug:
                raise
            self.failures.append((what, str(error).partition(": ")[0], " ".join(str(error).split())))
            print(f"{what}: NOT MEASURED: {self.failures[-1][2]}", flush=True)
            self.save()

    def save(self) -> None:
        if self.options.json not in (None, report.STDOUT) and self.results:
            report.write(self.options, {"machine": self.machine, "results": self.results, "failures": self.failures,
                                        "more": self.more, "complete": False})

    def warnings(self) -> list[str]:
        """A line for everybody who was left out."""
        left = [(_name(row), *who) for row in self.results for who in row.get("left_out", {}).items()]
        return [f"WARNING: {who} was left out of {what}: {why}" for what, who, why in left] + \
               [f"WARNING: {what} was not measured: {why}" for what, _, why in self.failures]


def _name(row: dict) -> str:
    network = subjects.label(row["network"]) if "network" in row else None
    parts = [f"{network}/{row['layer']}" if "layer" in row else network, row.get("what"), row.get("name"),
             row.get("mode"), row.get("pass"), f"batch {row['batch']}" if "batch" in row else None]
    return ", ".join([*filter(None, parts), report.count(row.get("threads", 1), "thread")])
