"""The pauses before restarts of a process that keeps ending."""

from serving.processes import Backoff


def test_waits_double_up_to_half_a_minute():
    backoff = Backoff()
    assert [backoff.after(0) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_the_first_restart_may_be_at_once():
    backoff = Backoff(at_once=True)
    assert [backoff.after(0) for _ in range(4)] == [0, 1, 2, 4]


def test_a_long_run_resets_the_pauses():
    backoff = Backoff()
    assert [backoff.after(lived) for lived in (0, 0, 61, 59)] == [1, 2, 1, 2]
