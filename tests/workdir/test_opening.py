import os

import pytest

from rnn_compare.config import UserError, validate
from rnn_compare.workdir.opening import check_workdir


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("a**b", r"checkpoints cannot be written under a name with \*\*"),
        (os.fsdecode(b"in\xffvalid"), "not valid UTF-8"),
    ],
)
def test_a_name_under_which_nothing_could_be_saved_is_refused_before_training(tiny, tmp_path, name, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        check_workdir(tmp_path / name, validate(tiny))
    assert str(error.value).isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["null", "[]", "7", "{"])
def test_a_damaged_config_is_one_sentence_with_the_remedy(tiny, tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json cannot be read .*: remove it, and it is written anew"):
        check_workdir(tmp_path, validate(tiny))
