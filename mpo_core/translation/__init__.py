"""Dominant-language text into a target language, by engines in order, judged by gates.

Names are imported from its modules: settings need `engines` alone.
"""
