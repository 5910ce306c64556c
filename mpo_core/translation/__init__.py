"""Translates dominant-language texts into a target language, with a chain of engines, and tests each result by gates.

Names are imported from its modules: settings need `engines` alone.
"""
