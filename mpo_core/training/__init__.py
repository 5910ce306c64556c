"""MPO training: the objective, the frozen reference, the trainer, and the process that runs it.

The public face is light: torch is imported where it is used. `objective`, `forward`,
`collator` and `trainer` are for those who already have it.
"""

from mpo_core.training.encoding import PairText
from mpo_core.training.launch import TrainingJob, TrainingResult, train
from mpo_core.training.reference import gaps, source_texts, target_texts

__all__ = ["PairText", "TrainingJob", "TrainingResult", "gaps", "source_texts", "target_texts", "train"]
