"""Who is heard, who is lost, who hangs: decided from what processes tell and from time in which somebody looked."""

import logging
import time

import pytest

from mmaudio.distributed import watchdog as peers
from mmaudio.distributed.heartbeat import (
    TICK_S,
    AwakeClock,
    Beat,
    Heartbeat,
    ProcessId,
    SilentRanks,
    Stall,
    all_stacks,
    lost_ranks,
    progress_words,
)
from mmaudio.distributed.ranks import Ranks
from mmaudio.distributed.watchdog import watch_ranks


def reading(rank: int, count: int = 1, steps_done: int = 3, **words) -> Beat:
    return Beat(
        **{"rank": rank, "count": count, "what": "train", "steps_done": steps_done, "idle_s": 5.0, "has_left": False, "mates": (), **words}
    )


def test_a_gap_is_no_time():
    times = iter([100.0, 102.0, 104.5, 4000.0, 4002.0])
    clock = AwakeClock(lambda: next(times))
    seen = []
    for _ in range(4):
        clock.tick()
        seen.append((clock.now_s, clock.is_regular))
    assert seen == [(2.0, True), (4.5, True), (4.5 + 2 * TICK_S, False), (6.5 + 2 * TICK_S, True)]


def test_a_stall_is_counted_from_the_last_beat():
    heartbeat = Heartbeat()
    stall = Stall(heartbeat)
    assert stall.idle_s(2.0) == 2.0
    heartbeat.beat("train", 1)
    assert [stall.idle_s(now_s) for now_s in (4.0, 6.0)] == [0.0, 2.0]
    heartbeat.beat("train", 1)  # another batch of the same stage
    assert stall.idle_s(8.0) == 0.0


def test_silence_ends_with_a_new_word_and_with_a_gap():
    silences = SilentRanks()
    said = [reading(0), reading(1)]
    assert silences.after(said, 2.0, is_regular=True) == {0: 0.0, 1: 0.0}
    assert silences.after([reading(0, 2), reading(1)], 9.0, is_regular=True) == {0: 0.0, 1: 7.0}
    assert silences.after([reading(0, 2), reading(1)], 13.0, is_regular=False) == {0: 0.0, 1: 0.0}
    assert silences.after([reading(0, 3), reading(1)], 16.0, is_regular=True) == {0: 0.0, 1: 3.0}


@pytest.mark.parametrize(
    ("third", "mates", "lost"),
    [
        ({}, (), [2]),
        ({"has_left": True}, (), []),
        ({}, (2,), []),  # this process sees it
    ],
)
def test_who_is_lost(third, mates, lost):
    readings = {0: reading(0), 1: reading(1), 2: reading(2, **third)}
    assert lost_ranks(readings, {0: 0.0, 1: 2.0, 2: 13.0}, mates, 12.0) == lost


def test_a_silent_process_that_its_neighbour_sees_is_not_lost():
    readings = {0: reading(0), 1: reading(1, mates=(2,)), 2: reading(2, mates=(1,))}
    assert lost_ranks(readings, {0: 0.0, 1: 0.0, 2: 13.0}, (), 12.0) == []
    assert lost_ranks(readings, {0: 0.0, 1: 13.0, 2: 13.0}, (), 12.0) == [1, 2]  # the whole machine


def test_readings_survive_the_way():
    assert Beat.from_text(reading(3, mates=(1, 2)).to_text()) == reading(3, mates=(1, 2))


def test_who_waits_and_who_lags():
    words = progress_words([reading(1, steps_done=2), reading(0), reading(2, has_left=True)])
    assert words.splitlines() == [
        "rank 0: train, 3 steps done, 5 s ago; waits",
        "rank 1: train, 2 steps done, 5 s ago; lags",
        "rank 2: train, 3 steps done, 5 s ago; has left",
    ]
    assert "waits" not in progress_words([reading(0), reading(1)])


def test_processes_that_are_seen(tmp_path):
    here = ProcessId.here()
    assert here.is_seen_from(here)
    assert not ProcessId(here.machine, here.pid, here.began + 1).is_seen_from(here)  # its number was given to another
    assert not ProcessId(here.machine, 2**22 + 1, 5).is_seen_from(here)
    assert not ProcessId("elsewhere", here.pid, here.began).is_seen_from(here)


def test_stacks_name_threads_and_places():
    assert "MainThread" not in all_stacks()  # the one that asks


def test_a_single_process_that_hangs_is_reported_once_and_goes_on(caplog, monkeypatch):
    monkeypatch.setattr(peers, "TICK_S", 0.05)
    with caplog.at_level(logging.ERROR), watch_ranks(Ranks(), None, 0.2) as heartbeat:
        heartbeat.beat("train", 7)
        time.sleep(0.8)
        heartbeat.beat("train", 8)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1 and "since train, 7 steps done" in told[0]
    assert "thread MainThread:" in told[0] and "time.sleep(0.8)" in told[0]


def test_a_beat_costs_nothing():
    heartbeat, began_s = Heartbeat(), time.perf_counter()
    for step in range(10_000):
        heartbeat.beat("train", step)
    assert time.perf_counter() - began_s < 0.5
