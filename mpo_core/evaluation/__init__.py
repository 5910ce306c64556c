"""Evaluates models on the same prompts, before and after training: shares with intervals, paired tests, reward gaps."""

from mpo_core.evaluation.comparison import compare
from mpo_core.evaluation.methods import balanced, method_figures, over_seeds
from mpo_core.evaluation.metrics import metrics
from mpo_core.gate.decide import targets_median

__all__ = ["balanced", "compare", "method_figures", "metrics", "over_seeds", "targets_median"]
