"""The judges of this repository, one per file."""
