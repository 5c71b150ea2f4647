"""The contract, held by steps that nobody wrote. See `random_steps`."""

import functools

import hypothesis
import hypothesis.strategies as st
import pytest
from contract import FAST, for_a_draw, hold
from random_steps import steps

sizes = {"T": st.integers(1, 9), "B": st.integers(1, 30), "F": st.integers(1, 7)}
sizes |= {"H": st.integers(1, 35) | st.integers(64, 80), "K": st.integers(2, 4), "runs": st.sampled_from([0, 0, 2])}


def check(backend, written, T, B, F, H, K, runs):
    for_a_draw(functools.partial(hold, written.model(F, H, K), backend, T, B, F, runs))


@pytest.mark.parametrize("backend", FAST)
@hypothesis.settings(max_examples=2, deadline=None, derandomize=True, database=None, phases=[hypothesis.Phase.generate])
@hypothesis.given(written=steps(4), **sizes)
def test_a_few_steps(backend, written, T, B, F, H, K, runs):
    check(backend, written, T, B, F, H, K, runs)


@pytest.mark.slow
@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("part", range(20))
def test_thousands_of_steps(backend, part):
    """In parts, so that one failure does not hide the others."""

    @hypothesis.seed(part)
    @hypothesis.settings(
        max_examples=100, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(written=steps(10), **sizes)
    def each(written, T, B, F, H, K, runs):
        check(backend, written, T, B, F, H, K, runs)

    each()
