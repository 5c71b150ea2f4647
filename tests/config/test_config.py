import re
import sys
from pathlib import Path

import pytest

from rnn_compare import config as base
from rnn_compare.config import KEYS, THE_POSTS, UserError, leaves, load, settings, validate

FILE = """
from rnn_compare import config as base; from ml_collections.config_dict import required_placeholder
def get_config():
    config = base.base()
    {body}
    return config
"""


@pytest.fixture
def write(tmp_path):
    def write(body="pass", text=FILE):
        path = tmp_path / "some.py"
        path.write_text(text.replace("{body}", body))
        return str(path)

    return write


def test_base_has_every_key_at_its_default_and_is_valid():
    config = validate(base.base())
    assert dict(leaves(config)) == {name: key.default for name, key in KEYS.items()} | {"sweep": {}}
    assert config.is_locked


def test_overrides_take_literals_and_words(write):
    config = load(
        write(), ["train.epochs=50", "optimizer.clip=none", "optimizer.learning_rate=1e-2", "data.periods=(5,7.5)"]
    )
    assert (config.train.epochs, config.optimizer.clip, config.optimizer.learning_rate) == (50, "none", 0.01)
    assert config.data.periods == (5.0, 7.5)


def test_whole_numbers_serve_as_floats(write):
    rate = load(write(), ["optimizer.learning_rate=1"]).optimizer.learning_rate
    assert isinstance(rate, float)


@pytest.mark.parametrize(
    "override",
    ["sweep.model.cell=lstm,gru", "sweep.model.cell=('lstm','gru')", "sweep={'model.cell': ['lstm', 'gru']}"],
)
def test_axes_from_the_command_line(write, override):
    assert load(write(), [override]).sweep == {"model.cell": ("lstm", "gru")}


def test_an_axis_is_added_to_those_of_the_file(write):
    config = load(write("config.sweep = {'model.cell': ('lstm', 'gru')}"), ["sweep.model.units=8"])
    assert config.sweep == {"model.cell": ("lstm", "gru"), "model.units": (8,)}


def test_settings_are_the_product_and_zipped_keys_vary_together():
    sweep = {"model.cell": ("lstm", "gru"), "model.units,data.window": ((8, 1), (16, 4))}
    assert list(settings(sweep)) == [
        {"model.cell": "lstm", "model.units": 8, "data.window": 1},
        {"model.cell": "lstm", "model.units": 16, "data.window": 4},
        {"model.cell": "gru", "model.units": 8, "data.window": 1},
        {"model.cell": "gru", "model.units": 16, "data.window": 4},
    ]
    assert list(settings({})) == [{}]


COMPLAINTS = {
    "train.epochz=5": "config.train.epochz is not a key.*did you mean train.epochs",
    "epochs=5": "config.epochs is not a key.*did you mean train.epochs",
    "train.epochs": "config.train.epochs has no value",
    "train.epochs=0": "config.train.epochs is 0: it must be a whole number of at least 1",
    "train.epochs=2.5": "config.train.epochs is 2.5: it must be a whole number",
    "train.epochs=True": "config.train.epochs is True: it must be a whole number",
    "data.length=-3": "config.data.length is -3",
    "optimizer.learning_rate=nan": "config.optimizer.learning_rate is 'nan': it must be a number greater than 0",
    "optimizer.learning_rate=1e999": "config.optimizer.learning_rate is inf: it must be a number greater than 0",
    "optimizer.clip_norm=-1": "config.optimizer.clip_norm is -1.0: it must be a number greater than 0",
    "data.discount=1.5": "config.data.discount is 1.5: it must be a number from 0 to 1",
    "data.periods=(40,0)": r"config.data.periods is \(40, 0\): it must be two numbers greater than 0",
    "model.cell=lst": "config.model.cell is 'lst': it must be one of lstm, .*did you mean lstm",
    "model.kernel_init=glorot": "config.model.kernel_init is 'glorot': it must be one of paper, glorot_uniform",
    "model.dt=0.5": "config.model.dt is 0.5 for the cell lstm, which has none: it must be 'paper' there",
    "model.dt=-1": "config.model.dt is -1: it must be a number greater than 0, or 'paper'",
    "sweep={'model.cell': ('lstm', 'lem'), 'model.dt': (0.5,)}": "config.sweep.model.dt is 0.5 for the cell lstm",
    "train.backend=cuda": "config.train.backend is 'cuda': it must be one of auto, scan",
    "data.window=20000": "config.data.window is 20000: it must be smaller than config.data.length, which is 20000",
    "sweep.model.cell=()": "config.sweep.model.cell is empty",
    "sweep.model.cell=lstm,grru": "config.sweep.model.cell is 'grru': it must be one of .*did you mean gru",
    "sweep.model.cells=lstm,gru": "config.sweep.model.cells is not a key.*did you mean model.cell",
    "sweep.model.cell=gru,gru": "config.sweep.model.cell names 'gru' twice",
    "sweep.seeds=1,2": "set config.seeds",
    "sweep=5": "config.sweep is 5: it must map keys to values",
    "sweep={3: (1,)}": "config.sweep has the axis 3",
    "sweep.data.length=10,1": "config.data.window is 1: it must be smaller than config.data.length, which is 1",
    "sweep.model.units,data.window=(8,1),(16,)": r"config.sweep.model.units,data.window has \(16,\)",
    "sweep={'model.units': (1,), 'model.units,data.window': ((2, 2),)}": "model.units on two axes",
    "seeds=100001": "config.seeds times the axes of config.sweep makes 100001 = 100001 runs: it must be at most 100000",
    "data.length=2147483648": "config.data.length is 2147483648: it must be a whole number of at most 2147483647",
    f"train.epochs=0x{'f' * 5000}": "config.train.epochs is <int>: it must be a whole number of at most",
    f"data.bias={'9' * 400}": r"config.data.bias cannot be set to 9+ …: OverflowError: int too large",
    f"data.periods=(1, {'9' * 400})": r"config.data.periods is \(1, 9+ …: it must be two numbers",
    "train.memory=1e300": r"config.train.memory is 1e\+300: it must be a number from 0 to 1e\+09",
    "train.epochs={'a.b': 1}": "config.train.epochs cannot be set to {'a.b': 1}: ValueError: ConfigDict",
    "model.cell={[]: 1}": r"config.model.cell is '{\[\]: 1}': it must be one of",
    "model.cell=a\nb": r"config.model.cell is 'a\\nb': it must be one of",
    "train.epo\nchs=1": r"config.train.epo\\nchs is not a key of the config \(did you mean train.epochs",
}


@pytest.mark.parametrize("override", COMPLAINTS)
def test_a_wrong_value_gets_one_sentence(write, override):
    with pytest.raises(UserError, match=COMPLAINTS[override]) as caught:
        load(write(), [override])
    assert "\n" not in str(caught.value)


def test_a_study_that_never_ends_is_refused_at_once(write):
    wide = [
        f"sweep.{key}={tuple(range(1, 101))}"
        for key, at in KEYS.items()
        if isinstance(at.default, int) and "claims" not in key
    ]
    wide.remove(next(override for override in wide if override.startswith("sweep.seeds")))
    with pytest.raises(
        UserError, match=f"makes 2{' × 100' * len(wide)} = 2{'00' * len(wide)} runs: it must be at most"
    ):
        load(write(), ["seeds=2", *wide])
    config = load(write(), ["seeds=2", f"sweep.train.chunk={tuple(range(1, 50_001))}"])
    assert len(config.sweep["train.chunk"]) == 50_000


def test_numbers_and_names_of_numpy_serve(write):
    body = (
        "import numpy as np; config.sweep = {'train.epochs': tuple(np.arange(1, 4)), 'model.cell': (np.str_('gru'),), "
        "'optimizer.clip_norm': tuple(np.logspace(0, 1, 2, dtype='float32'))}"
    )
    sweep = load(write(body)).sweep
    assert sweep == {"train.epochs": (1, 2, 3), "model.cell": ("gru",), "optimizer.clip_norm": (1.0, 10.0)}
    assert {type(value) for values in sweep.values() for value in values} == {int, float, str}


def test_an_override_reaches_a_config_without_the_reference_of_base(write):
    text = FILE.replace("return config", "return config.copy_and_resolve_references()")
    assert load(write(text=text), ["sweep.model.units=8,16"]).sweep == {"model.units": (8, 16)}


FILES = {
    "config.train.epochz = 3": "config.train.epochz is not a key",
    "config.trian.epochs = 3": "some.py:5 raises AttributeError",
    "1 / 0": "some.py:5 raises ZeroDivisionError: division by zero",
    "raise SystemExit(3)": "some.py:5 raises SystemExit: 3",
    "del config.train.epochs": "config.train.epochs is missing",
    "return 5": r"get_config\(\) must return the ConfigDict",
    "config.data = 5": "config.data is not a key",
    "config.data = config": r"config.data.\w+ is not a key",
    "config.train.epochs = config": "config.train.epochs is .*: it must be a whole number",
    "config.none = type(config)()": "config.none is not a key",
    "config[3] = 3": r"config.\* cannot be read: TypeError",
    "config.train.epochs = required_placeholder(int)": r"config.train.\* cannot be read: Requ",
    "raise SyntaxError('no')": "some.py:5 raises SyntaxError: no",
}


@pytest.mark.parametrize("body", FILES)
def test_a_wrong_file_gets_one_sentence(write, body):
    with pytest.raises(UserError, match=FILES[body]) as caught:
        load(write(body))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = 1", "must define get_config"),
        ("def get_config(:", "some.py:1 raises SyntaxError"),
        ("\0", "raises"),
        ("open('/nowhere/data')", "some.py:1 raises FileNotFoundError"),
        ("import nowhere", "some.py:1 needs the module nowhere, which is neither installed nor in /"),
    ],
)
def test_a_file_that_is_no_config(write, text, complaint):
    with pytest.raises(UserError, match=complaint):
        load(write(text=text))


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """Writes a module beside the config file; what is on the path and imported is forgotten after the test."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    return lambda name, text: (tmp_path / f"{name}.py").write_text(text)


@pytest.mark.parametrize("late", [False, True])
def test_a_module_beside_the_file_can_be_imported(write, beside, monkeypatch, late):
    beside("our_seeds", "SEEDS = 7")
    monkeypatch.chdir("/")
    line = "import our_seeds"
    assert (
        load(
            write((f"{line}; " if late else "") + "config.seeds = our_seeds.SEEDS", ("" if late else line) + FILE)
        ).seeds
        == 7
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1 / 0", "ours.py:1 raises ZeroDivisionError"),
        ("\nlet x", "ours.py:2 raises SyntaxError"),
        ("import nowhere", "ours.py:1 needs the module nowhere, which is neither installed nor in /"),
    ],
)
def test_a_module_beside_the_file_that_cannot_be_imported(write, beside, text, complaint):
    beside("ours", text)
    with pytest.raises(UserError, match=f"^--config=.*some.py: /.*{complaint}"):
        load(write(text="import ours"))


def test_a_name_that_a_module_has_not(write, beside):
    beside("ours", "")
    with pytest.raises(
        UserError, match=r"some.py:1 raises ImportError: cannot import name 'x' from 'ours' \(/.*ours.py\)"
    ):
        load(write(text="from ours import x"))


def test_a_file_that_does_not_exist(tmp_path):
    with pytest.raises(UserError, match=re.escape("nowhere.py: there is no such file")):
        load(str(tmp_path / "nowhere.py"))
    with pytest.raises(UserError, match="some_folder"):
        load(str(tmp_path / "some_folder/"))


CONFIGS = sorted(Path(__file__).parents[2].joinpath("configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_valid(path):
    assert {"lstm", "gru"} <= {setting["model.cell"] for setting in settings(load(str(path)).sweep)}


def test_measuring_ends_at_half_the_width_in_which_the_claim_about_speed_holds():
    assert KEYS["speed.precision"].default <= THE_POSTS[2]["margin"] / 2


AXES = {"range(4, 20, 4)": (4, 8, 12, 16), "np.array([4, 8])": (4, 8), "np.arange(3, 5)": (3, 4), "[5]": (5,)}


@pytest.mark.parametrize("text", AXES)
def test_ranges_and_arrays_are_axes(write, text):
    file = write(f"import numpy as np; config.sweep = {{'model.units': {text}}}")
    assert load(file).sweep["model.units"] == AXES[text]


def test_an_array_of_rows_is_a_joint_axis(write):
    file = write("import numpy as np; config.sweep = {'model.units,data.window': np.array([[4, 1], [8, 2]])}")
    assert load(file).sweep == {"model.units,data.window": ((4, 1), (8, 2))}


@pytest.mark.parametrize("text", ["range(1, 4)", "range(4,20,8)", "range(9, 3, -3)", "range( 1 , 3 )"])
def test_a_range_on_the_command_line_is_an_axis(write, text):
    assert load(write(), [f"sweep.model.units={text}"]).sweep["model.units"] == tuple(eval(text))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("range(5, 3)", "is empty"),
        ("range(4, 20, 0)", "must be a whole number"),
        ("range(1, 999999999999999999)", "it must be at most 100000"),
        ("range(x)", "must be a whole number"),
    ],
)
def test_a_range_that_is_none_gets_one_sentence(write, text, complaint):
    with pytest.raises(UserError, match=complaint):
        load(write(), [f"sweep.model.units={text}"])
