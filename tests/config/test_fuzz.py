"""Random configs and command lines: each is ready to run, or gets one sentence."""

import json
import math
from collections import Counter
from pathlib import PurePath

import hypothesis
import hypothesis.strategies as st
import numpy as np
from ml_collections import ConfigDict, FieldReference, FrozenConfigDict, config_dict

from rnn_compare import cells
from rnn_compare.cells import initializers
from rnn_compare.config import KEYS, PAPER, UserError, base, leaves, load, of_cells, set_value, validate
from rnn_compare.config.checks import shown
from rnn_compare.config.claims import OF_RUNS
from rnn_compare.study.cohorts import group
from rnn_compare.study.expansion import expand
from rnn_compare.training import optimizers
from rnn_compare.workdir.runs import as_json

fuzz = hypothesis.settings(
    max_examples=500, deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)

# --- What is right.

POSITIVE = st.floats(0, 1e9, exclude_min=True) | st.integers(1, 10**9)
NAMES = {
    "model.cell": cells.CELLS,
    "model.kernel_init": initializers.names(),
    "model.recurrent_init": initializers.names(),
    "model.bias_init": initializers.BIASES,
    "optimizer.name": optimizers.OPTIMIZERS,
    "optimizer.schedule": optimizers.SCHEDULES,
    "optimizer.clip": optimizers.CLIPS,
    "train.backend": ("auto", "scan"),
}
OF_TASKS = {
    key: declared.default for key, declared in KEYS.items() if key.startswith("task.")
}  # which most do not read
OF_SOME = [key for key in of_cells() if key not in NAMES]  # which most cells do not have
VALUES = {
    **{key: POSITIVE for key in KEYS if isinstance(KEYS[key].default, float)},
    **{key: st.integers(1, 2**31 - 1) for key in KEYS if isinstance(KEYS[key].default, int)},
    **{key: st.sampled_from(list(names)) for key, names in NAMES.items()},
    **{key: st.just(PAPER) for key in OF_SOME},
    **{key: st.just(default) for key, default in OF_TASKS.items()},
    "compare.axis": st.sampled_from(["model.cell", "model.units", "data.window"]),
    "compare.measure": st.sampled_from(OF_RUNS),
    "claims.list": st.just(()),
    "model.parameters": st.just(0),
    "seeds": st.integers(1, 3),
    "data.window": st.integers(1, 3),
    "data.length": st.integers(4, 2**31 - 1),
    "data.discount": st.floats(0, 1) | st.integers(0, 1),
    "data.bias": st.floats(allow_nan=False, allow_infinity=False),
    "train.lengths": st.sampled_from([(), (), ((0, 2),), [[0, 1], [1, 3]]]),
    "data.periods": st.tuples(POSITIVE, POSITIVE) | st.lists(POSITIVE, min_size=2, max_size=2),
}
NO_AXES = "model.parameters", *OF_SOME, *OF_TASKS
AXES = [key for key in KEYS if key.split(".")[0] not in ("seeds", "compare", "claims") and key not in NO_AXES]


@st.composite
def sweeps(draw):
    """Up to four axes, each of up to six keys that vary together and of up to three values."""
    keys = draw(st.permutations(AXES))[: draw(st.integers(0, 16))]
    sweep = {}
    while keys and len(sweep) < 4:
        width = draw(st.sampled_from([1, 1, 2, 6]))
        axis, keys = keys[:width], keys[width:]
        value = VALUES[axis[0]] if len(axis) == 1 else st.tuples(*map(VALUES.get, axis))
        values = draw(st.lists(value, min_size=1, max_size=3, unique_by=str))
        if isinstance(values[0], float):
            values.append(math.nextafter(values[0], 1))  # which needs a name of its own
        sweep[draw(st.sampled_from([",", ", "])).join(axis)] = draw(st.sampled_from([tuple, list]))(values)
    return sweep


# --- What is odd.


class Unspeakable:
    def __repr__(self):
        raise RuntimeError("it has no name")

    def __eq__(self, other):
        raise RuntimeError("it has no equal")

    __hash__ = None


def nested(depth):
    return [nested(depth - 1)] if depth else []


def own_part():
    config = ConfigDict()
    config.data = config.train = config
    return config


TEXTS = st.text(max_size=8) | st.sampled_from(
    ["", "nan", "LSTM", "lstm ", "lst", "None", "true", "..", "../x", "/", "a/b", "\0", "a\nb", "\r\u2028", "\udcff",
     "🦆", "é" * 300, "x" * 10**5]
)  # fmt: skip
NUMBERS = st.sampled_from(
    [0, -1, -(10**30), 2**31, 10**400, 0.0, -0.0, 5e-324, 1e300, math.nan, math.inf, 2.5, True, 1j]
)
HUGE = st.sampled_from([400, 5000]).map(lambda digits: 10**digits)  # more than a float holds, than Python writes
ODD_VALUES = st.one_of(
    NUMBERS,
    TEXTS,
    HUGE,
    NUMBERS.map(np.asarray),
    st.sampled_from([np.int64(3), np.float32(0.1), np.bool_(True), np.str_("lstm"), np.str_("x"), np.zeros((2, 2))]),
    st.sampled_from([None, print, int, ..., b"lstm", object(), range(3)]),
    st.lists(NUMBERS, max_size=3),
    st.tuples(TEXTS, NUMBERS),
    st.sets(TEXTS, max_size=2),
    st.dictionaries(st.sampled_from(["a", "epochs", "a.b", "a\nb"]), NUMBERS, max_size=2),
    st.integers(1, 80).map(nested),
    st.builds(Unspeakable),
    st.builds(own_part),
    st.builds(FrozenConfigDict),
    st.builds(ConfigDict, st.dictionaries(st.sampled_from(["a", "epochs"]), NUMBERS, max_size=2)),
    st.sampled_from([int, float, str]).map(config_dict.placeholder),
    st.sampled_from([int, float, str]).map(config_dict.required_placeholder),
    st.builds(lambda: FieldReference(1) // 0),
)
NEAR_MISSES = st.builds(
    lambda key, at, letter: key[:at] + letter + key[at + 1 :],
    st.sampled_from([*KEYS, "sweep"]), st.integers(0, 20), st.sampled_from(["", "z", "E", "_", "\n", ".", " "]),
)  # fmt: skip
OTHER_KEYS = st.sampled_from(["data", "epochs", "sweep.model", "data.", ".data", "train.epochs.x", "lock", "__class__"])
ODD_KEYS = NEAR_MISSES | OTHER_KEYS | TEXTS
ODD_AXES = ODD_KEYS | st.sampled_from(["seeds", 3, None, ("model.units",)])
ZIPPED = st.lists(st.sampled_from(AXES), min_size=2, max_size=3).map(",".join)  # perhaps one key twice
ODD_SWEEPS = st.one_of(
    ODD_VALUES,
    st.dictionaries(ODD_AXES, ODD_VALUES, max_size=2),
    st.dictionaries(
        ZIPPED, st.lists(ODD_VALUES | st.tuples(ODD_VALUES, ODD_VALUES), max_size=2), min_size=1, max_size=2
    ),
)


@st.composite
def configs(draw):
    """A config as a file might make it: right, or with up to three odd things done to it."""
    config = base()
    for key in draw(st.lists(st.sampled_from(list(KEYS)), unique=True, max_size=8)):
        set_value(config, key, draw(VALUES[key]))
    if draw(st.booleans()):
        config.sweep = draw(sweeps())
    odd = st.sampled_from(
        ["value"] * 4 + ["axis"] * 4 + ["sweep", "wide", "key", "number", "delete", "freeze", "forget"]
    )
    for what in draw(st.lists(odd, min_size=1, max_size=3)) if draw(st.integers(0, 2)) else ():
        try:
            if what == "value":
                set_value(config, draw(st.sampled_from(list(KEYS))), draw(ODD_VALUES))
            elif what == "axis":
                key = draw(st.sampled_from(AXES))
                config.sweep = config.sweep | {
                    key: (draw(VALUES[key]), draw(draw(st.sampled_from([HUGE, ODD_VALUES]))))
                }
            elif what == "key":
                set_value(config, draw(ODD_KEYS), draw(ODD_VALUES))
            elif what == "number":
                config[3] = 3
            elif what == "sweep":
                config.sweep = draw(ODD_SWEEPS)
            elif what == "wide":
                wide = ["data.sequences", "data.lookahead", "model.units", "train.epochs", "train.chunk"]
                config.sweep = {key: tuple(range(1, 50)) for key in wide[: draw(st.integers(3, 5))]}
            elif what == "delete":
                del config[draw(st.sampled_from([*KEYS, "sweep", "data", "train"]))]
            elif what == "freeze":
                config = FrozenConfigDict(config)
            elif what == "forget":
                config = config.copy_and_resolve_references()
        # An assertion of its own fails where an empty list, frozen, is the empty tuple that it has seen elsewhere.
        except (
            *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError),
            config_dict.RequiredValueError,
        ):
            hypothesis.event(f"ConfigDict refuses it: {what}")  # so the file would raise
    return config


@st.composite
def command_lines(draw):
    """What stands behind `--config.`: right, or with one odd thing among it."""
    keys = draw(st.lists(st.sampled_from(list(KEYS)), max_size=3))
    given = [f"{key}={draw(VALUES[key])}" for key in keys]
    given += [f"sweep.{axis}={values!r}" for axis, values in draw(sweeps()).items()]
    if draw(st.integers(0, 3)):
        key = draw(st.sampled_from([*KEYS, "sweep", *(f"sweep.{key}" for key in AXES)]) | ODD_KEYS)
        sources = ["0x" + "f" * 5000, "{[]: 1}", "(" * 300, "-" * 9999 + "1", r"'\d'", "1is 2", "1if", "{'a.b': 1}"]
        value = draw(TEXTS | ODD_VALUES.map(shown) | ODD_SWEEPS.map(shown) | st.sampled_from(sources))
        odd = draw(st.sampled_from([f"{key}={value}", f"{key}={value}", key, f"={value}"]))
        given.insert(draw(st.integers(0, len(given))), odd)
    return given


# --- What holds of each.


def is_ready(make):
    """Whether `make` returns a config, which is then ready to run; else it raises one sentence, and nothing else."""
    try:
        config = make()
    except UserError as error:
        sentence = str(error)
        assert sentence.isprintable()
        assert "config." in sentence
        return False

    flat = as_json(config)
    assert json.loads(json.dumps(flat, allow_nan=False)) == flat
    again = base()
    for key, value in flat.items():
        set_value(again, key, value)
    assert validate(config) == config == validate(again)

    runs = expand(config)
    names = [run.name for run in runs]
    assert len(runs) == config.seeds * math.prod(map(len, config.sweep.values()))
    assert names == [run.name for run in expand(validate(again))]
    assert len({name.lower() for name in names}) == len(runs)  # a Mac's folders differ in more than case
    for name in names:
        assert PurePath("workdir", name).parts == ("workdir", name)
        assert name.isprintable()
        assert len(name.encode()) <= 255
        assert name not in ("..", "study", "config.json", "loss.png", "summary.md")

    groups = group(runs)
    assert sorted(run.name for cohort in groups for run in cohort) == sorted(names)
    programs = [
        {str([kv for kv in leaves(run.config) if not KEYS[kv[0]].stacks]) for run in cohort} for cohort in groups
    ]
    assert [len(program) for program in programs] == [1] * len(groups)
    assert len(set.union(*programs)) == len(groups)
    return True


def holds_of(examples, make):
    """Draws the examples and holds what `make` makes of each against `is_ready`; a quarter at least is of each kind."""
    outcomes = Counter()

    @fuzz
    @hypothesis.given(examples)
    def check(example):
        outcomes[is_ready(lambda: make(example))] += 1

    check()
    assert outcomes.total() >= 500
    assert min(outcomes[True], outcomes[False]) >= outcomes.total() / 4, outcomes


def test_a_config_is_ready_to_run_or_gets_one_sentence():
    holds_of(configs(), validate)


def test_a_command_line_is_ready_to_run_or_gets_one_sentence(tmp_path):
    file = tmp_path / "some.py"
    file.write_text("from rnn_compare.config import base as get_config")
    holds_of(command_lines(), lambda overrides: load(str(file), overrides))
