import numpy as np
import pytest

from rnn_compare.statistics.paired import UNDECIDED, paired, verdict
from rnn_compare.statistics.together import holm

# Logs of ratios whose mean is 0, the border of each claim: any verdict is a wrong one.
NOISE = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "outliers": lambda rng, shape: rng.normal(size=shape) * np.where(rng.random(shape) < 0.15, 5, 1),
    "skewed": lambda rng, shape: rng.exponential(size=shape) - 1,
}


@pytest.mark.slow
@pytest.mark.parametrize("noise", NOISE)
def test_of_claims_on_their_borders_one_in_twenty_studies_decides_any(noise):
    """Three claims of a study, two of them about the same runs, with ten pairs each."""
    rng, wrong, studies = np.random.default_rng(0), 0, 1000
    for _ in range(studies):
        logs = 0.2 * NOISE[noise](rng, (3, 10))
        logs[1] = (logs[0] + logs[1]) / np.sqrt(2)
        ratios, ones = np.exp(logs), np.ones(10)

        def decided(i, confidence, ratios=ratios, ones=ones):
            return verdict(paired(ones, ratios[i], confidence), (0, 1)) != UNDECIDED

        levels = holm(decided, 3)
        wrong += any(decided(i, level) for i, level in enumerate(levels))
    assert wrong / studies < 0.05 + 3 * np.sqrt(0.05 * 0.95 / studies)
