import asyncio
import os
import random
import shutil

import numpy as np
import pytest

from rnn_compare.config import UserError
from rnn_compare.workdir.checkpoint import Checkpoint, Checkpoints, begun, forget_ended

# orbax leaves coroutines and a loop behind when a read fails.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

RUNS = {"a": "1", "b": "2", "c": "3"}


def arrays(epoch):
    rng = np.random.default_rng(epoch)
    return {
        ".params['flat']['kernel']": rng.normal(size=(3, 4, 2)).astype(np.float32),
        "curve loss": rng.normal(size=(3, epoch)),
        "count": np.full(3, epoch, np.int32),
        ".finite": np.array([True, False, True]),
    }


def save(workdir, epochs, runs=RUNS, keep=3):
    checkpoints = Checkpoints(workdir, runs, keep)
    for epoch in epochs:
        checkpoints.save(Checkpoint(epoch, {name: array[: len(runs)] for name, array in arrays(epoch).items()}, {}))
    checkpoints.wait()


def assert_same(found, epoch, rows=slice(None)):
    assert found.epoch == epoch
    for name, array in arrays(epoch).items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array[rows])


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def test_the_newest_comes_back_as_it_was_and_only_the_newest_are_kept(tmp_path):
    assert Checkpoints(tmp_path, RUNS, 2).restore() is None
    save(tmp_path, (5, 10, 15), keep=2)
    assert_same(Checkpoints(tmp_path, RUNS, 2).restore(), 15)
    (folder,) = begun(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["10", "15", "runs.json"]


def test_a_part_of_a_cohort_goes_on_and_others_do_not(tmp_path):
    save(tmp_path, (5,))
    assert_same(Checkpoints(tmp_path, {"c": "3", "a": "1"}, 2).restore(), 5, [2, 0])
    assert Checkpoints(tmp_path, {"a": "1", "d": "4"}, 2).restore() is None
    assert Checkpoints(tmp_path, {"a": "another config"}, 2).restore() is None


def test_a_part_prefers_its_own(tmp_path):
    save(tmp_path, (5,))
    part = {"a": "1"}
    save(tmp_path, (7,), runs=part)
    assert_same(Checkpoints(tmp_path, part, 2).restore(), 7, [0])


def test_they_are_removed_when_all_their_runs_have_ended(tmp_path):
    save(tmp_path, (5,))
    for name in RUNS:
        forget_ended(tmp_path)
        assert len(begun(tmp_path)) == 1
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text('{"status": "failed"}')
        forget_ended(tmp_path)  # a failed run may be tried again, from there
        (tmp_path / name / "run.json").write_text('{"status": "finished"}')
    forget_ended(tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_a_kill_while_they_are_removed_leaves_what_can_be_removed(tmp_path, monkeypatch):
    save(tmp_path, (5, 10))
    for name in RUNS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text('{"status": "diverged"}')

    def killed(path):
        raise KeyboardInterrupt

    for function in ("shutil.rmtree", "pathlib.Path.unlink", "pathlib.Path.rmdir"):
        monkeypatch.setattr(function, killed)
        with pytest.raises(KeyboardInterrupt):
            forget_ended(tmp_path)
        monkeypatch.undo()
        assert (tmp_path / "checkpoints").exists()
    forget_ended(tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_runs_of_one_name_and_two_configs_have_their_own(tmp_path):
    save(tmp_path, (480,))
    other = dict.fromkeys(RUNS, "another config")
    assert Checkpoints(tmp_path, other, 2).restore() is None
    save(tmp_path, (10,), runs=other)
    assert_same(Checkpoints(tmp_path, other, 2).restore(), 10)
    assert_same(Checkpoints(tmp_path, RUNS, 2).restore(), 480)


def test_a_save_that_orbax_skips_is_an_error(tmp_path):
    save(tmp_path, (10,))
    with pytest.raises(UserError, match="there is one of epoch 5 or later"):
        save(tmp_path, (5,))


def test_where_a_part_s_own_are_damaged_those_of_the_whole_are_taken(tmp_path):
    save(tmp_path, (5,))
    part = {"a": "1"}
    save(tmp_path, (7,), runs=part)
    for path in tmp_path.glob("checkpoints/*/7/arrays/manifest.ocdbt"):
        path.write_bytes(b"")
    assert_same(Checkpoints(tmp_path, part, 2).restore(), 5, [0])


def damage(folder, rng):
    """Does something to a random file of a checkpoint, or to the folder; says what."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = rng.choice(files)
    content = path.read_bytes()
    at = rng.randrange(len(content)) if content else 0
    kind = rng.choice(["truncate", "flip", "noise", "remove", "empty", "swap", "folder"])
    if kind == "truncate":
        path.write_bytes(content[:at])
    elif kind == "flip":
        path.write_bytes(
            content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :] if content else b"x"
        )
    elif kind == "noise":
        path.write_bytes(content[:at] + rng.randbytes(len(content) - at))
    elif kind == "remove":
        path.unlink()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "swap":
        path.write_bytes(rng.choice(files).read_bytes())
    else:
        shutil.rmtree(folder)
        folder.write_bytes(content) if rng.random() < 0.5 else folder.mkdir()
    return f"{kind} {path.relative_to(folder)} at {at}"


def spoil(workdir, count, seed):
    """Damages the newest checkpoint in many ways; how often it was still whole, or the one before it was taken."""
    save(workdir / "good", (5, 10))
    rng, outcomes = random.Random(seed), {5: 0, 10: 0}
    for _ in range(count):
        shutil.rmtree(workdir / "bad", ignore_errors=True)
        shutil.copytree(workdir / "good", workdir / "bad")
        (folder,) = begun(workdir / "bad")
        what = damage(folder / "10", rng)
        found = Checkpoints(workdir / "bad", RUNS, 3).restore()
        assert found.epoch in outcomes, what
        assert_same(found, found.epoch)
        outcomes[found.epoch] += 1
    return outcomes


def test_a_damaged_checkpoint_is_never_taken_for_a_whole_one(tmp_path):
    outcomes = spoil(tmp_path, 25, 0)
    assert outcomes[5] > 5


@pytest.mark.slow
def test_300_damaged_checkpoints(tmp_path):
    outcomes = spoil(tmp_path, 300, 1)
    print(outcomes)
    assert outcomes[5] > 100


def test_errors_of_a_failed_save_that_nobody_waits_for_are_not_told(caplog):
    """As asyncio logs them, and any other's as before."""
    loop = asyncio.new_event_loop()
    for error in ('Error opening "zarr" driver in OCDBT database', "orbax/checkpoint: no space", "something else"):
        future = loop.create_future()
        future.set_exception(ValueError(error))
        context = {"message": "Future exception was never retrieved", "exception": future.exception(), "future": future}
        loop.call_exception_handler(context)
    loop.close()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "something else" in told[0]


def test_what_is_whole_but_not_what_was_saved_is_found_out(tmp_path):
    """The arrays of another epoch, which orbax reads without complaint."""
    save(tmp_path, (5, 10))
    (folder,) = begun(tmp_path)
    shutil.rmtree(folder / "10" / "arrays")
    shutil.copytree(folder / "5" / "arrays", folder / "10" / "arrays")
    assert_same(Checkpoints(tmp_path, RUNS, 3).restore(), 5)


def test_what_is_damaged_is_said_and_set_aside(tmp_path, capsys):
    save(tmp_path, (5, 10))
    (folder,) = begun(tmp_path)
    for path in (folder / "10").rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    checkpoints = Checkpoints(tmp_path, RUNS, 3)
    assert_same(checkpoints.restore(), 5)
    assert f"the checkpoint {folder / '10'} is damaged" in capsys.readouterr().out
    checkpoints.save(Checkpoint(10, arrays(10), {}))  # its place is free again
    checkpoints.wait()
    assert_same(Checkpoints(tmp_path, RUNS, 3).restore(), 10)


def test_if_all_are_damaged_nothing_is_deleted_and_the_error_says_so(tmp_path):
    save(tmp_path, (5, 10))
    (folder,) = begun(tmp_path)
    for path in folder.glob("*/arrays/manifest.ocdbt"):
        path.write_bytes(b"")
    before = tree(tmp_path)
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read, and nothing was changed: move"):
        Checkpoints(tmp_path, RUNS, 3).restore()
    assert tree(tmp_path) == before


@pytest.mark.parametrize("content", ["", "[1]", "{", "7", '{"a": ', "{}", "[]", '""', '{"a": 1}'])
def test_a_folder_that_does_not_say_whose_it_is(tmp_path, content):
    save(tmp_path, (5,))
    (folder,) = begun(tmp_path)
    (folder / "runs.json").write_text(content)
    with pytest.raises(UserError, match=r"runs\.json cannot be read"):
        begun(tmp_path)


def test_what_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot be written .*make room and give the same command"):
        save(tmp_path, (5,))
