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


SIGNALS = signal.SIGINT, signal.SIGTERM
_asked: list[int] = []


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Handlers that are installed within it, by a library for example, are gone after it."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Within it the first signal only makes `asked` true; a second one ends the process as if nobody listened."""

    def note(number: int, frame: FrameType | None) -> None:
        ask(number)
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    with undisturbed():
        for number in SIGNALS:
            signal.signal(number, note)
        try:
            yield
        finally:
            _asked.clear()


def ask(number: int = signal.SIGTERM) -> None:
    """Asks this process to stop, as the signal would."""
    _asked.append(number)


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
