"""Floor 2, above the operators: what is said of graphs and programs: summaries, listings, profiles, what broke."""

import fastconv.ops  # noqa: F401  (registers the operators)
