#!/usr/bin/env python3
"""Scale from zero again and again: every answer must be right, and in the end nothing may be left of all the instances.

    python3 tests/soak/cold.py [--cycles 10000] [--clients 4] [--kill] [--seed N] [--results FILE]

Each client has endpoints of its own, of several models, whose instances end as soon as they are idle; it asks one of them after
the other and checks the answer. An answer that had to wait for a start counts as a cycle. With --kill a further thread ends
instances, prepared processes and the zygote by kill -9 while it goes on: the answers must stay right.
Held at the end, with no instance left, against the time after a first round: resident memory and descriptors of server, launcher
and zygote; processes of the server's tree, zombies, cgroups, namespaces and mounts of namespaces.
Exit status: 0 all held, 1 something did not, 2 the run itself failed.
"""

import argparse
import http.client
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
from loads import Server, rows, wait_for
from harness import NETWORKS, descriptors, parents

MODELS = {"iris": (4,), "letter": (16,), "digits": (8, 8)}  # name in tests/models: shape of a row
FILES = {"iris": "iris_logreg.onnx", "letter": "letter_mlp.onnx", "digits": "digits_cnn.onnx"}
ROWS = 45  # of each model
ENDPOINTS = 6  # of each client
WARM_UP = 20  # cycles of each client before the first look
KILL_SECONDS = (0.05, 0.4)
KILLS = {"instance": 70, "blank": 20, "zygote": 10}
SETTLE_SECONDS = 30
MEMORY_BYTES = {"server": 8 << 20, "launcher": 1 << 20, "zygote": 2 << 20}  # more than at the first look
DESCRIPTORS = 2
NAMESPACES = ("net", "mnt", "pid", "ipc", "uts", "cgroup", "user")


def stat_of(pid):
    """(state, parent)"""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return fields[0], int(fields[1])


def tree_with_zombies(root):
    """{process: state} of all that descend from root."""
    every = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                every[int(entry)] = stat_of(entry)
            except OSError:
                continue
    found, last = {root}, 0
    while len(found) != last:
        last = len(found)
        found |= {pid for pid, (_, parent) in every.items() if parent in found}
    return {pid: every[pid][0] for pid in found if pid in every}


def cgroups_of(launcher):
    """Folders of this launcher's sandboxes in all hierarchies."""
    name = f"mayfly-{launcher}"
    found = [Path(top) / name for top, folders, _ in os.walk("/sys/fs/cgroup") if name in folders]
    return sum(1 for group in found for entry in group.iterdir() if entry.is_dir())


def namespaces_of(pids):
    """Different namespaces of these processes, all kinds."""
    found = set()
    for pid in pids:
        for kind in NAMESPACES:
            try:
                found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            except OSError:
                continue
    return len(found)


class Look:
    """What there is now."""

    def __init__(self, server):
        tree = tree_with_zombies(server.pid)
        self.processes = len(tree)
        self.zombies = sum(1 for state in tree.values() if state == "Z")
        launcher, zygote = server.launcher(), server.zygote()
        self.cgroups = cgroups_of(launcher)
        self.namespaces = namespaces_of(tree)
        self.mounts = Path(f"/proc/{launcher}/mountinfo").read_text().count(" nsfs ")
        self.memory, self.descriptors, self.networks = {}, {}, descriptors(launcher)[1]
        for name, pid in (("server", server.pid), ("launcher", launcher), ("zygote", zygote)):
            self.memory[name] = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            self.descriptors[name] = descriptors(pid)[0]

    def counts(self):
        return {"processes": self.processes, "zombies": self.zombies, "cgroups": self.cgroups, "namespaces": self.namespaces,
                "mounts of namespaces": self.mounts}


def request(x):
    return {"inputs": [{"name": "input", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}]}


def labels_of(answer):
    return next(o["data"] for o in answer["outputs"] if o["name"] == "label")


def right_answers(server, model):
    """(rows, the labels that the model gives them all at once); those must be nearly all the rows' own."""
    x, y = (part[:ROWS] for part in rows(model, *MODELS[model]))
    server.deploy("right", FILES[model])
    answer = server.http("/v2/models/right/infer", "POST", request(x))
    assert answer.status == 200, answer.body
    labels = labels_of(answer.json())
    assert np.mean(np.array(labels) == y) > 0.85, f"{model}: the labels are {labels}"
    server.cli("delete", "right")
    return x, labels


class Client(threading.Thread):
    """Asks its endpoints in turn until the soak is over."""

    def __init__(self, soak, number):
        super().__init__(daemon=True)
        self.soak, self.number = soak, number
        self.random = random.Random(soak.seed + number)
        self.cases = []
        for i in range(ENDPOINTS):
            model = list(MODELS)[i % len(MODELS)]
            self.cases.append((f"c{number}-{model}-{i}", *soak.right[model]))

    def deploy(self, server):
        for i, (name, _, _) in enumerate(self.cases):
            server.deploy(name, FILES[list(MODELS)[i % len(MODELS)]], "--idle", "0s", "--max", "2")

    def run(self):
        host, port = self.soak.server.address.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        while not self.soak.over.is_set():
            for name, x, y in self.cases:
                at = self.random.randrange(len(x))
                try:
                    self.soak.note(name, *self.ask(connection, name, x[at:at + 1], y[at]))
                except (OSError, http.client.HTTPException, KeyError, ValueError) as e:
                    self.soak.note(name, False, f"{type(e).__name__} {e}")
                    connection.close()
                if self.soak.over.is_set():
                    break

    def ask(self, connection, name, x, label):
        """(whether it was cold, what was wrong or None)"""
        connection.request("POST", f"/v2/models/{name}/infer", json.dumps(request(x)), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            return False, f"HTTP {answer.status} {text[:300].decode(errors='replace')}"
        got = labels_of(json.loads(text))
        if got != [label]:
            return False, f"the answer is {got}, right is {label}"
        return "start;desc=cold" in answer.headers["Server-Timing"], None


class Killer(threading.Thread):
    """Ends processes of all kinds by kill -9."""

    def __init__(self, soak):
        super().__init__(daemon=True)
        self.soak, self.random, self.done = soak, random.Random(soak.seed), Counter()

    def run(self):
        while not self.soak.over.wait(self.random.uniform(*KILL_SECONDS)):
            kind = self.random.choices(list(KILLS), list(KILLS.values()))[0]
            victims = self.victims(kind)
            if not victims:
                continue
            try:
                os.kill(self.random.choice(victims), signal.SIGKILL)
                self.done[kind] += 1
            except ProcessLookupError:
                continue

    def victims(self, kind):
        """One look at all processes: those wanted live for some milliseconds only."""
        every = parents()
        child = lambda of: next((pid for pid, parent in every.items() if parent == of), None)
        zygote = child(child(self.soak.server.pid))
        if zygote is None or kind == "zygote":
            return [zygote] if zygote else []
        return [pid for pid, parent in every.items() if parent == zygote and is_blank(pid) == (kind == "blank")]


def is_blank(pid):
    """It has not taken its unprivileged id yet; None: it has ended."""
    try:
        return Path(f"/proc/{pid}/status").read_text().split("Uid:")[1].split()[0] == "0"
    except (OSError, IndexError):
        return None


class Soak:
    def __init__(self, server, cycles, clients, kill, seed, say=print):
        self.server, self.cycles, self.kill, self.seed, self.say = server, cycles, kill, seed, say
        self.right = {model: right_answers(server, model) for model in MODELS}
        self.over, self.lock = threading.Event(), threading.Lock()
        self.cold = self.warm = 0
        self.problems, self.rows, self.goal = [], [], 0
        self.number_of_clients = clients

    def note(self, name, cold, wrong):
        with self.lock:
            if wrong:
                self.problems.append(f"{name} at {time.time():.3f}: {wrong}")
            elif cold:
                self.cold += 1
            else:
                self.warm += 1
            if self.cold >= self.goal or len(self.problems) > 50:
                self.over.set()

    def ask_until(self, goal):
        """Until so many answers were cold."""
        self.goal = goal
        self.over.clear()
        clients = [Client(self, i) for i in range(self.number_of_clients)]
        killer = Killer(self) if self.kill else None
        for thread in (*clients, *([killer] if killer else [])):
            thread.start()
        last = time.monotonic()
        while not self.over.wait(1):
            if time.monotonic() - last > 30:
                last = time.monotonic()
                self.say(f"  {self.cold} of {self.cycles} cold answers, {self.warm} warm, {len(self.problems)} problems")
            if all(not c.is_alive() for c in clients):
                raise AssertionError("all clients have ended")
        for client in clients:
            client.join(90)
        if killer:
            killer.join()
            self.say(f"  killed: {dict(killer.done)}")
        return dict(killer.done) if killer else {}

    def rest(self, like=None):
        """A look when nothing runs any more, or when nothing has changed for a while."""
        wait_for(lambda: not self.server.http("/admin/v1/instances").json()["instances"], "the end of all instances", SETTLE_SECONDS)
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            time.sleep(0.5)
            try:
                look = Look(self.server)
            except (OSError, IndexError):
                look = None  # the zygote is being started anew
            if look and (look.counts() == like.counts() if like else look.zombies == 0 and look.processes == 7):
                return look
            if time.monotonic() > end:
                return look or Look(self.server)

    def run(self):
        for i in range(self.number_of_clients):
            Client(self, i).deploy(self.server)
        kill, self.kill = self.kill, False
        self.ask_until(WARM_UP * self.number_of_clients)
        self.kill = kill
        before = self.rest()
        start, cold = time.monotonic(), self.cold
        killed = self.ask_until(cold + self.cycles)
        seconds, done = time.monotonic() - start, self.cold - cold
        after = self.rest(before)
        self.judge(before, after, done, seconds)
        return killed

    def judge(self, before, after, done, seconds):
        self.say(f"  {done} cold and {self.warm} warm answers in {seconds:.0f} s, {done / seconds:.0f} starts per second")
        self.row("scale-from-zero cycles", done, "", done >= self.cycles)
        self.row("answers that were no right 200", len(self.problems), "", not self.problems)
        for name, limit in MEMORY_BYTES.items():
            more = after.memory[name] - before.memory[name]
            self.row(f"{name}: resident memory more than after the first round (of {before.memory[name] / 1e6:.1f} MB)", more / 1e6, "MB", more <= limit)
            more = after.descriptors[name] - before.descriptors[name]
            self.row(f"{name}: descriptors more than after the first round (of {before.descriptors[name]})", more, "", abs(more) <= DESCRIPTORS)
        self.row("network namespaces that the launcher keeps", after.networks, "", after.networks <= NETWORKS)
        for what, n in before.counts().items():
            self.row(f"{what} more than after the first round (of {n})", after.counts()[what] - n, "", after.counts()[what] == n)

    def row(self, what, value, unit, met):
        self.rows.append({"what": what, "value": round(value, 4), "unit": unit, "met": bool(met)})
        self.say(f"  {what:<78} {value:>9.2f} {unit:<3} {'held' if met else 'NOT HELD'}")


def main():
    parser = argparse.ArgumentParser(description="scale from zero again and again; every answer right, nothing left in the end")
    parser.add_argument("--cycles", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--kill", action="store_true", help="kill -9 of instances, prepared processes and the zygote meanwhile")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--results", type=Path, help="write the rows here as JSON")
    arguments = parser.parse_args()
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    say = lambda text: print(text, flush=True)
    say(f"seed {seed}, {arguments.cycles} cycles, {arguments.clients} clients{', with kills' if arguments.kill else ''}")
    with Server() as server:
        soak, failure, killed = Soak(server, arguments.cycles, arguments.clients, arguments.kill, seed, say), None, {}
        try:
            killed = soak.run()
        except AssertionError as e:
            failure = str(e)
        for problem in soak.problems[:10]:
            say(f"problem: {problem}")
        if failure:
            say(f"the run failed: {failure}\nthe end of the server's log:\n" + "\n".join(server.log_text().splitlines()[-20:]))
    if arguments.results:
        arguments.results.parent.mkdir(parents=True, exist_ok=True)
        arguments.results.write_text(json.dumps({"seed": seed, "killed": killed, "rows": soak.rows, "problems": soak.problems,
                                                 "failure": failure}, indent=1) + "\n")
    return 2 if failure else 0 if all(r["met"] for r in soak.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
