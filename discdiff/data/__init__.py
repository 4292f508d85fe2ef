"""Data sets, loaders and readers of files."""
