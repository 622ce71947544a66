"""A bounded share of tests/soak/cold.py: from zero to an answer many times, with and without kills, and nothing is left."""

import sys
from pathlib import Path

import pytest
from harness import Server

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "soak"))
from cold import Soak  # noqa: E402

CYCLES, CLIENTS, SEED = 200, 3, 7


@pytest.mark.parametrize("kill", [False, True], ids=["left-alone", "with-kills"])
def test_from_zero_again_and_again(kill):
    with Server() as server:
        soak = Soak(server, CYCLES, CLIENTS, kill, SEED)
        killed = soak.run()
        assert soak.problems == []
        assert [r for r in soak.rows if not r["met"]] == []
        assert bool(killed) == kill
