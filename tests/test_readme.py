"""README.md and docs/: every snippet runs, and whatever they name exists."""

import configparser
import importlib.util
import re
import shlex
from functools import partial
from pathlib import Path

import jax
import pytest
from absl import flags, logging
from absl.testing import flagsaver

from rnn_compare import main
from rnn_compare.cells import CELLS
from rnn_compare.cells.initializers import BIASES, MATRICES
from rnn_compare.config import KEYS, load
from rnn_compare.network.model import make_model
from rnn_compare.recurrence import BACKENDS
from rnn_compare.study.cohorts import group
from rnn_compare.study.expansion import expand
from rnn_compare.tasks import TASKS
from rnn_compare.training.optimizers import CLIPS, OPTIMIZERS, SCHEDULES
from rnn_compare.training.program import shapes
from rnn_compare.training.start import Source, recipe
from rnn_compare.training.step import gradients, update

ROOT = Path(__file__).parents[1]
PAGES = {str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
EXTRAS = dict(SETUP["options.extras_require"])
SOURCE = "".join(path.read_text() for path in (ROOT / "rnn_compare").rglob("*.py"))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pages = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the shipped configs and a study's tables, and registries that forget what a snippet registers."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "runs/smoke").mkdir(parents=True)
    (tmp_path / "runs/smoke/results.csv").write_text("run,contestant,final_loss\ngru-s0,gru,0.5\n")
    (tmp_path / "runs/smoke/report.json").write_text('{"verdicts": {"all": [{"verdict": "holds"}]}}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging, "set_verbosity", lambda level: None)
    registries = KEYS, CELLS, MATRICES, BIASES, OPTIMIZERS, CLIPS, SCHEDULES, BACKENDS, TASKS
    before = [dict(registry) for registry in registries]
    yield
    for registry, content in zip(registries, before, strict=True):
        registry.clear()
        registry.update(content)


def trace(config):
    """Traces a training step of each of a study's cohorts, from its first and its last run; computes nothing."""

    def step(config, state, data):
        batch = data.batch(0) if isinstance(data, Source) else data
        model = make_model(config)  # finds out whether there is a kernel, which need not be compiled
        return update(state, *gradients(state.params, batch, model.clone(backend="scan")), recipe(config), model)

    for cohort in group(expand(config)):
        for run in (cohort[0], cohort[-1]):
            one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), shapes(run.config, 1))
            jax.eval_shape(partial(step, run.config), *one)


def commands(line):
    """The commands of a line of shell, as words."""
    command = []
    for word in [*shlex.split(line, comments=True), "&&"]:
        if word != "&&":
            command.append(word)
        elif command:
            yield command
            command = []


def check(command):
    """Checks a command: that it is one we know, its flags, its files, and the config that it makes."""
    program, *arguments = [word for word in command if not re.match(r"[A-Z_]+=", word)]
    match Path(program).name, arguments:
        case "python" | "python3", ["-m", "rnn_compare.main", *rest]:
            start(rest)
        case "python" | "python3", ["-m", "rnn_compare.report", *rest]:
            assert [word for word in rest if not re.fullmatch(r"--workdir=\S+", word)] == []
        case "python" | "python3", ["-m", module, *_]:
            assert importlib.util.find_spec(module), command
        case "pip", ["install", "-e", what]:
            assert what == "." or what.strip(".[]") in EXTRAS, command
        case "tensorboard" | "ray" as name, [_, *_]:
            assert name in SETUP["options"]["install_requires"] + EXTRAS["cluster"]
        case _:
            raise AssertionError(f"{command}: say here how to check it")


def start(arguments):
    arguments = ["rnn_compare", *arguments]
    with flagsaver.flagsaver():
        if "--help" in arguments:
            with pytest.raises(SystemExit) as ended:
                main.parse(arguments)
            assert not ended.value.code
        else:
            overrides = main.parse(arguments)
            load(main.CONFIG.value, overrides)


@pytest.mark.parametrize(
    "page",
    [pytest.param(path, marks=pytest.mark.slow) if name == "docs/layer.md" else path for name, path in PAGES.items()],
    ids=PAGES,
)
def test_snippets(page, here):
    """A Python block that begins with a file's name is that file, a config."""
    namespace = {}
    for language, block in FENCED.findall(page.read_text()):
        if language == "python" and (name := re.match(r"# (\w+\.py)\n", block)):
            Path(name[1]).write_text(block)
            trace(load(name[1]))
        elif language == "python":
            exec(compile(block, str(page), "exec"), namespace)
        else:
            assert language == "sh"
            for line in block.splitlines():
                for command in commands(line):
                    check(command)


@pages
def test_what_is_named_exists(page):
    for code in re.findall(r"`([^`\n]+)`", FENCED.sub("", page.read_text())):
        section, _, name = re.sub(r"^(?:--)?config\.|=.*", "", code).partition(".")
        if re.match(r"(rnn_compare|configs|experiments|tests|docs|\.ci)/", code):
            assert (ROOT / code).exists(), code
        elif section in {key.split(".")[0] for key in KEYS if "." in key} and not name.endswith(("json", "py", "npz")):
            assert f"{section}.{name}" in KEYS or name == "*", code
        elif re.fullmatch(r"[A-Z_]{4,}", code):
            assert re.search(rf"\b{code}\b", SOURCE), code
        elif flag := re.match(r"--(\w+)", code):
            assert flag[1] in {*flags.FLAGS, "help", "logdir"}, code


@pages
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", FENCED.sub("", page.read_text())):
        if target.startswith("https://"):
            continue
        there = page.parent / target if target else page
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", FENCED.sub("", there.read_text()), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, anchor


def test_the_table_of_keys_is_the_config():
    table = (ROOT / "docs/configuration.md").read_text().split("## All keys")[1]
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| (.*) \|$", table, re.MULTILINE)
    assert rows[-1][:2] == ("sweep", "{}")
    assert rows[:-1] == [(name, str(key.default) or '""', key.meaning) for name, key in KEYS.items()]


def test_the_readme_leads_to_every_page():
    readme = (ROOT / "README.md").read_text()
    assert [page for page in PAGES if page != "README.md" and f"({page})" not in readme] == []
