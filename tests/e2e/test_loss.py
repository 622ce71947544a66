"""A bounded share of tests/soak/loss.py: rollouts, kills and scale-downs under load, and no request is lost."""

import sys
from pathlib import Path

from harness import Server

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "soak"))
from loss import WEIGHTS, Loss  # noqa: E402

EVENTS = 30
SEED = 4  # with it every kind of event is among the thirty


def test_no_request_is_lost():
    with Server() as server:
        loss = Loss(server, SEED, connections=3)
        result = loss.run(EVENTS)
        assert result["failure"] is None, (result["failure"], result["problems"][:3])
        assert result["lost"] == 0, [(p, loss.explain(p)) for p in result["problems"][:3]]
        assert set(result["events"]) == set(WEIGHTS) and sum(result["events"].values()) == EVENTS
        assert result["requests"]["200"] > 1000 and result["retries"] > 0
