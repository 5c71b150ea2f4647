import json

from rnn_compare.config import KEYS, validate
from rnn_compare.study.expansion import expand
from rnn_compare.workdir import runs
from rnn_compare.workdir.runs import adopted, as_json, different, identity


def test_a_key_that_an_earlier_version_did_not_have_was_at_its_default(tiny):
    tiny.train.memory = 3.0
    (run,) = expand(validate(tiny))
    new = as_json(run.config)
    old = {key: value for key, value in new.items() if key != "data.lookahead"}
    assert different(old, new) == ["data.lookahead"]  # 5 here, and 300 is the default
    assert different(old, new | {"data.lookahead": KEYS["data.lookahead"].default}) == []


def test_runs_go_by_the_name_that_the_workdir_has_them_by(tiny, tmp_path):
    tiny.seeds = 4
    ended, begun, unreadable, new = expand(validate(tiny))
    runs.write(ended, tmp_path / "as-it-was-called", status="finished")
    (tmp_path / "as-it-was-called" / ended.name).rename(tmp_path / "other-name-s0")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("null")
    names = [run.name for run in adopted([ended, begun, unreadable, new], tmp_path, [{"begun-s1": identity(begun)}])]
    assert names == ["other-name-s0", "begun-s1", "lstm-s2", "lstm-s3"]


def test_a_run_whose_own_folder_is_there_keeps_it(tiny, tmp_path):
    (run,) = expand(validate(tiny))
    for name in ("another", run.name):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"config": as_json(run.config), "seed": 0}))
    assert adopted([run], tmp_path, []) == [run]
