"""The training methods of this repository, one per file."""
