"""glucose: five cells tell a person's blood glucose an hour ahead, against naive forecasts.

Command:  python -m rnn_compare.main --config=configs/glucose.py
Hardware: 2 CPU cores, 1 GB of memory.  Time: 3 minutes.
Result:   experiments/glucose/README.md

The data are 52,281 measurements of a glucose monitor, five minutes apart with gaps, March to October 2010, in mg/dl:
public domain, given to Bokeh (https://bokeh.org) by the person, and in its package bokeh-sampledata as CGM.csv.gz.
"""

from rnn_compare import config as base


def get_config():
    config = base.base()
    config.task.name = "table"
    config.task.path = "configs/glucose.csv.gz"
    config.task.time = "datetime"
    config.task.targets = ("glucose",)
    config.task.horizon = 12
    config.task.season = 288
    config.data.length = 288
    config.data.sequences = 32
    config.train.epochs = 1500
    config.train.chunk = 50
    config.seeds = 10
    config.compare.measure = "held_out_loss"
    config.sweep = {"model.cell": ("lstm", "gru", "gru_reset_before", "lem", "rnn")}
    return config
