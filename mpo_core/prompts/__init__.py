"""Reads dominant-language prompts from every kind of source.

Names are imported from its modules: settings need `sources` alone.
"""
