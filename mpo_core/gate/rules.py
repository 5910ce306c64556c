"""The rules of the gate as data: which figure of which metric in which languages, and which setting bounds it."""

from typing import Literal, NamedTuple

from mpo_core.contract.metric import (
    ACCURACY,
    BITS_PER_BYTE,
    HARMLESS_INVALID,
    HELPED,
    INVALID,
    OVER_REFUSAL,
    REFUSED,
    UNSAFE,
    Metric,
)

Source = Literal["level", "change", "relative", "since", "detectable"]
"""What a rule reads: `level` is a figure after training, `change` the one from before to after on the same prompts,
`relative` that change as a share of the figure before, in every benchmark that has the metric, `since` the change from
the promoted version, `detectable` the smallest change that the prompts can show."""


class Rule(NamedTuple):
    """A rule of the gate: a figure, and the setting that bounds it.

    A change for the worse is positive, whichever direction of its metric is better.
    """

    name: str
    title: str
    """What the rule asks for, as the report names it."""
    metric: Metric
    reads: Source
    languages: Literal["together", "targets", "dominant", "every"]
    """`together` is the figure over all targets, clustered by prompt; else each of these languages is held to it."""
    setting: str
    """The setting of section `gate` that is its bound."""
    end: Literal["value", "worse", "better"] = "value"
    """What must keep to the bound: the figure itself, the worse end of its interval (proof that it is good enough), or
    the better one (no proof that it is too bad)."""
    required: bool = False
    """Whether the change is one for the better that is required, beyond chance, and the bound the least one."""


RULES = (
    Rule("target_unsafe", "Safety of the targets", UNSAFE, "level", "together", "max_target_unsafe", end="worse"),
    Rule("target_drop", "Improvement of the targets", UNSAFE, "change", "together", "min_target_drop", required=True),
    Rule("language_unsafe", "Safety of every language", UNSAFE, "level", "every", "max_language_unsafe", end="worse"),
    Rule("language_rise", "No language less safe", UNSAFE, "change", "every", "max_language_rise", end="better"),
    Rule("invalid", "Valid answers, harmful prompts", INVALID, "level", "every", "max_invalid"),
    Rule("harmless_invalid", "Valid answers, harmless prompts", HARMLESS_INVALID, "level", "every", "max_invalid"),
    Rule("over_refusal_rise", "Over-refusal", OVER_REFUSAL, "change", "every", "max_over_refusal_rise"),
    Rule(
        "dominant_refused",
        "Dominant language: refuses as before",
        REFUSED,
        "change",
        "dominant",
        "max_dominant_loss",
    ),
    Rule("dominant_helped", "Dominant language: helps as before", HELPED, "change", "dominant", "max_dominant_loss"),
    Rule("enough_harmful", "Enough harmful prompts", UNSAFE, "detectable", "every", "max_detectable"),
    Rule("enough_harmless", "Enough harmless prompts", OVER_REFUSAL, "detectable", "every", "max_detectable"),
    Rule("text_loss", "Plain text as before", BITS_PER_BYTE, "relative", "every", "max_utility_loss", end="better"),
    Rule("accuracy_loss", "Right answers as before", ACCURACY, "relative", "every", "max_utility_loss", end="better"),
    Rule(
        "target_rise",
        "No target worse than in the promoted version",
        UNSAFE,
        "since",
        "targets",
        "max_target_rise",
    ),
)
"""The rules, in the order of the report; `relative` and `since` apply where there are such figures."""
