import json
import re
import shlex

from rnn_compare import config
from rnn_compare.workdir.runs import as_json


def test_the_machine_and_the_versions_are_shown(study):
    machine = {"cpu": "a fast one", "cores": 12, "packages": {"rnn_compare": "0.1.0", "commit": "12ab-dirty"}}
    (study.folder / "environment.json").write_text(json.dumps(machine))
    html, markdown = study.write()
    for name, value in (("cpu", "a fast one"), ("cores", "12"), ("rnn_compare", "0.1.0"), ("commit", "12ab-dirty")):
        assert re.search(rf'<td class="">{name}</td><td class="[a-z]*">{value}</td>', html)
        assert re.search(rf"\| {name} +\| {value} +\|", markdown)


def test_flags_give_the_config_again(tmp_path, make_study, curve):
    made = make_study(3, {"model.cell": ("lstm", "gru"), "data.periods,data.discount": (((10, 25.0), 0.9),)})
    made.add("gru", 0, curve(1, 0.1), axes={"model.cell": "gru", "data.periods": [10, 25.0], "data.discount": 0.9})
    _, markdown = made.write()
    blocks = [re.sub("^    ", "", block, flags=re.MULTILINE) for block in markdown.split("\n\n") if block[:4] == "    "]
    (tmp_path / "again.py").write_text(blocks[-2] + "\n")
    program, *flags = shlex.split(blocks[-1].replace("\\\n", ""))[2:]
    assert (program, flags.pop(0)) == ("rnn_compare.main", "--config=again.py")
    again = config.load(str(tmp_path / "again.py"), [flag.removeprefix("--config.") for flag in flags])
    assert as_json(again) == made.config
