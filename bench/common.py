"""What the programs of bench/ share: the server under test, the load generator, CPU and memory of processes, rows of results.

Each program starts a server of its own on a free port with a temporary data folder. CPU is the kernel's own account of each
process, so it holds on a busy machine too; latencies and throughput do not. MAYFLY_BINARY and MAYFLY_BENCH name other binaries
than those of build/release/bin.
"""
import glob
import http.client
import json
import os
import pathlib
import platform
import shutil
import struct
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEPS = pathlib.Path(os.environ.get("MAYFLY_DEPS", ROOT / ".deps"))
MAYFLY = pathlib.Path(os.environ.get("MAYFLY_BINARY", ROOT / "build/release/bin/mayfly"))
BENCH = pathlib.Path(os.environ.get("MAYFLY_BENCH", ROOT / "build/release/bin/mayfly_bench"))
RESULTS = ROOT / "build/bench"
IRIS = ROOT / "tests/models/iris_logreg.onnx"
COUNT = ROOT / "tests/models/count.onnx"
IMAGE = DEPS / "models/efficientnet_lite0.onnx"
TEXT = DEPS / "models/minilm.onnx"
IRIS_ROW = (5.1, 3.5, 1.4, 0.2)
PIXELS = 3 * 224 * 224
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Unmeasured(Exception):
    """Why a row has no value."""


def percentile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


# -- processes --------------------------------------------------------------------------------------------------------
def cpu_ns(pid):
    """CPU time of all threads of a process: nanoseconds from schedstat, else 10 ms ticks from stat."""
    try:
        return sum(int(pathlib.Path(f).read_text().split()[0]) for f in glob.glob(f"/proc/{pid}/task/*/schedstat"))
    except (OSError, IndexError):
        fields = stat_fields(pid)
        return (int(fields[11]) + int(fields[12])) * TICK_NS


def stat_fields(pid):
    """The fields of /proc/PID/stat after the name: state, parent, …"""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def tree(root):
    """The process and all that descend from it."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(stat_fields(entry)[1])
            except (OSError, IndexError):
                continue
    found, size = {root}, 0
    while len(found) != size:
        size = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found


def tree_cpu_ns(root):
    """CPU time of a process tree in steps of 10 ms, with threads and children that have ended."""
    total = 0
    for pid in tree(root):
        try:
            total += sum(int(f) for f in stat_fields(pid)[11:15])
        except OSError:
            continue
    return total * TICK_NS


def rollup_bytes(pid, key):
    try:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    except PermissionError:
        raise Unmeasured("reading smaps_rollup of another user's process needs root") from None
    raise Unmeasured(f"smaps_rollup has no {key}")


def end(process):
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# -- the server under test --------------------------------------------------------------------------------------------
class Server:
    """One `mayfly serve` in a temporary folder. With keys=True it asks every caller for a key and `key` is one for all scopes."""

    def __init__(self, folder, keys=False, flags=()):
        self.folder, self.key = folder, None
        self._start(flags)
        if keys:
            made = self.cli("keys", "create", "bench", "--scopes", "admin,deploy,invoke", "-o", "json")
            self.key = json.loads(made)["key"]
            self.close()
            self._start((*flags, "--require-keys"))

    def _start(self, flags):
        log = self.folder / "log"
        log.unlink(missing_ok=True)
        command = [MAYFLY, "serve", "--data", self.folder / "data", "--listen", "127.0.0.1:0", "--log-file", log, *flags]
        with open(self.folder / "stderr", "wb") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        self.port = self._port(log)

    def _port(self, log):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in log.read_text().splitlines() if log.exists() else []:
                event = json.loads(line)
                if event.get("event") == "listening":
                    return int(event["detail"].rsplit(":", 1)[1])
            time.sleep(0.02)
        self.process.kill()
        raise SystemExit(f"bench: the server did not start: {(self.folder / 'stderr').read_text()[-2000:]}")

    def close(self):
        end(self.process)

    def cli(self, *args):
        environment = dict(os.environ, MAYFLY_SERVER=f"http://127.0.0.1:{self.port}")
        if self.key:
            environment["MAYFLY_KEY"] = self.key
        done = subprocess.run([MAYFLY, *map(str, args)], env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise Unmeasured(f"mayfly {args[0]} {args[1]}: {(done.stderr or done.stdout).strip()[-300:]}")
        return done.stdout

    def deploy(self, name, model, *flags):
        if not model.exists():
            raise Unmeasured(f"{model.name} is missing: run scripts/dev/models.sh --all")
        self.cli("deploy", name, model, *flags)

    def apply(self, name, model, spec):
        """Deploys by an endpoint file; JSON is YAML."""
        file = self.folder / f"{name}.yaml"
        file.write_text(json.dumps({"name": name, "model": str(model), "spec": spec}))
        self.cli("apply", "-f", file)

    def delete(self, name):
        try:
            self.cli("delete", name)
        except Unmeasured:
            pass

    def headers(self):
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def instances(self, endpoint=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", "/admin/v1/instances", headers=self.headers())
        rows = json.loads(connection.getresponse().read())["instances"]
        connection.close()
        return [r for r in rows if endpoint in (None, r["endpoint"])]

    def wait_instances(self, endpoint, done, seconds, what):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            rows = self.instances(endpoint)
            if done(rows):
                return rows
            time.sleep(0.002)
        raise Unmeasured(f"{endpoint}: {what} did not happen within {seconds} s; now {len(rows)} instances")


class Meter:
    """CPU of the server's process and of one endpoint's instances, from its making to stop()."""

    def __init__(self, server, endpoint):
        self.server, self.endpoint = server, endpoint
        self.before = {r["pid"]: cpu_ns(r["pid"]) for r in server.instances(endpoint)}
        self.server_before = cpu_ns(server.process.pid)

    def stop(self, what):
        """(server, instances, number of instances): nanoseconds; instances that started meanwhile count from their start."""
        used = cpu_ns(self.server.process.pid) - self.server_before
        live = {r["pid"] for r in self.server.instances(self.endpoint)}
        if set(self.before) - live:
            raise Unmeasured(f"{what}: an instance ended during the run, its CPU is lost")
        return used, sum(cpu_ns(pid) - self.before.get(pid, 0) for pid in live), len(live)


# -- requests ---------------------------------------------------------------------------------------------------------
def infer_request(endpoint, header, binary=None):
    """(path, headers, body) of an Open Inference Protocol request; binary: the tensor's bytes after the JSON."""
    text = json.dumps(header, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json"}
    if binary is not None:
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
    return f"/v2/models/{endpoint}/infer", headers, text + (binary or b"")


def request_file(folder, name, request):
    path, headers, body = request
    head = "".join(f"{k}: {v}\r\n" for k, v in {"Host": "127.0.0.1", **headers, "Content-Length": len(body)}.items())
    return bytes_file(folder, name, f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body)


def bytes_file(folder, name, content):
    file = folder / name
    file.write_bytes(content)
    return file


def json_tensor(name, datatype, shape, data):
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": list(data)}


def iris_json(endpoint):
    return infer_request(endpoint, {"inputs": [json_tensor("input", "FP32", (1, 4), IRIS_ROW)]})


def text_json(endpoint):
    return infer_request(endpoint, {"inputs": [json_tensor(name, "INT64", (1, 32), [value] * 32) for name, value in (
        ("input_ids", 2003), ("attention_mask", 1), ("token_type_ids", 0))]})


def count_json(endpoint, n):
    return infer_request(endpoint, {"inputs": [json_tensor("count", "INT64", (1,), (n,))]})


def pixels():
    return [((i * 37) % 256 - 127) / 128 for i in range(PIXELS)]


def raw_pixels():
    return struct.pack(f"<{PIXELS}f", *pixels())


def image_json(endpoint):
    return infer_request(endpoint, {"inputs": [json_tensor("image", "FP32", (1, 3, 224, 224), pixels())]})


def image_binary(endpoint):
    tensor = {"name": "image", "shape": [1, 3, 224, 224], "datatype": "FP32", "parameters": {"binary_data_size": PIXELS * 4}}
    return infer_request(endpoint, {"inputs": [tensor], "parameters": {"binary_data_output": True}}, raw_pixels())


# -- the load generator -----------------------------------------------------------------------------------------------
def tool(*args):
    done = subprocess.run([str(a) for a in (BENCH, *args)], capture_output=True, text=True)
    if done.returncode != 0:
        raise Unmeasured(done.stderr.strip()[-400:])
    return json.loads(done.stdout)


def load(port, file, connections, count, warmup=0, key=None, expect=None, others=(), **more):
    """Closed loop over HTTP; others: request files that are sent in turn with the first; more: flags of mayfly_bench by their name."""
    return tool("load", "--port", port, "--request", file, *(("--expect", expect) if expect else ()),
                *(x for other in others for x in ("--request", other)), "--connections", connections, *loop(count, warmup, key, more))


def grpc(port, model, tensor, file, streams, count, warmup=0, key=None, expect=None, connections=1, **more):
    """Closed loop of ModelInfer; tensor is NAME:DATATYPE:1x4, the file its raw bytes."""
    return tool("grpc", "--port", port, "--model", model, "--input", tensor, "--request", file,
                *(("--expect", expect) if expect else ()), "--connections", connections, "--streams", streams,
                *loop(count, warmup, key, more))


def loop(count, warmup, key, more):
    flags = ["--count", count, "--warmup", warmup] if count else []
    if key:
        flags += ["--key", key]
    for name, value in more.items():
        flags += [f"--{name}"] if value is True else [f"--{name}", value]
    return flags


def floor(model, warmup, count, *shape):
    """The model in a process of the load generator."""
    libraries = sorted(glob.glob(str(DEPS / "onnxruntime/libonnxruntime.so*")))
    if not libraries:
        raise Unmeasured("no libonnxruntime.so: run ./dev setup")
    return tool("floor", libraries[-1], model, warmup, count, *shape)


# -- results ----------------------------------------------------------------------------------------------------------
class Rows:
    """The table on the terminal and in build/bench/NAME.json: rows of {what, value, unit, target, met}; "why" instead of a value."""

    def __init__(self, name):
        self.out, self.rows, self.facts = RESULTS / f"{name}.json", [], machine()
        print(f"{self.facts['cpu']}, {self.facts['cores']} cores, load average {self.facts['load_average']:.1f} at the start")

    def row(self, what, value, unit, target=None, at_least=None):
        """target: the value may be at most that; at_least: or must be at least that."""
        limit = target if at_least is None else at_least
        met = None if limit is None else bool(value <= limit if at_least is None else value >= limit)
        sign = "<=" if at_least is None else ">="
        self.rows.append({"what": what, "value": round(value, 4), "unit": unit, "target": limit, "met": met}
                         | ({"sign": sign} if limit is not None else {}))
        goal = "" if limit is None else f"  (target {sign} {limit:g}: {'met' if met else 'MISSED'})"
        print(f"  {what:<72} {value:>11.3f} {unit:<8}{goal}", flush=True)

    def missing(self, what, why):
        why = " ".join(str(why).split())
        self.rows.append({"what": what, "value": None, "unit": "", "target": None, "met": None, "why": why})
        print(f"  {what}: not measured: {why}", flush=True)

    def section(self, title, function):
        print(f"\n{title}", flush=True)
        try:
            function()
        except (Unmeasured, OSError, http.client.HTTPException) as e:
            self.missing(title, e)

    def write(self):
        """Exit status: 1 if a row could not be measured."""
        self.facts["load_average_end"] = os.getloadavg()[0]
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.out.write_text(json.dumps({"machine": self.facts, "rows": self.rows}, indent=1) + "\n")
        print(f"\nload average {self.facts['load_average_end']:.1f} at the end; written: {self.out.relative_to(ROOT)}")
        return 1 if any("why" in r for r in self.rows) else 0


def machine():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = next((x.split(":", 1)[1].strip() for x in info.splitlines() if x.startswith("model name")), platform.machine())
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) * 1024
    version = subprocess.run([MAYFLY, "version"], capture_output=True, text=True).stdout.strip()
    return {"cpu": model, "cores": os.cpu_count(), "memory_bytes": memory, "kernel": platform.release(), "mayfly": version,
            "load_average": os.getloadavg()[0], "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "root": os.geteuid() == 0}


def need_binaries():
    for program in (MAYFLY, BENCH):
        if not program.exists():
            raise SystemExit(f"bench: {program} is missing: run ./dev build")


class Folder:
    """A temporary folder that the server, which drops to another user, can read."""

    def __enter__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="mayfly-bench-"))
        self.path.chmod(0o755)
        return self.path

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)
