import pytest

from rnn_compare.report.reading import load
from rnn_compare.report.results import Result


@pytest.mark.parametrize(
    ("key", "value", "post"),
    [
        ("train.epochs", 1000, True),
        ("train.backend", "scan", True),
        ("log.histogram_every", 7, True),
        ("train.epochs", 999, False),
        ("data.length", 200, False),
        ("model.units", 8, False),
        ("optimizer.clip", "none", False),
    ],
)
def test_the_setting_of_the_post_is_known(study, key, value, post):
    results = load(study.folder)
    config = results.runs[0].about["config"] | {"train.epochs": 1000} | {key: value}
    runs = [Result(run.folder, run.about | {"config": config}, run.curves) for run in results.runs]
    assert results._replace(runs=runs).is_the_posts() == post
