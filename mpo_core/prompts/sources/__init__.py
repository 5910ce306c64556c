"""The prompt sources of this repository, one per file."""
