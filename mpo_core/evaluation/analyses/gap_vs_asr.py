"""The analysis `gap_vs_asr`: reward gap against attack success rate, over the languages and models of a run."""

from typing import Any, ClassVar, Literal

import pyarrow as pa

from mpo_core.contract.analysis import AnalysedRun, Analysis, Findings
from mpo_core.contract.benchmark import HELD_OUT
from mpo_core.contract.metric import REWARD_GAP, UNSAFE
from mpo_core.evaluation.gap_paths import LIMITS, Path, Place, correlated, draw_paths, place_of


class GapVsAsr(Analysis):
    """Compares the reward gap with the attack success rate of each language, before and after training."""

    title: ClassVar[str] = "Reward gap against unsafe answers"
    lead: ClassVar[str] = (
        "The reward gap is how much the model prefers good answers to bad ones. The method assumes that a larger gap "
        "comes with fewer unsafe answers: each line is a language and should lead down and to the right. A hollow "
        "point is before training, a filled one after."
    )

    analysis: Literal["gap_vs_asr"]
    """Name of the analysis."""

    def analyse(self, run: AnalysedRun) -> Findings | None:
        """Returns gap and ASR by language, the picture, and Spearman's rank correlation over languages and models."""
        rows = {(row["language"], row["model"], row["metric"]): row for row in _measured(run)}
        codes = list(dict.fromkeys([run.dominant, *run.targets, *sorted({language for language, _, _ in rows})]))
        paths = [Path(code, [_place(rows, code, model) for model in ("before", "after")]) for code in codes]
        paths = [path for path in paths if path.measured]
        table = pa.Table.from_pylist(
            [
                {"language": row["language"], "model": row["model"], "pairs": row["n"], "reward_gap": row["value"]}
                | {"gap_low": row["low"], "gap_high": row["high"]}
                | {"asr": rows[code, model, UNSAFE.name]["value"] if (code, model, UNSAFE.name) in rows else None}
                for (code, model, metric), row in sorted(rows.items(), key=lambda item: codes.index(item[0][0]))
                if metric == REWARD_GAP.name
            ]
        )
        if not table.num_rows:
            return None
        picture = draw_paths(paths, name="gap-asr") if paths else None
        return Findings(table, picture, correlated(paths, "before and after"), LIMITS)


def _measured(run: AnalysedRun) -> list[dict[str, Any]]:
    """Returns the rows with gaps and ASR of the held-out prompts, from which the pairs are made."""
    return [
        row
        for row in run.metrics.to_pylist()
        if row["benchmark"] == HELD_OUT and row["metric"] in {REWARD_GAP.name, UNSAFE.name}
    ]


def _place(rows: dict[tuple[str, str, str], dict[str, Any]], code: str, model: str) -> Place | None:
    gap, unsafe = (rows.get((code, model, metric.name)) for metric in (REWARD_GAP, UNSAFE))
    return place_of(gap["value"], unsafe["value"]) if gap and unsafe else None
