"""What a chat model says around its answer: thoughts, tags, preambles, notes, fences, quotes and JSON."""

from mpo_core.reply.thoughts import (
    ONLY_THOUGHTS,
    UNFINISHED,
    Parts,
    closing_of_open_thought,
    has_template,
    open_thought,
    own_turn,
    separate,
    without_end,
)
from mpo_core.reply.wrappers import unwrap_translation
