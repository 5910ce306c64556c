"""Samples answers of a model to prompts, each answer with a random seed of its own."""

from mpo_core.sampling.sample import Request, sample
