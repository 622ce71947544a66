"""Starts the real binary as root on a folder of its own and a free loopback port, and speaks to it.

A Server owns its data folder and its processes: stop() is SIGTERM, kill9() is kill -9 of the server process alone, start()
starts it again on the same data. Every wait has a limit; what runs over it raises with the server's log.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
DEPS = Path(os.environ.get("MAYFLY_DEPS", ROOT / ".deps"))
BINARY = os.environ.get("MAYFLY_BINARY", str(ROOT / "build/release/bin/mayfly"))
MODELS = ROOT / "tests/models"
START_SECONDS = 20


def rows(name, *shape):
    """The labelled rows of a model of tests/models: inputs and right answers."""
    x = np.fromfile(MODELS / f"{name}_test_x.f32", "<f4").reshape(-1, *shape)
    return x, np.fromfile(MODELS / f"{name}_test_y.u8", "u1")


def check(server, name="iris"):
    """The answer to all labelled rows of iris at once, which must be right."""
    x, y = rows("iris", 4)
    answer = server.infer(name, x)
    assert answer.status == 200, answer.body
    assert answer.json()["outputs"][0]["data"] == y.tolist()
    return answer


def wait_for(condition, what, seconds=10):
    """The first true value of condition()."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(0.02)
    return value


def parents():
    """Every living process and its parent."""
    out = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                after_name = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if after_name[0] != "Z":
                out[int(entry)] = int(after_name[1])
    return out


def children(pid):
    return [p for p, parent in parents().items() if parent == pid]


def alive(pid):
    return pid in parents()


NETWORKS = 64 + 4 + 1  # network namespaces that a launcher may hold at rest: kept, of the blanks, its own


def descriptors(pid):
    """(all but those of network namespaces, of those): the launcher keeps a bounded number of the latter, to use them again."""
    kinds = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            kinds.append(os.readlink(f"/proc/{pid}/fd/{fd}").startswith("net:["))
        except FileNotFoundError:  # closed since, as that of the folder
            continue
    return kinds.count(False), kinds.count(True)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


def http(url, method="GET", body=None, headers=None):
    if isinstance(body, (dict, list)):
        body = json.dumps(body).encode()
    rq = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(rq, timeout=60) as rs:
            return Answer(rs.status, rs.headers, rs.read())
    except urllib.error.HTTPError as e:
        return Answer(e.code, e.headers, e.read())


class Server:
    def __init__(self, *flags, listen="127.0.0.1:0", env=None, data=None):
        self.folder = Path(tempfile.mkdtemp(prefix="mayfly-e2e-"))
        self.data = Path(data) if data else self.folder / "data"
        self.env = {**os.environ, **(env or {})}
        self.log = self.folder / "log"
        self.flags, self.listen, self.process, self.key = flags, listen, None, None
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def start(self):
        self.log.write_bytes(b"")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [BINARY, "serve", "--data", self.data, "--listen", self.listen, *self.flags],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env)
        scheme, self.address = wait_for(self._listening, "the listening line", START_SECONDS)
        self.url = f"{scheme}://{self.address}"

    def _listening(self):
        found = re.search(r'"event":"listening","detail":"(https?)://([^"]+)"', self.log_text())
        if not found and self.process.poll() is not None:
            raise AssertionError(f"the server ended with {self.process.returncode}: {self.log_text()}")
        return found and found.groups()

    def log_text(self):
        return self.log.read_text()

    @property
    def pid(self):
        return self.process.pid

    def launcher(self):
        return children(self.pid)[0]

    def zygote(self):
        return children(self.launcher())[0]

    def tree(self):
        """All processes of this server, itself included."""
        every, found, last = parents(), {self.pid}, 0
        while len(found) != last:
            last = len(found)
            found |= {p for p, parent in every.items() if parent in found}
        return found

    def stop(self, seconds=20):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill9(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        if self.process and self.process.poll() is None:
            mine = self.tree()
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill9()
            self._end(mine)
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _end(pids, seconds=3):
        """Whatever outlives its server is ended by its id, so that a test that fails leaves nothing on the machine."""
        end = time.monotonic() + seconds
        while any(alive(p) for p in pids) and time.monotonic() < end:
            time.sleep(0.02)
        for pid in filter(alive, pids):
            os.kill(pid, signal.SIGKILL)

    def cli(self, *args, check=True, key=None, env=None):
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "MAYFLY_SERVER": self.url, **(env or {})}
        if key or self.key:
            env["MAYFLY_KEY"] = key or self.key
        done = subprocess.run([BINARY, *map(str, args)], env=env, capture_output=True, text=True, timeout=120)
        if check and done.returncode != 0:
            raise AssertionError(f"mayfly {args} ended with {done.returncode}: {done.stderr}")
        return done

    def deploy(self, name, model, *flags):
        path = model if os.path.isabs(model) else MODELS / model
        return json.loads(self.cli("deploy", name, path, *flags, "-o", "json").stdout)

    def get(self, name):
        return json.loads(self.cli("get", name, "-o", "json").stdout)

    def http(self, path, method="GET", body=None, headers=None):
        return http(self.url + path, method, body, headers)

    def infer(self, name, x, **options):
        """An inference over JSON; input names are those of tests/models."""
        tensor = {"name": "input", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}
        return self.http(f"/v2/models/{name}/infer", "POST", {"inputs": [tensor]}, **options)

    def instances(self, name):
        return [i for i in self.http("/admin/v1/instances").json()["instances"] if i["endpoint"] == name]
