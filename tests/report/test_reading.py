import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rnn_compare.config import UserError
from rnn_compare.report.reading import load


def test_runs_that_the_config_no_longer_has_are_left_out(study):
    study.config["seeds"] = 9
    (study.folder / "config.json").write_text(json.dumps(study.config))
    assert len(load(study.folder).runs) == 18


def test_a_run_of_a_version_without_a_key_had_its_default(make_study, curve):
    study = make_study(1, {"model.cell": ("lstm",), "optimizer.clip": ("global_norm", "none")})
    study.add("lstm", 0, curve(1, 0.1), axes={"model.cell": "lstm", "optimizer.clip": "global_norm"})
    path = study.folder / "lstm-s0" / "run.json"
    about = json.loads(path.read_text())
    del about["config"]["optimizer.clip"]
    path.write_text(json.dumps(about))
    results = load(study.folder)
    assert [run.setting for run in results.runs] == [(("optimizer.clip", "global_norm"),)]
    assert results.problems == []


def test_a_run_that_lies_there_twice_counts_once(make_study, curve):
    """An earlier version trained it again where a new axis gave it another name."""
    study = make_study(1, {"model.cell": ("lstm",), "model.units": (8, 16)})
    for name, units in (("lstm-s0", 16), ("lstm-units=16-s0", 16), ("lstm-units=8-s0", 8)):
        study.add("lstm", 0, curve(1, 0.1), name, {"model.cell": "lstm", "model.units": units})
    results = load(study.folder)
    assert (len(results.runs), results.total) == (2, 2)


class Door:
    """What unpickling it would run."""

    def __reduce__(self):
        return (Path.touch, (Path("opened"),))


def archive(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def zipped(**files):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


CURVES = {"loss": np.ones(24, np.float32), "seconds_per_epoch": np.ones(24, np.float32)}
ABOUT = {"name": "gru-s3", "seed": 3, "status": "finished", "config": {"model.cell": "gru", "train.backend": "auto"}}
DAMAGED_CURVES = [
    b"", b"PK", b"loss,1,2,3", archive(**CURVES)[:-30], archive(**CURVES)[:200], archive(loss=np.ones(3)),
    archive(**CURVES | {"loss": np.ones(5)}), archive(**CURVES | {"loss": np.ones((24, 2))}),
    archive(**CURVES | {"loss": np.array(["a"] * 24)}), archive(**CURVES | {"loss": np.array([Door()] * 24)}),
    pickle.dumps(Door()), zipped(**{"loss.npy": "text", "seconds_per_epoch.npy": ""}), zipped(loss="text"),
    archive(**CURVES | {"grad_norm": np.array([Door()])}), archive(**CURVES).replace(b"\x80?", b"\x81?"),
    archive(**CURVES | {"loss": np.float32(1)}),
]  # fmt: skip
DAMAGED_RUNS = [
    "", "{", "null", "5", "[]", '"finished"', "[" * 100_000, '{"name": "x"}', "\0",
    *(json.dumps(ABOUT | {key: value}) for key in ABOUT for value in (None, [], {}, 0.5)),
]  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED_CURVES, ids=range(len(DAMAGED_CURVES)))
def test_damaged_curves_cost_their_run_and_nothing_is_unpickled(study, content, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (study.folder / "gru-s3" / "curves.npz").write_bytes(content)
    without_it(study, "gru-s3/curves.npz cannot be read (")
    assert not Path("opened").exists()


@pytest.mark.parametrize("content", DAMAGED_RUNS, ids=range(len(DAMAGED_RUNS)))
def test_a_damaged_description_costs_its_run(study, content):
    (study.folder / "gru-s3" / "run.json").write_text(content)
    without_it(study, "gru-s3/run.json cannot be read (")


@pytest.mark.parametrize("value", [None, [], "x"])
def test_a_description_with_damaged_held_out_losses_costs_its_run(study, value):
    path = study.folder / "gru-s3" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"held_out": {"loss": value}}))
    without_it(study, "gru-s3/run.json cannot be read (")


@pytest.mark.parametrize(
    "wrong",
    [
        {"errors": 3},
        {"errors": {"a": None}},
        {"naive_errors": {"last value": {"a": "x"}}},
        {"chosen": 5},
        {"chosen": {"loss": 1}},
    ],
    ids=str,
)
def test_a_description_with_damaged_errors_or_choice_costs_its_run(study, wrong):
    path = study.folder / "gru-s3" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    without_it(study, "gru-s3/run.json cannot be read (")


@pytest.mark.parametrize("key", ["data.length", "model.cell", "train.epochs"])
def test_a_null_in_a_runs_config_costs_the_run(study, key):
    path = study.folder / "gru-s3" / "run.json"
    about = json.loads(path.read_text())
    about["config"][key] = None
    path.write_text(json.dumps(about))
    without_it(study, "gru-s3/run.json cannot be read (")


def test_missing_curves_cost_their_run(study):
    (study.folder / "gru-s3" / "curves.npz").unlink()
    without_it(study, "gru-s3/curves.npz is missing")


def test_a_missing_description_is_missed(study):
    (study.folder / "gru-s3" / "run.json").unlink()
    without_it(study, "gru-s3/run.json is missing")


def without_it(study, complaint):
    """The other 19 runs are reported, and what is wrong with the one is said once, with the remedy."""
    results = load(study.folder)
    assert {run.name for run in results.runs} == {f"{c}-s{s}" for c in ("lstm", "gru") for s in range(10)} - {"gru-s3"}
    (problem,) = results.problems
    assert complaint in problem
    assert problem.endswith(f"): move {study.folder}/gru-s3 away and give the same command to train it again") or (
        complaint.endswith("missing")
    )
    assert problem.isprintable()
    assert "pickle" not in problem
    html, markdown = study.write()
    assert "Missing or damaged files" in html
    for text in (markdown, study.summary()):
        assert f"move {study.folder}/gru-s3 away and give the same command to train it again" in text
    assert "19 of 20 runs have ended. Not finished, or not readable: 1" in html


@pytest.mark.parametrize(
    "content", [None, b"", b"x", archive(predictions=np.array([Door()])), archive(change=np.ones(3))]
)
def test_missing_or_damaged_predictions_are_said_and_their_run_stays(study, content):
    path = study.folder / "gru-s0" / "predictions.npz"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    results = load(study.folder)
    assert len(results.runs) == 20
    assert [run.name for run, _ in results.predictions] == ["lstm-s0"]
    (problem,) = results.problems
    assert f"{path} {'is missing' if content is None else 'cannot be read ('}" in problem
    assert problem.endswith(f": move {path.parent} away and give the same command to train it again")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("speed.json", "{}"),
        ("speed.json", "null"),
        ("speed.json", "[{}]"),
        (
            "speed.json",
            '[{"train.backend": "auto", "backend": "cpu", "units": 16, "lstm_seconds": [1, 2], "gru_seconds": [1, 2], '
            '"ratio": 1, "low": 1, "high": 1}]',
        ),
        ("environment.json", "3"),
        ("environment.json", "null"),
        ("environment.json", '{"packages": null}'),
        ("environment.json", '{"command": null}'),
    ],
)
def test_a_damaged_file_of_the_study_is_named(study, file, content):
    (study.folder / file).write_text(content)
    results = load(study.folder)
    assert len(results.runs) == 20
    (problem,) = results.problems
    assert problem.startswith(f"{study.folder / file} cannot be read (")
    assert ": remove it, and " in problem
    study.write()


NULLS = [{key: None} for key in ("sweep", "seeds", "data", "data.length")]
WRONG = [{"sweep": {"model.cell": None}}, {"sweep": {"model.cell": []}}, {"sweep": {"x": [1]}}, {"model.cell": 3}]


@pytest.mark.parametrize("content", ["", "nothing", "null", "3", "[1]", "\0", "{}", *NULLS, *WRONG])
def test_a_damaged_config_is_one_sentence_with_the_remedy(study, content):
    text = content if isinstance(content, str) else json.dumps(study.config | content)
    (study.folder / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json cannot be (read|used) \(.*\): move it away and give the comm"):
        load(study.folder)


def test_a_config_that_was_deleted_is_missed(study):
    (study.folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json is missing, though there are folders of runs such as gru-s0"):
        load(study.folder)
    for folder in study.folder.glob("*-s*"):
        shutil.rmtree(folder)
    with pytest.raises(UserError, match="holds no study"):
        load(study.folder)


def test_a_run_that_has_not_ended_is_read_from_its_events(make_study, curve):
    study = make_study(2, {"model.cell": ("lstm", "gru"), "data.discount": (0.9, 0.95)})
    study.begin("lstm", 1, curve(1, 0.1)[:9], {"data.discount": 0.95})
    study.begin("gru", 0, [], {"data.discount": 0.9})
    study.begin("gru", 1, curve(1, 0.1), {"data.discount": 0.97})  # of a sweep that the study no longer has
    first, second = load(study.folder).runs
    assert (first.name, first.setting, first.seed) == ("lstm-s1", (("data.discount", "0.95"),), 1)
    assert (first.ended, first.status) == (False, "unfinished, at epoch 9 of 24")
    np.testing.assert_allclose(first.curves["loss"], curve(1, 0.1)[:9], rtol=1e-6)
    assert (second.name, second.status) == ("gru-s0", "unfinished, at epoch 0 of 24")


def test_events_that_were_cut_off_are_read_as_far_as_they_are_whole(make_study, curve):
    study = make_study(1)
    study.begin("lstm", 0, curve(1, 0.1))
    (path,) = (study.folder / "lstm-s0").glob("events.*")
    path.write_bytes(path.read_bytes()[:-20])
    (run,) = load(study.folder).runs
    assert run.status == "unfinished, at epoch 23 of 24"


def test_events_without_a_config_are_said(make_study):
    study = make_study(1)
    (study.folder / "lstm-s0").mkdir()
    (study.folder / "lstm-s0" / "events.out.tfevents.1.x").write_bytes(b"nothing")
    results = load(study.folder)
    assert results.runs == []
    assert "does not say of which config the run is" in results.problems[0]
