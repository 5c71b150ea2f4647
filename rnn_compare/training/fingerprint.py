"""What code makes a run: a cell, an initializer or an optimizer may be edited without a key of the config changing."""

import hashlib
import re
from functools import cache
from importlib import metadata
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from rnn_compare.network.model import Model, make_model
from rnn_compare.tasks import make_task
from rnn_compare.training.program import alike, traced

# Addresses, and the sizes of kernels' memory, which tell how wide a processor's vectors are and change no bit.
NO_PART_OF_IT = re.compile(r"0x[0-9a-f]+|HashableArray\(array\([^)]*\)\)")
VERSIONS = "jax", "flax"  # by which the same code is traced in the same way


def fingerprint(config: ConfigDict) -> dict[str, str]:
    """Of the code that a run's config leads to: digests of what JAX traces, the backend it takes, and versions."""
    return {
        "backend": make_model(config).backend,
        "training": training(alike(config)),
        "start": start(make_model(config)),
        **({"data": digest} if (digest := getattr(make_task(config), "digest", "")) else {}),
        **{name: metadata.version(name) for name in VERSIONS},
    }


@cache
def training(config: FrozenConfigDict) -> str:
    """The digest of what trains runs that are alike."""
    return digest(traced(config, 1).jaxpr)


@cache
def start(model: Model) -> str:
    """The digest of how the parameters of a model's cell are drawn."""
    named = model.cell.parameters(model.features)
    return digest(jax.make_jaxpr(lambda key: {name: init(key) for name, init in named.items()})(jax.random.key(0)))


def digest(jaxpr: Any) -> str:
    """A hash of a traced program and the arrays in it, the same in every process."""
    sha = hashlib.sha256(re.sub(NO_PART_OF_IT, "", str(jaxpr)).encode())
    for constant in jaxpr.consts:
        sha.update(np.asarray(constant).tobytes())
    return sha.hexdigest()[:12]


def edited(then: dict[str, str], now: dict[str, str]) -> str:
    """What of the code has been edited between two fingerprints, in words; nothing where they cannot be compared.

    Another version of JAX traces the same code otherwise, and an older version of this package took no fingerprints.
    """
    if any(then.get(name) != now[name] for name in VERSIONS):
        return ""
    if then.get("backend", now["backend"]) != now["backend"]:
        return f"the choice of its backend ({then['backend']} then, {now['backend']} now)"
    if then.get("data") != now.get("data"):  # of which the sizes that are traced may depend
        return "its data file"
    words = {"training": "its cell, loss or optimizer", "start": "what its weights start with"}
    return " and ".join(what for name, what in words.items() if then.get(name) != now[name])
