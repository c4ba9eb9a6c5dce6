"""Floor 2: the graph (IR, tracing, gradients, passes, memory plan, tape) and the engine that replays it."""
