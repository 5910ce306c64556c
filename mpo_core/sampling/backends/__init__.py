"""The sampling backends of this repository, one per file."""
