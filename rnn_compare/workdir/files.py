"""Files that are there either whole or not at all."""

import os
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file that is there either whole or not at all, even if the power fails."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # of this process: a report may be written meanwhile
    part.unlink(missing_ok=True)
    with part.open("xb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def remove_parts(workdir: Path) -> None:
    """Removes what processes that were killed had written of files."""
    for pattern in (".*.part", "*/.*.part", "checkpoints/*/.*.part"):
        for part in workdir.glob(pattern):
            part.unlink(missing_ok=True)
