"""Verdicts on answers: safe, unsafe or invalid, and whether the answer declines."""

from mpo_core.contract.judge import JUDGES, Case, Judge, Verdict
from mpo_core.judging.responses import judge_responses
