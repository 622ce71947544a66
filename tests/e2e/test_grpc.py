"""gRPC with the real clients: tritonclient (sync, aio, streams), grpcio, grpcurl by reflection, load by ghz; and what goes
wrong: keys, sizes, times, cancelled calls, unknown methods. KServe's client is in test_kserve.py: its messages and
Triton's have the same names, so one process can't have both."""

import asyncio
import json
import os
import queue
import subprocess
import threading

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
import tritonclient.utils.shared_memory as shm
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from harness import DEPS, Server, rows, wait_for
from tritonclient.grpc import service_pb2 as triton_pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

SERVICE = "/inference.GRPCInferenceService/"
TOOLS = DEPS / "tools"


def rich_status(details):
    """google.rpc.Status of grpc-status-details-bin: code, message and the details by type."""
    file = descriptor_pb2.FileDescriptorProto(name="rpc.proto", package="t", syntax="proto3")

    def message(name, *fields):
        m = file.message_type.add(name=name)
        for number, (field, kind, label, type_name) in enumerate(fields, 1):
            m.field.add(name=field, number=number, type=kind, label=label, type_name=type_name)

    text, integer, message_kind = 9, 5, 11
    message("Any", ("url", text, 1, None), ("value", 12, 1, None))
    message("Status", ("code", integer, 1, None), ("message", text, 1, None), ("details", message_kind, 3, ".t.Any"))
    message("ErrorInfo", ("reason", text, 1, None), ("domain", text, 1, None))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    make = lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName("t." + name))
    status = make("Status").FromString(details)
    return status, {a.url.rsplit(".", 1)[1]: a.value for a in status.details}, make("ErrorInfo")


def refused(call, code, reason):
    """The error of a call, with its code and its stable reason wherever the reason is told."""
    with pytest.raises(grpc.RpcError) as e:
        call()
    assert e.value.code() == code, e.value
    trailers = dict(e.value.trailing_metadata())
    assert trailers["mayfly-reason"] == reason
    status, details, error_info = rich_status(trailers["grpc-status-details-bin"])
    info = error_info.FromString(details["ErrorInfo"])
    assert (status.code, info.reason, info.domain) == (code.value[0], reason, "mayfly")
    assert status.message == e.value.details()
    return details


@pytest.fixture(scope="module")
def server():
    with Server() as s:
        s.deploy("iris", "iris_logreg.onnx")
        s.deploy("digits", "digits_cnn.onnx")
        for kind in ("fp32", "fp64", "fp16", "bf16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
                     "uint64", "bool", "bytes"):
            s.deploy(f"identity-{kind}", f"identity_{kind}.onnx")
        yield s


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.address) as c:
        yield c


@pytest.fixture(scope="module")
def stub(channel):
    return GRPCInferenceServiceStub(channel)


@pytest.fixture(scope="module")
def client(server):
    c = triton.InferenceServerClient(server.address)
    yield c
    c.close()


def tensor(x, name="input", kind="FP32"):
    t = triton.InferInput(name, list(x.shape), kind)
    t.set_data_from_numpy(x)
    return t


def iris_request(x=None, **options):
    x = rows("iris", 4)[0][:1] if x is None else x
    rq = triton_pb.ModelInferRequest(model_name="iris", **options)
    rq.inputs.add(name="input", datatype="FP32", shape=list(x.shape))
    rq.raw_input_contents.append(x.tobytes())
    return rq


# ---- tritonclient ----


def test_health_and_metadata(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("iris") and client.is_model_ready("iris", "1")
    assert not client.is_model_ready("none") and not client.is_model_ready("iris", "9")
    assert client.get_server_metadata().name == "mayfly"
    meta = client.get_model_metadata("iris", as_json=True)
    assert meta["name"] == "iris" and meta["versions"] == ["1"] and meta["platform"] == "onnxruntime_onnx"
    assert meta["inputs"] == [{"name": "input", "datatype": "FP32", "shape": ["-1", "4"]}]
    config = client.get_model_config("iris").config
    assert config.backend == "onnxruntime" and config.max_batch_size == 32
    assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [("input", 11, [4])]


def test_right_answers(client):
    x, y = rows("iris", 4)
    answer = client.infer("iris", [tensor(x)], request_id="a-1")
    assert answer.as_numpy("label").tolist() == y.tolist()
    np.testing.assert_allclose(answer.as_numpy("probabilities").sum(axis=1), 1, atol=1e-5)
    assert answer.get_response().id == "a-1" and answer.get_response().model_version == "1"
    x, y = rows("digits", 8, 8)
    name = client.get_model_metadata("digits").inputs[0].name
    wanted = [triton.InferRequestedOutput("label")]
    got = np.concatenate([client.infer("digits", [tensor(x[i:i + 500], name)], outputs=wanted).as_numpy("label")
                          for i in range(0, len(x), 500)])
    assert (got == y).mean() >= 0.986


def test_only_what_is_asked_and_classification(client):
    x, y = rows("iris", 4)
    only = client.infer("iris", [tensor(x)], outputs=[triton.InferRequestedOutput("label")]).get_response()
    assert [o.name for o in only.outputs] == ["label"]
    best = client.infer("iris", [tensor(x)], outputs=[triton.InferRequestedOutput("probabilities", class_count=2)])
    classes = best.as_numpy("probabilities")
    assert classes.shape == (len(y), 2)
    assert [int(row[0].split(b":")[1]) for row in classes] == y.tolist()


def test_compression(client):
    x = np.tile(rows("iris", 4)[0], (40, 1))
    plain = client.infer("iris", [tensor(x)]).as_numpy("probabilities")
    packed = client.infer("iris", [tensor(x)], compression_algorithm="gzip").as_numpy("probabilities")
    np.testing.assert_array_equal(plain, packed)


def test_compression_that_is_not_known(client):
    with pytest.raises(triton.InferenceServerException) as e:
        client.infer("iris", [tensor(rows("iris", 4)[0])], compression_algorithm="deflate")
    assert e.value.status() == "StatusCode.UNIMPLEMENTED"


NUMPY = {"fp32": "<f4", "fp64": "<f8", "fp16": "<f2", "int8": "i1", "int16": "<i2", "int32": "<i4", "int64": "<i8",
         "uint8": "u1", "uint16": "<u2", "uint32": "<u4", "uint64": "<u8", "bool": "?"}
TYPED = {"fp32": "fp32_contents", "fp64": "fp64_contents", "int8": "int_contents", "int16": "int_contents",
         "int32": "int_contents", "int64": "int64_contents", "uint8": "uint_contents", "uint16": "uint_contents",
         "uint32": "uint_contents", "uint64": "uint64_contents", "bool": "bool_contents"}


def extremes(kind):
    """Values that a wrong width or sign would change."""
    d = np.dtype(NUMPY[kind])
    if d.kind == "f":
        return np.array([0.5, -2, np.finfo(d).max, np.inf], d)
    if d.kind == "b":
        return np.array([True, False, True, True])
    return np.array([0, 1, np.iinfo(d).min, np.iinfo(d).max], d)


def identity(client, kind, shape):
    name = f"identity-{kind}"
    meta = client.get_model_metadata(name).inputs[0]
    rq = triton_pb.ModelInferRequest(model_name=name)
    rq.inputs.add(name=meta.name, datatype=meta.datatype, shape=[shape if d == -1 else d for d in meta.shape])
    return rq


@pytest.mark.parametrize("kind", NUMPY)
def test_every_dtype_raw(client, stub, kind):
    x = extremes(kind)
    rq = identity(client, kind, len(x))
    rq.raw_input_contents.append(x.tobytes())
    answer = stub.ModelInfer(rq)
    assert answer.raw_output_contents[0] == x.tobytes() and not answer.outputs[0].HasField("contents")


@pytest.mark.parametrize("kind", TYPED)
def test_every_dtype_typed(client, stub, kind):
    x = extremes(kind)
    rq = identity(client, kind, len(x))
    getattr(rq.inputs[0].contents, TYPED[kind]).extend(x.tolist())
    answer = stub.ModelInfer(rq)
    assert not answer.raw_output_contents
    assert list(getattr(answer.outputs[0].contents, TYPED[kind])) == x.tolist()


def test_bytes_typed_and_raw(client, stub):
    words = [b"", b"a\xff", "\u00e9".encode(), b"x" * 300]
    rq = identity(client, "bytes", len(words))
    rq.inputs[0].contents.bytes_contents.extend(words)
    assert list(stub.ModelInfer(rq).outputs[0].contents.bytes_contents) == words
    x = np.array(words, dtype=np.object_)
    name = rq.inputs[0].name
    got = client.infer("identity-bytes", [tensor(x, name, "BYTES")])
    assert got.as_numpy(got.get_response().outputs[0].name).tolist() == words


def test_bf16_raw(client, stub):
    rq = identity(client, "bf16", 4)
    rq.raw_input_contents.append(bytes(range(8)))
    assert stub.ModelInfer(rq).raw_output_contents[0] == bytes(range(8))


def test_aio(server):
    x, y = rows("iris", 4)

    async def run():
        async with triton_aio.InferenceServerClient(server.address) as c:
            answers = await asyncio.gather(*(c.infer("iris", [tensor(x[i:i + 1])]) for i in range(len(x))))
            return [int(a.as_numpy("label")[0]) for a in answers]

    assert asyncio.run(run()) == y.tolist()


def stream(server, requests):
    """The answers to (model, rows, options) in the order in which they come."""
    answers = queue.Queue()
    with triton.InferenceServerClient(server.address) as c:
        c.start_stream(lambda result, error: answers.put((result, error)))
        for i, (model, x, options) in enumerate(requests):
            c.async_stream_infer(model, [tensor(x)], request_id=str(i), **options)
        got = [answers.get(timeout=60) for _ in requests]
        c.stop_stream()
    return got


def test_stream(server):
    x, y = rows("iris", 4)
    options = {"enable_empty_final_response": True}
    got = stream(server, [("iris", x[i:i + 1], options) for i in range(len(x))])
    assert [e for _, e in got if e] == []
    assert [r.get_response().id for r, _ in got] == [str(i) for i in range(len(x))]
    assert [int(r.as_numpy("label")[0]) for r, _ in got] == y.tolist()
    assert all(r.get_response().parameters["triton_final_response"].bool_param for r, _ in got)


def test_stream_goes_on_after_a_request_that_failed(server, stub):
    x = rows("iris", 4)[0]
    got = stream(server, [("iris", x[:1], {}), ("none", x[:1], {}), ("iris", x[:1, :3], {}), ("iris", x[:1], {})])
    assert [e is None for _, e in got] == [True, False, False, True]
    assert "none" in got[1][1].message() and "shape" in got[2][1].message()
    answers = list(stub.ModelStreamInfer(iter([iris_request(id="q", model_version="77")])))
    assert answers[0].error_message and answers[0].infer_response.id == "q"


def test_a_stream_may_be_silent_between_requests(stub):
    more = threading.Event()

    def requests():
        yield iris_request(id="1")
        more.wait(30)
        yield iris_request(id="2")

    answers = stub.ModelStreamInfer(requests())
    assert next(answers).infer_response.id == "1"  # before the second is sent
    more.set()
    assert [a.infer_response.id for a in answers] == ["2"]


# ---- repository, statistics, settings ----


def test_repository_and_statistics(server, client):
    assert ("iris", "1", "READY") in [(m.name, m.version, m.state) for m in client.get_model_repository_index().models]
    before = client.get_inference_statistics("iris").model_stats[0]
    client.infer("iris", [tensor(rows("iris", 4)[0])])
    after = client.get_inference_statistics("iris").model_stats[0]
    assert after.inference_count == before.inference_count + 1
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    assert after.last_inference >= before.last_inference > 0
    assert len(client.get_inference_statistics().model_stats) > 1


def test_load_wakes_and_unload_ends(server, client):
    client.load_model("iris")
    ready = lambda: [i for i in server.instances("iris") if i["state"] == "idle"]
    wait_for(ready, "the instance that load started")
    client.unload_model("iris")
    wait_for(lambda: not server.instances("iris"), "the end of the instances", 5)
    assert client.is_model_ready("iris")
    assert client.infer("iris", [tensor(rows("iris", 4)[0])]).as_numpy("label") is not None
    for call in (client.load_model, client.unload_model):
        with pytest.raises(triton.InferenceServerException) as e:
            call("none")
        assert e.value.status() == "StatusCode.NOT_FOUND"
    with pytest.raises(triton.InferenceServerException) as e:
        client.load_model("iris", config="{}")
    assert e.value.status() == "StatusCode.UNIMPLEMENTED"


def test_settings(client):
    assert client.get_trace_settings(as_json=True)["settings"]["trace_level"]["value"] == ["OFF"]
    assert client.get_log_settings(as_json=True)["settings"]["log_error"]["bool_param"]
    for call in (lambda: client.update_trace_settings(settings={"trace_rate": "1"}),
                 lambda: client.update_log_settings({"log_error": False}),
                 lambda: client.register_cuda_shared_memory("r", b"", 0, 1)):
        with pytest.raises(triton.InferenceServerException) as e:
            call()
        assert e.value.status() == "StatusCode.UNIMPLEMENTED"
    for wanted in (False, True):
        for told in (client.update_log_settings({"log_info": wanted}, as_json=True), client.get_log_settings(as_json=True)):
            assert told["settings"]["log_info"].get("bool_param", False) == wanted


def test_mlservers_repository_service(channel):
    index = channel.unary_unary("/inference.model_repository.ModelRepositoryService/RepositoryIndex",
                                request_serializer=lambda m: m.SerializeToString(),
                                response_deserializer=triton_pb.RepositoryIndexResponse.FromString)
    assert "iris" in [m.name for m in index(triton_pb.RepositoryIndexRequest()).models]


# ---- health, reflection, tools ----


def health(channel, method="Check"):
    make = channel.unary_unary if method == "Check" else channel.unary_stream
    call = make("/grpc.health.v1.Health/" + method, request_serializer=lambda s: b"\x0a" + bytes([len(s)]) + s.encode(),
                response_deserializer=lambda b: b[1] if b else 0)
    return call


def test_health(channel):
    serving, unknown = 1, 3
    for service in ("", "inference.GRPCInferenceService", "grpc.health.v1.Health", "iris"):
        assert health(channel)(service) == serving
    refused(lambda: health(channel)("none"), grpc.StatusCode.NOT_FOUND, "model_not_found")
    watch = health(channel, "Watch")("iris")
    assert next(watch) == serving
    watch.cancel()
    assert next(health(channel, "Watch")("none")) == unknown


def test_watch_tells_of_a_change(server, channel):
    watch = health(channel, "Watch")("later")
    assert next(watch) == 3
    server.deploy("later", "iris_logreg.onnx")
    assert next(watch) == 1
    server.cli("delete", "later")
    assert next(watch) == 3
    watch.cancel()


def test_watch_ends_with_its_time(channel):
    watch = health(channel, "Watch")("", timeout=0.6)
    assert next(watch) == 1
    with pytest.raises(grpc.RpcError) as e:
        next(watch)
    assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def tool(name, *args):
    done = subprocess.run([TOOLS / name, *map(str, args)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_grpcurl(server):
    assert tool("grpcurl", "-plaintext", server.address, "list").split() == [
        "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService", "inference.model_repository.ModelRepositoryService"]
    assert "rpc ModelInfer" in tool("grpcurl", "-plaintext", server.address, "describe", SERVICE.strip("/"))
    x = [5.1, 3.5, 1.4, 0.2]
    rq = {"model_name": "iris", "inputs": [
        {"name": "input", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": x}}]}
    answer = json.loads(tool("grpcurl", "-plaintext", "-d", json.dumps(rq), server.address, SERVICE[1:] + "ModelInfer"))
    assert answer["outputs"][0]["contents"]["int64_contents"] == ["0"]


def test_ghz(server):
    rq = {"model_name": "iris", "inputs": [
        {"name": "input", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": [5.1, 3.5, 1.4, 0.2]}}]}
    report = json.loads(tool("ghz", "--insecure", "--call", SERVICE[1:].replace("/", ".") + "ModelInfer", "-n", 2000,
                             "-c", 16, "-O", "json", "-d", json.dumps(rq), server.address))
    assert report["statusCodeDistribution"] == {"OK": 2000}


# ---- shared memory ----


@pytest.fixture(scope="module")
def sharing():
    with Server("--shared-memory") as s:
        s.deploy("iris", "iris_logreg.onnx")
        with triton.InferenceServerClient(s.address) as client:
            yield client


class Segment:
    """POSIX shared memory as tritonclient makes it, open to the server's user."""

    def __init__(self, size):
        self.key = f"mayfly-grpc-{os.getpid()}-{id(self)}"
        self.handle = shm.create_shared_memory_region("r", self.key, size, create_only=True)
        os.chmod(f"/dev/shm/{self.key}", 0o666)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shm.destroy_shared_memory_region(self.handle)


def in_region(shape, size, offset=0):
    tensor = triton.InferInput("input", list(shape), "FP32")
    tensor.set_shared_memory("r", size, offset=offset)
    return tensor


def test_shared_memory_in_and_out(sharing):
    x, y = rows("iris", 4)
    size, told = x.nbytes, 8 * len(y)
    with Segment(size + told) as s:
        assert "system_shared_memory" in sharing.get_server_metadata().extensions
        shm.set_shared_memory_region(s.handle, [x])
        sharing.register_system_shared_memory("r", s.key, size + told)
        status = sharing.get_system_shared_memory_status("r", as_json=True)["regions"]
        assert status == {"r": {"name": "r", "key": s.key, "byte_size": str(size + told)}}
        label, rest = triton.InferRequestedOutput("label"), triton.InferRequestedOutput("probabilities")
        label.set_shared_memory("r", told, offset=size)
        answer = sharing.infer("iris", [in_region(x.shape, size)], outputs=[label, rest])
        assert answer.get_output("label").parameters["shared_memory_byte_size"].int64_param == told
        assert shm.get_contents_as_numpy(s.handle, np.int64, [len(y)], size).tolist() == y.tolist()
        assert answer.as_numpy("probabilities").shape == (len(y), 3)
        label.set_shared_memory("r", 8, offset=size)
        with pytest.raises(triton.InferenceServerException, match="shared_memory_byte_size"):
            sharing.infer("iris", [in_region(x.shape, size)], outputs=[label])
        sharing.unregister_system_shared_memory("r")
        assert not sharing.get_system_shared_memory_status().regions
        for call in (lambda: sharing.infer("iris", [in_region(x.shape, size)]),
                     lambda: sharing.get_system_shared_memory_status("r")):
            with pytest.raises(triton.InferenceServerException, match="no shared memory region") as e:
                call()
            assert e.value.status() == "StatusCode.NOT_FOUND"


def test_shared_memory_that_lies(sharing):
    x, _ = rows("iris", 4)
    with Segment(x.nbytes) as s:
        for key, offset, size in ((s.key, 0, x.nbytes + 1), (s.key, x.nbytes, 1), (s.key, 2**64 - 1, 2), ("../etc/passwd", 0, 1),
                                  ("none", 0, 1)):
            with pytest.raises(triton.InferenceServerException) as e:
                sharing.register_system_shared_memory("r", key, size, offset=offset)
            assert e.value.status() == "StatusCode.INVALID_ARGUMENT"
        shm.set_shared_memory_region(s.handle, [x])
        sharing.register_system_shared_memory("r", s.key, x.nbytes)
        with pytest.raises(triton.InferenceServerException, match="registered already"):
            sharing.register_system_shared_memory("r", s.key, x.nbytes)
        for tensor, why in ((in_region(x.shape, x.nbytes, 16), "do not lie"),
                            (in_region(x.shape, x.nbytes, 2**63 - 1), "do not lie"),
                            (in_region(x.shape, x.nbytes - 1), f"expected {x.nbytes}")):
            with pytest.raises(triton.InferenceServerException, match=why):
                sharing.infer("iris", [tensor])
        os.truncate(f"/dev/shm/{s.key}", 16)
        with pytest.raises(triton.InferenceServerException, match="smaller than it was"):
            sharing.infer("iris", [in_region(x.shape, x.nbytes)])
        sharing.unregister_system_shared_memory()
        assert sharing.is_server_live()


# ---- what goes wrong ----


def test_errors_have_code_and_reason(stub):
    wrong = iris_request()
    wrong.inputs[0].datatype = "FP64"
    refused(lambda: stub.ModelInfer(wrong), grpc.StatusCode.INVALID_ARGUMENT, "datatype_mismatch")
    refused(lambda: stub.ModelInfer(triton_pb.ModelInferRequest(model_name="none\n\u00e9")), grpc.StatusCode.NOT_FOUND,
            "model_not_found")
    refused(lambda: stub.ModelInfer(iris_request(model_version="77")), grpc.StatusCode.NOT_FOUND, "version_not_found")
    refused(lambda: stub.SystemSharedMemoryRegister(triton_pb.SystemSharedMemoryRegisterRequest(name="r")),
            grpc.StatusCode.INVALID_ARGUMENT, "shared_memory_unsupported")


def test_unknown_methods_and_malformed_messages(channel):
    raw = lambda method: channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
    for method in (SERVICE + "Nothing", "/no.Service/Method"):
        refused(lambda: raw(method)(b""), grpc.StatusCode.UNIMPLEMENTED, "unknown_method")
    refused(lambda: raw(SERVICE + "ModelInfer")(b"\xff\xff"), grpc.StatusCode.INVALID_ARGUMENT, "malformed_message")
    refused(lambda: raw(SERVICE + "LogSettings")(b"\x0a\x7f"), grpc.StatusCode.INVALID_ARGUMENT, "malformed_message")


def test_too_large(server):
    server.deploy("small", "iris_logreg.onnx", "--max-request", "64Ki")
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.address, options=options) as c:
        stub = GRPCInferenceServiceStub(c)
        many = iris_request(np.zeros((5000, 4), np.float32))
        many.model_name = "small"
        refused(lambda: stub.ModelInfer(many), grpc.StatusCode.RESOURCE_EXHAUSTED, "payload_too_large")
        metadata = triton_pb.ModelMetadataRequest(name="x" * (2 << 20))
        refused(lambda: stub.ModelMetadata(metadata), grpc.StatusCode.RESOURCE_EXHAUSTED, "payload_too_large")
        packed = dict(compression=grpc.Compression.Gzip)
        refused(lambda: stub.ModelMetadata(metadata, **packed), grpc.StatusCode.RESOURCE_EXHAUSTED, "payload_too_large")


def count(n):
    """A run of count.onnx takes as long as its input says."""
    rq = triton_pb.ModelInferRequest(model_name="count")
    rq.inputs.add(name="count", datatype="INT64", shape=[1])
    rq.raw_input_contents.append(np.array([n], "<i8").tobytes())
    return rq


def test_times(server, stub):
    server.deploy("count", "count.onnx", "--timeout", "2s")
    assert stub.ModelInfer(count(5), timeout=30).raw_output_contents[0] == np.float32(5).tobytes()
    endless = count(10**11)
    with pytest.raises(grpc.RpcError) as e:
        stub.ModelInfer(endless, timeout=0.3)
    assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    endless.parameters["timeout"].int64_param = 300_000
    refused(lambda: stub.ModelInfer(endless), grpc.StatusCode.DEADLINE_EXCEEDED, "deadline_exceeded")


def test_a_cancelled_call_leaves_the_server_well(stub):
    for _ in range(50):
        call = stub.ModelInfer.future(iris_request())
        call.cancel()
    open_stream = stub.ModelStreamInfer(iter([iris_request()]))
    open_stream.cancel()
    assert stub.ModelInfer(iris_request()).model_name == "iris"


def test_request_ids_and_phases(stub):
    _, call = stub.ModelInfer.with_call(iris_request(), metadata=[("x-request-id", "mine")])
    head = dict(call.initial_metadata())
    assert head["x-request-id"] == "mine" and "infer;dur=" in head["server-timing"]


def test_grpc_by_http1(server):
    answer = server.http(SERVICE + "ServerLive", "POST", b"\0\0\0\0\0", {"Content-Type": "application/grpc"})
    assert answer.status == 505 and answer.headers["Mayfly-Reason"] == "http2_required"
    assert "HTTP/2" in answer.json()["error"]


# ---- keys ----


@pytest.fixture(scope="module")
def locked():
    """A server that asks for keys, with one of each scope."""
    with Server() as s:
        s.deploy("iris", "iris_logreg.onnx")
        make = lambda scope: json.loads(s.cli("keys", "create", scope, "--scopes", scope, "-o", "json").stdout)["key"]
        s.keys = {scope: make(scope) for scope in ("invoke", "deploy", "admin")}
        s.stop()
        s.flags = ("--require-keys",)
        s.start()
        yield s


def with_key(key):
    return [("authorization", "Bearer " + key)]


def test_without_a_key(locked):
    with grpc.insecure_channel(locked.address) as c:
        stub = GRPCInferenceServiceStub(c)
        assert stub.ServerLive(triton_pb.ServerLiveRequest()).live
        assert stub.ServerMetadata(triton_pb.ServerMetadataRequest()).name == "mayfly"
        assert health(c)("") == 1
        asks = (lambda: stub.ModelInfer(iris_request()), lambda: stub.ModelReady(triton_pb.ModelReadyRequest(name="no")),
                lambda: health(c)("iris"), lambda: list(stub.ModelStreamInfer(iter([iris_request()]))),
                lambda: c.unary_unary(SERVICE + "Nothing")(b""))
        for ask in asks:
            refused(ask, grpc.StatusCode.UNAUTHENTICATED, "missing_key")
        refused(lambda: stub.ModelInfer(iris_request(), metadata=with_key("mf_wrong")), grpc.StatusCode.UNAUTHENTICATED,
                "invalid_key")


def test_scopes(locked):
    with grpc.insecure_channel(locked.address) as c:
        stub = GRPCInferenceServiceStub(c)
        invoke = with_key(locked.keys["invoke"])
        assert stub.ModelInfer(iris_request(), metadata=invoke).model_name == "iris"
        assert stub.ModelInfer(iris_request(), metadata=[("x-api-key", locked.keys["invoke"])]).model_name == "iris"
        assert health(c)("iris", metadata=invoke) == 1
        load = triton_pb.RepositoryModelLoadRequest(model_name="iris")
        refused(lambda: stub.RepositoryModelLoad(load, metadata=invoke), grpc.StatusCode.PERMISSION_DENIED,
                "missing_scope")
        stub.RepositoryModelLoad(load, metadata=with_key(locked.keys["deploy"]))
        refused(lambda: stub.ModelInfer(iris_request(), metadata=with_key(locked.keys["deploy"])),
                grpc.StatusCode.PERMISSION_DENIED, "missing_scope")
