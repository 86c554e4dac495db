"""Whether B differs from A, by pairs of measurements: the ratio, its interval, and a verdict.

Each pair is a run of A and a run of B that were made one after the other, so that what the machine
does meanwhile is in both. The ratio is the Hodges-Lehmann estimate of the logarithms of B/A: the
median of the means of all pairs of ratios. Its interval is that of Wilcoxon's signed-rank test,
exact for any number of pairs: it assumes no normal distribution, only that a run of A and one of B
that are alike differ as often one way as the other, and one outlier cannot move it far.
"""
import dataclasses
import math
import statistics


@dataclasses.dataclass
class Comparison:
    """Medians, B/A, the interval's ends (None where there are too few pairs), and a verdict."""
    median_a: float
    median_b: float
    ratio: float
    low: float | None
    high: float | None
    verdict: str  # "more", "less" or "none"


def rank_sum_counts(pairs):
    """How many of the 2**pairs choices of signs have each sum of positive ranks."""
    counts = [1]
    for rank in range(1, pairs + 1):
        longer = counts + [0] * rank
        for total, count in enumerate(counts):
            longer[total + rank] += count
        counts = longer
    return counts


def cut_off(pairs, confidence):
    """How many of the sorted means lie outside the interval at each end; None: too few pairs."""
    allowed = (1 - confidence) / 2 * 2 ** pairs
    below, outside = 0, None
    for total, count in enumerate(rank_sum_counts(pairs)):
        below += count
        if below > allowed:
            return outside
        outside = total + 1
    return outside


def pairs_needed(confidence):
    """The fewest pairs with which a verdict is possible."""
    pairs = 2
    while cut_off(pairs, confidence) is None:
        pairs += 1
    return pairs


def compared(a, b, confidence):
    """The comparison of measurements of A and B, in the order of their pairs.

    Requires: as many of A as of B, at least one, all above 0.
    """
    logs = [math.log(there / here) for here, there in zip(a, b, strict=True)]
    means = sorted((logs[i] + logs[j]) / 2 for i in range(len(logs)) for j in range(i, len(logs)))
    outside = cut_off(len(logs), confidence)
    low = high = None
    if outside is not None:
        low, high = math.exp(means[outside - 1]), math.exp(means[len(means) - outside])
    verdict = "none"
    if low is not None and low > 1:
        verdict = "more"
    elif high is not None and high < 1:
        verdict = "less"
    return Comparison(statistics.median(a), statistics.median(b),
                      math.exp(statistics.median(means)), low, high, verdict)
