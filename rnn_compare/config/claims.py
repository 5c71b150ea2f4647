"""Claims: what a study is to decide, as its config states it before the first run."""

from typing import Any

from rnn_compare.config.checks import closest, number, one_of, shown

SPEED = "seconds per epoch"  # the measure that is timed apart, contestants in turn
OF_RUNS = ("final_loss", "last_loss", "best_loss", "held_out_loss", "area", "epochs_to_level", "volatility")
MEASURES = (*OF_RUNS, SPEED)
RELATIONS = ("lower", "higher", "within", "faster")
EVERY_OTHER = "every other"
FIELDS = {"claim": None, "measure": None, "a": None, "b": EVERY_OTHER, "relation": "lower", "by": 0.0, "margin": 0.0}

# The three conclusions of the post.
THE_POSTS: tuple[dict[str, Any], ...] = (
    {"claim": "The GRU ends at the lower loss", "measure": "final_loss", "a": "gru", "b": "lstm", "relation": "lower"},
    {
        "claim": "The LSTM's loss is the more volatile",
        "measure": "volatility",
        "a": "lstm",
        "b": "gru",
        "relation": "higher",
    },
    {
        "claim": "The GRU trains 3.84% faster",
        "measure": SPEED,
        "a": "gru",
        "b": "lstm",
        "relation": "faster",
        "by": 0.0384,
        "margin": 0.01,
    },
)


def check(value: Any) -> tuple[dict[str, Any], ...]:
    """Claims in their canonical form: every field of `FIELDS`, in its order."""
    what = "a tuple of claims, each a dict such as {'claim': 'ours ends lower', 'measure': 'final_loss', 'a': 'ours'}"
    if not isinstance(value, tuple | list):
        raise ValueError(what)
    return tuple(_claim(claim, what) for claim in value)


def _claim(claim: Any, what: str) -> dict[str, Any]:
    if not hasattr(claim, "items"):
        raise ValueError(what)
    claim = dict(claim.items())
    for field in claim:
        if field not in FIELDS:
            near = closest(field, FIELDS) if isinstance(field, str) else ""
            raise ValueError(f"made of claims with the fields {', '.join(FIELDS)}, not {shown(field)}{near}")
    claim = FIELDS | claim
    for field in ("claim", "a", "b"):
        if not isinstance(claim[field], str | int | float | bool | tuple | list) or claim[field] == "":
            raise ValueError(f"made of claims that each have {field!r}: {_EXPECTED[field]}")
    for field, check_field in (
        ("measure", one_of(MEASURES)),
        ("relation", one_of(RELATIONS)),
        ("by", number(0)),
        ("margin", number(0)),
    ):
        try:
            claim[field] = check_field(claim[field])
        except ValueError as error:
            raise ValueError(f"made of claims whose {field!r} is {error}, not {shown(claim[field])}") from None
    if claim["relation"] == "within" and not claim["by"]:
        raise ValueError("made of claims that say by how much, 'by', if their relation is 'within'")
    if claim["relation"] == "lower" and claim["by"] >= 1:
        raise ValueError("made of claims in which nothing is lower by 1, which is all of it, or more")
    if claim["relation"] == "faster" and claim["measure"] != SPEED:
        raise ValueError(f"made of claims whose 'measure' is {SPEED!r} if their relation is 'faster'")
    return claim


_EXPECTED = {
    "claim": "what it says, in words",
    "a": "a contestant, a value of the axis that is compared",
    "b": f"the contestant that it is compared with, or {EVERY_OTHER!r}",
}


def upgraded(config: dict[str, Any]) -> dict[str, Any]:
    """A config as JSON, perhaps of version 0.1, in which the post's claims were the only ones."""
    if "claims.faster" not in config:
        return config
    config = dict(config)
    faster, margin = config.pop("claims.faster"), config.pop("claims.faster_margin")
    *others, speed = THE_POSTS
    speed = speed | {"by": round(faster - 1, 12), "margin": margin}
    speed["claim"] = f"The GRU trains {100 * abs(faster - 1):.3g}% {'faster' if faster >= 1 else 'slower'}"
    return config | {"claims.list": [dict(FIELDS | claim) for claim in (*others, speed)]}
