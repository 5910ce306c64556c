"""Decides whether a trained model is promoted."""
