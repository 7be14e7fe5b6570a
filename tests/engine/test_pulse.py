"""A pulse is as old as its last beat."""

import time

from sweeper.engine.pulse import Pulse
from tests.support.patience import wait_for


def test_it_ages_until_it_beats_again() -> None:
    pulse = Pulse()
    began = time.monotonic()
    wait_for(lambda: pulse.age() > 0.05, "age")
    assert pulse.beats == 0
    before = pulse.age()
    pulse.beat()
    assert pulse.beats == 1
    assert pulse.age() < before <= time.monotonic() - began
