"""Studies as they lie in a workdir, without training."""

import functools
import io
import json
from unittest import mock

import numpy as np
import pytest

from rnn_compare import config, report
from rnn_compare.report import claims
from rnn_compare.report.reading import load
from rnn_compare.statistics.timing import ratio_of
from rnn_compare.workdir.runs import as_json
from rnn_compare.workdir.tensorboard import RunLog

EPOCHS = 24


@functools.cache
def predictions():
    """The content of a `predictions.npz`."""
    file, stretch = io.BytesIO(), np.ones((30, 7), np.float32)
    np.savez(file, predictions=stretch, targets=stretch, change=stretch[:, 0])
    return file.getvalue()


class Study:
    """A workdir as a study leaves it."""

    epochs = EPOCHS

    def __init__(self, folder, seeds, sweep=None):
        self.folder = folder
        base = config.base()
        base.seeds, base.train.epochs = seeds, EPOCHS
        base.claims.list = config.THE_POSTS
        base.sweep = sweep or {"model.cell": ("lstm", "gru")}
        self.config = as_json(config.validate(base, registered=False))
        (folder / "config.json").write_text(json.dumps({"format": 1, **self.config}))

    def add(self, cell, seed, loss, name=None, axes=None, **about):
        """A run that has ended."""
        name = name or f"{cell}-s{seed}"
        axes = axes or {"model.cell": cell}
        run = {"name": name, "seed": seed, "axes": axes, "status": "finished", "diverged_at": None, "parameters": 99,
               "held_out": {"loss": 1.25}, "config": self.config | axes} | about  # fmt: skip
        (self.folder / name).mkdir()
        (self.folder / name / "run.json").write_text(json.dumps(run))
        loss = np.asarray(loss, np.float32)
        np.savez(self.folder / name / "curves.npz", loss=loss, seconds_per_epoch=np.full_like(loss, 0.25))
        (self.folder / name / "predictions.npz").write_bytes(predictions())

    def begin(self, cell, seed, loss, axes=None):
        """A run that was stopped on its way, or is still on it."""
        own = {key: value for key, value in self.config.items() if key not in ("seeds", "sweep")}
        with RunLog(self.folder / f"{cell}-s{seed}", {"seed": seed, **own, **(axes or {}), "model.cell": cell}) as log:
            for tag, values in {"loss": np.asarray(loss), "seconds_per_epoch": np.full(len(loss), 0.25)}.items():
                log.scalars(tag, 0, values, np.ones(len(values)))

    def speed(self, **backends):
        """Measurements, each given by the ends of the interval, of whose samples three quarters are above 1."""
        content = []
        spread = np.linspace(-1, 1, 40)
        _, low_then, high_then = ratio_of(np.exp(spread), np.ones(40))
        for backend, (low, high) in backends.items():
            scale = np.log(high / low) / np.log(high_then / low_then)
            lstm = 0.05 * np.sqrt(low * high) * np.exp(spread * scale)
            content.append({"train.backend": backend, "backend": "cpu" if backend == "auto" else backend,
                            "device": "a box", "pairs": 40,
                            "seconds_of": {"lstm": list(lstm), "gru": [0.05] * 40}})  # fmt: skip
        (self.folder / "speed.json").write_text(json.dumps(content))

    def lose(self, name):
        """Makes a run one that diverged."""
        path = self.folder / name / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "diverged", "diverged_at": 7}))

    def write(self, drawn=False):
        """The report as HTML and as Markdown; without its figures, which take the time, unless asked for."""
        with mock.patch.object(report, "draw", report.draw if drawn else lambda *_: {}):
            report.write(self.folder)
        return (self.folder / "report.html").read_text(), (self.folder / "report.md").read_text()

    def summary(self):
        """What the terminal shows."""
        self.write()
        return (self.folder / "summary.md").read_text()

    def judge(self):
        results = load(self.folder)
        return claims.judge(results, results.runs)


@pytest.fixture
def curve():
    """A falling loss that stays at `end`, going up and down by a factor of exp(step) in the second half."""

    def falling(end, step):
        second = end * np.exp(step * (np.arange(EPOCHS // 2) % 2))
        return np.concatenate([np.linspace(4, end, EPOCHS // 2), second])

    return falling


@pytest.fixture
def make_study(tmp_path):
    """Makes a study of so many seeds, with or without axes of its own."""

    def make(seeds, sweep=None):
        return Study(tmp_path, seeds, sweep)

    make.epochs = EPOCHS
    return make


@pytest.fixture
def study(make_study, curve):
    """Ten seeds in which the GRU ends at 0.8 of the LSTM's loss on average, and has a quarter of its volatility."""
    made = make_study(10)
    for seed in range(10):
        made.add("lstm", seed, curve(1.0, 0.2))
        made.add("gru", seed, curve(0.8 * 1.05 ** (-1) ** seed, 0.05))
    return made
