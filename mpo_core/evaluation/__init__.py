"""Before and after, on the same prompts: shares with intervals, paired tests, reward gaps."""

from mpo_core.evaluation.comparison import compare
from mpo_core.evaluation.metrics import metrics
from mpo_core.gate import targets_median

__all__ = ["compare", "metrics", "targets_median"]
