"""The stages as the flows call them: which tasks, with which settings, under which label."""

from flows.stages.answers import answer_dominant, judge, read_blocks, read_prompt_blocks, sample, translate
from flows.stages.distillation import require_distilled, teacher
from flows.stages.editing import edit, submit_edit
from flows.stages.evaluation import (
    compare,
    decide,
    evaluate,
    evaluate_change,
    figures,
    held_out_prompts,
    measure_prompts,
    register,
)
from flows.stages.pairs import pair, preference_pairs, require_pairs
from flows.stages.shards import Change, Evaluation, Key, Measured, Pairs, Shards, split
from flows.stages.training import (
    find_base,
    measure,
    reference_gaps,
    require_named_layers,
    require_trainable,
    train,
)
