"""Cells whose carry or outputs are no rows, or that are lifted in a way of their own: alike in Flax and here."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import rnn_compare
from rnn_compare.layers.nnx import RNN

B, T, F, H = 4, 9, 3, 4
X, LENGTHS = jax.random.normal(jax.random.key(0), (B, T, F)), jnp.array([9, 4, 1, 7])
close = functools.partial(jax.tree.map, functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5))


class Cell(nn.RNNCellBase):
    """Its state is `memory`, [B, H], beside whatever a subclass makes of it."""

    @nn.compact
    def __call__(self, carry, x):
        h = jnp.tanh(nn.Dense(H)(x) + 0.5 * carry[0])
        return self.more(h, carry)

    def initialize_carry(self, rng, input_shape):
        return jnp.zeros((*input_shape[:-1], H)), *self.others(input_shape[:-1])

    def more(self, h, carry):
        return (h,), h

    def others(self, batch):
        return ()

    @property
    def num_feature_axes(self):
        return 1


class Matrix(Cell):
    """As many rows as sequences, so that a mask could be laid along either."""

    def more(self, h, carry):
        matrix = 0.9 * carry[1] + h[..., None] * jnp.arange(3.0)
        return (h, matrix), matrix.sum(-1)

    def others(self, batch):
        return (jnp.zeros((*batch, H, 3)),)


class Counting(Cell):
    def more(self, h, carry):
        return (h, carry[1] + 1), h

    def others(self, batch):
        return (jnp.zeros(()),)


class Tree(Cell):
    def more(self, h, carry):
        return (h,), {"h": h, "twice": 2 * h}


class Single(Cell):
    def more(self, h, carry):
        return (h,), h[..., 0]


class Noisy(Cell):
    def more(self, h, carry):
        self.sow("intermediates", "h", h)
        if self.has_rng("noise"):
            h = h + jax.random.normal(self.make_rng("noise"), h.shape)
        return (h,), h


class Learned(nn.RNNCellBase):
    """Its initial carry is a parameter, made in `setup`."""

    def setup(self):
        self.start, self.dense = self.param("start", nn.initializers.normal(), (H,)), nn.Dense(H)

    def __call__(self, carry, x):
        h = jnp.tanh(self.dense(x) + 0.5 * carry)
        return h, h

    def initialize_carry(self, rng, input_shape):
        return jnp.broadcast_to(self.start, (*input_shape[:-1], H))

    @property
    def num_feature_axes(self):
        return 1


@pytest.mark.parametrize(
    ("cell", "lengths"),
    [(Matrix, LENGTHS), (Counting, None), (Tree, None), (Single, None), (Learned, None)],
)
def test_it_is_flaxs_layer(cell, lengths):
    theirs, ours = (layer(cell(), return_carry=True) for layer in (nn.RNN, rnn_compare.RNN))
    params = theirs.init(jax.random.key(1), X)

    def judged(layer):
        def function(params, x):
            carry, y = layer.apply(params, x, seq_lengths=lengths)
            if lengths is not None:
                y = jnp.where((jnp.arange(T) < lengths[:, None])[..., None], y, 0)
            return sum(jnp.sin(leaf).sum() for leaf in jax.tree.leaves((carry, y))), (carry, y)

        return jax.value_and_grad(function, (0, 1), has_aux=True)(params, X)

    close(judged(ours), judged(theirs))


def test_resets_of_a_matrix():
    layer, resets = rnn_compare.RNN(Matrix()), jnp.zeros((B, T), bool).at[1, 4].set(True)
    params = layer.init(jax.random.key(1), X)
    whole, cut = layer.apply(params, X), layer.apply(params, X, resets=resets)
    close(cut.at[1, 4:].set(0), whole.at[1, 4:].set(0))
    close(cut[1, 4:], layer.apply(params, X[:, 4:])[1])


def test_random_numbers_and_what_is_sown_reach_whoever_asks():
    lifted = {"split_rngs": {"params": False, "noise": True}, "variable_axes": {"intermediates": 0}}
    theirs, ours = (layer(Noisy(), **lifted) for layer in (nn.RNN, rnn_compare.RNN))
    params = {"params": theirs.init(jax.random.key(1), X)["params"]}
    found, expected = (
        layer.apply(params, X, rngs={"noise": jax.random.key(2)}, mutable=["intermediates"]) for layer in (ours, theirs)
    )
    close(found, expected)
    assert jnp.abs(found[0] - ours.apply(params, X)).max() > 0.1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"resets": jnp.zeros((B, T, 1), bool)}, r"resets have the shape \(4, 9, 1\), and should have \(4, 9\)"),
        ({"resets": jnp.zeros((T, B), bool)}, r"resets have the shape \(9, 4\), and should have \(4, 9\)"),
        ({"seq_lengths": LENGTHS[:, None]}, r"seq_lengths have the shape \(4, 1\), and should have \(4,\)"),
        ({"seq_lengths": LENGTHS * 1.0}, "seq_lengths are float32, and should be whole numbers"),
    ],
)
def test_lengths_and_resets_of_another_kind_are_refused(given, message):
    layer = rnn_compare.RNN(nn.SimpleCell(H))
    params = layer.init(jax.random.key(1), X)
    with pytest.raises(ValueError, match=message):
        layer.apply(params, X, **given)


class Random(nnx.GRUCell):
    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jax.random.normal(rngs(), (*input_shape[:-1], H))


def test_a_random_initial_carry_is_drawn_once():
    ours, theirs = (kind(Random(F, H, rngs=nnx.Rngs(0))) for kind in (RNN, nnx.RNN))
    close(ours(X, rngs=nnx.Rngs(5)), theirs(X, rngs=nnx.Rngs(5)))
    ours(X, resets=jnp.zeros((B, T), bool)), theirs(X)
    close(ours(X), theirs(X))
