"""What a folder must be for a study to work in it."""

import json
import os
import tempfile
from pathlib import Path

from ml_collections import ConfigDict

from rnn_compare.config import UserError
from rnn_compare.workdir.runs import LONGEST_NAME, as_json, different

FORMAT = 1  # of a workdir


def check_workdir(workdir: Path, config: ConfigDict) -> None:
    """Complains about a workdir that cannot be written or holds another config's results. Writes nothing.

    Raises:
        UserError: in one sentence.
    """
    try:
        str(workdir).encode()
    except UnicodeEncodeError:
        raise UserError(f"--workdir={workdir} is not valid UTF-8: choose a name that is") from None
    if "**" in str(workdir):
        raise UserError(f"--workdir={workdir}: checkpoints cannot be written under a name with ** in it")
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in workdir.parts):
        raise UserError(f"--workdir={workdir}: a folder's name has at most {LONGEST_NAME} bytes")
    there = next(path for path in (workdir, *workdir.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UserError(f"--workdir={workdir}: {there} is a file, so no folder can be made there")
    try:
        tempfile.TemporaryDirectory(dir=there).cleanup()
    except OSError as error:
        raise UserError(f"--workdir={workdir}: {there} cannot be written to ({error.strerror})") from None
    try:
        old = json.loads((workdir / "config.json").read_text())
        if not isinstance(old, dict):
            raise ValueError("it holds no config")
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise UserError(
            f"--workdir={workdir}: its config.json cannot be read ({error}): remove it, and it is written anew from "
            "this config, with which the runs that are there are compared too"
        ) from None
    if (format := old.pop("format", FORMAT)) != FORMAT:
        raise UserError(
            f"--workdir={workdir} is of format {format} and this version works with format {FORMAT}: "
            "choose another workdir, or the version that made it"
        )
    new = as_json(config)
    if keys := [key for key in different(old, new) if key not in ("seeds", "sweep")]:
        differences = ", ".join(f"{key} is {old.get(key)} there and {new.get(key)} here" for key in keys)
        raise UserError(f"--workdir={workdir} holds results of another config ({differences}): choose another workdir")
