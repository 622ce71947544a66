"""Reads case files (tests/cases/README.md says the form), sends their requests byte by byte, and compares the answers.

Failure is what a case does not say; Broken is a case file that can't be read.
"""

import gzip
import json
import math
import re
import shlex
import socket
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
SECONDS = 30  # longest wait for an answer


class Failure(Exception):
    pass


class Broken(Exception):
    pass


@dataclass
class Block:
    """A request or an expected answer: first line, headers, @directives, body. `text` is all of it as it lies."""
    line: int
    first: str
    headers: list = field(default_factory=list)
    directives: dict = field(default_factory=dict)
    body: str = ""
    text: list = field(default_factory=list)


@dataclass
class Exchange:
    line: int
    title: str
    request: Block
    answers: list


@dataclass
class Case:
    prepare: list
    exchanges: list


def parse(text):
    case, part, at = Case([], []), None, 0
    parts = []  # (line number, title, blocks); a block is a list of (number, line)
    for at, line in enumerate(text.splitlines(), 1):
        if line.startswith("---"):
            part = [[]]
            parts.append((at, line[3:].strip(), part))
        elif line.startswith("#"):
            continue
        elif part is None:
            if line.strip():
                case.prepare.append(shlex.split(line))
        elif line == "=>":
            part.append([])
        else:
            part[-1].append((at, line))
    for number, title, blocks in parts:
        request, *answers = (_block(number, b) for b in blocks)
        case.exchanges.append(Exchange(number, title, request, answers))
    if not case.exchanges:
        raise Broken("no exchange; one begins with ---")
    return case


def _block(number, lines):
    while lines and not lines[-1][1].strip():
        lines.pop()
    if not lines:
        raise Broken(f"line {number}: an empty request or answer")
    block = Block(lines[0][0], lines[0][1].strip(), text=[line for _, line in lines])
    for i, (at, line) in enumerate(lines[1:], 1):
        if block.first == "raw":
            break
        if not line.strip():
            block.body = "\n".join(rest for _, rest in lines[i + 1:])
            break
        if line.startswith("@"):
            word, _, value = line[1:].partition(" ")
            block.directives[word] = value.strip()
        elif line.startswith("!"):
            block.headers.append((line[1:].strip(), None))
        elif ":" in line:
            name, value = line.split(":", 1)
            block.headers.append((name.strip(), value.strip()))
        else:
            raise Broken(f"line {at}: neither a header nor an @directive: {line}")
    return block


class Wire:
    """One connection. answer() reads exactly one answer; what the server sends beyond it is a failure of the next."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=SECONDS)
        self.buffer = b""

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server has answered and closed: answer() reads what it said

    def _more(self):
        try:
            got = self.socket.recv(1 << 16)
        except ConnectionResetError:
            got = b""
        except TimeoutError as e:
            raise Failure(f"no answer within {SECONDS} s; so far {self.buffer!r}") from e
        self.buffer += got
        return got

    def answer(self, bodiless=False):
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                raise Failure(f"the connection ended before an answer; got {self.buffer!r}")
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *fields = head.decode("latin-1").split("\r\n")
        version, status = first.split(" ")[:2]
        headers = [(n, v.strip()) for n, v in (line.split(":", 1) for line in fields)]
        sizes = [int(v) for n, v in headers if n.lower() == "content-length"]
        if version != "HTTP/1.1" or len(sizes) != (0 if status == "100" else 1):
            raise Failure(f"not an HTTP/1.1 answer with one Content-Length: {head!r}")
        size = 0 if bodiless or not sizes else sizes[0]
        while len(self.buffer) < size:
            if not self._more():
                raise Failure(f"the connection ended after {len(self.buffer)} of {size} bytes of the body")
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return int(status), headers, body

    def expect_end(self):
        if self.buffer or self._more():
            raise Failure(f"more after the last answer: {self.buffer!r}")

    def close(self):
        self.socket.close()


def matches(want, got, where, variables):
    """JSON subset: raises Failure where `got` lacks what `want` says."""
    def fail(why=""):
        raise Failure(f"{where}: expected {json.dumps(want)}, got {json.dumps(got)[:400]}{why}")

    if isinstance(want, str) and (name := re.fullmatch(r"\{(\w+)=\}", want)):
        variables[name[1]] = str(got)
    elif want == "<any>":
        pass
    elif want == "<number>":
        if isinstance(got, bool) or not isinstance(got, (int, float)):
            fail()
    elif isinstance(want, str) and want.startswith("~"):
        if not isinstance(got, str) or not re.fullmatch(want[1:], got, re.DOTALL):
            fail()
    elif isinstance(want, dict):
        if not isinstance(got, dict):
            fail()
        for key, value in want.items():
            if key not in got:
                fail(f": no \"{key}\"")
            matches(value, got[key], f"{where}.{key}", variables)
    elif isinstance(want, list):
        if not isinstance(got, list):
            fail()
        if want[:1] == ["..."]:
            for one in want[1:]:
                if not any(_fits(one, g, variables) for g in got):
                    fail(f": no element is {json.dumps(one)}")
            return
        if want[-1:] == ["..."]:
            want, got = want[:-1], got[:len(want) - 1]
        if len(want) != len(got):
            fail()
        for i, (w, g) in enumerate(zip(want, got)):
            matches(w, g, f"{where}[{i}]", variables)
    elif isinstance(want, float) and isinstance(got, float):
        if not (math.isclose(want, got, rel_tol=1e-6) or (math.isnan(want) and math.isnan(got))):
            fail()
    elif type(want) is not type(got) or want != got:
        fail()


def _fits(want, got, variables):
    try:
        matches(want, got, "", variables)
        return True
    except Failure:
        return False


class Runner:
    def __init__(self, address, variables=None):
        self.address, self.wire = address, None
        self.variables = {"address": address, **(variables or {})}

    def run(self, case):
        try:
            for exchange in case.exchanges:
                try:
                    self._repeat(exchange)
                except Failure as e:
                    raise Failure(f"line {exchange.line}: {exchange.title}: {e}") from None
            # Whatever was refused before, the connection still works.
            if self.wire:
                self._repeat(_STILL_WORKS)
        finally:
            self._close()

    def _close(self):
        if self.wire:
            self.wire.close()
        self.wire = None

    def _repeat(self, exchange):
        end = time.monotonic() + float(exchange.request.directives.get("until", 0))
        while True:
            try:
                return self._exchange(exchange)
            except Failure:
                if time.monotonic() >= end:
                    raise
                time.sleep(0.05)

    def _fill_in(self, text):
        text = re.sub(r"\{(.)\*(\d+)\}", lambda m: m[1] * int(m[2]), text)
        return re.sub(r"\{(\w+)\}", lambda m: self.variables.get(m[1], m[0]), text)

    def _exchange(self, exchange):
        request = exchange.request
        if "new" in request.directives:
            self._close()
        self.wire = self.wire or Wire(self.address)
        if self.wire.buffer:
            raise Failure(f"bytes that belong to no answer: {self.wire.buffer!r}")
        head, body, waits = self._bytes_of(request)
        self.wire.send(head if waits else head + body)
        if not exchange.answers:  # a client that goes away
            return self._close()
        for i, want in enumerate(exchange.answers):
            if self.wire is None:
                raise Failure("the server closed the connection before its last answer")
            got = self.wire.answer(bodiless=request.first.startswith("HEAD ") or "empty" in want.directives)
            if waits and i == 0 and got[0] == 100:
                self.wire.send(body)
            self._check(want, *got)

    def _bytes_of(self, request):
        """Head and body as bytes, and whether the body waits for 100."""
        if request.first == "raw":
            text = self._fill_in("".join(request.text[1:]))
            return text.encode().decode("unicode_escape").encode("latin-1"), b"", False
        headers, d = [(n, self._fill_in(v)) for n, v in request.headers], request.directives
        body = self._fill_in(request.body).encode()
        if "file" in d:
            body = (TESTS / self._fill_in(d["file"])).read_bytes()
        if "binary" in d:
            headers.append(("Inference-Header-Content-Length", str(len(body))))
            body += bytes.fromhex(self._fill_in(d["binary"]))
        for name, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
            if name in d:
                headers.append(("Content-Encoding", name))
                body = pack(body)
        names = {n.lower() for n, _ in headers}
        if "chunked" in d:
            n = int(d["chunked"] or 1000)
            headers.append(("Transfer-Encoding", "chunked"))
            pieces = [body[i:i + n] for i in range(0, len(body), n)] + [b""]
            body = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces)
        elif "content-length" not in names and (body or request.first.split()[0] in ("POST", "PUT")):
            headers.append(("Content-Length", str(len(body))))
        if "host" not in names:
            headers.insert(0, ("Host", self.address))
        lines = [self._fill_in(request.first) + " HTTP/1.1"] + [f"{n}: {v}" for n, v in headers]
        return "\r\n".join(lines + ["", ""]).encode(), body, "expect" in names

    def _check(self, want, status, headers, body):
        shown = f"{status}, {dict(headers)}, {body[:600]!r}"
        if str(status) != want.first:
            raise Failure(f"expected {want.first}, got {shown}")
        got = {n.lower(): v for n, v in headers}
        for name, value in want.headers:
            value = value and self._fill_in(value)
            found = got.get(name.lower())
            fits = re.fullmatch(value[1:], found or "") if value and value[0] == "~" else found == value
            if not fits:
                raise Failure(f"header {name}: expected {value}, got {found}; the answer is {shown}")
        says_close = got.get("connection") == "close"
        if says_close != any(n.lower() == "connection" and v == "close" for n, v in want.headers):
            raise Failure(f"the connection is {'closed' if says_close else 'kept'}, the case says otherwise: {shown}")
        self._check_body(want, got, body, shown)
        if says_close:
            self.wire.expect_end()
            self._close()

    def _check_body(self, want, got, body, shown):
        text = self._fill_in(want.body)
        split = int(got.get("inference-header-content-length", len(body)))
        body, tail = body[:split], body[split:]
        if "binary" in want.directives and tail != bytes.fromhex(self._fill_in(want.directives["binary"])):
            raise Failure(f"the bytes after the JSON are {tail[:100].hex(' ')}: {shown}")
        if text[:1] in ("{", "["):
            try:
                found = json.loads(body)
            except ValueError:
                raise Failure(f"expected JSON, got {shown}") from None
            return matches(json.loads(text), found, "$", self.variables)
        lines = body.decode("utf-8", "replace").splitlines()
        for line in filter(str.strip, text.splitlines()):
            if not any(re.fullmatch(line[1:], one) if line[0] == "~" else line == one for one in lines):
                raise Failure(f"no line of the body is {line}: {shown}")


_STILL_WORKS = parse("--- the connection still works at the end\nGET /v2/health/live\n=>\n200\n").exchanges[0]
