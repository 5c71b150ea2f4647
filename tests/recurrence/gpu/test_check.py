"""`rnn_compare.gpu_check` without a GPU: what it finds is of this processor, how it is told is what is tested."""

import json

import jax
import pytest
from emulated import needs_compiler

from rnn_compare import gpu_check
from rnn_compare.console.errors import UserError
from rnn_compare.gpu_check import Size
from rnn_compare.gpu_check import __main__ as program
from rnn_compare.recurrence.gpu import race


def test_without_a_gpu_it_says_so():
    with pytest.raises(UserError, match=r"JAX computes on cpu here: install rnn_compare\[cuda12\]"):
        program.main([])


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("emulated", ["first"], indirect=True)
def test_everything_at_small_sizes(monkeypatch, tmp_path, emulated):
    small, right = Size(5, 3, 1, 4), race.wrong
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sizes = {"CHECKED": (small,), "POST8": small, "GROWTH": (small._replace(R=2),), "COMPARED": (small,)}
    for name, value in sizes.items():
        monkeypatch.setattr(gpu_check, name, value)
    monkeypatch.setattr(gpu_check, "CELLS", {name: gpu_check.CELLS[name] for name in ("lstm", "gru")})
    assert gpu_check.check(tmp_path)
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["contract"] == {"lstm": "", "gru": ""}
    times = {(row["cell"], row["by"], row["size"]["R"]): row["seconds"] for row in found["seconds"]}
    assert all(times[name, by, 1] > 0 for name in ("lstm", "gru") for by in ("ours", "scan", "Flax"))
    assert times["gru", "ours", 2] > 0
    assert times["gru", "JAX (cuDNN)", 1] == "NotImplementedError: jax.experimental.rnn has an LSTM only"
    text = (tmp_path / "README.md").read_text()
    assert "2 of 2 cells keep it" in text
    assert "| gru | T 5, B 3, F 1, H 4, R 2 | ours |" in text

    monkeypatch.setattr(race, "wrong", lambda step, *rest: "dx: 1 > 0" if "GRU" in str(step) else right(step, *rest))
    assert not gpu_check.check(tmp_path)
    assert "- gru: T 5, B 3, F 1, H 4, R 1: dx: 1 > 0" in (tmp_path / "README.md").read_text()
