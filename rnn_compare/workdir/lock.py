"""One process at a time trains into a workdir."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import filelock

from rnn_compare.config import UserError
from rnn_compare.console.terminal import say
from rnn_compare.workdir.files import write_atomically


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Holds the workdir's lock; the system lets go of it when a process dies, and the next one says that it took over.

    Raises:
        UserError: another living process holds it.
    """
    lock, holder = filelock.FileLock(workdir / ".lock"), workdir / ".holder.json"
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise UserError(f"--workdir={workdir} is in use by {_who(holder)}: wait for it, or choose another") from None
    try:
        if holder.exists():
            say(f"{workdir}: taken over from {_who(holder)}, which is gone")
        write_atomically(holder, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _who(holder: Path) -> str:
    try:
        there = json.loads(holder.read_text())
        return f"process {there['pid']} on {there['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
