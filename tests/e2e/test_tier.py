"""Both forms of a model: a busy instance changes to pre-packed weights, and no request notices; the working set of a start."""

import os
import threading

import numpy as np
import pytest
from harness import DEPS, Server, wait_for

MINILM = DEPS / "models/minilm.onnx"
pytestmark = pytest.mark.skipif(not MINILM.exists(), reason="scripts/models/fetch.sh --all makes it")
IDS = np.array([[101, 2008, 2003, 1037, 3407, 2711, 102, 0]])


def ask(server, name, ids=IDS):
    values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    inputs = [{"name": n, "datatype": "INT64", "shape": list(x.shape), "data": x.ravel().tolist()} for n, x in values.items()]
    answer = server.http(f"/v2/models/{name}/infer", "POST", {"inputs": inputs})
    assert answer.status == 200, answer.body
    return np.array(answer.json()["outputs"][0]["data"])


@pytest.fixture(scope="module")
def server():
    with Server() as s:
        yield s


def version(server, name):
    return server.get(name)["versions"][-1]


def tier_of(server, name):
    return server.instances(name)[0]["tier"]


def test_an_instance_changes_its_tier_while_four_clients_send(server):
    server.deploy("text", MINILM, "--max", "1", "--idle", "60s", "--batch-max", "1")
    server.deploy("plain", MINILM, "--max", "1", "--idle", "60s", "--batch-max", "1", "--tier-up", "off")
    tier = version(server, "text")["report"]["tier"]
    assert tier["worth"] and tier["packed_ms"] < tier["mapped_ms"] and tier["packed_bytes"] > 1_000_000, tier
    rows = [IDS, IDS + 1, IDS[:, :5], np.repeat(IDS, 2, axis=0)]
    expected = [ask(server, "plain", r) for r in rows]
    ended, bad, count = threading.Event(), [], [0] * len(rows)

    def client(i):
        while not ended.is_set():
            try:
                np.testing.assert_allclose(ask(server, "text", rows[i]), expected[i], atol=1e-4)
                count[i] += 1
            except (AssertionError, OSError) as e:
                bad.append(repr(e))
                return

    threads = [threading.Thread(target=client, args=(i,)) for i in range(len(rows))]
    for t in threads:
        t.start()
    try:
        wait_for(lambda: bad or (server.instances("text") and tier_of(server, "text") == "packed"), "packed", 60)
        seen = list(count)
        wait_for(lambda: bad or all(n > s + 5 for n, s in zip(count, seen)), "answers of the packed form", 60)
    finally:
        ended.set()
        for t in threads:
            t.join()
    assert not bad, bad
    (instance,) = server.instances("text")
    assert instance["tier"] == "packed"
    assert os.path.exists(f"/proc/{instance['pid']}")
    assert 'mayfly_tier_ups_total{tenant="default",endpoint="text"} 1' in server.http("/metrics").body.decode()
    assert any("instance_tier_packed" in str(line) for line in server.http("/admin/v1/endpoints/text/logs").json()["lines"])
    for _ in range(20):  # more than the change needs
        ask(server, "plain")
    assert tier_of(server, "plain") == "mapped"


def test_without_room_for_both_forms_it_stays_mapped(server):
    server.deploy("tight", MINILM, "--max", "1", "--idle", "60s", "--memory", "64Mi", "--batch-max", "1")
    expected = ask(server, "plain")
    for _ in range(40):
        np.testing.assert_allclose(ask(server, "tight"), expected, atol=1e-6)
    assert tier_of(server, "tight") == "no_memory"


def test_several_threads_change_too(server):
    server.deploy("two", MINILM, "--max", "1", "--idle", "60s", "--cpu", "2", "--threads", "2", "--batch-max", "1")
    expected = ask(server, "plain")
    wait_for(lambda: np.testing.assert_allclose(ask(server, "two"), expected, atol=1e-4)
             or tier_of(server, "two") == "packed", "packed", 60)


def test_a_start_from_disk_reads_the_working_set(server):
    working = version(server, "plain")["report"]["working_set"]
    size = version(server, "plain")["report"]["artefact_bytes"]
    assert size / 4 < working["bytes"] < size * 0.7  # the table of words is half of it, and few of its rows are read
    expected = ask(server, "plain")
    server.deploy("disk", MINILM, "--max", "1", "--idle", "0ms", "--batch-max", "1")
    wait_for(lambda: not server.instances("disk"), "zero instances")
    for artefact in (server.data / "artefacts").iterdir():
        with open(artefact, "rb") as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    np.testing.assert_allclose(ask(server, "disk"), expected, atol=1e-6)
