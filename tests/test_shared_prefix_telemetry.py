"""Seconds by phase, and counts, a step."""

import time

import pytest

from medr1kit.training.telemetry import Telemetry, peak_memory


def test_an_inner_phase_is_taken_out_of_the_outer_one(monkeypatch):
    clock = iter([0, 1, 3, 8, 8.5, 10, 10.25, 12])  # when each phase below begins and ends
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    telemetry = Telemetry()
    with telemetry.phase("backward"):
        with telemetry.phase("loss"), telemetry.phase("prefill"):
            pass
        with telemetry.phase("loss"):
            pass
    assert telemetry.seconds == {"prefill": 5, "loss": 2.5 + 0.25, "backward": 12 - 5 - 2.75}


def test_a_phase_that_fails_is_timed_too():
    telemetry = Telemetry()
    with pytest.raises(ValueError), telemetry.phase("loss"):
        raise ValueError
    assert telemetry.seconds["loss"] >= 0


def test_columns_are_means_over_the_steps_and_start_anew():
    telemetry = Telemetry()
    telemetry.seconds |= {"decode": 4.0, "loss": 1.0}
    telemetry.counts["tokens"] += 100
    telemetry.steps = 2
    columns = telemetry.columns()
    assert columns.pop("peak_memory_gb") == pytest.approx(peak_memory(), rel=0.01)
    assert columns == {"time/decode": 2.0, "time/loss": 0.5, "count/tokens": 50.0, "tokens_per_second": 25.0}
    assert set(telemetry.columns()) == {"peak_memory_gb"}
