"""A small HTTP/2 client of raw frames, for what well-behaved clients can't be made to do. Heads are sent as literals."""

import socket
import struct

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
NO_ERROR, CANCEL, ENHANCE_YOUR_CALM = 0, 8, 11
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name, value):
    """A header field without indexing (RFC 7541 section 6.2.2); both shorter than 127 bytes."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


class H2:
    def __init__(self, address, sock=None, seconds=30):
        host, port = address.rsplit(":", 1)
        self.sock = sock or socket.create_connection((host, int(port)), seconds)
        self.sock.settimeout(seconds)
        self.address, self.next, self.buffer = address, 1, b""
        self.send(PREFACE + frame(SETTINGS, 0, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def request(self, method, path, body=None, end=True):
        stream, self.next = self.next, self.next + 2
        fields = {":method": method, ":scheme": "http", ":authority": self.address, ":path": path}
        head = b"".join(literal(*f) for f in fields.items())
        flags = END_HEADERS | (END_STREAM if body is None and end else 0)
        data = frame(HEADERS, flags, stream, head)
        if body is not None:
            data += frame(DATA, END_STREAM if end else 0, stream, body)
        self.send(data)
        return stream

    def read(self):
        """The next frame: (type, flags, stream, payload); None at the end."""
        while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
            try:
                more = self.sock.recv(65536)
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            self.buffer += more
        n = int.from_bytes(self.buffer[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", self.buffer[3:9])
        payload, self.buffer = self.buffer[9:9 + n], self.buffer[9 + n:]
        if kind == SETTINGS and not flags & ACK:
            self.send(frame(SETTINGS, ACK, 0))
        if kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, 0, payload))
        return kind, flags, stream, payload

    def until(self, kind, stream=None):
        while (got := self.read()) is not None:
            if got[0] == kind and stream in (None, got[2]):
                return got
        return None

    def answer(self, stream):
        """(first byte of the head's block, body): 0x88 is status 200."""
        first, body = None, b""
        while (got := self.read()) is not None:
            kind, flags, of, payload = got
            if of != stream:
                continue
            assert kind in (HEADERS, DATA), got
            if kind == HEADERS and first is None:
                first = payload[0]
            elif kind == DATA:
                body += payload
            if flags & END_STREAM:
                return first, body
        return None
