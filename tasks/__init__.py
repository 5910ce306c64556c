"""The Prefect tasks, one file per stage; the work itself is in `mpo_core`."""
