"""Each cell once more, by somebody else: a package's own class, or the paper's algebra in PyTorch.

A witness is a function `(params, carry, x) -> (carry, y)` of tensors in double precision, with the parameters, the
carry and the shapes of our cell. PyTorch's autograd then gives gradients that owe nothing to JAX.

    python tests/cells/witnesses.py     # asks them all, and keeps what they say, for whoever has no PyTorch
"""

import functools

import jax
import numpy as np
import torch
import torchrecurrent
from problems import ANSWERS, flat, problem, unrolled
from torch import nn
from torch.func import functional_call

sigmoid, tanh = torch.sigmoid, torch.tanh
WITNESSES = {}
PACKAGES = {}  # name of our cell -> a function (F, H) that makes a package's


def algebra(*names):
    def listed(function):
        WITNESSES.update(dict.fromkeys(names, function))
        return function

    return listed


def usual(p):
    """One bias, and the same blocks in the same order."""
    m = p["recurrent_kernel"].shape[1]
    return {
        "weight_ih": p["kernel"].T,
        "weight_hh": p["recurrent_kernel"].T,
        "bias_ih": p["bias"],
        "bias_hh": torch.zeros(m, dtype=torch.float64),
    }


def package(name, module, weights=usual, into=lambda carry: carry, out=lambda result: (result, result), **options):
    """A class of torchrecurrent or PyTorch, given our weights.

    Args:
        name: of our cell.
        module: the class.
        weights: our parameters -> its own, by its names.
        into: our carry -> its state.
        out: what it returns -> our (carry, y).
        options: for its constructor.
    """

    @functools.cache
    def made(F, H):
        return module(F, H, **options).double()

    def witness(p, carry, x):
        return out(functional_call(made(x.shape[1], first(carry).shape[1]), weights(p), (x, into(carry))))

    WITNESSES[name] = witness
    PACKAGES[name] = functools.partial(module, **options)


def first(carry):
    return carry[0] if isinstance(carry, tuple) else carry


def swapped(carry):
    return carry[1], carry[0]


def h_of_c(result):
    """(h, c) -> ((c, h), h)."""
    h, c = result
    return (c, h), h


def position(result):
    """(y, z) -> ((y, z), y)."""
    return result, result[0]


class HardSigmoid(nn.Module):
    """PyTorch's own divides by six in single precision, whatever it is given: 3e-8 off."""

    def forward(self, x):
        return nn.functional.relu6(x + 3) / 6


lstm_like = {"into": swapped, "out": h_of_c}
TR = torchrecurrent
package("rnn", nn.RNNCell)
package("irnn", nn.RNNCell, nonlinearity="relu")
package(
    "lstm",
    nn.LSTMCell,
    lambda p: usual(p) | {"bias_hh": p["recurrent_bias"]},
    **lstm_like,
)
package("indrnn", TR.IndRNNCell, lambda p: vectors(p) | {"vector_u": p["recurrent_vector"]}, nonlinearity="relu")
package("fastrnn", TR.FastRNNCell, lambda p: usual(p) | {n: p[n].reshape(1) for n in ("alpha", "beta")})
package(
    "fastgrnn",
    TR.FastGRNNCell,
    lambda p: usual(p) | {"bias_hh": torch.zeros_like(p["bias"])} | {n: p[n].reshape(1) for n in ("zeta", "nu")},
    nonlinearity="sigmoid",  # what its docstring and the paper say; its default is tanh
)
package("lstm_peephole", TR.PeepholeLSTMCell, lambda p: usual(p) | {"weight_ph": p["peephole"]}, **lstm_like)
package("lstm_1997", TR.OriginalLSTMCell, **lstm_like)
package(
    "lstm_residual",
    TR.ResLSTMCell,
    lambda p: (
        usual(p) | {"weight_ph": p["peephole"], "weight_proj": p["projection"].T, "weight_res": p["residual_kernel"].T}
    ),
    **lstm_like,
)
package(
    "lstm_multiplicative",
    TR.MultiplicativeLSTMCell,
    lambda p: {
        "weight_ih": p["kernel"].T,
        "weight_hh": p["multiplicative_kernel"].T,
        "weight_mh": p["recurrent_kernel"].T,
        "bias_ih": p["bias"],
        "bias_hh": torch.zeros(len(p["recurrent_kernel"]), dtype=torch.float64),
        "bias_mh": torch.zeros(p["recurrent_kernel"].shape[1], dtype=torch.float64),
    },
    **lstm_like,
)
package(
    "lstm_working_memory",
    TR.WMCLSTMCell,
    lambda p: (
        usual(p)
        | {"weight_mh": p["memory_kernel"].T, "bias_mh": torch.zeros(p["memory_kernel"].shape[1], dtype=torch.float64)}
    ),
    **lstm_like,
)
package("lstm_memory_control", TR.MCLSTMCell, out=lambda result: (result[1], result[0]))
package("mgu", TR.MGUCell)
package("ugrnn", TR.UGRNNCell)
package("mut1", TR.MUT1Cell, lambda p: usual(p) | mut1_biases(p["bias"]))
package("mut2", TR.MUT2Cell)
package("mut3", TR.MUT3Cell)
package(
    "janet",
    TR.JANETCell,
    lambda p: usual(p) | {"beta": torch.tensor(1.0, dtype=torch.float64)},
    into=lambda h: (h, h),
    out=lambda result: (result[0], result[0]),
)
package("ligru", TR.LiGRUCell)
package("lightru", TR.LightRUCell)
package("star", TR.STARCell)
package("sgrn", TR.SGRNCell)
package("atr", TR.ATRCell)
package(
    "minimalrnn",
    TR.MinimalRNNCell,
    lambda p: usual(p) | {"bias_ih": p["input_bias"], "bias_hh": p["bias"], "weight_mm": p["latent_kernel"].T},
)
package(
    "ran",
    TR.RANCell,
    lambda p: usual(p) | {"weight_ih": torch.cat([p["content_kernel"], p["kernel"]], 1).T},
    **lstm_like,
)
package("cfn", TR.CFNCell)
package("brc", TR.BRCell, lambda p: vectors(p) | {"bias_hh": torch.zeros_like(p["recurrent_vector"])})
package("nbrc", TR.NBRCell)
package("sgu", TR.SGUCell, gate_nonlinearity=HardSigmoid())
package(
    "dsgu",
    TR.DSGUCell,
    lambda p: usual(p) | {"weight_ho": p["output_kernel"].T},
    gate_nonlinearity=HardSigmoid(),
)
package("miru", TR.MiRU2Cell)
package("antisymmetric", TR.AntisymmetricRNNCell, epsilon=0.01, gamma=0.01)
package("antisymmetric_gated", TR.GatedAntisymmetricRNNCell, epsilon=0.01, gamma=0.01)
package(
    "cornn",
    TR.coRNNCell,
    lambda p: {
        **dict(zip(("weight_hh", "weight_ch"), (U.T for U in p["recurrent_kernel"].chunk(2, 1)), strict=True)),
        **{"weight_ih": p["kernel"].T, "bias_ih": p["bias"]},
        **dict.fromkeys(("bias_hh", "bias_ch"), torch.zeros_like(p["bias"])),
    },
    out=position,
    dt=0.042,
    gamma=2.7,
    epsilon=4.7,
)
package(
    "unicornn", TR.UnICORNNCell, lambda p: vectors(p) | {"weight_ch": p["control"]}, out=position, dt=0.19, alpha=30.65
)
package("trnn", TR.TRNNCell, lambda p: {"weight_ih": p["kernel"].T, "bias_ih": p["bias"]})
package("tgru", TR.TGRUCell, lambda p: previous(p), out=lambda result: (result, result[0]))
package("tlstm", TR.TLSTMCell, lambda p: previous(p), out=lambda result: (result[1], result[0]))


def vectors(p):
    """Units that see themselves alone."""
    bias_hh = torch.zeros_like(p["bias"])
    return {"weight_ih": p["kernel"].T, "weight_hh": p["recurrent_vector"], "bias_ih": p["bias"], "bias_hh": bias_hh}


def previous(p):
    bias_hh = torch.zeros_like(p["bias"])
    return {"weight_ih": p["kernel"].T, "weight_hh": p["previous_kernel"].T, "bias_ih": p["bias"], "bias_hh": bias_hh}


def mut1_biases(bias):
    b_z, b_r, b_h = bias.chunk(3)
    zero = torch.zeros_like(b_h)
    return {"bias_ih": torch.cat([b_z, b_r, zero]), "bias_hh": torch.cat([zero, b_h])}


# What has no package that can be trusted, from the papers.


def plain(p, h, x, n):
    return (x @ p["kernel"] + p["bias"] + h @ p["recurrent_kernel"]).chunk(n, 1)


@algebra("gru")
def gru(p, h, x):
    """PyTorch's class, whose gates are in another order."""
    order = lambda a: torch.cat([a.chunk(3, -1)[k] for k in (1, 0, 2)], -1)  # noqa: E731
    weights = (order(p["kernel"]).T, order(p["recurrent_kernel"]).T, order(p["bias"]), order(p["recurrent_bias"]))
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    module = nn.GRUCell(x.shape[1], h.shape[1]).double()
    h = functional_call(module, dict(zip(names, weights, strict=True)), (x, h))
    return h, h


@algebra("gru_reset_before")
def gru_reset_before(p, h, x):
    """Cho et al. 2014, eq. 5 to 8, where z has the other sense in some printings; here it keeps."""
    x_z, x_r, x_h = (x @ p["kernel"] + p["bias"]).chunk(3, 1)
    (U_z, U_r, U_h), (b_z, b_r, b_h) = p["recurrent_kernel"].chunk(3, 1), p["recurrent_bias"].chunk(3)
    z, r = sigmoid(x_z + h @ U_z + b_z), sigmoid(x_r + h @ U_r + b_r)
    h = z * h + (1 - z) * tanh(x_h + (r * h) @ U_h + b_h)
    return h, h


@algebra("scrn")
def scrn(p, carry, x):
    """Mikolov et al. 2015, eq. 4 to 6; y is what the softmax is of."""
    h, s = carry
    B, A = p["kernel"].chunk(2, 1)
    P, V = p["context_kernel"].chunk(2, 1)
    s = 0.05 * (x @ B) + 0.95 * s
    h = sigmoid(s @ P + x @ A + h @ p["recurrent_kernel"])
    return (h, s), h @ p["output_kernel"] + s @ V


def odyssey(p, carry, x, without=(), coupled=False, full=False):
    """Greff et al. 2015, section 2 and 3: y = tanh(c)∘o of z, i, f and o, less what a variant leaves out."""
    c, h, *before = carry
    names = [n for n in "ifco" if n not in without and not (coupled and n == "i")]
    a = dict(zip(names, plain(p, h, x, len(names)), strict=True))
    peep = dict(zip([n for n in names if n != "c"], p["peephole"].chunk(len(names) - 1), strict=True))
    if full:
        for k, n in enumerate("ifo"):
            columns = p["gate_kernel"].chunk(3, 1)[k]
            for j, rows in enumerate(columns.chunk(3, 0)):
                a[n] = a[n] + before[j] @ rows
    one = torch.ones_like(c)
    f = sigmoid(a["f"] + peep["f"] * c) if "f" in a else one
    i = 1 - f if coupled else sigmoid(a["i"] + peep["i"] * c) if "i" in a else one
    c = f * c + i * (a["c"] if "g" in without else tanh(a["c"]))
    o = sigmoid(a["o"] + peep["o"] * c) if "o" in a else one
    h = o * (c if "h" in without else tanh(c))
    return ((c, h, i, f, o) if full else (c, h)), h


WITNESSES |= {
    "lstm_nig": functools.partial(odyssey, without="i"),
    "lstm_nfg": functools.partial(odyssey, without="f"),
    "lstm_nog": functools.partial(odyssey, without="o"),
    "lstm_niaf": functools.partial(odyssey, without="g"),
    "lstm_noaf": functools.partial(odyssey, without="h"),
    "lstm_cifg": functools.partial(odyssey, coupled=True),
    "lstm_fgr": functools.partial(odyssey, full=True),
}


@algebra("lstm_projected")
def projected(p, carry, x):
    """Sak et al. 2014, eq. 1 to 6, with their diagonal peepholes."""
    c, r = carry
    i, f, g, o = plain(p, r, x, 4)
    W_ic, W_fc, W_oc = p["peephole"].chunk(3)
    i, f = sigmoid(i + W_ic * c), sigmoid(f + W_fc * c)
    c = f * c + i * tanh(g)
    m = sigmoid(o + W_oc * c) * tanh(c)
    return (c, m @ p["projection"]), m @ p["projection"]


@algebra("lstm_layer_norm")
def layer_norm_lstm(p, carry, x):
    """Ba et al. 2016, eq. 20 to 22, with PyTorch's layer_norm."""
    c, h = carry

    def norm(a, weight, bias=None):
        return nn.functional.layer_norm(a, a.shape[1:], weight, bias, 1e-5)

    past, present = h @ p["recurrent_kernel"], x @ p["kernel"]
    i, f, g, o = (norm(past, p["recurrent_scale"]) + norm(present, p["scale"], p["bias"])).chunk(4, 1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(norm(c, p["cell_scale"], p["cell_bias"]))
    return (c, h), h


@algebra("nas")
def nas(p, carry, x):
    """TensorFlow's NASCell, written by the paper's authors: the fourth pair is multiplied."""
    c, h = carry
    inputs, state = (x @ p["kernel"]).chunk(8, 1), (h @ p["recurrent_kernel"] + p["bias"]).chunk(8, 1)
    functions = (sigmoid, torch.relu, sigmoid, torch.relu, tanh, sigmoid, tanh, sigmoid)
    one = [
        function(a * b if k == 3 else a + b)
        for k, (function, a, b) in enumerate(zip(functions, inputs, state, strict=True))
    ]
    two = tanh(one[0] * one[1]), tanh(one[2] + one[3]), tanh(one[4] * one[5]), sigmoid(one[6] + one[7])
    c = tanh(two[0] + c) * two[1]
    h = tanh(c * tanh(two[2] + two[3]))
    return (c, h), h


@algebra("slstm")
def slstm(p, carry, x):
    """Beck et al. 2024, eq. 8 to 14, without the stabiliser: m is only a matter of what c and n are measured in."""
    c, n, m, h = carry
    R = p["recurrent_kernel"]
    (heads, size), H = R.shape[1:3], h.shape[1]
    mixed = [h[:, k * size : (k + 1) * size] @ R[:, k] for k in range(heads)]  # each [4, B, size]
    i, f, z, o = (x @ p["kernel"] + p["bias"] + torch.cat(mixed, -1).permute(1, 0, 2).reshape(-1, 4 * H)).chunk(4, 1)
    c, n = (a * torch.exp(m) for a in (c, n))
    c, n = sigmoid(f) * c + torch.exp(i) * tanh(z), sigmoid(f) * n + torch.exp(i)
    h = sigmoid(o) * c / n
    m = torch.maximum(nn.functional.logsigmoid(f) + m, i)
    return (c * torch.exp(-m), n * torch.exp(-m), m, h), h


@algebra("intersection_rnn")
def intersection(p, h, x):
    """Collins et al. 2017, the +RNN, with x brought to the size of h."""
    *_, into = (x @ p["kernel"] + p["bias"]).chunk(5, 1)
    W, b = p["kernel"][:, : 4 * h.shape[1]], p["bias"][: 4 * h.shape[1]]
    y_in, h_in, g_y, g_h = (x @ W + b + h @ p["recurrent_kernel"]).chunk(4, 1)
    g_y, g_h = sigmoid(g_y), sigmoid(g_h)
    return g_h * h + (1 - g_h) * tanh(h_in), g_y * into + (1 - g_y) * torch.relu(y_in)


@algebra("rhn")
def highway(p, s, x):
    """Zilly et al. 2017, eq. 6 to 9, with the carry gate coupled: c = 1 − t."""
    for layer, (R, b) in enumerate(zip(p["recurrent_kernel"], p["bias"], strict=True)):
        h, t = (s @ R + b + (x @ p["kernel"] if layer == 0 else 0)).chunk(2, 1)
        s = tanh(h) * sigmoid(t) + s * (1 - sigmoid(t))
    return s, s


@algebra("lem")
def lem(p, carry, x):
    """The paper's own code, tk-rusch/LEM: what moves y takes the z that has just been made."""
    y, z = carry
    i_1, i_2, i_z, i_y = (x @ p["kernel"] + p["bias"]).chunk(4, 1)
    h_1, h_2, h_z = (y @ p["recurrent_kernel"]).chunk(3, 1)
    z = (1 - sigmoid(i_2 + h_2)) * z + sigmoid(i_2 + h_2) * tanh(i_z + h_z)
    y = (1 - sigmoid(i_1 + h_1)) * y + sigmoid(i_1 + h_1) * tanh(z @ p["slow_kernel"] + i_y)
    return (y, z), y


def positive(x):
    return torch.where(x >= 0, x + 0.5, sigmoid(x))


@algebra("mingru")
def mingru(p, h, x):
    """Feng et al. 2024, section 3.1 with the g of appendix B."""
    z, new = (x @ p["kernel"] + p["bias"]).chunk(2, 1)
    h = torch.lerp(h, positive(new), sigmoid(z))
    return h, h


@algebra("minlstm")
def minlstm(p, h, x):
    """Feng et al. 2024, section 3.2 with the g of appendix B; f' = σ(log σ(f) − log σ(i))."""
    new, f, i = (x @ p["kernel"] + p["bias"]).chunk(3, 1)
    keep = sigmoid(nn.functional.logsigmoid(f) - nn.functional.logsigmoid(i))
    h = keep * h + (1 - keep) * positive(new)
    return h, h


@algebra("sru")
def sru(p, c, x):
    """Lei et al. 2018, eq. 1 to 4."""
    (f, r), (v_f, v_r) = (x @ p["kernel"] + p["bias"]).chunk(2, 1), p["recurrent_vector"].chunk(2)
    new, through = (x @ p["content_kernel"]).chunk(2, 1)
    f, r = sigmoid(f + v_f * c), sigmoid(r + v_r * c)
    c = torch.lerp(new, c, f)
    return c, torch.lerp(through, c, r)


@algebra("qrnn")
def qrnn(p, carry, x):
    """Bradbury et al. 2017, eq. 3 and 5."""
    c, before = carry
    z, f, o = (x @ p["kernel"] + before @ p["previous_kernel"] + p["bias"]).chunk(3, 1)
    c = torch.lerp(tanh(z), c, sigmoid(f))
    return (c, x), sigmoid(o) * c


@algebra("lru")
def lru(p, carry, x):
    """Orvieto et al. 2023, appendix A, with PyTorch's complex numbers."""
    (B_re, B_im, D), (C_re, C_im) = p["kernel"].chunk(3, 1), p["recurrent_kernel"].chunk(2, 1)
    nu, theta, log_gamma = p["spectrum"].chunk(3)
    λ = torch.exp(torch.complex(-torch.exp(nu), torch.exp(theta)))
    s = λ * torch.complex(*carry) + torch.exp(log_gamma) * (torch.complex(x, 0 * x) @ torch.complex(B_re, B_im))
    return (s.real, s.imag), (s @ torch.complex(C_re, C_im)).real + x @ D


def answer(name):
    """What a cell's witness says of its problem: ((outputs, carry), gradients), of NumPy arrays."""
    _, arguments, cotangents = problem(name)
    leaves, tree = jax.tree.flatten(arguments)
    leaves = [torch.tensor(leaf, requires_grad=True) for leaf in leaves]
    out = unrolled(WITNESSES[name], torch.stack)(*tree.unflatten(leaves))
    loss = sum((a * torch.tensor(b)).sum() for a, b in zip(*map(jax.tree.leaves, (out, cotangents)), strict=True))
    gradients = torch.autograd.grad(loss, leaves)
    return jax.tree.map(lambda a: a.detach().numpy(), (out, tree.unflatten(gradients)))


if __name__ == "__main__":
    with jax.enable_x64(True):
        np.savez_compressed(ANSWERS, **{name: flat(answer(name)) for name in WITNESSES})
