"""What is done, by several processes, torn lines and second tries included."""

from contextlib import closing

import numpy as np

from mmaudio.extraction.progress import KEPT, MISSING, REJECTED, ProgressLog


def enter(folder, *entries):
    """As a process of its own does."""
    with closing(ProgressLog(folder, "rows")) as progress_log:
        for kept, rejected in entries:
            progress_log.add(kept, rejected)
    return ProgressLog(folder, "rows")


def test_entries_of_all_processes_count(tmp_path):
    enter(tmp_path, ([0, 4], {2: ("read", "too short\tby a lot")}), ([5], {}))
    progress_log = enter(tmp_path, ([1], {}))
    done = progress_log.read(7)
    assert done.states.tolist() == [KEPT, KEPT, REJECTED, MISSING, KEPT, KEPT, MISSING]
    assert done.reasons == {2: ("read", "too short\tby a lot")}
    assert done.num_missing == 2
    assert np.flatnonzero(done.is_kept).tolist() == [0, 1, 4, 5]
    assert len(progress_log.files()) == 2


def test_a_torn_line_says_nothing(tmp_path):
    progress_log = enter(tmp_path, ([0], {}), ([1], {}))
    (path,) = progress_log.files()
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert progress_log.read(2).states.sum() <= 1


def test_rejected_inputs_are_tried_again_when_asked_and_a_later_success_counts(tmp_path):
    progress_log = enter(tmp_path, ([], {0: ("read", "no"), 1: ("read", "no")}))
    assert progress_log.read(2, without_rejected=True).states.tolist() == [MISSING, MISSING]
    assert not progress_log.read(2, without_rejected=True).reasons
    enter(tmp_path, ([1], {}))
    done = progress_log.read(2)
    assert (done.states.tolist(), done.reasons) == ([REJECTED, KEPT], {0: ("read", "no")})


def test_nothing_is_written_before_there_is_something_to_say(tmp_path):
    progress_log = enter(tmp_path)
    assert not list(tmp_path.iterdir())
    assert progress_log.read(3).num_missing == 3


def test_ledgers_of_one_folder_are_apart(tmp_path):
    enter(tmp_path, ([0], {}))
    assert ProgressLog(tmp_path, "captions").read(1).num_missing == 1


def test_what_was_forgotten_is_missing_until_it_is_entered_again_with_its_new_stamp(tmp_path):
    with closing(ProgressLog(tmp_path, "rows")) as progress_log:
        progress_log.add([0, 1], {2: ("read", "no")}, {0: (10, 1), 1: (11, 1), 2: (12, 1)})
    progress_log = ProgressLog(tmp_path, "rows")
    assert progress_log.read(3).stamps.tolist() == [[10, 1], [11, 1], [12, 1]]
    progress_log.forget([0, 2])
    done = progress_log.read(3)
    assert (done.states.tolist(), done.reasons) == ([MISSING, KEPT, MISSING], {})
    progress_log.add([2], {0: ("read", "torn")}, {0: (9, 2), 2: (8, 2)})
    progress_log.close()
    done = progress_log.read(3)
    assert (done.states.tolist(), done.reasons) == ([REJECTED, KEPT, KEPT], {0: ("read", "torn")})
    assert done.stamps.tolist() == [[9, 2], [11, 1], [8, 2]]


def test_what_is_entered_last_counts_also_where_a_clock_was_ahead(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("time.time_ns", lambda: 9 * 10**18)
        enter(tmp_path, ([0, 1], {}))
    first = ProgressLog(tmp_path, "rows")
    first.read(2)
    first.forget([0, 1])
    second = ProgressLog(tmp_path, "rows")  # of a process that is only told
    second.follow(first.read(2).latest)
    with closing(second):
        second.add([1], {})
    assert ProgressLog(tmp_path, "rows").read(2).states.tolist() == [MISSING, KEPT]
