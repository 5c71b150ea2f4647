"""What the runs of a workdir say: `report.html`, `report.md`, `summary.md`, tables for programs, and the figures.

`python -m rnn_compare.report --workdir=DIR` writes them at any time, also while the study runs.
"""

import math
from pathlib import Path

from matplotlib.figure import Figure

from rnn_compare.report import claims, contents, document, figures, tables
from rnn_compare.report.comparison import MATRIX, in_order, of_setting
from rnn_compare.report.document import Picture
from rnn_compare.report.numbers import named
from rnn_compare.report.plotting import NARROW, WIDE, Style, save
from rnn_compare.report.reading import load
from rnn_compare.report.results import Results
from rnn_compare.report.verdicts import Judged
from rnn_compare.workdir.files import write_atomically

CURVES = 8  # contestants whose curves are drawn; of more, the best


def write(workdir: Path) -> tuple[str, list[Path]]:
    """Writes the report on the runs that have ended, with the curves of those that have not.

    Returns:
        The summary as Markdown, and the figures' paths.

    Raises:
        UserError: it is no workdir, or the study's config cannot be read.
        OSError: the report cannot be written.
    """
    results = load(workdir)
    labels = results.labels()
    judged = {labels[setting]: verdicts for setting, runs in results.by_setting().items()
              if (verdicts := claims.judge(results, runs))}  # fmt: skip
    wide = draw(results, judged, WIDE)
    pictures = {}
    for name, (figure, caption) in draw(results, judged).items():
        write_atomically(workdir / f"{name}.png", save(figure, "png"))
        for_wide = save(wide[name][0], "svg") if name in wide else None
        pictures[name] = Picture(save(figure, "svg"), f"{name}.png", caption, for_wide)
    names = results.contestants
    who = " and ".join(map(named, names)) if len(names) < 3 else f"{len(names)} {results.kind}s"
    title = f"{who}{' compared' if len(names) > 1 else ''}: {workdir.absolute().name}"
    blocks = contents.blocks(title, results, judged, pictures)
    write_atomically(workdir / "report.html", document.html(title, blocks))
    write_atomically(workdir / "report.md", document.markdown(blocks))
    write_atomically(workdir / "results.csv", tables.rows(results))
    write_atomically(workdir / "report.json", tables.summary(results, judged))
    summary = contents.summary(results, judged)
    write_atomically(workdir / "summary.md", summary)
    return summary, [workdir / f"{name}.png" for name in pictures]


def draw(results: Results, judged: Judged, width: float = NARROW) -> dict[str, tuple[Figure, str]]:
    """The figures that the runs are enough for: name -> figure, caption; those alone that are `WIDE` if asked for."""
    runs = [run for run in results.runs if len(run.curves["loss"])]
    if not runs:
        return {}
    leading = in_order(results) if len(results.contestants) > CURVES else results.contestants
    style = Style(runs, leading if len(leading) > CURVES else None)
    labels = results.labels()
    groups = {labels[setting]: [run for run in group if len(run.curves["loss"])]
              for setting, group in results.by_setting().items()}  # fmt: skip
    groups = {name: group for name, group in groups.items() if group}
    few = {name: [run for run in group if run.contestant in leading[:CURVES]] for name, group in groups.items()}
    timed = {
        name: own
        for name, group in few.items()
        if (own := [run for run in group if run.ended and not math.isnan(results.epoch_seconds(run))])
    }
    post = results.is_the_posts()
    pale = " Pale and wide: the two runs of the post's figure 3, whose setting this is." if post else ""
    guess = " Dotted: who knows nothing of the inputs." if any(run.about.get("guess") for run in runs) else ""
    so_far = " An open circle: where a run is that has not ended." if results.unfinished else ""
    numbers = "" if results.single else " A setting's number is that of the table below."
    more = f" The first {figures.PANELS} of {len(groups)} settings." if len(groups) > figures.PANELS else ""
    best = f" The {CURVES} of {len(leading)} with the best mean ranks." if len(leading) > CURVES else ""
    rows = f" The first {figures.ROWS} of {len(groups)} settings." if len(groups) > figures.ROWS else ""
    stretches = [(run, stretch) for run, stretch in results.predictions if run.contestant in leading[:CURVES]]
    drawn: dict[str, tuple[Figure | None, str]] = {
        "loss": (
            figures.loss(few, style, results.task, width, post),
            "Loss over the epochs. Thick: the median over seeds; band: the middle half of the seeds; thin: every seed. "
            f"A run counts until it diverges.{guess}{so_far}{pale}{more}{best}",
        ),
        "loss_in_time": (
            figures.loss(timed, style, results.task, width, seconds=results.epoch_seconds) if timed else None,
            "The same against minutes of training: epochs times the seconds that each takes, measured apart and in "
            f"turn. Where a thick line is lower, more was reached in that time.{more}{best}",
        ),
        "distributions": (
            figures.distributions(groups, style, width),
            "Final loss (the median of the last 10 epochs) and volatility (mean |Δ log loss| per epoch over the second "
            "half) of every run that finished, in the order of the seeds; bars: medians. Lower is better in both. In "
            "brackets: how many runs diverged or failed."
            f"{numbers}{rows}",
        ),
        "differences": (
            figures.differences(judged, width),
            "Two contestants on the same seed: each dot is a pair's ratio, the diamond the effect, the bar its 95% "
            "interval. "
            f"The claim is true where it is shaded; dotted: no difference.{rows}",
        ),
        "predictions": (
            figures.predictions({run.contestant: stretch for run, stretch in stretches}, style, results.task, width),
            f"What networks predict on sequences that none was trained on, and their targets ({results.task.unit}s): "
            f"{', '.join(run.name for run, _ in stretches)}, chosen for the lowest seed and not for the "
            "result.",
        ),
    }
    if width == NARROW:
        drawn |= square(results, style, leading[:CURVES])
    return {name: (figure, caption) for name, (figure, caption) in drawn.items() if figure is not None}


def square(results: Results, style: Style, leading: list[str]) -> dict[str, tuple[Figure | None, str]]:
    """The figures that would not gain by a wide screen."""
    ended = [run for run in results.ended if len(run.curves["loss"]) and run.contestant in leading]
    drawn: dict[str, tuple[Figure | None, str]] = {
        "held_out": (
            figures.held_out(ended, style),
            "Loss on as many sequences drawn anew, against the training loss, for every run that finished. Above the "
            "dotted line a network does worse on what it has never seen. The training loss is that before the last "
            "update, the held-out loss that after it.",
        ),
    }
    if results.single and len(results.contestants) > MATRIX and (ranking := of_setting(results, results.runs)):
        drawn["matrix"] = (
            figures.matrix(ranking),
            f"Each against each, best first, by {results.config['compare.measure'].replace('_', ' ')}: the ratio of "
            "row to column over the seeds (violet: the row is the lower), and a dot where the two surely differ. "
            "Numbers and intervals are in report.json, under pairs.",
        )
    axes = [key for key, _ in ended[0].setting] if ended else []
    if len(axes) == 2 and all(len({dict(run.setting)[key] for run in ended}) <= figures.ROWS for key in axes):
        for measure in ("last_loss", "volatility"):
            name = measure.replace("_", " ").capitalize()
            caption = f"{name} against both axes, the median over the seeds that finished."
            drawn[measure] = figures.heat_map(ended, measure, axes[0], axes[1], style), caption
    return drawn
