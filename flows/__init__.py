"""The flows and the `mpo` command."""
