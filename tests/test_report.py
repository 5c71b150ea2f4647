import numpy as np

from rnn_compare import report


def run(name, cell="lstm", **more):
    return {"name": name, "status": "finished", "diverged_at": None, "parameters": 1335,
            "config": {"model.cell": cell}} | more  # fmt: skip


def curve(loss):
    loss = np.asarray(loss, np.float32)
    return {"loss": loss, "seconds_per_epoch": np.full_like(loss, 0.25)}


def test_figure_3_is_the_whole_curve():
    figure = report.figure_3()
    assert len(figure["epoch"]) == 200
    assert (figure["epoch"][0], figure["epoch"][-1]) == (0, 995)
    assert (figure["lstm"][0], figure["gru"][0]) == (4.521, 4.357)


def test_summary_numbers():
    table = report.summary([run("lstm-s0")], [curve([4, 2, 1, 1.5])])
    cells = [cell.strip() for cell in table.splitlines()[2].split("|")[1:-1]]
    expected = ["lstm-s0", "1335", "4.0000", "1.5000", "1.0000", f"{np.log(1.5):.5f}", "0.250", "finished"]
    assert cells == expected


def test_summary_of_a_run_that_diverged_at_once():
    table = report.summary([run("x", status="diverged", diverged_at=0)], [curve([np.nan, np.nan])])
    assert "diverged at epoch 0" in table


def test_lines_have_their_cells_colours_and_the_reference_is_there():
    axes = report.draw([run("lstm-s0"), run("gru-s0", "gru")], [curve([4, 2, 1]), curve([4, 3, 2])]).axes[0]
    colours = {line.get_label(): line.get_color() for line in axes.lines}
    assert colours["lstm-s0"] == colours["LSTM, the post's figure 3"]
    assert colours["gru-s0"] == colours["GRU, the post's figure 3"]
    assert colours["lstm-s0"] != colours["gru-s0"]
    np.testing.assert_array_equal(axes.lines[-1].get_ydata(), [4, 3, 2])
