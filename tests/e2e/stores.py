"""Where models come from in tests: a real S3 server (versitygw), a real OCI registry (crane's), and an HTTP server that misbehaves.

All on loopback and on free ports. Each is a context manager that ends what it started.
"""

import contextlib
import hashlib
import json
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
from botocore.client import Config
from harness import DEPS, http, wait_for

KEY, SECRET = "test-access-key", "test-secret-0123456789/+abc"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def digest(content):
    return hashlib.sha256(content).hexdigest()


class Process:
    def __init__(self, *command):
        self.folder = Path(tempfile.mkdtemp(prefix="mayfly-store-"))
        self.port = free_port()
        self.command = [str(c).format(port=self.port, folder=self.folder) for c in command]
        self.process = None
        self.start()

    def start(self):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(lambda: answers(self.port) or self.process.poll() is not None, f"{self.command[0]} to listen")
        assert self.process.poll() is None, (self.folder / "log").read_text()

    def stop(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class S3(Process):
    def __init__(self, bucket="models"):
        data = Path(tempfile.mkdtemp(prefix="mayfly-s3-"))
        self.data, self.bucket = data, bucket
        super().__init__(DEPS / "tools/versitygw", "--port", "127.0.0.1:{port}", "--access", KEY, "--secret", SECRET, "posix", data)
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = boto3.client("s3", endpoint_url=self.url, aws_access_key_id=KEY, aws_secret_access_key=SECRET,
                                   region_name="us-east-1", config=Config(s3={"addressing_style": "path"}))
        self.client.create_bucket(Bucket=bucket)

    def __exit__(self, *a):
        super().__exit__(*a)
        shutil.rmtree(self.data, ignore_errors=True)

    @property
    def env(self):
        return {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL_S3": self.url}

    def put(self, key, content):
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content)
        return f"s3://{self.bucket}/{key}"

    def names(self, prefix=""):
        listed = self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return sorted(o["Key"] for o in listed.get("Contents", []))


class Registry(Process):
    def __init__(self):
        super().__init__(DEPS / "tools/crane", "registry", "serve", "--address", "127.0.0.1:{port}")
        self.url = f"http://127.0.0.1:{self.port}"
        self.name = f"127.0.0.1:{self.port}"

    def blob(self, repository, content):
        d = f"sha256:{digest(content)}"
        begun = http(f"{self.url}/v2/{repository}/blobs/uploads/", "POST", b"")
        where = begun.headers["Location"]
        where = where if where.startswith("http") else self.url + where
        put = http(f"{where}{'&' if '?' in where else '?'}digest={d}", "PUT", content, {"Content-Type": "application/octet-stream"})
        assert put.status == 201, put.body
        return d

    def push(self, repository, tag, files, media_type="application/vnd.cncf.model.weight.v1.raw"):
        """`files`: {title: content}, a raw layer each, as ModelPack and ORAS push them. The manifest's digest."""
        layers = [{"mediaType": media_type, "digest": self.blob(repository, c), "size": len(c),
                   "annotations": {"org.opencontainers.image.title": name}} for name, c in files.items()]
        config = b"{}"
        manifest = json.dumps({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.cncf.model.manifest.v1+json",
            "config": {"mediaType": "application/vnd.cncf.model.config.v1+json", "digest": self.blob(repository, config),
                       "size": len(config)}, "layers": layers}).encode()
        put = http(f"{self.url}/v2/{repository}/manifests/{tag}", "PUT", manifest,
                   {"Content-Type": "application/vnd.oci.image.manifest.v1+json"})
        assert put.status == 201, put.body
        return f"sha256:{digest(manifest)}"


class Liar:
    """Serves `content`, as `behave` says: behave(handler, first, last) may send what it likes and return True, or leave it to
    the honest answer. `requests` are the Range headers as they came."""

    def __init__(self, content, behave=None, etag='"1"'):
        liar = self
        self.content, self.behave, self.etag, self.requests = content, behave, etag, []
        self.lock, self.ended = threading.Lock(), threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                with liar.lock:
                    liar.requests.append(dict(self.headers))
                    number = len(liar.requests)
                found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                first, last = (int(found[1]), min(int(found[2]), len(liar.content) - 1)) if found else (0, len(liar.content) - 1)
                self.number = number
                if not (liar.behave and liar.behave(self, first, last)):
                    self.honest(first, last)

            def honest(self, first, last, upto=None):
                self.head(first, last)
                self.wfile.write(liar.content[first:last + 1][:upto])

            def head(self, first, last, length=None):
                self.send_response(206)
                self.send_header("ETag", liar.etag)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(liar.content)}")
                self.send_header("Content-Length", str(length if length is not None else last - first + 1))
                self.end_headers()

            def cut(self):
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return True

            def hang(self):
                self.wfile.flush()
                liar.ended.wait()
                self.close_connection = True
                return True

            def log_message(self, *_):
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):  # clients that go away are what these tests are about
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def url(self, path="/model.onnx"):
        return f"http://127.0.0.1:{self.port}{path}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
