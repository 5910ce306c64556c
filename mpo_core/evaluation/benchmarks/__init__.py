"""The benchmarks of this repository, one file each."""
