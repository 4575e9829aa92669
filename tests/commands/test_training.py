"""What ends a run while its test data is evaluated."""

import signal

import pytest

from mmaudio.base.errors import EXIT_REQUEUE
from mmaudio.commands.train import leaving_for_requeue
from mmaudio.runs.folder import REQUEUE_FILE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_scheduler_ends_an_evaluation_of_test_data_at_once(tmp_path, number):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, leaving_for_requeue(tmp_path):
        signal.raise_signal(number)
    assert ended.value.code == EXIT_REQUEUE
    assert (tmp_path / REQUEUE_FILE).is_file()
    assert signal.getsignal(number) is before
