"""The analyses of this repository, one file each."""
