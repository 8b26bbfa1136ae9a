"""A small coaching backend: challenges, reputation, sessions and a coach to talk to."""
