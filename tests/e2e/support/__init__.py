"""Processes, fake peers and clients that the end-to-end tests share."""
