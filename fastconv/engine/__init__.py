"""Floor 2, its top: what plans and runs graphs: engines, training tapes, functions on arrays, derivatives."""

import fastconv.ops  # noqa: F401  (registers the operators)
