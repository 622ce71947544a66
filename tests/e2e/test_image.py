"""Pictures in, labels out: EfficientNet-Lite0 with the platform's own decoding, resizing and cropping."""

import json
import subprocess

import pytest
from harness import DEPS, Server

MODELS = DEPS / "models"
COFFEE = MODELS / "coffee.png"
INPUT = "resize=224,crop=0.875,mean=127,scale=0.0078125,layout=nchw"


@pytest.fixture(scope="module")
def server():
    with Server() as s:
        s.deploy("net", str(MODELS / "efficientnet_lite0.onnx"), "--image-input", INPUT,
                 "--labels", str(MODELS / "imagenet_labels.json"), "--top", "5")
        yield s


def check_coffee(answer):
    best = answer["predictions"]
    labels = json.loads((MODELS / "imagenet_labels.json").read_text())
    assert len(best) == 5 and [b["score"] for b in best] == sorted((b["score"] for b in best), reverse=True)
    assert best[0]["index"] == 967 and best[0]["score"] == pytest.approx(0.951, abs=0.001)
    label = labels["967"] if isinstance(labels, dict) else labels[967]
    assert best[0]["label"] == (label[-1] if isinstance(label, list) else label)


def test_post(server):
    answer = server.http("/predictions/net", "POST", COFFEE.read_bytes(), {"Content-Type": "image/png"})
    assert answer.status == 200, answer.body
    check_coffee(answer.json())


def test_put_by_curl(server):
    done = subprocess.run(["curl", "-sf", "--noproxy", "*", "-T", COFFEE, server.url + "/predictions/net"],
                          capture_output=True, timeout=60, check=True)
    check_coffee(json.loads(done.stdout))


def test_cli(server):
    done = server.cli("invoke", "net", "--image", COFFEE, "-o", "json")
    check_coffee(json.loads(done.stdout))


@pytest.mark.parametrize("body", [b"this is no picture", b"\x89PNG\r\n\x1a\n" + bytes(40), COFFEE.read_bytes()[:5000]],
                         ids=["text", "header only", "cut off"])
def test_what_is_no_picture(server, body):
    answer = server.http("/predictions/net", "POST", body)
    assert answer.status == 400 and answer.json()["error"]
    check_coffee(server.http("/predictions/net", "POST", COFFEE.read_bytes()).json())
