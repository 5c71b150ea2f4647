"""A config file and the modules beside it, which go where runs are trained: names that it registers are known there."""

import contextlib
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rnn_compare.config import UserError, load


class Source(NamedTuple):
    """A config file as another process can run it.

    Attributes:
        name: the config file's; empty where a study has none.
        overrides: those of the command line.
        files: the file and the modules that it imported from its own folder: path within that folder -> content.
    """

    name: str = ""
    overrides: tuple[str, ...] = ()
    files: dict[str, bytes] = {}  # noqa: RUF012

    @staticmethod
    def of(path: Path, overrides: list[str]) -> "Source":
        """The config file that this process has loaded, with these overrides."""
        folder = Path(os.path.abspath(path)).parent
        found = {path.name: path.read_bytes()}
        for name, module in list(sys.modules.items()):
            base = Path(*name.split("."))
            file = getattr(module, "__file__", None)
            for within in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
                if name.split(".")[0] != "rnn_compare" and file == str(folder / within):
                    found[within.as_posix()] = Path(file).read_bytes()
        return Source(path.name, tuple(overrides), found)

    @contextlib.contextmanager
    def registered(self) -> Iterator[None]:
        """Runs the config file; modules beside it can be imported until the end.

        Raises:
            UserError: it does not run here.
        """
        if not self.name:
            yield
            return
        with tempfile.TemporaryDirectory(prefix="rnn_compare-") as folder:
            for name, content in self.files.items():
                file = Path(folder, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            sys.path.insert(0, folder)
            try:
                self._load(folder)
                yield
            finally:
                sys.path.remove(folder)

    def _load(self, folder: str) -> None:
        try:
            load(str(Path(folder, self.name)), self.overrides)
        except UserError as error:
            what = str(error).replace(f"{folder}/", "").replace(folder, "its folder")
            raise UserError(
                f"{what} (on the worker {platform.node()}, which has the config file, the modules beside it that it "
                "imports, and no other file)"
            ) from None
