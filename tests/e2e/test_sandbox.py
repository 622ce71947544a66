"""What the kernel says of a live instance: no privileges, filtered system calls, namespaces and descriptors of its own."""

import json
import os
from pathlib import Path

import pytest
from harness import Server, rows, wait_for

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")


@pytest.fixture(scope="module")
def server():
    with Server() as s:
        s.deploy("one", "iris_logreg.onnx", "--idle", "60s")
        s.deploy("two", "iris_logreg.onnx", "--idle", "60s")
        x, _ = rows("iris", 4)
        # Every rung of the ladder: warm from a request, parked ahead of any, and resumed from there.
        s.deploy("parked", "iris_logreg.onnx", "--parked", "1", "--idle", "0ms")
        s.deploy("resumed", "iris_logreg.onnx", "--parked", "1", "--idle", "60s")
        for name in ("parked", "resumed"):
            wait_for(lambda n=name: [i for i in s.instances(n) if i["state"] == "parked"], f"{name} to be parked")
        for name in ("one", "two", "resumed"):
            assert s.infer(name, x).status == 200
        yield s


@pytest.fixture(scope="module")
def pids(server):
    return [wait_for(lambda n=n: server.instances(n), "an instance")[0]["pid"] for n in ("one", "two", "parked", "resumed")]


def status(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def namespaces(pid):
    return {n: os.readlink(f"/proc/{pid}/ns/{n}") for n in NAMESPACES}


def test_privileges(pids):
    for pid in pids:
        s = status(pid)
        assert s["NoNewPrivs"] == "1" and s["Seccomp"] == "2"
        for caps in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(s[caps], 16) == 0, caps
        for ids in ("Uid", "Gid"):
            assert len(set(s[ids].split())) == 1 and int(s[ids].split()[0]) >= 0x70000000


def test_no_two_instances_share_an_id(pids):
    assert len({status(pid)["Uid"] for pid in pids}) == len(pids)


def test_no_two_instances_share_a_namespace(pids):
    for n in NAMESPACES:
        assert len({namespaces(pid)[n] for pid in pids}) == len(pids), n


def test_namespaces(server, pids):
    for pid in pids:
        mine, theirs = namespaces(pid), namespaces(server.pid)
        assert {n for n in NAMESPACES if mine[n] == theirs[n]} == set()


def is_artefact(name):
    return name.removesuffix(" (deleted)").endswith(".ort")  # deleted: compiled anew since


def test_descriptors(pids):
    """The model (read only), the arena and two eventfds; nothing of the server's."""
    for pid in pids:
        names = {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        kinds = sorted("ort" if is_artefact(n) else n for n in names.values())
        assert kinds == ["/memfd:arena (deleted)", "anon_inode:[eventfd]", "anon_inode:[eventfd]", "ort"]
        model = next(fd for fd, n in names.items() if is_artefact(n))
        flags = dict(line.split(":\t") for line in Path(f"/proc/{pid}/fdinfo/{model}").read_text().splitlines()[:2])
        assert int(flags["flags"], 8) & os.O_ACCMODE == os.O_RDONLY


def test_root_is_empty_and_read_only(pids):
    for pid in pids:
        files = [f for _, _, found in os.walk(f"/proc/{pid}/root/") for f in found]
        assert files == [] and set(os.listdir(f"/proc/{pid}/root/")) <= {"scratch"}
        mounts = [line.split() for line in Path(f"/proc/{pid}/mounts").read_text().splitlines()]
        assert [m[1] for m in mounts] == ["/"] and {"ro", "nosuid", "nodev"} <= set(mounts[0][3].split(","))


def test_network_has_no_way_out(pids):
    for pid in pids:
        devices = [line.split(":")[0].strip() for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]]
        assert set(devices) <= {"lo"}
        assert Path(f"/proc/{pid}/net/route").read_text().count("\n") <= 1


def test_server_itself_has_no_privileges(server):
    s = status(server.pid)
    assert s["NoNewPrivs"] == "1" and int(s["CapEff"], 16) == 0 and s["Uid"].split()[0] != "0"


def test_the_log_says_whether_isolation_is_complete():
    with Server() as s:
        line = next(json.loads(x) for x in s.log_text().splitlines() if '"event":"isolation"' in x)
        doctor = s.cli("doctor", "-o", "json", check=False)
        lacking = [c["what"] for c in json.loads(doctor.stdout)["checks"]
                   if c["state"] == "missing" and c["what"] in ("namespaces", "cgroups", "seccomp", "landlock")]
        assert line["detail"] == "complete" if not lacking else all(what in line["detail"] for what in lacking)
