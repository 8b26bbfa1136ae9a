"""The parts of `benches/peers/claude/run`: Python's standard library only."""
