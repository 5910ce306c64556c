"""Preference pairs: a good and a bad answer to every prompt, in every language."""

from flows.benchmarks import Texts
from flows.run import Run
from flows.stages.answers import answer_dominant, has_all_answers, judge, reference_answers, sample, translate
from flows.stages.shards import Pairs, Shards, of_split, split
from mpo_core.contract.artifacts import ArtifactRef
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.tables import QUARANTINE
from mpo_core.translation.build import fingerprint as translation_fingerprint
from tasks.model import ModelFolder
from tasks.pairs import confirm_pairs, find_surplus, limit_pairs, pair_dominant, pair_target
from tasks.translation import translate_answers


def pair(run: Run, texts: Texts, answers: Shards, verdicts: Shards) -> Pairs:
    """Builds pairs: a good and a bad answer to every prompt in the dominant language, mirrored in every target."""
    config, dominant = run.config, run.config.languages.dominant
    fingerprint = translation_fingerprint(config.translation)
    source = {
        (code, block): run.submit(
            pair_dominant,
            prompts=block,
            responses=answers[code, block],
            verdicts=verdicts[code, block],
            reference_answers=reference_answers(run, code, block),
            settings=config.pairs,
            dominant=dominant,
            label=f"{dominant}-{block.part}",
        )
        for code, block in texts
        if code == dominant
    }
    target, held_out = {}, config.evaluation.split  # its pairs show the reward gaps, in every language
    for (language, block), prompts in texts.items():
        if isinstance(prompts, ArtifactRef) or (
            language in config.languages.without_pairs and split(block) != held_out
        ):
            continue
        label, source_pairs, translations = f"{language}-{block.part}", source[dominant, block], None
        if config.pairs.strategy in {"translated", "mixed"} and not has_all_answers(run, language, block):
            translations = run.submit(
                translate_answers,
                pairs=source_pairs,
                settings=config.translation,
                fingerprint=fingerprint,
                source=dominant,
                target=language,
                label=label,
            )
        target[language, block] = run.submit(
            pair_target,
            source_pairs=source_pairs,
            prompt_translations=prompts,
            reference_answers=reference_answers(run, language, block),
            answer_translations=translations,
            responses=answers.get((language, block)),
            verdicts=verdicts.get((language, block)),
            settings=config.pairs,
            dominant=dominant,
            language=language,
            label=label,
        )
    if config.pairs.check_verdicts:
        target = {
            (language, block): run.submit(
                confirm_pairs,
                pairs=future,
                judge=config.judging,
                settings=config.pairs,
                language=language,
                label=f"{language}-{block.part}",
            )
            for (language, block), future in target.items()
        }
    return Pairs(texts, source, _within_quotas(run, target))


def _within_quotas(run: Run, target: Shards) -> Shards:
    """Returns the target pairs, those of training without what is beyond the quotas of `pairs`."""
    limited, train = dict(target), of_split(target, "train")
    for code in sorted({language for language, _ in train}) if run.config.pairs.has_quotas else ():
        blocks = [block for language, block in train if language == code]
        over = run.submit(
            find_surplus,
            pairs=[target[code, block] for block in blocks],
            prompts=blocks,
            settings=run.config.pairs,
            language=code,
            label=code,
        )
        for block in blocks:
            limited[code, block] = run.submit(
                limit_pairs, pairs=target[code, block], over=over, language=code, label=f"{code}-{block.part}"
            )
    return limited


def preference_pairs(run: Run, model: ModelFolder, blocks: list[ArtifactRef]) -> Pairs:
    """Runs translation, sampling, judging and pairs one after the other, for flows that need them together."""
    answers, verdicts = answer_dominant(run, model, blocks)
    texts = translate(run, blocks)
    target_answers = sample(run, model, texts)
    return pair(run, texts, answers | target_answers, verdicts | judge(run, target_answers))


def require_pairs(run: Run, pairs: Pairs) -> None:
    """Rejects a training without pairs, with the reasons why none are left.

    Raises:
        BadInputError: no pair is left; names the reasons and the folder of the rejected rows.
    """
    train = pairs.of("train")
    if any(run.result(future).rows.rows for future in train.target.values()):
        return
    counts: dict[str, int] = {}
    for shard in map(run.result, (train.source | train.target).values()):
        if shard.quarantine is not None:
            for row in run.store.read_table(shard.quarantine, QUARANTINE).to_pylist():
                name = f"{row['language'] or run.config.languages.dominant} {row['reason']}"
                counts[name] = counts.get(name, 0) + 1
    reasons = ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))
    raise BadInputError(
        f"no pair is left to train on ({reasons or 'no prompt reached this stage'})",
        where=f"pairs, rejected rows in {run.config.run.root}/pairs/quarantine",
        fix="no_rejected: the model gave no bad answer, so set prompts.sources.0.rejected_column "
        "or raise sampling.n and sampling.temperature; no_translation: complete the memory or name another engine; "
        "timed_out and the like: request again with translation.attempt=2; kind_quota: pairs.harmless_share needs "
        "prompts of both kinds.",
    )
