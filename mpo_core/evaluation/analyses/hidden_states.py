"""The analysis `hidden_states`: whether harmful and harmless requests differ in the model before it answers."""

import zlib
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from markupsafe import Markup
from scipy.optimize import minimize
from scipy.special import expit
from statsmodels.stats.proportion import proportion_confint

from mpo_core.contract.analysis import AnalysedRun, Analysis, Findings
from mpo_core.contract.tables import PROMPT_STATES
from mpo_core.display.svg import AFTER, BEFORE, LINE, MUTED, PAPER, figure, label, shortened, to_svg
from mpo_core.display.wording import language_name, percent

_FOLDS = 5
_PENALTY = 1.0
_FEWEST = 2 * _FOLDS  # prompts of each kind
_DRAWN = 20  # points of each kind and language in the picture

Array = Any  # a numpy array


class States(NamedTuple):
    """The hidden states of one language's prompts under one model: states [n, D], harmful [n] and fold [n]."""

    states: Array
    harmful: Array
    folds: Array


class HiddenStates(Analysis):
    """Draws hidden states of harmful and harmless prompts in two dimensions, and separates them with a linear probe."""

    title: ClassVar[str] = "Hidden states of harmful and harmless prompts"
    lead: ClassVar[str] = (
        "The last hidden state at the end of each held-out prompt, where the answer begins, before and after training. "
        "Safe answers need states that differ between harmful and harmless prompts, in every language. A linear probe "
        "tries to tell them apart: one trained on the language itself, and one trained on the dominant language alone."
    )
    reads_states: ClassVar[bool] = True

    analysis: Literal["hidden_states"]
    """Name of the analysis."""

    def analyse(self, run: AnalysedRun) -> Findings | None:
        """Returns the accuracies of both probes by language and model, and the picture."""
        if run.states is None:
            return None
        by_model = {name: _by_language(table) for name, table in run.states.items()}
        usable = [code for code in [run.dominant, *run.targets] if all(_enough(m.get(code)) for m in by_model.values())]
        if run.dominant not in usable:
            return None
        rows = [
            _row(name, code, languages[code], languages[run.dominant])
            for code in usable
            for name, languages in by_model.items()
        ]
        picture = _picture({name: {code: m[code] for code in usable} for name, m in by_model.items()})
        return Findings(pa.Table.from_pylist(rows), picture, _supports(rows, run.dominant), _LIMITS)


_LIMITS = (
    "A probe that separates the two kinds shows that the states hold the difference, not that the model uses it, nor "
    "that it is about harm: prompts of the two kinds differ in words too. The two dimensions are those in which the "
    "base model's states vary most, over all languages; what lies in other dimensions is not drawn. Intervals are "
    "Wilson's over prompts, and not paired."
)


def probe_accuracy(train: States, test: States) -> float:
    """Returns the share of prompts whose kind a logistic regression tells, cross-validated by prompt.

    A prompt is tested by the regression that was trained on the other folds. Its translations lie in its own fold, so
    no probe has seen the prompt in any language.
    """
    hits = 0
    for fold in range(_FOLDS):
        learned, held_out = train.folds != fold, test.folds == fold
        if held_out.any():
            probe = _fitted(train.states[learned], train.harmful[learned])
            called_harmful = _scores(probe, test.states[held_out]) > 0
            hits += int((called_harmful == test.harmful[held_out]).sum())
    return hits / len(test.harmful)


class Probe(NamedTuple):
    """A logistic regression on standardised states."""

    mean: Array
    spread: Array
    weights: Array
    bias: float


def _fitted(states: Array, harmful: Array) -> Probe:
    """Returns the logistic regression with the least loss plus half the squared length of its weights."""
    mean, spread = states.mean(0), states.std(0) + 1e-6
    x, sign = (states - mean) / spread, np.where(harmful, 1.0, -1.0)

    def loss(parameters: Array) -> tuple[float, Array]:
        margins = sign * (x @ parameters[:-1] + parameters[-1])
        pull = -sign * expit(-margins)
        gradient = np.append(x.T @ pull + _PENALTY * parameters[:-1], pull.sum())
        return float(np.logaddexp(0.0, -margins).sum() + _PENALTY / 2 * parameters[:-1] @ parameters[:-1]), gradient

    best = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return Probe(mean, spread, best[:-1], float(best[-1]))


def _scores(probe: Probe, states: Array) -> Array:
    return (states - probe.mean) / probe.spread @ probe.weights + probe.bias


def _by_language(table: pa.Table) -> dict[str, States]:
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in PROMPT_STATES.check(table).to_pylist():
        rows.setdefault(row["language"], []).append(row)
    return {
        code: States(
            np.array([row["state"] for row in of_code]),
            np.array([row["kind"] == "harmful" for row in of_code]),
            np.array([zlib.crc32(row["prompt_id"].encode()) % _FOLDS for row in of_code]),
        )
        for code, of_code in rows.items()
    }


def _enough(states: States | None) -> bool:
    return states is not None and min(states.harmful.sum(), (~states.harmful).sum()) >= _FEWEST


def _row(model: str, code: str, own: States, dominant: States) -> dict[str, Any]:
    accuracy, n = probe_accuracy(own, own), len(own.harmful)
    low, high = proportion_confint(round(accuracy * n), n, method="wilson")
    transfer = probe_accuracy(dominant, own)
    return {"language": code, "model": model, "prompts": n, "accuracy": accuracy, "low": low, "high": high} | {
        "dominant_probe": transfer
    }


def _supports(rows: list[dict[str, Any]], dominant: str) -> str:
    def span(model: str, column: str) -> str:
        values = [row[column] for row in rows if row["model"] == model and row["language"] != dominant]
        return f"{percent(min(values))} to {percent(max(values))}" if values else "–"

    return (
        f"Over the target languages, a probe trained on the language itself is right on {span('before', 'accuracy')} "
        f"of the prompts before training and {span('after', 'accuracy')} after; one trained on "
        f"{language_name(dominant)} alone on {span('before', 'dominant_probe')} before and "
        f"{span('after', 'dominant_probe')} after. Guessing is right on about half."
    )


def _picture(by_model: Mapping[str, Mapping[str, States]]) -> Markup:
    """Draws both models' states in the two directions in which the base model's vary most."""
    base = np.concatenate([states.states for states in by_model["before"].values()])
    centre = base.mean(0)
    directions = np.linalg.svd(base - centre, full_matrices=False)[2][:2].T
    drawn, axes = figure(260, columns=2)
    for ax, (model, languages) in zip(axes, by_model.items(), strict=True):
        for code, states in languages.items():
            points = (states.states - centre) @ directions
            for harmful, style in ((True, {"mfc": AFTER, "mec": AFTER}), (False, {"mfc": PAPER, "mec": BEFORE})):
                chosen = points[states.harmful == harmful]
                ax.plot(*chosen[:_DRAWN].T, "o", ms=3.2, mew=0.9, zorder=2 if harmful else 3, **style)
            ax.annotate(shortened(code), points.mean(0), color=MUTED, fontsize=11, zorder=5, ha="center")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines["bottom"].set_color(LINE)
        label(ax, y=f"{model}; filled: harmful")
    description = (
        "Hidden states of prompts in two dimensions, before and after training; filled points are harmful prompts, "
        f"hollow ones harmless, of {', '.join(map(language_name, next(iter(by_model.values()))))}."
    )
    return to_svg(drawn, name="hidden-states", description=description)
