"""MPO: multilingual reward-gap optimisation, everything that knows nothing of Prefect."""

__version__ = "0.1.0"
