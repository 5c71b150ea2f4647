"""Recurrent cells, ONE step each, and the parameters that they start with. Time is the business of `recurrence`.

To add a cell, subclass `RecurrentCell`, say what one step does, and give it a line in `CELLS`.
"""

from collections.abc import Callable
from functools import partial

from rnn_compare.cells import dynamics, gated, gru_relatives, highway, linear, lstm_relatives, odyssey, simple
from rnn_compare.cells.cell import Carry, Params, RecurrentCell, matmul, project, recur, split
from rnn_compare.cells.gru import GRUCell
from rnn_compare.cells.lstm import LSTMCell

CELLS: dict[str, Callable[..., RecurrentCell]] = {
    "lstm": LSTMCell,
    "gru": GRUCell,
    "gru_reset_before": partial(GRUCell, reset_after=False),
    # One layer that feeds back.
    "rnn": simple.RNNCell,
    "irnn": partial(simple.RNNCell, activation="relu", recurrent_init="identity"),
    "indrnn": simple.IndRNNCell,
    "scrn": simple.SCRNCell,
    "fastrnn": simple.FastRNNCell,
    "fastgrnn": simple.FastGRNNCell,
    # The LSTM with one thing less, or one more.
    "lstm_peephole": odyssey.PeepholeLSTMCell,
    "lstm_nig": odyssey.NoInputGateLSTMCell,
    "lstm_nfg": odyssey.NoForgetGateLSTMCell,
    "lstm_nog": odyssey.NoOutputGateLSTMCell,
    "lstm_niaf": odyssey.NoInputActivationLSTMCell,
    "lstm_noaf": odyssey.NoOutputActivationLSTMCell,
    "lstm_cifg": odyssey.CoupledLSTMCell,
    "lstm_fgr": odyssey.FullGateRecurrenceLSTMCell,
    # What the LSTM grew into.
    "lstm_1997": lstm_relatives.OriginalLSTMCell,
    "lstm_projected": lstm_relatives.ProjectedLSTMCell,
    "lstm_residual": lstm_relatives.ResidualLSTMCell,
    "lstm_layer_norm": lstm_relatives.LayerNormLSTMCell,
    "lstm_multiplicative": lstm_relatives.MultiplicativeLSTMCell,
    "lstm_working_memory": lstm_relatives.WorkingMemoryLSTMCell,
    "lstm_memory_control": lstm_relatives.MemoryControlLSTMCell,
    "nas": lstm_relatives.NASCell,
    "slstm": lstm_relatives.SLSTMCell,
    # What the GRU grew into, and what does with less.
    "mgu": gru_relatives.MGUCell,
    "ugrnn": gated.UGRNNCell,
    "intersection_rnn": highway.IntersectionRNNCell,
    "mut1": gru_relatives.MUT1Cell,
    "mut2": gru_relatives.MUT2Cell,
    "mut3": gru_relatives.MUT3Cell,
    "janet": gated.JANETCell,
    "ligru": gated.LiGRUCell,
    "lightru": gated.LightRUCell,
    "star": gated.STARCell,
    "sgrn": gated.SGRNCell,
    "atr": gated.ATRCell,
    "minimalrnn": gated.MinimalRNNCell,
    "ran": gated.RANCell,
    "cfn": gated.CFNCell,
    "brc": gated.BRCCell,
    "nbrc": gated.NBRCCell,
    "sgu": gru_relatives.SGUCell,
    "dsgu": gru_relatives.DSGUCell,
    "miru": gru_relatives.MiRUCell,
    "rhn": highway.RHNCell,
    # A step of a differential equation.
    "antisymmetric": dynamics.AntisymmetricRNNCell,
    "antisymmetric_gated": dynamics.GatedAntisymmetricRNNCell,
    "cornn": dynamics.CoRNNCell,
    "unicornn": dynamics.UnICORNNCell,
    "lem": dynamics.LEMCell,
    # The state meets no matrix.
    "mingru": linear.MinGRUCell,
    "minlstm": linear.MinLSTMCell,
    "sru": linear.SRUCell,
    "qrnn": linear.QRNNCell,
    "trnn": linear.TRNNCell,
    "tgru": linear.TGRUCell,
    "tlstm": linear.TLSTMCell,
    "lru": linear.LRUCell,
}

__all__ = ["CELLS", "Carry", "GRUCell", "LSTMCell", "Params", "RecurrentCell", "matmul", "project", "recur", "split"]
