"""What a run starts with and an update are the same bits, whatever vectors and kernels of OpenBLAS a processor has."""

import json
import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="it is x86 that is imitated")

XLA = "XLA_FLAGS", "--xla_cpu_max_isa=AVX2 --xla_cpu_prefer_vector_width=128"
BLAS = "OPENBLAS_CORETYPE", "Nehalem"
PROGRAM = """
import hashlib, json
import jax, jax.numpy as jnp, numpy as np, optax
from rnn_compare import config as base
from rnn_compare.cells import CELLS
from rnn_compare.cells.initializers import BIASES, MATRICES, matrix
from rnn_compare.study.machine import blas
from rnn_compare.training import optimizers
from rnn_compare.training.optimizers import CLIPS
from rnn_compare.training.start import init_batch, init_state
from rnn_compare.training.trainer import Trainer

def digest(tree):
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree))).hexdigest()

@jax.jit
@jax.vmap
def drawn(key):
    kernels = {name: matrix(name, 4)(key, (16, 64)) for name in (*MATRICES, "orthogonal_per_gate")}
    return kernels | {f"bias {name}": init(key, CELLS["lstm"](units=16)) for name, init in BIASES.items()}

def gradient(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), params)

config = base.base()
config.data.length, config.data.sequences, config.train.epochs, config.train.backend = 100, 4, 5, "scan"
params = init_state(config, 0).params
grads = [gradient(seed) for seed in range(20)]
starts = {name: digest(values) for name, values in drawn(jax.random.split(jax.random.key(0), 100)).items()}
starts["data"] = digest(init_batch(config, 0))
updates = {"norm": digest([*map(jax.jit(optimizers.norm), grads)])}
for name, clip in CLIPS.items():
    updates[name] = digest([*map(jax.jit(lambda grad: clip(1.0).update(grad, ())), grads)])
starts["cell"] = digest(params)
trainer = Trainer([(base.validate(config), 0)])
trainer.compile()
updates["trained"] = digest([(chunk.metrics, chunk.params) for chunk in trainer.fit(100)])
reduced = digest([*map(jax.jit(optax.tree.norm), grads)])
print(json.dumps({"starts": starts, "updates": updates, "reduced": reduced, "blas": blas()}))
"""


@pytest.fixture(scope="module")
def on():
    """What the program says with an environment variable set."""

    def on(variable=None):
        known = {name: value for name, value in os.environ.items() if name not in (XLA[0], BLAS[0])}
        env = known | dict([variable] if variable else [])
        said = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=300)
        assert said.returncode == 0, said.stderr
        return json.loads(said.stdout)

    return on


@pytest.fixture(scope="module")
def here(on):
    return on()


@pytest.mark.slow
def test_vectors_of_another_width(on, here):
    there = on(XLA)
    assert there["reduced"] != here["reduced"]  # or nothing was imitated
    assert there["starts"] == here["starts"]
    assert there["updates"] == here["updates"]


@pytest.mark.slow
def test_other_kernels_of_openblas(on, here):
    there = on(BLAS)
    assert f"({BLAS[1]})" in str(there["blas"])  # or nothing was imitated
    assert there["starts"] == here["starts"]
    assert there["updates"] == here["updates"]
