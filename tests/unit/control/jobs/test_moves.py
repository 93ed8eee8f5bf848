"""Every way of a job through its states, from any order of events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.control.jobs import moves
from tidegate.control.jobs.job import Attempt, Job, Progress
from tidegate.errors import Conflict

JOB = Job(id="j-1", kind="batch", created=0.0, run_at=0.0)
RUNNING = moves.claimed(JOB, "w1", 1.0)


def failing(job: Job, now: float = 2.0, *, again: bool = True) -> Job:
    return moves.failed(job, now, "broke", again=again, backoff=4.0, share=1.0)


def test_a_claim_begins_a_try() -> None:
    assert (RUNNING.state, RUNNING.tries, RUNNING.started) == ("running", 1, 1.0)
    assert RUNNING.attempts == (Attempt("w1", 1.0),)


def test_a_failure_waits_longer_each_time_and_then_is_final() -> None:
    job, pauses = JOB, []
    for _ in range(3):
        job = failing(moves.claimed(job, "w1", 1.0))
        pauses.append(job.run_at - 2.0)
    assert job.state == "failed"
    assert pauses[:2] == [4.0, 8.0]
    assert job.error == "broke (the last of 3 tries)"
    assert [one.error for one in job.attempts] == ["broke"] * 3


def test_a_mistake_of_the_user_is_final_at_once() -> None:
    job = failing(RUNNING, again=False)
    assert (job.state, job.error) == ("failed", "broke")


@given(st.integers(1, 1000), st.floats(0, 1))
def test_a_pause_is_bounded_and_has_jitter(tries: int, share: float) -> None:
    assert 2.0 <= moves.pause(tries, 4.0, share) <= moves.LONGEST_BACKOFF
    assert moves.pause(tries, 4.0, 1.0) == 2 * moves.pause(tries, 4.0, 0.0)


def test_a_lost_worker_counts_as_a_try() -> None:
    job = RUNNING
    job = moves.claimed(job, "w2", 50.0)
    assert (job.state, job.tries, len(job.attempts)) == ("running", 2, 2)
    assert "no more sign of life" in job.attempts[0].error
    job = moves.claimed(moves.claimed(job, "w3", 90.0), "w4", 130.0)
    assert (job.state, job.tries) == ("failed", 3)
    assert "the last of 3 tries" in job.error


def test_what_is_handed_back_was_no_try() -> None:
    job = moves.handed_back(RUNNING, 9.0)
    assert (job.state, job.tries, job.attempts, job.run_at) == ("queued", 0, (), 9.0)


def test_cancel_ends_what_waits_at_once_and_what_runs_when_its_worker_notices() -> None:
    assert moves.asked_to_cancel(JOB, 3.0, "why").state == "cancelled"
    job = moves.asked_to_cancel(RUNNING, 3.0, "why")
    assert (job.state, job.cancelling, job.reason) == ("running", True, "why")
    for ended in (failing(job), moves.handed_back(job, 4.0), moves.claimed(job, "w2", 40.0), moves.cancelled(job, 4.0)):
        assert (ended.state, ended.cancelling) == ("cancelled", False)
        assert ended.attempts[-1].ended, "no try goes on"
    with pytest.raises(Conflict, match="only one that waits or runs"):
        moves.asked_to_cancel(moves.finished(RUNNING, 2.0, {}), 3.0, "")


def test_a_retry_keeps_steps_and_gives_all_tries_again() -> None:
    job = failing(moves.stepped(RUNNING, "read", {"rows": 3}), again=False)
    again = moves.asked_again(job, 8.0)
    assert (again.state, again.tries, again.run_at, again.error) == ("queued", 0, 8.0, "")
    assert again.steps == {"read": {"rows": 3}}
    with pytest.raises(Conflict, match="only one that failed"):
        moves.asked_again(RUNNING, 8.0)


def test_progress_never_goes_back() -> None:
    job = moves.progressed(RUNNING, Progress(50, 100))
    assert moves.progressed(job, Progress(20, 100, "again")).progress == Progress(50, 100, "again")
    assert moves.progressed(job, Progress(60, 100)).progress.done == 60


@given(st.lists(st.sampled_from(["claim", "fail", "final", "back", "cancel", "finish", "retry"]), max_size=60))
def test_any_order_of_events_keeps_a_job_whole(events: list[str]) -> None:
    job, now = JOB, 0.0
    for event in events:
        now += 1.0
        try:
            if event == "claim" and job.open:
                job = moves.claimed(job, "w", now)
            elif event == "cancel":
                job = moves.asked_to_cancel(job, now, "")
            elif event == "retry":
                job = moves.asked_again(job, now)
            elif job.state != "running":
                continue
            elif event == "fail":
                job = failing(job, now)
            elif event == "final":
                job = failing(job, now, again=False)
            elif event == "back":
                job = moves.handed_back(job, now)
            elif event == "finish":
                job = moves.finished(job, now, {"rows": 1})
        except Conflict:
            continue
        assert 0 <= job.tries <= job.max_attempts
        assert len(job.attempts) <= moves.MOST_ATTEMPTS
        assert bool(job.ended) == (not job.open)
        assert job.state == "running" or not job.cancelling
        assert all(one.ended for one in job.attempts[:-1])
        if job.state == "running":
            assert not job.attempts[-1].ended
        if job.state == "failed":
            assert job.error
