"""The larger commands of `mpo`, one per file, and what all commands share."""
