"""Thin Prefect tasks, one file per stage."""
