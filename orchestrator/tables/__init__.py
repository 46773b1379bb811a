"""Anybody's tables of runs: read, checked, cut down, and kept beside the laws that were fitted to them."""
