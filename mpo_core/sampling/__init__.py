"""Answers of a model, each from a random stream of its own."""

from mpo_core.sampling.sample import Request, sample

__all__ = ["Request", "sample"]
