"""Ctrl-C and SIGTERM: the first asks to stop where nothing is lost, the second stops at once."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class Interrupted(BaseException):
    """Asked to stop; like KeyboardInterrupt no Exception, so that it is not taken for a failed run.

    Attributes:
        signal: which signal asked.
    """

    def __init__(self, signal: int):
        super().__init__(signal)
        self.signal = signal


_asked: list[int] = []


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Within it the first signal only makes `asked` true; a second one ends the process as if nobody listened."""

    def note(number: int, frame: FrameType | None) -> None:
        _asked.append(number)
        for each in before:
            signal.signal(each, signal.SIG_DFL)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked.clear()


def asked() -> bool:
    """Whether a signal asked to stop."""
    return bool(_asked)


def check() -> None:
    """Stops if asked to.

    Raises:
        Interrupted: a signal has come.
    """
    if _asked:
        raise Interrupted(_asked[0])
