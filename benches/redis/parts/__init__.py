"""The parts of `benches/redis/run`."""
