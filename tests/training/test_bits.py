"""post8's first 50 epochs are the same bits on every x86 processor from AVX2 up."""

import hashlib
import os
import platform
import subprocess
import sys

import jax
import numpy as np
import pytest

from rnn_compare import config as base
from rnn_compare.training.trainer import Trainer

# Of the losses of seed 0; another version of XLA may round elsewhere: these two train alike, and add up the heads'
# losses differently, by one in the last place.
FINGERPRINTS = {
    "0.10.2": {"lstm": "056f243aafb8971d", "gru": "ae5bc8aae83f1b18"},
    "0.12.0.1": {"lstm": "3e51966caf744d58", "gru": "e31bd6a2acdde040"},
}
NARROWER = {"RNN_COMPARE_INSTRUCTIONS": "avx2", "XLA_FLAGS": "--xla_cpu_max_isa=AVX2"}

pytestmark = [
    pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="elsewhere the bits are not known"),
    pytest.mark.skipif(jax.__version__ not in FINGERPRINTS, reason="of this version of JAX the bits are not known"),
]


def fingerprint(cell):
    config = base.base()
    config.model.cell, config.train.chunk = cell, 50
    trainer = Trainer([(base.validate(config), 0)])
    trainer.compile()
    chunk = next(trainer.fit(50))
    return hashlib.sha256(np.asarray(chunk.metrics["loss"]).tobytes()).hexdigest()[:16]


def in_a_process(cell, environment):
    """The width of its vectors, and the fingerprint."""
    program = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\nimport test_bits\n"
    program += f"from rnn_compare.recurrence.cpu import vector\nprint(vector.WIDTH, test_bits.fingerprint({cell!r}))"
    env = os.environ | environment | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    said = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=300)
    assert said.returncode == 0, said.stderr
    return said.stdout.split()


@pytest.mark.parametrize("cell", ["lstm", pytest.param("gru", marks=pytest.mark.slow)])
def test_on_this_processor(cell):
    assert in_a_process(cell, {})[1] == FINGERPRINTS[jax.__version__][cell]


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_with_narrower_vectors(cell):
    assert in_a_process(cell, NARROWER) == ["8", FINGERPRINTS[jax.__version__][cell]]
