"""TLS on the same port: ALPN, what is refused, and certificates that change while the server runs."""

import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest
from h2 import GOAWAY, H2
from harness import BINARY, DEPS, ROOT, Server, rows, wait_for

X, Y = rows("iris", 4)


def make_certificate(folder, name):
    """A certificate that signs itself, for 127.0.0.1, in folder as tls.crt and tls.key. They come by renaming."""
    folder = Path(folder)
    new = folder / "new"
    new.mkdir()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
                    "-keyout", new / "tls.key", "-out", new / "tls.crt"], check=True, capture_output=True)
    for file in ("tls.key", "tls.crt"):
        os.chmod(new / file, 0o644)
        os.rename(new / file, folder / file)
    new.rmdir()


class TlsServer(Server):
    def __init__(self, *flags, **options):
        self.tls = Path(tempfile.mkdtemp(prefix="mayfly-tls-"))
        os.chmod(self.tls, 0o755)
        make_certificate(self.tls, "first")
        super().__init__("--tls-cert", self.tls / "tls.crt", "--tls-key", self.tls / "tls.key", *flags, **options)

    def close(self):
        super().close()
        shutil.rmtree(self.tls, ignore_errors=True)

    def curl(self, *args, data=None):
        return subprocess.run(["curl", "-sS", "--noproxy", "*", "--cacert", self.tls / "tls.crt", *args], input=data,
                              capture_output=True, timeout=60)

    def connect(self, protocols, version=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # asks what is served, whoever signed it
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(protocols)
        if version:
            context.minimum_version = context.maximum_version = version
        host, port = self.address.rsplit(":", 1)
        return context.wrap_socket(socket.create_connection((host, int(port)), 30), server_hostname="localhost")

    def common_name(self):
        with self.connect(["http/1.1"]) as s:
            der = s.getpeercert(binary_form=True)
        out = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-subject"], input=der,
                             capture_output=True, check=True).stdout.decode()
        return out.strip().split("CN = ")[-1]


@pytest.fixture(scope="module")
def server():
    with TlsServer() as s:
        s.cli("--ca-file", s.tls / "tls.crt", "deploy", "iris", ROOT / "tests/models/iris_logreg.onnx")
        yield s


def infer_body():
    return json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": list(X.shape),
                                   "data": X.ravel().tolist()}]}).encode()


def test_curl_by_alpn(server):
    assert server.url.startswith("https://")
    for flag, version in (("--http2", "2"), ("--http1.1", "1.1")):
        done = server.curl(flag, "-w", "\n%{http_version}", "--data-binary", "@-", server.url + "/v2/models/iris/infer",
                           data=infer_body())
        assert done.returncode == 0, done.stderr
        body, said = done.stdout.rsplit(b"\n", 1)
        assert said.decode() == version
        assert json.loads(body)["outputs"][0]["data"] == Y.tolist()


def test_command_line_checks_the_certificate(server):
    done = server.cli("list", check=False)
    assert done.returncode == 5 and "--ca-file" in done.stderr
    assert "iris" in server.cli("--ca-file", server.tls / "tls.crt", "list").stdout


def test_large_bodies_both_ways(server):
    server.cli("--ca-file", server.tls / "tls.crt", "deploy", "same", ROOT / "tests/models/identity_fp32.onnx")
    meta = json.loads(server.curl(server.url + "/v2/models/same").stdout)["inputs"][0]
    values = [round(i * 0.25, 2) for i in range(60_000)]
    body = json.dumps({"inputs": [{"name": meta["name"], "datatype": "FP32", "shape": [len(values)] if
                                   len(meta["shape"]) == 1 else [1, len(values)], "data": values}]}).encode()
    for flag in ("--http2", "--http1.1"):
        done = server.curl(flag, "--data-binary", "@-", server.url + "/v2/models/same/infer", data=body)
        answer = json.loads(done.stdout)
        assert answer["outputs"][0]["data"] == values, answer


def test_versions_of_tls(server):
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with server.connect(["h2"], version) as s:
            assert s.selected_alpn_protocol() == "h2"
    out = subprocess.run(["openssl", "s_client", "-connect", server.address, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
                         stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    assert out.returncode != 0


def test_no_renegotiation(server):
    out = subprocess.run(["openssl", "s_client", "-connect", server.address, "-tls1_2"], input=b"R\n",
                         capture_output=True, timeout=30)
    assert b"no renegotiation" in out.stderr or out.returncode != 0


def test_session_tickets_resume(server, tmp_path):
    saved = tmp_path / "session"
    request = f"GET /v2/health/live HTTP/1.1\r\nHost: {server.address}\r\nConnection: close\r\n\r\n".encode()
    base = ["openssl", "s_client", "-connect", server.address, "-tls1_2", "-ign_eof"]
    subprocess.run([*base, "-sess_out", saved], input=request, capture_output=True, timeout=30, check=True)
    again = subprocess.run([*base, "-sess_in", saved], input=request, capture_output=True, timeout=30, check=True)
    assert b"Reused, TLSv1.2" in again.stdout and b"200 OK" in again.stdout


def test_without_alpn_the_first_bytes_tell(server):
    with server.connect([]) as s, H2(server.address, s) as c:
        assert c.answer(c.request("GET", "/v2/health/live"))[0] == 0x88


def test_plain_on_loopback_is_served(server):
    done = server.curl("http://" + server.address + "/v2")
    assert done.returncode == 0 and json.loads(done.stdout)["name"]


def own_address():
    """An address of this machine that is not loopback; none on a machine without network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return s.getsockname()[0]


def start_on(address, *flags):
    """A server on an address that is not loopback: with a key, which is made on loopback first."""
    s = TlsServer()
    try:
        s.key = s.cli("--ca-file", s.tls / "tls.crt", "keys", "create", "all", "--scopes", "admin").stdout.strip()
        s.stop()
        s.listen, s.flags = f"{address}:0", (*s.flags, *flags)
        s.start()
    except BaseException:
        s.close()
        raise
    return s


def test_plain_from_another_address_is_refused():
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    with start_on(address) as s:
        done = s.curl("-w", "\n%{http_code}", "http://" + s.address + "/v2")
        assert done.stdout.endswith(b"400") and b"HTTPS" in done.stdout
        with H2(s.address) as c:
            assert struct.unpack(">I", c.until(GOAWAY)[3][4:8])[0] == 12  # INADEQUATE_SECURITY
        assert s.curl("-k", "-o", "/dev/null", "-w", "%{http_code}", "https://" + s.address + "/v2").stdout == b"200"
    with start_on(address, "--tls-allow-plain") as s:
        assert s.curl("-o", "/dev/null", "-w", "%{http_code}", "http://" + s.address + "/v2").stdout == b"200"


def test_a_client_that_speaks_tls_to_a_plain_server():
    with Server() as s:
        for _ in range(3):
            done = subprocess.run(["curl", "-sS", "-k", "--noproxy", "*", "https://" + s.address], capture_output=True, timeout=30)
            assert done.returncode == 35, done.stderr  # CURLE_SSL_CONNECT_ERROR
        assert s.log_text().count("tls_not_served") == 1


def test_renamed_certificate_is_seen():
    with TlsServer() as s:
        assert s.common_name() == "first"
        with s.connect(["http/1.1"]) as old:
            make_certificate(s.tls, "second")
            wait_for(lambda: s.common_name() == "second", "the new certificate", 20)
            old.sendall(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n")  # the connections of before go on
            assert old.recv(100).startswith(b"HTTP/1.1 200")
        assert "tls_reload_failed" not in s.log_text() or "tls_reloaded" in s.log_text()
        (s.tls / "tls.crt").write_text("no certificate")
        wait_for(lambda: "tls_reload_failed" in s.log_text(), "the log line", 20)
        assert s.common_name() == "second"


def test_sighup_reads_anew():
    with TlsServer() as s:
        before = s.log_text().count("tls_reloaded")
        os.kill(s.pid, 1)
        wait_for(lambda: s.log_text().count("tls_reloaded") > before, "a reload", 20)
        assert s.common_name() == "first"


def test_links_within_the_folder_are_followed():
    """Kubernetes' way: the names are links to ..data, a link to a folder beside it, which is swapped by renaming."""
    with TlsServer() as s:
        s.stop()
        for name in ("one", "two"):
            (s.tls / f"..{name}").mkdir()
            make_certificate(s.tls / f"..{name}", name)
        for file in ("tls.crt", "tls.key"):
            (s.tls / file).unlink()
            (s.tls / file).symlink_to(f"..data/{file}")
        (s.tls / "..data").symlink_to("..one")
        s.start()
        assert s.common_name() == "one"
        (s.tls / "..data_tmp").symlink_to("..two")
        os.rename(s.tls / "..data_tmp", s.tls / "..data")
        wait_for(lambda: s.common_name() == "two", "the new certificate", 20)


def test_key_that_only_root_can_read():
    """Fine at the start; changes can't be read, and the log says so at once."""
    with TlsServer() as s:
        s.stop()
        os.chmod(s.tls / "tls.key", 0o600)
        s.start()
        wait_for(lambda: "tls_reload_impossible" in s.log_text(), "the warning", 20)
        assert s.common_name() == "first"


def test_bad_pairs_end_the_start(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        make_certificate(folder, folder.name)
    (tmp_path / "text").write_text("nothing")
    cases = [((first / "tls.crt", second / "tls.key"), "not that of the certificate"),
             ((tmp_path / "text", first / "tls.key"), "no certificate"),
             ((first / "tls.crt", tmp_path / "text"), "no private key"),
             ((tmp_path / "absent", first / "tls.key"), "No such file")]
    for (cert, key), why in cases:
        done = subprocess.run([BINARY, "serve", "--data", tmp_path / "data", "--listen", "127.0.0.1:0", "--tls-cert",
                               cert, "--tls-key", key], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and why in done.stderr, done.stderr


def test_h2spec_over_tls(server):
    done = subprocess.run([ROOT / "scripts/h2spec.sh", "run", server.address, "/admin/v1/keys", "-t", "-k"],
                          capture_output=True, text=True, timeout=170, env={**os.environ, "MAYFLY_DEPS": str(DEPS)})
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
