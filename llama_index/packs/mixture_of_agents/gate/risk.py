"""Where to set a threshold so that what it risks stays under a bound, on data of finite size.

`threshold_for_loss` is conformal risk control (Angelopoulos et al., arXiv 2208.02814, theorem 1): for losses
between 0 and 1 that only fall as the threshold rises, taking the lowest threshold with
(n * mean loss + 1) / (n + 1) <= bound keeps the expected loss of the next case under the bound, whatever the
distribution. `threshold_for_share` bounds a probability by Clopper and Pearson's one-sided upper limit
(Biometrika, 1934). Wilson's interval (JASA, 1927) is for shares that are reported. Nothing here knows what
is lost.
"""

from __future__ import annotations

import math

import numpy as np

from llama_index.packs.mixture_of_agents.gate.ballots import Floats

ALWAYS = 2.0
"""A threshold that no score reaches."""
NEVER = -2.0
"""A threshold that every score reaches, but for `NO_STOP`."""
NO_STOP = -math.inf
"""The score of a place where a case cannot stop, wherever the threshold is."""
_Z95 = 1.959963984540054


def threshold_for_loss(scores: Floats, losses: Floats, bound: float) -> float:
    """The lowest threshold whose expected loss stays under a bound.

    Args:
        scores: A row a case, a column for each place where it may stop; it stops at the first whose score
            reaches the threshold, and loses nothing where it never stops.
        losses: What stopping there loses, in the same form, between 0 and 1.
        bound: Of the expected loss.

    Returns:
        The threshold; `ALWAYS` where the data are too few, or the scores too poor, for any stop.
    """
    count = len(scores)
    chosen = ALWAYS
    worst = np.zeros(count)
    for threshold in _thresholds(scores):
        # A later threshold may stop a case elsewhere and lose less: the worst so far keeps losses monotone.
        worst = np.maximum(worst, _loss_at(threshold, scores, losses))
        if (worst.sum() + 1) / (count + 1) > bound:
            break
        chosen = threshold
    return chosen


def threshold_for_share(scores: Floats, most: float, confidence: float = 0.95) -> float:
    """The highest threshold with which the share of cases that never stop stays under a limit.

    Args:
        scores: As for `threshold_for_loss`.
        most: The limit on the share.
        confidence: How sure that must be.

    Returns:
        The threshold; `NEVER` where the data are too few, or the limit too low, for any: that still keeps to
        the limit, save for cases that can stop nowhere.
    """
    best = np.sort(scores.max(axis=1))
    allowed = _most_allowed(len(best), most, confidence)
    kept = [score for score in _thresholds(scores) if np.searchsorted(best, score) <= allowed]
    return kept[0] if kept else NEVER


def _most_allowed(total: int, most: float, confidence: float) -> int:
    """The largest count whose upper limit is no more than that; -1 for none."""
    low, high = -1, total
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if upper_limit(middle, total, confidence) <= most else (low, middle)
    return low


def upper_limit(count: int, total: int, confidence: float = 0.95) -> float:
    """Clopper and Pearson's one-sided upper limit of a probability, of which `count` of `total` was seen."""
    if count >= total:
        return 1.0
    low, high = count / total, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(count, total, middle) > 1 - confidence else (low, middle)
    return high


def wilson(count: float, total: int, z: float = _Z95) -> tuple[float, float]:
    """Wilson's interval of a share; (0, 1) without cases."""
    if not total:
        return 0.0, 1.0
    share = count / total
    middle = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def paired_interval(
    differences: Floats, seed: int = 0, draws: int = 2_000, level: float = 0.95
) -> tuple[float, float]:
    """The bootstrap interval of a mean of differences of the same cases; (0, 0) without cases."""
    if not len(differences):
        return 0.0, 0.0
    generator = np.random.default_rng(seed)
    means = [generator.choice(differences, len(differences)).mean() for _ in range(draws)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _thresholds(scores: Floats) -> list[float]:
    """Every score at which a case may stop, the highest first."""
    return [float(score) for score in np.unique(scores[np.isfinite(scores)])[::-1]]


def _loss_at(threshold: float, scores: Floats, losses: Floats) -> Floats:
    reached = scores >= threshold
    first = reached.argmax(axis=1)
    lost: Floats = np.where(reached.any(axis=1), losses[np.arange(len(scores)), first], 0.0)
    return lost


def _at_most(count: int, total: int, chance: float) -> float:
    """The probability of at most `count` of `total`."""
    logs = (
        [
            math.lgamma(total + 1)
            - math.lgamma(k + 1)
            - math.lgamma(total - k + 1)
            + k * math.log(chance)
            + (total - k) * math.log1p(-chance)
            for k in range(count + 1)
        ]
        if 0 < chance < 1
        else [0.0 if chance <= 0 else -math.inf]
    )
    return math.fsum(map(math.exp, logs))
