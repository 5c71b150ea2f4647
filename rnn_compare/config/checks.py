"""What a value may be: each check returns it in its canonical type, or raises ValueError saying what would be right."""

import difflib
import math
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from numbers import Integral, Real
from types import ModuleType
from typing import Any

LARGEST = 2**31 - 1  # of the whole numbers: JAX counts in 32 bits
SMALLEST, MOST = 1.2e-38, 3.4e38  # of the other numbers, which become float32

Check = Callable[[Any], Any]


def whole(low: int, high: int = LARGEST) -> Check:
    """A whole number from `low` to `high`."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < low:
            raise ValueError(f"a whole number of at least {low}")
        if int(value) > high:
            raise ValueError(f"a whole number of at most {high}")
        return int(value)

    return check


def number(low: float = -math.inf, high: float = math.inf, *, above: float = -math.inf) -> Check:
    """A finite number in [low, high], and greater than `above`."""
    if above > -math.inf:
        what = f"a number greater than {above:g}"
    elif high < math.inf:
        what = f"a number from {low:g} to {high:g}"
    else:
        what = f"a number of at least {low:g}" if low > -math.inf else "a finite number"

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ValueError(what)
        try:
            result = float(value)
        except OverflowError:  # a whole number such as 10**400
            raise ValueError(what) from None
        if not (math.isfinite(result) and low <= result <= high and result > above):
            raise ValueError(what)
        if not SMALLEST <= abs(result) <= MOST and result != 0:
            raise ValueError(f"{what}, within single precision")
        return result

    return check


def one_of(names: Iterable[str]) -> Check:
    """One of the given names."""
    known = tuple(names)

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"one of {', '.join(known)}{closest(value, known) if isinstance(value, str) else ''}")
        return str(value)  # NumPy has strings of its own

    return check


def name(value: Any) -> str:
    """Any name."""
    if not isinstance(value, str):
        raise ValueError("a name")
    return value


def columns(value: Any) -> tuple[str, ...]:
    """Names, or one with commas between them."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, tuple | list) else (value,)
    named = tuple(str(part).strip() if type(part) in (str, int) else "" for part in parts)
    if not all(named) or len(set(named)) < len(named):
        raise ValueError("names of columns, each once, with commas between them")
    return named


def stages(value: Any) -> tuple[tuple[int, int], ...]:
    """Pairs of an epoch and a number of steps, in the order of their epochs, the first of which is 0; or none."""
    what = (
        "pairs of an epoch and a number of steps, as ((0, 1000), (300, 5000)), the first epoch 0 and each a later one"
    )
    if not isinstance(value, tuple | list) or not all(isinstance(pair, tuple | list) for pair in value):
        raise ValueError(what)
    epoch, steps = whole(0), whole(1)
    try:
        found = tuple((epoch(begin), steps(length)) for begin, length in value)
    except ValueError:
        raise ValueError(what) from None
    begins = [begin for begin, _ in found]
    if begins[:1] not in ([], [0]) or begins != sorted(set(begins)):
        raise ValueError(what)
    return found


class Registered:
    """A name that is registered in "module:dictionary" (or is among what "module:function" returns), or one of others.

    The module is imported when a value is checked, and not before: whoever only lists the keys need not wait for JAX.
    """

    def __init__(self, where: str, *others: str):
        self._module, _, self._attribute = where.partition(":")
        self._others = others

    def __call__(self, value: Any) -> str:
        """The checked name."""
        return one_of(self._names(import_module(self._module)))(value)

    def entry(self, value: str) -> Any:
        """What is registered under a checked name."""
        return getattr(import_module(self._module), self._attribute)[value]

    def shipped(self) -> tuple[str, ...]:
        """The names of the package alone: those in a fresh copy of the module, in which nobody has registered more."""
        spec: Any = find_spec(self._module)
        fresh = module_from_spec(spec)
        spec.loader.exec_module(fresh)
        return self._names(fresh)

    def _names(self, module: ModuleType) -> tuple[str, ...]:
        known = getattr(module, self._attribute)
        return (*self._others, *(known() if callable(known) else known))


def or_name(check: Check, alternative: str) -> Check:
    """What passes `check`, or one name instead."""

    def either(value: Any) -> Any:
        if isinstance(value, str) and value == alternative:
            return alternative
        try:
            return check(value)
        except ValueError as error:
            raise ValueError(f"{error}, or {alternative!r}") from None

    return either


def pair_of(item: Check, what: str) -> Check:
    """Two values, each of which passes `item`."""

    def check(value: Any) -> tuple:
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise ValueError(what)
        try:
            return tuple(item(v) for v in value)
        except ValueError:
            raise ValueError(what) from None

    return check


def closest(name: str, known: Iterable[str]) -> str:
    """The words that suggest a known name which is nearly this one, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def shown(value: Any) -> str:
    """A value as a complaint quotes it."""
    try:
        text = repr(value)
    except Exception:  # a whole number of more digits than Python writes; a class that cannot describe itself
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 200 else f"{text[:200]} …"


def words(value: Any) -> str:
    """A value as a person writes it."""
    if isinstance(value, list | tuple):
        return " + ".join(map(words, value))
    return value if isinstance(value, str) else str(value).removesuffix(".0")
