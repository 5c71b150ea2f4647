import os
import signal

import pytest

from rnn_compare.console import interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_only_asks_and_the_next_is_the_systems(number):
    before = signal.getsignal(number)
    with interrupt.listening():
        interrupt.check()
        os.kill(os.getpid(), number)
        assert interrupt.asked()
        assert signal.getsignal(number) == signal.SIG_DFL
        with pytest.raises(interrupt.Interrupted) as caught:
            interrupt.check()
        assert caught.value.signal == number
    assert signal.getsignal(number) == before
    assert not interrupt.asked()
