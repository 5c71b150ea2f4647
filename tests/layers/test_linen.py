"""Held against `flax.linen.RNN` itself: parameters to the bit, values and gradients to rounding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import rnn_compare
from rnn_compare.cells import LSTMCell
from rnn_compare.layers import sequences
from rnn_compare.recurrence import BACKENDS, scan

B, T, F, H = 4, 9, 3, 5
ORDERS = {"time_major": True}, {"reverse": True}, {"reverse": True, "keep_order": True}
OTHERS = (False, False), (False, True), (True, True)
LENGTHS = jnp.array([9, 4, 1, 7])
CELLS = {
    "flax.OptimizedLSTMCell": nn.OptimizedLSTMCell(H),
    "flax.GRUCell": nn.GRUCell(H),
    "lstm": LSTMCell(H),
}
# Nine steps of single precision, of numbers of about one.
close = functools.partial(jax.tree.map, functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5))


@pytest.fixture(autouse=True)
def fused(monkeypatch):
    """The scan is no way out, unless a test asks for it; little work is taken for much."""

    def scan(*_):
        raise AssertionError("it was not fused")

    monkeypatch.setitem(BACKENDS, "scan", scan)
    slower = rnn_compare.recurrence.slower
    monkeypatch.setattr(rnn_compare.recurrence, "slower", lambda steps, batch, units: slower(4096, batch, units))


def inputs(time_major=False):
    x = jax.random.normal(jax.random.key(0), (B, T, F))
    return jnp.swapaxes(x, 0, 1) if time_major else x


def judged(layer, lengths, time_major=False, **given):
    """A function of (parameters, inputs) that gives a number of all that is not padding, and the results."""

    def function(params, x):
        carry, y = layer.apply(params, x, seq_lengths=lengths, return_carry=True, **given)
        if lengths is not None:
            there = (jnp.arange(T)[None] < lengths[:, None])[..., None]
            y = jnp.where(jnp.swapaxes(there, 0, 1) if time_major else there, y, 0)
        return sum(jnp.sum(jnp.sin(leaf) * (i + 1)) for i, leaf in enumerate(jax.tree.leaves((carry, y)))), (carry, y)

    return jax.jit(jax.value_and_grad(function, (0, 1), has_aux=True))


@pytest.mark.parametrize("lengths", [pytest.param(None, marks=pytest.mark.slow), LENGTHS], ids=["whole", "padded"])
@pytest.mark.parametrize("order", [{}, *(pytest.param(o, marks=pytest.mark.slow) for o in ORDERS)], ids=str)
@pytest.mark.parametrize(
    "name", [name if name == "flax.GRUCell" else pytest.param(name, marks=pytest.mark.slow) for name in CELLS]
)
def test_it_is_flaxs_layer(name, order, lengths):
    theirs, ours = nn.RNN(CELLS[name], **order), rnn_compare.RNN(CELLS[name], **order)
    x = inputs(order.get("time_major", False))
    params = theirs.init(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, params, ours.init(jax.random.key(1), x))
    major = order.get("time_major", False)
    close(judged(ours, lengths, major)(params, x), judged(theirs, lengths, major)(params, x))


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "padded"])
def test_both_directions(lengths):
    layers = [
        two(one(nn.GRUCell(H)), one(LSTMCell(H)))
        for two, one in ((nn.Bidirectional, nn.RNN), (rnn_compare.Bidirectional, rnn_compare.RNN))
    ]
    params = layers[0].init(jax.random.key(1), inputs())
    jax.tree.map(np.testing.assert_array_equal, params, layers[1].init(jax.random.key(1), inputs()))
    theirs, ours = (judged(layer, lengths)(params, inputs()) for layer in layers)
    close(ours, theirs)


@pytest.mark.slow
def test_an_initial_carry_and_several_batch_axes():
    x = jax.random.normal(jax.random.key(0), (2, 3, T, F))
    carry = tuple(jax.random.normal(jax.random.key(i), (2, 3, H)) for i in range(2))
    theirs, ours = (kind(nn.OptimizedLSTMCell(H)) for kind in (nn.RNN, rnn_compare.RNN))
    params = theirs.init(jax.random.key(1), x)

    def results(layer):
        def function(params, carry):
            last, y = layer.apply(params, x, initial_carry=carry, return_carry=True)
            return jnp.sum(jnp.sin(y)) + jnp.sum(jnp.cos(last[0])), (last, y)

        return jax.grad(function, (0, 1), has_aux=True)(params, carry)

    close(results(ours), results(theirs))


class Tagger(nn.Module):
    """Several layers stacked, under remat, with a layer's weights shared between two calls."""

    layer: type

    @nn.compact
    def __call__(self, x):
        shared = self.layer(nn.GRUCell(F))
        x = shared(shared(x))
        for _ in range(2):
            x = nn.remat(self.layer)(nn.OptimizedLSTMCell(H))(x)
        return nn.Dense(2)(x)


@pytest.mark.slow
def test_inside_of_a_network():
    theirs, ours = Tagger(nn.RNN), Tagger(rnn_compare.RNN)
    params = theirs.init(jax.random.key(1), inputs())
    jax.tree.map(np.testing.assert_array_equal, params, ours.init(jax.random.key(1), inputs()))

    def loss(module, params):
        return jnp.sum(jnp.sin(module.apply(params, inputs())))

    close(*(jax.jit(jax.value_and_grad(functools.partial(loss, module)))(params) for module in (ours, theirs)))


@pytest.mark.slow
def test_both_directions_merged_in_another_way_with_carries_of_their_own():
    """One cell for both directions, sums instead of joined outputs, all carries given and returned, time first."""
    carries = tuple(0.1 * i * jnp.ones((B, H)) for i in (1, 2))
    results = []
    for two, one in ((nn.Bidirectional, nn.RNN), (rnn_compare.Bidirectional, rnn_compare.RNN)):
        cell = nn.GRUCell(H)
        layer = two(one(cell), one(cell), merge_fn=jnp.add, return_carry=True, time_major=True)
        params = layer.init(jax.random.key(1), inputs(time_major=True))

        def function(params, x, carries, layer=layer):
            last, y = layer.apply(params, x, initial_carry=carries)
            return jnp.sum(jnp.sin(y)) + sum(jnp.sum(jnp.cos(leaf)) for leaf in jax.tree.leaves(last)), (last, y)

        results.append(jax.grad(function, (0, 1, 2), has_aux=True)(params, inputs(time_major=True), carries))
    close(*results)


@pytest.mark.slow
def test_a_vmap_in_a_vmap_over_one_networks_weights():
    """Flax's lifted vmap, weights shared, inside of JAX's: [2, 3, B, T, F]."""
    x = jax.random.normal(jax.random.key(0), (2, 3, B, T, F))
    results = []
    for kind in (nn.RNN, rnn_compare.RNN):
        lifted = nn.vmap(kind, variable_axes={"params": None}, split_rngs={"params": False})(nn.OptimizedLSTMCell(H))
        params = lifted.init(jax.random.key(1), x[0])

        def loss(params, x, lifted=lifted):
            return jnp.sum(jnp.sin(jax.vmap(lifted.apply, (None, 0))(params, x)))

        results.append(jax.jit(jax.value_and_grad(loss, (0, 1)))(params, x))
    close(*results)


@pytest.mark.slow
def test_unroll_and_remat_change_nothing():
    x = inputs()
    params = nn.RNN(nn.GRUCell(H)).init(jax.random.key(1), x)
    expected = nn.RNN(nn.GRUCell(H)).apply(params, x)
    for layer in (rnn_compare.RNN(nn.GRUCell(H), unroll=4), nn.remat(rnn_compare.RNN)(nn.GRUCell(H))):
        close(jax.jit(layer.apply)(params, x), expected)


@pytest.mark.slow
def test_vmap_over_networks_with_and_without_weights_of_their_own():
    theirs, ours = (kind(nn.GRUCell(H)) for kind in (nn.RNN, rnn_compare.RNN))
    x = jnp.stack([inputs(), 2 * inputs()])
    params = jax.vmap(lambda key: theirs.init(key, inputs()))(jax.random.split(jax.random.key(1), 2))
    one = jax.tree.map(lambda leaf: leaf[0], params)
    for given, axes in ((params, (0, 0)), (one, (None, 0))):
        close(*(jax.jit(jax.vmap(layer.apply, axes))(given, x) for layer in (ours, theirs)))


@pytest.mark.parametrize(
    ("reverse", "learned"), [pytest.param(*p, marks=pytest.mark.slow) for p in ((True, False), *OTHERS)]
)
def test_resets_cut_a_sequence_into_independent_ones(learned, reverse):
    """As if each piece were a sequence of its own."""
    layer, x = rnn_compare.RNN(LSTMCell(H), reverse=reverse, keep_order=True), inputs()[:1]
    params = layer.init(jax.random.key(1), x)
    carry = tuple(0.3 * jnp.ones((1, H)) for _ in range(2)) if learned else None
    resets = jnp.zeros((1, T), bool).at[0, jnp.array([0, 3, 7])].set(True)

    def whole(params, carry):
        return layer.apply(params, x, initial_carry=carry, resets=resets)

    def pieces(params, carry):
        cuts = [layer.apply(params, x[:, a:b], initial_carry=carry) for a, b in ((0, 3), (3, 7), (7, T))]
        return jnp.concatenate(cuts, axis=1)

    def both(function):
        value, pull = jax.vjp(function, params, carry)
        return value, pull(jnp.cos(jnp.arange(value.size)).reshape(value.shape))

    close(both(whole), both(pieces))


def test_resets_within_padding_change_nothing():
    layer, x = rnn_compare.RNN(nn.GRUCell(H), return_carry=True), inputs()[:3]
    params, lengths = layer.init(jax.random.key(1), x), jnp.array([2, T, 0])
    carry = 0.3 * jnp.ones((3, H))
    resets = jnp.zeros((3, T), bool).at[0, 4].set(True).at[2, 0].set(True)
    kept, plain = (
        layer.apply(params, x, initial_carry=carry, seq_lengths=lengths, resets=given) for given in (resets, None)
    )
    close(kept, plain)
    close(plain[0][2], carry[2])


STRICT = {
    "tracers that outlive their trace": jax.checking_leaks,
    "ranks that differ": functools.partial(jax.numpy_rank_promotion, "raise"),
    "types that differ": functools.partial(jax.numpy_dtype_promotion, "strict"),
    "transfers": functools.partial(jax.transfer_guard, "disallow"),
}


@pytest.mark.parametrize("resets", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("forbidden", STRICT)
def test_it_is_as_strict_as_flax(forbidden, resets):
    layer, x = rnn_compare.RNN(nn.GRUCell(H)), inputs()
    params = layer.init(jax.random.key(1), x)
    given = {"resets": jnp.zeros((B, T), bool).at[0, 4].set(True)} if resets else {}
    with STRICT[forbidden]():
        judged(layer, LENGTHS, **given)(params, x)


@pytest.mark.slow
def test_a_length_beyond_the_end_is_the_whole_length():
    layer, x = rnn_compare.RNN(nn.GRUCell(H)), inputs()
    params = layer.init(jax.random.key(1), x)
    results = (judged(layer, LENGTHS.at[0].set(length))(params, x) for length in (T + 100_000, T))
    jax.tree.map(np.testing.assert_array_equal, *results)


def test_what_cannot_be_fused_is_flaxs_own(monkeypatch):
    """A cell with dropout, a convolution, another type: the same results, and no error that Flax would not give."""
    monkeypatch.undo()

    class Dropping(nn.RNNCellBase):
        @nn.compact
        def __call__(self, carry, x):
            h = jnp.tanh(nn.Dense(H)(x) + nn.Dropout(0.5, deterministic=False)(carry))
            return h, h

        def initialize_carry(self, rng, input_shape):
            return jnp.zeros((*input_shape[:-1], H))

        @property
        def num_feature_axes(self):
            return 1

    keys = {"params": jax.random.key(1), "dropout": jax.random.key(2)}
    for cell, x in (
        (Dropping(), inputs()),
        (nn.ConvLSTMCell(2, (3,)), jnp.ones((B, T, 6, F))),
        (nn.GRUCell(H), inputs().astype(jnp.bfloat16)),
        (nn.GRUCell(H, dtype=jnp.bfloat16), inputs()),
        (nn.GRUCell(300), inputs()),
    ):
        theirs, ours = nn.RNN(cell), rnn_compare.RNN(cell)
        params = theirs.init(keys, x)
        expected = theirs.apply(params, x, rngs=keys)
        found = ours.apply(params, x, rngs=keys)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(np.float32(found), np.float32(expected), rtol=2e-5, atol=2e-5)
    with pytest.raises(ValueError, match="resets need a cell that is a function of parameters, and Dropping is none"):
        rnn_compare.RNN(Dropping()).apply({"params": {}}, inputs(), resets=jnp.zeros((B, T), bool), rngs=keys)


@pytest.mark.slow
@pytest.mark.parametrize("learned", [False, True])
def test_nothing_is_computed_of_padding(monkeypatch, learned):
    """Not a number in it is seen by nobody; sequences of no step, of all, and of more than one task."""
    x = jax.random.normal(jax.random.key(0), (30, T, F))
    lengths = jax.random.randint(jax.random.key(2), (30,), 0, T + 1).at[0].set(T)
    there = (jnp.arange(T) < lengths[:, None])[..., None]
    layer = rnn_compare.RNN(LSTMCell(H))
    params = layer.init(jax.random.key(1), x)
    carry = tuple(jax.random.normal(jax.random.key(i), (30, H)) for i in range(2)) if learned else None

    def results(x, backend):
        monkeypatch.setattr(sequences, "fastest", lambda *_: backend)
        monkeypatch.setitem(BACKENDS, "scan", scan.recurrence)

        def function(params, x, carry):
            last, y = layer.apply(params, x, seq_lengths=lengths, return_carry=True, initial_carry=carry)
            return jnp.sum(jnp.sin(y)) + sum(jnp.sum(jnp.cos(leaf)) for leaf in last), (last, y)

        return jax.jit(jax.value_and_grad(function, (0, 1, 2), has_aux=True))(params, x, carry)

    expected = results(jnp.where(there, x, 0), "scan")
    close(results(jnp.where(there, x, jnp.nan), "cpu"), expected)


class Scanned(nn.Module):
    """Layers that `flax.linen.scan` makes, each with weights of its own."""

    layer: type

    @nn.compact
    def __call__(self, x):
        def one(layer, x, _):
            return layer(x), None

        layers = nn.scan(one, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        return layers(self.layer(nn.GRUCell(F)), x, None)[0]


@pytest.mark.slow
def test_layers_that_are_scanned_over():
    theirs, ours = Scanned(nn.RNN), Scanned(rnn_compare.RNN)
    params = theirs.init(jax.random.key(1), inputs())
    jax.tree.map(np.testing.assert_array_equal, params, ours.init(jax.random.key(1), inputs()))

    def loss(module, params):
        return jnp.sum(jnp.sin(module.apply(params, inputs())))

    close(*(jax.jit(jax.value_and_grad(functools.partial(loss, module)))(params) for module in (ours, theirs)))


@pytest.mark.slow
def test_a_carry_that_is_donated_and_handed_on():
    """Half a sequence, then the other, as in truncated backpropagation: the whole sequence."""
    layer, x = rnn_compare.RNN(nn.OptimizedLSTMCell(H), return_carry=True), inputs()
    params = layer.init(jax.random.key(1), x)
    apply = jax.jit(lambda carry, x: layer.apply(params, x, initial_carry=carry), donate_argnums=0)
    carry, first = apply(layer.cell.initialize_carry(jax.random.key(0), (B, F)), x[:, :4])
    carry, second = apply(carry, x[:, 4:])
    close((carry, jnp.concatenate([first, second], 1)), layer.apply(params, x))


@pytest.mark.slow
def test_second_derivatives_and_forward_mode(monkeypatch):
    monkeypatch.undo()  # the scan is how they are taken
    theirs, ours = (kind(nn.GRUCell(H)) for kind in (nn.RNN, rnn_compare.RNN))
    params = theirs.init(jax.random.key(1), inputs())
    direction = jax.tree.map(jnp.ones_like, params)

    def curvature(layer):
        def loss(params):
            return jnp.sum(jnp.sin(layer.apply(params, inputs())))

        return jax.jit(lambda: jax.jvp(jax.grad(loss), (params,), (direction,)))()

    close(curvature(ours), curvature(theirs))


@pytest.mark.slow
def test_double_precision(x64, monkeypatch):
    monkeypatch.undo()
    theirs, ours = (kind(nn.GRUCell(H, param_dtype=jnp.float64)) for kind in (nn.RNN, rnn_compare.RNN))
    x = inputs().astype(jnp.float64)
    params = theirs.init(jax.random.key(1), x)
    np.testing.assert_allclose(ours.apply(params, x), theirs.apply(params, x), rtol=1e-12)


@pytest.mark.slow
def test_a_key_that_is_traced_is_no_obstacle_to_resets():
    layer, resets = rnn_compare.RNN(nn.GRUCell(H)), jnp.zeros((B, T), bool).at[:, 3].set(True)
    params = layer.init(jax.random.key(1), inputs())
    found = jax.jit(lambda key: layer.apply(params, inputs(), init_key=key, resets=resets))(jax.random.key(0))
    close(found, layer.apply(params, inputs(), resets=resets))
