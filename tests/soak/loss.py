#!/usr/bin/env python3
"""Loses requests, if anything does: rollouts, kills and scale-downs under steady load, and every request must get its right answer.

    python3 tests/soak/loss.py [--events 1000] [--seed N] [--connections 4] [--results FILE]

Three loads run all the time: a closed loop of several connections on `steady`, in JSON and in binary, and requests on `brief`
whose gap is longer than its idle time, so that each meets an instance that ends, or none. One event follows another as soon as
both endpoints have answered requests since the last one:
  rollout       a further version of `steady`, with other settings each time; afterwards new requests reach the new version
  kill          kill -9 of a random instance of `steady`, idle, busy or starting
  zygote        kill -9 of the zygote, with which all instances end
  scale-down    one more instance of `brief` has ended because it was idle
A lost request is one without its right answer: refused, failed, wrong, cut, or longer than the endpoint's timeout. Prints the
counts and the first lost ones, each with the server's log lines around it. Exit status: 0 none lost, 1 some, 2 the test failed.
"""

import argparse
import collections
import datetime
import json
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from loads import Load, Server, iris_cases, wait_for

WEIGHTS = {"rollout": 25, "kill": 45, "zygote": 10, "scale-down": 20}
BRIEF_IDLE, BRIEF_RATE = "20ms", 15  # a request every 67 ms
REQUESTS_BETWEEN = {"steady": 20, "brief": 2}
PATIENCE = 30  # seconds that an event may take, and the time until requests are answered again
LOG_AROUND = 0.05  # seconds of log shown before and after a lost request


class Following:
    """The server's log without the requests that were answered, read on from where it was read last: it grows by gigabytes."""
    CHUNK = 1 << 24

    def __init__(self, path):
        self.file, self.rest, self.lines, self.idle_ends = open(path, "rb"), b"", collections.deque(maxlen=100_000), 0

    def read_on(self):
        while chunk := self.file.read(self.CHUNK):
            *lines, self.rest = (self.rest + chunk).split(b"\n")
            for line in lines:
                if b'"status":200' in line:
                    continue
                self.lines.append(line.decode(errors="replace"))
                self.idle_ends += b'"event":"instance_ended","endpoint":"brief"' in line and b'"detail":"idle"' in line
        return self


class Loss:
    def __init__(self, server, seed, connections, say=print):
        self.server, self.random, self.connections, self.say = server, random.Random(seed), connections, say
        self.log = Following(server.log)
        self.events, self.marks, self.versions, self.retries = Counter(), [], 0, None

    # -- events -------------------------------------------------------------------------------------------------------
    def rollout(self):
        flags = ["--idle", "60s", "--max", self.random.choice("234"), "--concurrency", self.random.choice("148")]
        self.versions = self.server.deploy("steady", "iris_logreg.onnx", *flags)["version"]
        live = self.server.http("/v2/models/steady").json()["versions"]
        assert str(self.versions) in live, f"version {self.versions} is deployed, the server lists {live}"
        return f"version {self.versions}"

    def kill(self):
        victims = wait_for(lambda: self.server.instances("steady"), "an instance of steady", PATIENCE)
        victim = self.random.choice(victims)
        try:
            os.kill(victim["pid"], signal.SIGKILL)
        except ProcessLookupError:
            return f"instance {victim['id']} had ended"
        return f"instance {victim['id']}, {victim['state']}, process {victim['pid']}"

    def zygote(self):
        old = self.server.zygote()
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: self.new_zygote(old), "a new zygote", PATIENCE)
        return f"process {old}"

    def new_zygote(self, old):
        try:
            return self.server.zygote() != old
        except IndexError:
            return False  # between the two the launcher has no child

    def scale_down(self):
        before = self.idle_ends()
        wait_for(lambda: self.idle_ends() > before, "the end of an idle instance of brief", PATIENCE)
        return f"{self.idle_ends()} so far"

    def idle_ends(self):
        return self.log.read_on().idle_ends

    # -- the run ------------------------------------------------------------------------------------------------------
    def metric(self, name):
        """A counter by endpoint."""
        text = self.server.http("/metrics").body.decode()
        return {endpoint: int(n) for endpoint, n in re.findall(rf'^{name}\{{[^}}]*endpoint="(\w+)"[^}}]*\}} (\d+)', text, re.M)}

    def answered(self):
        return self.metric("mayfly_requests_total")

    def wait_for_requests(self):
        goal = {name: self.answered().get(name, 0) + n for name, n in REQUESTS_BETWEEN.items()}

        def reached():
            ended = [e for load in self.loads if (e := load.ended())]
            assert not ended, ended
            now = self.answered()
            return all(now.get(name, 0) >= n for name, n in goal.items())

        wait_for(reached, f"requests to go on after {self.marks[-1] if self.marks else 'the start'}", PATIENCE)

    def run(self, events):
        server = self.server
        server.deploy("steady", "iris_logreg.onnx", "--idle", "60s")
        server.deploy("brief", "iris_logreg.onnx", "--idle", BRIEF_IDLE)
        self.loads = [
            Load("steady-json", server, server.folder, iris_cases("steady"), "--connections", self.connections, "--timeout", 35),
            Load("steady-binary", server, server.folder, iris_cases("steady", True), "--connections", self.connections, "--timeout", 35),
            Load("brief", server, server.folder, iris_cases("brief"), "--connections", 8, "--rate", BRIEF_RATE, "--timeout", 35),
        ]
        failure = None
        try:
            self.wait_for_requests()
            for number in range(1, events + 1):
                kind = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
                at = time.time()
                detail = getattr(self, kind.replace("-", "_"))()
                self.events[kind] += 1
                self.marks.append(f"event {number}, {kind} ({detail}) at {at:.3f}")
                self.wait_for_requests()
                if number % 25 == 0:
                    self.say(f"{number} of {events} events: {dict(self.events)}")
        except (AssertionError, OSError) as e:
            failure = f"{e}"
        finally:
            for load in self.loads:
                load.stop()
        if self.server.process.poll() is None:
            self.retries = sum(self.metric("mayfly_request_retries_total").values())
        return self.result(failure)

    def result(self, failure):
        counts, problems = Counter(), []
        for load in self.loads:
            counts.update(load.counts())
            problems += load.problems()
        if self.server.process.poll() is not None:
            failure = f"{failure or ''} the server ended with {self.server.process.returncode}"
        lost = sum(n for name, n in counts.items() if name != "200")
        return {"events": dict(self.events), "requests": dict(counts), "lost": lost, "problems": problems, "failure": failure,
                "scale_downs_of_brief": self.idle_ends(), "retries": self.retries}

    def explain(self, problem):
        """The events and the server's log lines around a lost request, but for other requests' that were answered."""
        found = re.search(r" after ([0-9.]+) ms at ([0-9.]+): ", problem)
        if not found:
            return []
        end = float(found[2])
        start = end - float(found[1]) / 1e3
        near = [m for m in self.marks if start - 1 <= float(m.rsplit(" ", 1)[1]) <= end + LOG_AROUND]
        lines = []
        for line in self.log.read_on().lines:
            stamp = re.match(r'\{"time":"([^"]+)"', line)
            if stamp and start - LOG_AROUND <= seconds_of(stamp[1]) <= end + LOG_AROUND:
                lines.append(line)
        return near + lines[:40]


def seconds_of(stamp):
    return datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def show(loss, result, shown=3):
    print(f"events: {result['events']}, and {result['scale_downs_of_brief']} instances of brief ended while idle")
    print(f"requests by outcome: {result['requests']}; lost: {result['lost']}; {result['retries']} ran again after their instance was lost")
    for problem in result["problems"][:shown]:
        print(f"\n{problem}")
        for line in loss.explain(problem):
            print(f"    {line}")
    if len(result["problems"]) > shown:
        print(f"\n… and {len(result['problems']) - shown} more")
    if result["failure"]:
        print(f"\nthe test ended early: {result['failure']}")
        print("the end of the server's log:\n" + "\n".join(list(loss.log.read_on().lines)[-20:]))


def main():
    parser = argparse.ArgumentParser(description="rollouts, kills and scale-downs under load; no request may be lost")
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None, help="repeats the order of events; random by default")
    parser.add_argument("--connections", type=int, default=4, help="of each of the two closed loops")
    parser.add_argument("--results", type=Path, help="write the result here as JSON")
    arguments = parser.parse_args()
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    with Server() as server:
        loss = Loss(server, seed, arguments.connections, lambda text: print(text, flush=True))
        result = loss.run(arguments.events)
        show(loss, result)
    if arguments.results:
        arguments.results.parent.mkdir(parents=True, exist_ok=True)
        row = {"what": f"requests lost in {sum(result['events'].values())} rollouts, kills and scale-downs under load",
               "value": result["lost"], "unit": "requests", "target": 0, "met": result["lost"] == 0 and not result["failure"]}
        arguments.results.write_text(json.dumps({"seed": seed, "rows": [row], **result}, indent=1) + "\n")
    return 2 if result["failure"] else 1 if result["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
