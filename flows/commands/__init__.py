"""The commands of `mpo` that fill a file each, and what all commands share."""
