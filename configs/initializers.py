"""initializers: the post's future work, "different kernel and recurrent initializers for each cell type".

Command:  python -m rnn_compare.main --config=configs/initializers.py
Hardware: 2 CPU cores, 9 GB of memory: about 90 minutes at this full size, by post8's time per epoch.
          With --config.data.length=5000, 27 minutes on 2 CPU cores.
Result:   experiments/initializers/README.md
"""

from rnn_compare import config as base


def get_config():
    config = base.base()
    config.seeds = 3
    config.sweep = {
        "model.cell": ("lstm", "gru"),
        "model.kernel_init": ("glorot_uniform", "glorot_normal", "he_uniform", "lecun_normal"),
        "model.recurrent_init": ("orthogonal", "orthogonal_per_gate", "glorot_uniform", "identity_half"),
    }
    return config
