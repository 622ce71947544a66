"""Our own OpenAPI document, held against the server by schemathesis: statuses, content types, schemas of answers, refusal
of what the document forbids, methods, keys. A bounded run with a fixed seed; what it sends is made from the document alone.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import Server

SECONDS = 180  # the longest a run may take; it takes a third of that on a quiet machine

# Which data a model takes is not in the document: that schema-valid data is refused is no fault. 501 is the answer of
# what other servers of a dialect have and this one has not.
CONFIG = """
[parameters]
"path.name" = "{name}"

[checks]
positive_data_acceptance.enabled = false
# The runtime API of SageMaker says 403 without a key, where this check allows 401 only (keys_required.case has both), and
# 424 of what a model refuses.
missing_required_header.enabled = false
negative_data_rejection.expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "415", "422", "424", "428", "429", "5xx"]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "501"]
"""


@pytest.fixture(scope="module")
def server():
    with Server() as s:
        s.deploy("iris", "iris_logreg.onnx")
        key = json.loads(s.cli("keys", "create", "openapi", "--scopes", "admin", "-o", "json").stdout)["key"]
        s.stop()
        s.flags = ("--require-keys",)
        s.start()
        s.key = key
        yield s


def schemathesis(server, tmp_path, name, *flags, config=CONFIG):
    file = tmp_path / "schemathesis.toml"
    file.write_text(config.format(name=name))
    program = Path(sys.executable).parent / "schemathesis"
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NO_COLOR": "1"}
    done = subprocess.run(
        [program, "--config-file", file, "run", f"{server.url}/openapi.json", "-H", f"Authorization: Bearer {server.key}",
         "--phases", "examples,coverage,fuzzing", "--max-examples", "8", "--seed", "1", "--generation-database", "none",
         "--suppress-health-check", "all", *flags],
        env=env, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS)
    return done.returncode, done.stdout + done.stderr


def test_nothing_is_found(server, tmp_path):
    status, report = schemathesis(server, tmp_path, "iris", "--exclude-method", "DELETE")
    assert status == 0, report[-6000:]
    cases = re.search(r"(\d+) generated", report)
    assert cases and int(cases[1]) > 500, report[-2000:]  # it did ask
    assert server.http("/v2/health/live").status == 200


def test_nothing_is_found_at_deleting(server, tmp_path):
    status, report = schemathesis(server, tmp_path, "none", "--include-method", "DELETE")
    assert status == 0, report[-6000:]


def test_it_would_find_something(server, tmp_path):
    """The run is able to fail: where 501 is not expected, there is something to find."""
    status, report = schemathesis(server, tmp_path, "iris", "--include-path-regex", "explain|regress",
                                  config=CONFIG.replace(', "501"', ""))
    assert status == 1 and "501" in report, report[-2000:]
