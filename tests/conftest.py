"""Shared fixtures. Keras runs on JAX here, and must be told before it is imported.

What XLA has compiled is kept as long as the tests run: their processes, and those that they start, compile much alike.
It compiles quickly rather than well, which is a third of the time; where bits are what a test is about, and XLA's own
optimizations might change them, it compiles as it does for users.
"""

import atexit
import os
import shutil
import tempfile

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = kept = tempfile.mkdtemp()
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    atexit.register(shutil.rmtree, kept, ignore_errors=True)

import jax
import numpy as np
import pytest

from rnn_compare import config as base
from rnn_compare import report
from rnn_compare.training.program import forget, make_room


@pytest.fixture
def x64():
    """Double precision inside the test."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(autouse=True)
def room(request):
    """A process that makes too many programs is ended; those of the default run are not too many."""
    yield
    if request.node.get_closest_marker("slow"):
        make_room()


@pytest.fixture
def as_users_compile():
    """XLA with all of its optimizations."""
    quickly = jax.config.read("jax_disable_most_optimizations")
    forget()
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", quickly)


TINY = {
    "data.sequences": 3, "data.length": 20, "data.lookahead": 5, "model.units": 4, "train.epochs": 7, "train.chunk": 3,
    "log.histogram_every": 5,
}  # fmt: skip


@pytest.fixture(scope="session")
def make_tiny():
    """Makes a config that trains in a blink."""

    def make_tiny():
        config = base.base()
        for key, value in TINY.items():
            base.set_value(config, key, value)
        return config

    return make_tiny


@pytest.fixture(scope="session")
def tiny_flags():
    """The same for a command whose config file returns `base()`."""
    return [f"--config.{key}={value}" for key, value in TINY.items()]


@pytest.fixture
def tiny(make_tiny):
    """One of these; to be changed by the test, then validated. What keeps its shapes need not be compiled again."""
    return make_tiny()


@pytest.fixture
def pair(tiny):
    """A study of both cells."""
    tiny.sweep = {"model.cell": ("lstm", "gru")}
    return tiny


@pytest.fixture
def no_figures():
    """Reports without figures, which take a second."""
    with pytest.MonkeyPatch.context() as patch:  # not the test's own, which it may undo
        patch.setattr(report, "draw", lambda *_: {})
        yield


@pytest.fixture
def assert_same_results():
    """Compares what two workdirs hold of the runs of these names, but for the times it took."""

    def compare(a, b, names):
        for name in names:
            assert (a / name / "run.json").read_text() == (b / name / "run.json").read_text()
            for file in ("curves.npz", "params.npz", "predictions.npz"):
                left, right = np.load(a / name / file), np.load(b / name / file)
                for key in set(left.files) - {"seconds_per_epoch"}:
                    np.testing.assert_array_equal(left[key], right[key])

    return compare
