"""How often intervals hold the mean, how long they are, and how often a claim on the border is called.

OMP_NUM_THREADS=1 python experiments/statistics/coverage.py > experiments/statistics/coverage.md
"""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.stats import norm, t

from rnn_compare.statistics.interval import RESAMPLES, SHARE

SAMPLES, BATCH = 5_000, 250
SIZES = [*range(3, 15), 20, 30]
LOOKS = {"10": [10], "10, 14": [10, 14], "10, 12, 14, 16, 18, 20": list(range(10, 21, 2))}
TAIL = 0.025
OURS = f"Student's t and bootstrap-t at {1 - 2 * TAIL * SHARE:.0%}: ours"

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
Ends = tuple[np.ndarray, np.ndarray]


def own(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draws from the pairs that one of our own studies found, another at random for each sample."""
    with Path(__file__).with_name("ratios.csv").open() as file:
        studies = [np.array(row[3].split(), float) for row in list(csv.reader(file))[1:]]
    chosen = [studies[i] for i in rng.integers(len(studies), size=shape[0])]
    return np.stack([rng.choice(study - study.mean(), shape[1]) for study in chosen])


CASES: dict[str, Draw] = {  # populations of mean 0
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "t, 3 df": lambda rng, shape: rng.standard_t(3, shape),
    "15% outliers": lambda rng, shape: rng.standard_normal(shape) * np.where(rng.random(shape) < 0.15, 5, 1),
    "exponential": lambda rng, shape: rng.standard_exponential(shape) - 1,
    "log-normal": lambda rng, shape: rng.lognormal(size=shape) - np.exp(0.5),
    "our own": own,
}


def intervals(x: np.ndarray) -> dict[str, Ends]:
    """The ends of each kind of interval of the mean of each row of x, [samples, n]."""
    samples, n = x.shape
    mean, spread = x.mean(1), np.maximum(x.std(1), 1e-99)
    z = np.where(np.ptp(x, axis=1, keepdims=True), (x - mean[:, None]) / spread[:, None], 0)
    counts = np.zeros((RESAMPLES, n))
    np.add.at(counts, (np.arange(RESAMPLES)[:, None], np.random.default_rng(0).integers(n, size=(RESAMPLES, n))), 1)
    means = z @ counts.T / n
    variances = z**2 @ counts.T / n - means**2
    flat = variances < 1e-12
    infinite = np.where(np.abs(means) < 1e-9, 0, np.copysign(np.inf, means))
    ratios = np.where(flat, infinite, means / np.sqrt(np.where(flat, 1, variances)))
    ratios.sort(1)
    means.sort(1)

    def studentised(cut: int, least: float = -np.inf) -> Ends:
        return -np.maximum(ratios[:, -cut], least), np.maximum(-ratios[:, cut - 1], least)

    student = t.ppf(1 - TAIL, n - 1) / np.sqrt(n - 1)
    found = {
        "Student's t": (np.full(samples, -student), np.full(samples, student)),
        "BCa, widened": bca(z, means),
        "bootstrap-t": studentised(round(TAIL * (RESAMPLES + 1))),
        "sign flips": sign_flips(z),
        "Student's t and bootstrap-t": studentised(round(TAIL * (RESAMPLES + 1)), student),
        OURS: studentised(round(SHARE * TAIL * (RESAMPLES + 1)), student),
    }
    return {name: (mean + low * spread, mean + high * spread) for name, (low, high) in found.items()}


def bca(z: np.ndarray, means: np.ndarray) -> Ends:
    """The BCa bootstrap's (Efron 1987), its confidence raised as t is above the normal (Hesterberg 2015, 3.2)."""
    n = z.shape[1]
    tail = max(norm.sf(t.ppf(1 - TAIL, n - 1) * np.sqrt(n / (n - 1))), 1e-4)
    bias = norm.ppf((np.mean(means < -1e-12, 1) + np.mean(means <= 1e-12, 1)) / 2)
    acceleration = np.sum(z**3, 1) / (6 * n**1.5)

    def end(quantile: float) -> np.ndarray:
        shifted = bias + norm.ppf(quantile)
        with np.errstate(invalid="ignore"):
            level = np.nan_to_num(norm.cdf(bias + shifted / (1 - acceleration * shifted)), nan=0.5)
        return means[np.arange(len(z)), np.minimum(level * RESAMPLES, RESAMPLES - 1).astype(int)]

    return end(tail), end(1 - tail)


def sign_flips(z: np.ndarray) -> Ends:
    """The means that the test by flipped signs does not reject: quantiles of subsets' means (Hartigan 1969)."""
    n = z.shape[1]
    masks = np.arange(1, 2**n) if n < 14 else np.random.default_rng(0).integers(1, 2**n, size=RESAMPLES)
    subsets = masks[:, None] >> np.arange(n) & 1
    means = np.sort(z @ (subsets / subsets.sum(1, keepdims=True)).T, axis=1)
    cut = int(TAIL * (len(masks) + 1))
    return (means[:, cut - 1], means[:, -cut]) if cut else (np.full(len(z), -np.inf), np.full(len(z), np.inf))


def batches(case: str, n: int) -> Iterator[np.ndarray]:
    """Samples of a population, a batch at a time."""
    rng = np.random.default_rng(n)
    for _ in range(SAMPLES // BATCH):
        yield CASES[case](rng, (BATCH, n))


def simulated(case: str, n: int) -> dict[str, tuple[float, float]]:
    """The coverage of each kind of interval that has an end, and the median length, relative to Student's."""
    found = [intervals(x) for x in batches(case, n)]
    ends = {name: [np.concatenate([batch[name][i] for batch in found]) for i in (0, 1)] for name in found[0]}
    student = np.median(ends["Student's t"][1] - ends["Student's t"][0])
    result = {}
    for name, (low, high) in ends.items():
        given = np.isfinite(high - low)
        covered = np.mean(((low <= 0) & (high >= 0))[given]) if given.any() else np.nan
        result[name] = float(covered), float(np.median(high - low) / student)
    return result


def called(case: str, sizes: list[int]) -> float:
    """How often an interval leaves out a border that is the mean, in any of the looks at so many values."""
    missed = []
    for x in batches(case, sizes[-1]):
        looks = [intervals(x[:, :n])[OURS] for n in sizes]
        missed.append(np.any([(low > 0) | (high < 0) for low, high in looks], axis=0))
    return float(np.mean(missed))


def table(head: list[str], rows: list[list[str]]) -> None:
    """Prints a Markdown table."""
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |", flush=True)


def main() -> None:
    """Prints all tables."""
    print(f"# Coverage\n\nOf {SAMPLES} samples: the share of the intervals that hold the mean, and in brackets their "
          "median length over Student's. None: most lack an end.")  # fmt: skip
    found = {(case, n): simulated(case, n) for n in SIZES for case in CASES}
    for name in found["normal", 3]:
        print(f"\n## {name}\n")
        rows = [[str(n), *("{:.3f} ({:.2f})".format(*found[case, n][name]) for case in CASES)] for n in SIZES]
        table(["n", *CASES], [["none" if "inf" in cell else cell for cell in row] for row in rows])
    print("\n## A claim on its border is called\n\nIn this share of studies, by one of the looks at so many pairs.\n")
    table(["looks", *CASES], [[words, *(f"{called(case, sizes):.3f}" for case in CASES)]
                              for words, sizes in LOOKS.items()])  # fmt: skip


if __name__ == "__main__":
    main()
