"""Which model serves whom: the gate, the level that serves each segment, and a mixed frame scored by all of them."""
