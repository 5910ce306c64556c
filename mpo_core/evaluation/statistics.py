"""Computes intervals and tests of shares. The prompt is the unit: its samples and translations are no new evidence."""

import functools
import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from mpo_core.evaluation.shares import Share

POWER = 0.8
"""Probability with which a test must find the smallest change that it is said to detect."""
_FEWEST_OTHERS = 0.01  # share of the prompts that change the other way, at least
_RESAMPLES = 1000  # of a bootstrap
FEWEST_CLUSTERS = 4
"""Number of clusters, such as languages, from which on a rank correlation is computed."""
_STEPS = 14  # halvings of the search for the smallest change: to 0.01 points


class Interval(NamedTuple):
    """The two ends of a confidence interval."""

    low: float
    high: float


class Correlation(NamedTuple):
    """Spearman's rank correlation with the ends of its 95 % interval."""

    rho: float
    low: float
    high: float


def share_interval(shares: Collection[Share], confidence: float) -> Interval:
    """Returns Wilson's interval for a mean of per-prompt shares, clustered by prompt.

    The answers to one prompt, several samples or translations, resemble each other, so they count for less than as
    many prompts: the interval is taken at the effective size `p (1 - p) / (s² / k)`, s² being the variance of the k
    prompts' shares (Kish's design effect), with Student's quantile, since s² is an estimate. The size lies between the
    prompts (all answers to a prompt alike) and the answers (independent). With one answer a prompt it is the number of
    prompts, and the interval is the plain one.
    """
    values = np.array([share.share for share in shares])
    prompts, samples = len(values), sum(share.samples for share in shares)
    mean = float(values.mean())
    alpha, effective = 1 - confidence, float(prompts)
    if samples > prompts > 1:
        alpha = 2 * float(stats.norm.sf(stats.t.ppf((1 + confidence) / 2, prompts - 1)))
        # At 0 and at 1 no spread shows how independent the answers to a prompt are: count each prompt once.
        if 0.0 < mean < 1.0:
            spread = float(values.var(ddof=1))
            effective = mean * (1 - mean) * prompts / spread if spread > 0.0 else float(samples)
            effective = min(max(effective, float(prompts)), float(samples))
    low, high = proportion_confint(mean * effective, effective, alpha=alpha, method="wilson")
    return Interval(float(low), float(high))


def mean_interval(values: Collection[float], confidence: float) -> Interval:
    """Returns Student's interval for the mean of at least two values."""
    return group_interval([list(values)], confidence)


def group_interval(groups: Collection[Sequence[float]], confidence: float) -> Interval:
    """Returns Student's interval for the mean of the groups' means, from the pooled variance within groups.

    The groups are fixed: the interval says how much other values of these groups would differ, not other groups. At
    least one group needs two values.
    """
    arrays = [np.asarray(group, dtype=np.float64) for group in groups]
    freedom = sum(len(array) - 1 for array in arrays)
    variance = sum(float(((array - array.mean()) ** 2).sum()) for array in arrays) / freedom
    error = math.sqrt(variance * sum(1 / len(array) for array in arrays)) / len(arrays)
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    mean = float(np.mean([array.mean() for array in arrays]))
    return Interval(mean - half, mean + half)


def sign_flip_p(groups: Collection[Sequence[float]]) -> float:
    """Returns the two-sided p-value of paired changes in groups: how often changes of random sign are as large.

    The statistic is the mean of the groups' means. Exact up to 16 changes; above, 65,536 random signs are sampled.
    """
    shares = np.concatenate([np.asarray(group, dtype=np.float64) / len(group) for group in groups])
    if not shares.any():
        return 1.0
    test = stats.permutation_test(
        (shares,), lambda x, axis: x.sum(axis), permutation_type="samples", vectorized=True, n_resamples=2**16, rng=0
    )
    return float(test.pvalue)


def change_interval(changes: Sequence[float], confidence: float) -> Interval:
    """Returns Agresti and Min's interval for the mean of paired changes, each from -1 to 1.

    Two prompts are added, half a changed one on each side and one that stays, so that no change at all still has an
    interval (Statistics in Medicine 24, 2005, for pairs of 0 and 1; a share of several answers lies between).
    """
    size = len(changes) + 2
    mean = math.fsum(changes) / size
    variance = (math.fsum(change * change for change in changes) + 1) / size - mean * mean
    half = float(stats.norm.ppf((1 + confidence) / 2)) * math.sqrt(variance / size)
    seen = math.fsum(changes) / len(changes)
    return Interval(max(min(mean - half, seen), -1.0), min(max(mean + half, seen), 1.0))


def mcnemar_p(gained: int, lost: int) -> float:
    """Returns the exact two-sided p-value of McNemar's test; 1 where no prompt changed."""
    return float(mcnemar([[0, gained], [lost, 0]], exact=True).pvalue) if gained + lost else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns Holm's adjusted p-values: those below 0.05 are changes with at most 5 % risk of any false one."""
    order = np.argsort(p_values)  # statsmodels' multipletests takes a thousand times as long
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1))
    return [float(p) for p in np.minimum(adjusted, 1.0)]


def add_holm(rows: Sequence[dict[str, Any]]) -> None:
    """Adds Holm's adjusted p-values to the rows of COMPARISONS of one family of tests."""
    for row, adjusted in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_holm"] = adjusted


def spearman(clusters: Sequence[Sequence[tuple[float, float]]]) -> Correlation | None:
    """Returns Spearman's rank correlation over all points (x, y); a bootstrap interval resamples whole clusters.

    The points of one language under several models are one cluster, since they resemble each other. There is none for
    fewer than four clusters, or if all values are equal.
    """
    rho = rank_correlation([point for cluster in clusters for point in cluster])
    if len(clusters) < FEWEST_CLUSTERS or rho is None:
        return None
    generator = np.random.default_rng(0)
    arrays = [np.array(cluster, dtype=np.float64) for cluster in clusters]
    resamples = generator.integers(len(arrays), size=(_RESAMPLES, len(arrays)))
    values = np.array([_rho(np.concatenate([arrays[index] for index in resample])) for resample in resamples])
    low, high = np.quantile(values[np.isfinite(values)], [0.025, 0.975])
    return Correlation(rho, float(low), float(high))


def rank_correlation(points: Sequence[tuple[float, float]]) -> float | None:
    """Returns Spearman's rank correlation of points (x, y); None if all values of x or of y are equal."""
    rho = _rho(np.array(points, dtype=np.float64)) if points else math.nan
    return rho if math.isfinite(rho) else None


def _rho(points: Any) -> float:
    x, y = stats.rankdata(points, axis=0).T
    x, y = x - x.mean(), y - y.mean()
    spread = math.sqrt((x @ x) * (y @ y))
    return float(x @ y) / spread if spread else math.nan  # equal values have no order


def smallest_change(n: int, others: float = 0.0, *, alpha: float) -> float | None:
    """Returns the smallest change of a share that McNemar's exact test finds with 80 % power; None if it finds none.

    At least 1 % of the prompts, or the share `others`, are assumed to change in the other direction.
    """
    return _smallest_change(n, round(max(others, _FEWEST_OTHERS), 3), alpha)


@functools.lru_cache(maxsize=4096)
def _smallest_change(n: int, others: float, alpha: float) -> float | None:
    low, high = 0.0, 1.0 - 2 * others
    if high <= 0.0 or mcnemar_power(n, others + high, others, alpha=alpha) < POWER:
        return None
    for _ in range(_STEPS):
        middle = (low + high) / 2
        enough = mcnemar_power(n, others + middle, others, alpha=alpha) >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high


def mcnemar_power(n: int, more: float, less: float, *, alpha: float) -> float:
    """Returns the probability that McNemar's exact two-sided test of n prompts rejects that nothing has changed.

    `more` and `less` are the probabilities that a prompt changes in one direction and in the other.
    """
    if more + less <= 0.0:
        return 0.0
    first, last = stats.binom.ppf([1e-9, 1 - 1e-9], n, more + less)  # the rest does not matter
    changed = np.arange(first, last + 1)
    rarer = _highest_rejected(changed, alpha)
    share = more / (more + less)
    rejected = special.bdtr(rarer, changed, share) + special.bdtrc(changed - rarer - 1, changed, share)
    return float((stats.binom.pmf(changed, n, more + less) * np.where(rarer < 0, 0.0, rejected)).sum())


def _highest_rejected(changed: Any, alpha: float) -> Any:
    """Returns for each number of changed prompts the highest rarer count that is significant; -1 if none is."""
    highest = stats.binom.ppf(alpha / 2, changed, 0.5)
    return np.where(2 * special.bdtr(highest, changed, 0.5) <= alpha, highest, highest - 1)
