"""Benchmarks against the installed peers: ``python -m bench conv|train|infer``. Not part of the installed package."""
