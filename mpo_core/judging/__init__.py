"""Verdicts on answers: safe, unsafe or invalid, and whether the answer declines."""

from mpo_core.judging.judge import judge_responses, require_languages

__all__ = ["judge_responses", "require_languages"]
