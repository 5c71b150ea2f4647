import pytest

from rnn_compare import config as base
from rnn_compare.config import THE_POSTS, UserError, contestants, leaves, validate
from rnn_compare.config.claims import FIELDS, upgraded

OURS = {"claim": "ours ends lower", "measure": "final_loss", "a": "gru"}


def study(*claims, **sweep):
    config = base.base()
    config.claims.list = claims
    config.sweep = sweep or {"model.cell": ("lstm", "gru")}
    return config


def test_a_claim_is_complete_once_it_is_checked():
    (claim,) = validate(study(OURS)).claims["list"]
    assert list(claim) == list(FIELDS)
    assert (claim["b"], claim["relation"], claim["by"]) == ("every other", "lower", 0)


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ("gru < lstm", "a tuple of claims, each a dict"),
        (OURS | {"mesure": 1}, "did you mean measure"),
        ({"claim": "x", "measure": "final_loss"}, "'a': a contestant"),
        (OURS | {"measure": "final loss"}, "'measure' is one of final_loss"),
        (OURS | {"relation": "less"}, "'relation' is one of lower, higher, within, faster"),
        (OURS | {"relation": "within"}, "say by how much, 'by'"),
        (OURS | {"relation": "faster"}, "'measure' is 'seconds per epoch'"),
        (OURS | {"by": -1}, "'by' is a number of at least 0"),
        (
            OURS | {"a": "lsmt"},
            "names the contestant 'lsmt', which is none of those of config.compare.axis, model.cell",
        ),
        (OURS | {"b": "gru"}, "compares 'gru' with itself"),
    ],
)
def test_a_wrong_claim_is_one_sentence(claim, words):
    with pytest.raises(UserError, match=r"config\.claims\.list") as error:
        validate(study(claim))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_claim_about_who_could_be_there_waits_and_a_sweep_over_rules_is_refused():
    assert validate(study(OURS | {"b": "lstm"}, **{"model.cell": ("gru",)}))
    with pytest.raises(UserError, match=r"has the axis claims\.seeds: it is one for all runs"):
        validate(study(**{"claims.seeds": (6, 10)}))


def test_an_axis_that_is_no_key_is_named():
    config = study()
    config.compare.axis = "model.unit"
    with pytest.raises(UserError, match=r"config\.compare\.axis is 'model.unit': it must be a key"):
        validate(config)


def test_contestants_are_the_values_of_the_axis_that_the_key_is_on():
    joint = {"model.cell,model.units": (("lstm", 16), ("gru", 19)), "data.window": (1, 2)}
    assert contestants(dict(leaves(validate(study(**joint))))) == ["lstm + 16", "gru + 19"]
    config = study(**{"model.cell": ("lstm", "gru"), "optimizer.learning_rate": (0.1, 0.01)})
    config.compare.axis = "optimizer.learning_rate"
    assert contestants(dict(leaves(validate(config)))) == ["0.1", "0.01"]
    config.claims.list = ({"claim": "a tenth is lower", "measure": "final_loss", "a": 0.01, "b": 0.1},)
    assert validate(config).claims["list"][0]["a"] == 0.01


def test_a_config_of_version_0_1_states_the_posts_claims():
    old = upgraded({"claims.faster": 1.0384, "claims.faster_margin": 0.01, "claims.seeds": 10})
    assert old == {"claims.seeds": 10, "claims.list": [FIELDS | claim for claim in THE_POSTS]}
    assert upgraded(old) is old
    assert upgraded({"claims.faster": 0.9, "claims.faster_margin": 0.02})["claims.list"][2]["claim"].endswith(
        "10% slower"
    )
