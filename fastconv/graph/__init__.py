"""Floor 2: the graph: IR, operators' rules and how they are found, tracing, differentiation, rewriting."""
