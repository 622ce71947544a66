"""What the host refuses or somebody kills while instances start: no request that has time left is lost."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from harness import BINARY, Server, alive, check, children, rows, wait_for

X, _ = rows("iris", 4)


@pytest.fixture
def server():
    with Server() as s:
        s.deploy("iris", "iris_logreg.onnx", "--idle", "0s")
        yield s


class FewProcesses:
    """A control group in which no further process can be made; what is moved into it goes back at the end."""

    def __init__(self, pid):
        root = Path("/sys/fs/cgroup/pids") if Path("/sys/fs/cgroup/pids").exists() else Path("/sys/fs/cgroup")
        controllers = root / "cgroup.controllers"
        if controllers.exists() and "pids" not in controllers.read_text():
            pytest.skip("no pids controller here")
        self.root, self.group, self.pid = root, root / f"test-few-{os.getpid()}", pid

    def __enter__(self):
        self.group.mkdir()
        (self.group / "cgroup.procs").write_text(str(self.pid))
        (self.group / "pids.max").write_text("1")
        return self

    def __exit__(self, *_):
        (self.group / "pids.max").write_text("max")
        if alive(self.pid):
            (self.root / "cgroup.procs").write_text(str(self.pid))
        wait_for(self.removed, "the end of the group")

    def removed(self):
        try:
            self.group.rmdir()
        except OSError:
            return False
        return True


def kill_blanks(server):
    """All processes that wait for work, once no instance is left."""
    wait_for(lambda: not server.http("/admin/v1/instances").json()["instances"], "zero")
    zygote = server.zygote()
    blanks = wait_for(lambda: children(zygote), "blanks")
    for pid in blanks:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not set(blanks) & set(children(zygote)), "their end")


def test_no_process_can_be_made(server):
    server.deploy("hasty", "iris_logreg.onnx", "--idle", "0s", "--timeout", "1s")
    check(server)
    with FewProcesses(server.zygote()):
        kill_blanks(server)
        answer = server.infer("hasty", X)
        assert answer.status == 503 and answer.headers["Mayfly-Reason"] == "sandbox_unavailable", answer.body
        assert b"mayfly doctor" in answer.body and int(answer.headers["Retry-After"]) >= 1
    check(server, "hasty")


def test_who_has_time_waits_until_processes_can_be_made_again(server):
    check(server)
    answers = []
    with FewProcesses(server.zygote()):
        kill_blanks(server)
        ask = threading.Thread(target=lambda: answers.append(server.infer("iris", X).status))
        ask.start()
        # One start after the other is refused; none of that is the model's fault.
        wait_for(lambda: server.log_text().count("can't make a sandbox") >= 4, "four starts that were refused")
        assert answers == []
    ask.join()
    assert answers == [200]


def test_killed_blanks_are_made_anew(server):
    for _ in range(5):
        kill_blanks(server)
        check(server)
    wait_for(lambda: len(children(server.zygote())) >= 4, "blanks")


def test_killed_while_they_start(server):
    """Instances are killed in the middle of their start. A model that does not come up three times in a row is given up,
    so the next one is left alone for a quarter of a second."""
    ended, killed = threading.Event(), []

    def kill_now_and_then():
        while not ended.is_set():
            for pid in [i["pid"] for i in server.instances("iris") if i["state"] == "starting" and i["pid"]][:1]:
                try:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                except ProcessLookupError:
                    pass
                time.sleep(0.25)

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    try:
        until = time.monotonic() + 20
        while len(killed) < 5 and time.monotonic() < until:
            check(server)
            wait_for(lambda: not server.instances("iris"), "zero")
    finally:
        ended.set()
        killer.join()
    assert len(killed) >= 5


def test_a_start_that_fails_leaves_no_process(tmp_path):
    """It ends at once, while prepared processes are just being made: the launcher may not know yet of the latest one."""
    for name in ("crt", "key"):
        (tmp_path / name).write_text("nothing of the kind")
    for i in range(20):
        done = subprocess.run([BINARY, "serve", "--data", tmp_path / f"data{i}", "--listen", "127.0.0.1:0", "--tls-cert", tmp_path / "crt",
                               "--tls-key", tmp_path / "key"], capture_output=True, timeout=20)  # as long as a process holds its output
        assert done.returncode != 0
