"""The translation engines of this repository, one per file."""
