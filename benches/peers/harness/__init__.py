"""The side-by-side harness behind `benches/peers/run`: Python's standard library only."""
