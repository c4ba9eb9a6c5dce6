"""The benchmarks of ``fastconv bench BENCHMARK`` (in the source tree also ``python -m bench``), and what each is about.

Each is a module with ``measure(options, record)``, which adds row after row to the record, and with ``conclude(options,
record)``, which prints tables of them and returns what else goes into the JSON. How to measure is :mod:`fastconv.measure`'s;
options are in ``options.py``, what all print and write in ``report.py``, what a stopped run keeps in ``record.py``.
"""

BENCHMARKS = {
    "conv": "convolutions by themselves, and the goals they are to reach",
    "goals": "these goals, from the JSON of several runs of conv",
    "accuracy": "errors of convolutions against float64",
    "nets": "whole networks, inference and training",
    "infer": "nets with LeNet-5's inference alone",
    "train": "nets with LeNet-5's training step alone",
    "overhead": "the cost of a call, of a step, of an import, of compiling",
    "memory": "memory of whole networks, sizes of the packages",
    "report": "the tables of several runs of nets",
}
