"""Packages and artefacts that are not on the local disk: rebuilt and fetched on demand, a bucket of packages, the disk quota."""

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import DEPS, MODELS, Server, check, rows, wait_for
from stores import S3, digest

X, _ = rows("iris", 4)
IRIS = (MODELS / "iris_logreg.onnx").read_bytes()
SLOW = DEPS / "models/efficientnet_lite0.onnx"  # its compile job is long enough to be met
COLD = ("--idle", "1s")


def packages(server):
    return sorted(p.name for p in (server.data / "packages").rglob("*") if p.is_file())


def artefacts(server):
    return sorted(p for p in (server.data / "artefacts").iterdir() if p.is_file())


def drop(*files):
    for f in files:
        f.unlink()


def package_files(server):
    return [p for p in (server.data / "packages").rglob("*") if p.is_file()]


def at_zero(server, name="iris"):
    wait_for(lambda: not server.instances(name), f"{name} at zero")


def events(server, name):
    return [json.loads(line) for line in server.log_text().splitlines() if f'"event":"{name}"' in line]


def phases(answer):
    return {n: float(d) for n, d in re.findall(r"(\w+);dur=([\d.]+)", answer.headers["Server-Timing"])}


def refused(answer, status, reason):
    assert (answer.status, answer.headers["Mayfly-Reason"]) == (status, reason), answer.body


def explain(server, name="iris"):
    return server.http(f"/admin/v1/endpoints/{name}/explain").json()


def metric(server, name):
    return sum(float(line.rsplit(" ", 1)[1]) for line in server.http("/metrics").body.decode().splitlines()
               if re.match(rf"{name}[{{ ]", line))


# --- artefacts are rebuilt where they are missing


def test_a_missing_artefact_is_rebuilt_by_the_request_that_needs_it():
    with Server() as server:
        server.deploy("iris", "iris_logreg.onnx", *COLD)
        check(server)
        at_zero(server)
        before = [a.read_bytes() for a in artefacts(server)]
        drop(*artefacts(server))
        found = phases(check(server))
        assert found["fetch"] > 0 and found["total"] >= found["fetch"]
        assert [len(a.read_bytes()) for a in artefacts(server)] == [len(b) for b in before]
        assert len(events(server, "artefact_missing")) == len(events(server, "artefact_rebuilt")) == 1
        assert "fetch" not in phases(check(server))  # warm
        assert metric(server, "mayfly_artefacts_rebuilt_total") == 1
        assert metric(server, "mayfly_artefact_wait_seconds_count") == 1
        assert [e["event"] for e in explain(server)["events"]].count("artefact_rebuilt") == 1


def test_a_truncated_artefact_is_rebuilt():
    with Server() as server:
        server.deploy("iris", "iris_logreg.onnx", *COLD)
        at_zero(server)
        for cut in (0, 100):
            [file] = artefacts(server)
            os.truncate(file, cut)
            assert phases(check(server))["fetch"] > 0
            at_zero(server)
        server.kill9()
        os.truncate(artefacts(server)[0], 100)
        server.start()
        assert phases(check(server))["fetch"] > 0


def test_a_server_starts_at_once_without_its_artefacts():
    """They are rebuilt when they are asked for: of many models that would take a while."""
    with Server() as server:
        server.deploy("iris", "iris_logreg.onnx")
        server.deploy("other", "iris_logreg.onnx")
        server.stop()
        drop(*artefacts(server))
        server.start()
        assert not events(server, "artefact_rebuilt") and not events(server, "artefact_lost")
        check(server)
        check(server, "other")
        assert len(events(server, "artefact_rebuilt")) == 1  # one package, one artefact
        server.stop()
        server.start()
        assert "fetch" not in phases(check(server))  # what was noted of it is still known


def test_many_requests_wait_for_one_compile_job():
    with Server() as server:
        for name in ("iris", "other"):
            server.deploy(name, "iris_logreg.onnx", *COLD)
        for name in ("iris", "other"):
            at_zero(server, name)
        drop(*artefacts(server))
        jobs = metric(server, "mayfly_artefact_builds_total")
        with ThreadPoolExecutor(24) as pool:
            list(pool.map(lambda i: check(server, ("iris", "other")[i % 2]), range(24)))
        assert len(artefacts(server)) == 1
        assert metric(server, "mayfly_artefact_builds_total") == jobs + 1


def test_what_can_be_had_nowhere_is_said():
    with Server() as server:
        server.deploy("iris", "iris_logreg.onnx", *COLD)
        at_zero(server)
        drop(*artefacts(server), *package_files(server))
        answer = server.infer("iris", X)
        refused(answer, 503, "package_unavailable")
        assert b"upload it again" in answer.body and int(answer.headers["Retry-After"]) >= 1
        assert events(server, "artefact_unavailable")
        server.stop()
        server.start()
        assert events(server, "artefact_lost")
        refused(server.infer("iris", X), 503, "package_unavailable")
        server.deploy("iris", "iris_logreg.onnx")
        check(server)


def test_a_damaged_package_is_not_compiled():
    with Server() as server:
        server.deploy("iris", "iris_logreg.onnx", *COLD)
        at_zero(server)
        drop(*artefacts(server))
        [file] = package_files(server)
        content = bytearray(IRIS)
        content[100] ^= 1
        file.chmod(0o644)
        file.write_bytes(content)
        refused(server.infer("iris", X), 500, "package_corrupt")
        assert not artefacts(server)
        assert server.http("/admin/v1/packages", "POST", IRIS).status == 200  # replaces it
        wait_for(lambda: server.infer("iris", X).status == 200, "the endpoint to answer again")


@pytest.mark.skipif(not SLOW.exists(), reason="the example models are not fetched")
def test_a_delete_during_the_rebuild_leaves_nothing():
    with Server() as server:
        server.deploy("slow", str(SLOW), *COLD)
        at_zero(server, "slow")
        drop(*artefacts(server))
        server.cli("wake", "slow")
        wait_for(lambda: any(a.name.startswith("tmp-") for a in artefacts(server)), "the compile job")
        server.cli("delete", "slow")
        wait_for(lambda: not artefacts(server) and not packages(server), "nothing to be left", 60)
        assert server.http("/v2/models/slow").status == 404


# --- a bucket of packages


@pytest.fixture(scope="module")
def s3():
    with S3("packages") as store:
        yield store


@contextlib.contextmanager
def serving(store, *flags, data=None, prefix=""):
    with Server("--packages", f"s3://{store.bucket}{prefix}", "--source-stall", "1s", *flags, env=store.env, data=data) as server:
        yield server


def upload(server, content):
    return server.http("/admin/v1/packages", "POST", content)


def test_a_cold_request_fetches_its_package_from_the_bucket(s3):
    with serving(s3) as server:
        server.deploy("iris", "iris_logreg.onnx", *COLD)
        assert s3.names() == [digest(IRIS)]
        assert s3.client.get_object(Bucket=s3.bucket, Key=digest(IRIS))["Body"].read() == IRIS
        at_zero(server)
        drop(*artefacts(server), *package_files(server))
        where = explain(server)
        assert where["storage"]["artefact"]["here"] is False and where["storage"]["package"]["here"] is False
        assert where["storage"]["package"]["in_bucket"] is True
        assert where["next_request"]["wait_ms"] >= where["storage"]["artefact"]["build_ms"] > 0
        found = phases(check(server))
        assert found["fetch"] > 0
        assert packages(server) == [digest(IRIS)]
        assert len(events(server, "package_fetched")) == len(events(server, "artefact_fetched")) == 1
        assert metric(server, "mayfly_artefacts_fetched_total") == 1
        assert explain(server)["storage"]["artefact"]["here"] is True
        shown = server.cli("explain", "iris").stdout
        assert "artefact   here" in shown and f"in s3://packages/{digest(IRIS)}" in shown
        server.cli("delete", "iris")
        assert packages(server) == [] and s3.names() == [digest(IRIS)]  # nothing is ever deleted there


def test_many_cold_requests_fetch_once(s3):
    with serving(s3) as server:
        for name in ("iris", "other"):
            server.deploy(name, "iris_logreg.onnx", *COLD)
        for name in ("iris", "other"):
            at_zero(server, name)
        drop(*artefacts(server), *package_files(server))
        with ThreadPoolExecutor(24) as pool:
            list(pool.map(lambda i: check(server, ("iris", "other")[i % 2]), range(24)))
        assert len(events(server, "package_fetched")) == 1


def test_what_is_there_is_not_sent_again_and_two_servers_share_a_bucket(s3):
    with serving(s3, prefix="/shared") as one, serving(s3, prefix="/shared") as two:
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda s: upload(s, IRIS), (one, two)))
        assert [a.status for a in answers] == [200, 200]
        for server in (one, two):
            server.deploy("iris", "iris_logreg.onnx")
            check(server)
        assert s3.names("shared/") == [f"shared/{digest(IRIS)}"]
    with serving(s3, prefix="/shared") as three:  # it has never seen the bytes
        deployed = three.http("/admin/v1/endpoints/iris/versions", "POST", {"package": digest(IRIS), "spec": {}})
        assert deployed.status == 200, deployed.body
        check(three)
        assert not events(three, "package_stored") and len(events(three, "package_fetched")) == 1
        refused(three.http("/admin/v1/endpoints/x/versions", "POST", {"package": digest(b"no"), "spec": {}}), 404, "package_not_found")


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_store_that_is_down(how):
    with S3("packages") as store, serving(store) as server:
        server.deploy("warm", "iris_logreg.onnx", "--idle", "10m")
        server.deploy("cold", "letter_mlp.onnx", *COLD)
        at_zero(server, "cold")
        check(server, "warm")
        drop(*artefacts(server), *package_files(server))
        if how == "killed":
            store.stop()
        else:
            os.kill(store.process.pid, signal.SIGSTOP)
        try:
            check(server, "warm")
            answer = upload(server, IRIS + b" ")
            refused(answer, 503, "package_store_unavailable")
            assert packages(server) == []
            x, _ = rows("letter", 16)
            answer = server.infer("cold", x[:1])
            refused(answer, 503, "package_unavailable")
            assert b"s3://packages/" in answer.body and int(answer.headers["Retry-After"]) >= 1
            check(server, "warm")
        finally:
            store.start() if how == "killed" else os.kill(store.process.pid, signal.SIGCONT)
        wait_for(lambda: server.infer("cold", x[:1]).status == 200, "the cold endpoint to answer again", 60)
        assert upload(server, IRIS + b" ").status == 200


def test_wrong_content_in_the_bucket_is_never_run(s3):
    with serving(s3, prefix="/wrong") as server:
        server.deploy("iris", "iris_logreg.onnx", *COLD)
        at_zero(server)
        content = bytearray(IRIS)
        content[100] ^= 1
        s3.put(f"wrong/{digest(IRIS)}", bytes(content))
        drop(*artefacts(server), *package_files(server))
        answer = server.infer("iris", X)
        refused(answer, 500, "package_corrupt")
        assert f"s3://packages/wrong/{digest(IRIS)}".encode() in answer.body
        assert packages(server) == [] and artefacts(server) == []
        s3.put(f"wrong/{digest(IRIS)}", IRIS)
        wait_for(lambda: server.infer("iris", X).status == 200, "the endpoint to answer again")


def test_a_damaged_local_package_is_replaced_from_the_bucket(s3):
    with serving(s3) as server:
        server.deploy("iris", "iris_logreg.onnx", *COLD)
        at_zero(server)
        [file] = package_files(server)
        drop(*artefacts(server))
        file.chmod(0o644)
        file.write_bytes(IRIS[:100])
        check(server)
        assert package_files(server)[0].read_bytes() == IRIS


def test_a_kill_between_upload_and_deploy_leaves_nothing_here(s3):
    with serving(s3, prefix="/killed") as server:
        assert upload(server, IRIS).status == 200
        server.kill9()
        server.start()
        assert packages(server) == []
        server.deploy("iris", "iris_logreg.onnx")
        check(server)


@pytest.mark.skipif(not SLOW.exists(), reason="the example models are not fetched")
def test_a_kill_during_the_upload_to_the_bucket_leaves_nothing_half_done():
    with S3("packages") as store, serving(store) as server:
        os.kill(store.process.pid, signal.SIGSTOP)
        uploading = threading.Thread(target=lambda: server.cli("deploy", "slow", SLOW, check=False))
        uploading.start()
        wait_for(lambda: packages(server), "the package to be here")
        server.kill9()
        uploading.join()
        os.kill(store.process.pid, signal.SIGCONT)
        server.start()
        assert packages(server) == [] and server.http("/v2/models/slow").status == 404
        server.deploy("slow", str(SLOW))
        assert digest(SLOW.read_bytes()) in store.names()


def test_a_start_without_the_bucket_is_only_a_warning():
    with S3("packages") as store:
        with serving(store) as server:
            server.deploy("iris", "iris_logreg.onnx")
            server.stop()
            store.stop()
            server.start()
            check(server)
            wait_for(lambda: events(server, "package_store_unavailable"), "the warning", 60)


def test_packages_of_a_time_without_a_bucket_go_there(s3):
    with Server() as before:
        before.deploy("iris", "iris_logreg.onnx")
        before.stop()
        with serving(s3, prefix="/later", data=before.data) as server:
            wait_for(lambda: s3.names("later/") == [f"later/{digest(IRIS)}"], "the package in the bucket")
            check(server)


def test_a_large_package_goes_in_parts(s3):
    content = os.urandom(1 << 20) * 70
    with serving(s3, prefix="/large") as server:
        assert upload(server, content).status == 200
        assert s3.client.head_object(Bucket=s3.bucket, Key=f"large/{digest(content)}")["ContentLength"] == len(content)
        body = s3.client.get_object(Bucket=s3.bucket, Key=f"large/{digest(content)}")["Body"].read()
        assert digest(body) == digest(content)


# --- the disk quota


def disk(server):
    return server.http("/admin/v1/node").json()["disk"]


def variants(count):
    """Different packages of the same model: bytes that ONNX readers skip are put behind it, as an unknown field."""
    return [IRIS + b"\xfa\x3f\x04" + bytes([i] * 4) for i in range(count)]


def deploy_bytes(server, name, content):
    package = upload(server, content)
    assert package.status == 200, package.body
    return server.http(f"/admin/v1/endpoints/{name}/versions", "POST", {"package": package.json()["digest"], "spec": {"idle": "0s"}})


@pytest.mark.parametrize("bucket", [False, True])
def test_three_models_rotate_on_a_disk_for_two(s3, bucket):
    with Server() as probe:
        assert deploy_bytes(probe, "one", variants(1)[0]).status == 200
        sizes = disk(probe)
        package, artefact = sizes["packages_bytes"], sizes["artefacts_bytes"]
    # Without a bucket the packages have to stay: it is the artefacts that rotate.
    quota = 2 * (package + artefact) + artefact // 2 + (0 if bucket else package)
    flags = ("--disk-quota", str(quota))
    with serving(s3, *flags, prefix="/rotate") if bucket else Server(*flags) as server:
        for i, content in enumerate(variants(3)):
            answer = deploy_bytes(server, f"m{i}", content)
            assert answer.status == 200, answer.body
        for i in [0, 1, 2, 0, 1, 2]:
            check(server, f"m{i}")
            at_zero(server, f"m{i}")
            now = disk(server)
            assert now["packages_bytes"] + now["artefacts_bytes"] <= quota, now
        assert disk(server)["dropped"] > 0 and disk(server)["quota_bytes"] == quota
        assert metric(server, "mayfly_disk_quota_bytes") == quota
        assert events(server, "artefact_dropped")
        gone = [n for n in range(3) if not explain(server, f"m{n}")["storage"]["artefact"]["here"]]
        assert gone and all("disk quota" in explain(server, f"m{n}")["storage"]["artefact"]["dropped"] for n in gone)


def test_a_deploy_that_can_not_fit_takes_nothing():
    with Server("--disk-quota", "100000") as server:
        server.deploy("iris", "iris_logreg.onnx", "--min", "1")
        before = packages(server), artefacts(server)
        answer = upload(server, b"x" * 100_000)
        refused(answer, 507, "disk_quota_exceeded")
        assert b"--disk-quota" in answer.body
        assert (packages(server), artefacts(server)) == before
        check(server)


# --- a disk that is full


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder, leave):
    """A file that takes all but `leave` bytes of it."""
    s = os.statvfs(folder)
    size = max(0, s.f_bavail * s.f_frsize - leave)
    with open(folder / "filler", "wb") as f:
        os.posix_fallocate(f.fileno(), 0, size)


@pytest.mark.skipif(not SLOW.exists(), reason="the example models are not fetched")
def test_a_full_disk(s3, small_disk):
    large = s3.put("full/large.onnx", SLOW.read_bytes())
    flags = ("--allow-source", "s3://packages", "--source-stall", "1s")
    with Server(*flags, env=s3.env, data=small_disk) as server:
        server.deploy("iris", "iris_logreg.onnx", *COLD)
        before = packages(server)
        check(server)
        refused(upload(server, SLOW.read_bytes()), 507, "disk_full")
        refused(server.http("/admin/v1/endpoints/x/versions", "POST", {"source": large, "spec": {}}), 507, "disk_full")
        assert packages(server) == before
        check(server)
        # The rebuild of an artefact finds no room, and does when there is some.
        at_zero(server)
        drop(*artefacts(server))
        fill(small_disk, 0)
        answer = server.infer("iris", X)
        refused(answer, 503, "package_unavailable")
        assert b"no space left" in answer.body
        assert not artefacts(server)
        (small_disk / "filler").unlink()
        wait_for(lambda: server.infer("iris", X).status == 200, "the endpoint to answer again")
        assert len(artefacts(server)) == 1
