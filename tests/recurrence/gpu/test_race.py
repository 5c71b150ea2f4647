"""The race, between an emulated GPU and this processor: who wins is known, how it is decided is tested."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from emulated import needs_compiler

import rnn_compare
from rnn_compare.cells import GRUCell
from rnn_compare.recurrence import gpu, pick
from rnn_compare.recurrence.gpu import race

pytestmark = [needs_compiler, pytest.mark.parametrize("emulated", ["first"], indirect=True)]
CELL = GRUCell(4)


@pytest.fixture(autouse=True)
def on_a_gpu(monkeypatch, tmp_path, emulated):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(race, "ROUNDS", 1)


def seconds(monkeypatch, **taken):
    """What each is said to take, in the order in which they race."""
    left = iter(taken.values())
    monkeypatch.setattr(race, "_seconds", lambda _: next(left))


@pytest.mark.parametrize(
    ("taken", "picked"), [((1, 2, 3), "gpu"), pytest.param((3, 2, 1), "scan", marks=pytest.mark.slow)]
)
def test_the_fastest_of_those_that_are_right_is_taken_and_remembered(monkeypatch, tmp_path, taken, picked):
    seconds(monkeypatch, **dict(zip(("gpu", "scan", "cpu"), taken, strict=True)))
    assert pick("auto", CELL, 1, 8, 3) == picked
    monkeypatch.setattr(race, "held", None)
    assert pick("auto", CELL, 1, 7, 3) == picked  # of the same class of shapes
    monkeypatch.setattr(race, "beside", [tmp_path / "study"])
    assert pick("auto", CELL, 1, 7, 3) == picked
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "lost"))
    assert pick("auto", CELL, 1, 7, 3) == picked  # as the study has it
    assert pick("gpu", CELL, 1, 8, 3) == "gpu"


def test_the_host_is_asked_too(monkeypatch):
    seconds(monkeypatch, gpu=3, scan=2, cpu=1)
    found = race.race(CELL.step, *rnn_compare.recurrence.shapes(CELL, 1, 8, 3))
    assert (found.fastest(host=True), found.fastest(host=False)) == ("cpu", "scan")
    assert str(found) == "gpu 3.75e+05 µs a step, scan 2.5e+05 µs a step, cpu 1.25e+05 µs a step"


def test_a_kernel_that_is_wrong_is_never_used(monkeypatch, caplog):
    right = gpu.Kernels.gradients
    monkeypatch.setattr(gpu.Kernels, "gradients", lambda *args: [1.001 * g for g in right(*args)])
    seconds(monkeypatch, scan=2, cpu=3)
    assert pick("auto", CELL, 1, 8, 3) == "scan"
    assert "kernels failed their check" in caplog.text
    assert "dparams" in caplog.text
    assert "please report it" in caplog.text


def test_a_kernel_that_the_driver_refuses_is_never_used(monkeypatch, caplog):
    def refused(*_):
        raise gpu.driver.DriverError("cuLibraryLoadData: no binary for this GPU")

    monkeypatch.setattr(gpu, "ready", refused)
    seconds(monkeypatch, scan=2, cpu=3)
    assert pick("auto", CELL, 1, 8, 3) == "scan"
    assert "no binary for this GPU" in caplog.text


@pytest.mark.slow
def test_it_is_held_while_somebody_traces(monkeypatch):
    """A body that closes over what is traced."""
    seconds(monkeypatch, gpu=1, scan=2, cpu=3)
    x, h = jnp.ones((9, 2, 4)), jnp.zeros((2, 4))

    def loss(weights, scan):
        def body(h, x):
            h = jnp.tanh(h @ weights + 0.5 * x)
            return h, (h, jnp.sin(h))

        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(scan(body, h, x)))

    weights = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)), jnp.float32)
    ours, theirs = (
        jax.jit(jax.value_and_grad(functools.partial(loss, scan=scan)))(weights)
        for scan in (rnn_compare.scan, jax.lax.scan)
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), ours, theirs)
