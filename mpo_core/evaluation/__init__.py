"""Evaluates models on the same prompts, before and after training: shares with intervals, paired tests, reward gaps.

It imports nothing itself, since the settings import its benchmarks.
"""
