"""Evaluates models on the same prompts, before and after training: shares with intervals, paired tests, reward gaps.

Imports nothing itself, since the settings import the benchmarks of this room.
"""
