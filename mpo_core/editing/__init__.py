"""Sparse weight editing: changes a few neurons of a model so that harmful prompts are read as in the dominant language.

The method is that of arXiv 2602.22554 (SWE); docs/methods/swe.md says what is ours.
"""
