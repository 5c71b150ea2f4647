"""`python -m rnn_compare.gpu_check --out=DIR`: what only a GPU can tell of the kernels, in ten minutes.

Exit codes: 0 every kernel is right, 1 some are not, 2 there is no GPU that JAX computes on, or DIR cannot be written.
"""

import os
from pathlib import Path

import jax
from absl import app, flags

from rnn_compare import gpu_check
from rnn_compare.console.errors import UserError
from rnn_compare.console.flags import complaining, parse_flags, path_of

OUT = flags.DEFINE_string("out", None, "Folder for what is found. Default: gpu_check/<name of the GPU>.")


def parse(argv: list[str]) -> list[str]:
    """Parses the flags.

    Raises:
        UserError: a flag is wrong.
    """
    if left := parse_flags(argv, "rnn_compare.gpu_check", [OUT]):
        raise UserError(f"{left[0]} is not a flag: write --out=DIR")
    return left


def main(_: list[str]) -> int:
    """Checks and measures, and says where it is written.

    Raises:
        UserError: there is no GPU.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # what others are compared with needs memory too
    name = jax.devices()[0].device_kind
    if jax.default_backend() != "gpu":
        raise UserError(f"JAX computes on {name} here: install rnn_compare[cuda12] on a machine with an NVIDIA GPU")
    folder = path_of(OUT) or Path("gpu_check") / name.replace(" ", "-")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        right = gpu_check.check(folder)
    except OSError as error:
        raise UserError(f"--out={folder}: it cannot be written to ({error})") from None
    print(folder / "README.md")
    return 0 if right else 1


if __name__ == "__main__":
    app.run(complaining(main), flags_parser=complaining(parse))
