"""copy: the same cells as adding, on the copy task with 50 steps between what is said and what is asked.

Command:  python -m rnn_compare.main --config=configs/copy.py
Hardware: 2 CPU cores, 1 GB of memory.  Time: 15 minutes.
Result:   experiments/copy/README.md
"""

import adding


def get_config():
    config = adding.get_config()
    config.task.name = "copy"
    config.data.length = 50
    return config
