"""Runs tests/cases/*.case against a live server, one test a file; and checks that the runner itself can fail."""

import json
import re

import cases
import pytest
from harness import DEPS, MODELS, Server

FOLDER = cases.TESTS / "cases"
FILES = sorted(FOLDER.glob("*.case"))


@pytest.fixture(scope="module")
def shared():
    with Server() as s:
        yield s


def run(server, case):
    for verb, *words in case.prepare:
        if verb == "deploy":
            server.deploy(*(w.replace("{deps}", str(DEPS)).replace("{models}", str(MODELS)) for w in words))
        elif verb != "serve":
            raise cases.Broken(f"unknown verb {verb}; known are serve and deploy")
    cases.Runner(server.address, {"deps": str(DEPS)}).run(case)


@pytest.mark.parametrize("path", FILES, ids=[f.stem for f in FILES])
def test_case(path, request):
    case = cases.parse(path.read_text())
    flags = [words[1:] for words in case.prepare if words[0] == "serve"]
    try:
        if flags:
            with Server(*flags[0]) as own:
                run(own, case)
        else:
            run(request.getfixturevalue("shared"), case)
    except cases.Failure as e:
        failure = f"tests/cases/{path.name}, {e}"
    else:
        return
    pytest.fail(failure, pytrace=False)


WRONG = {
    "status": "GET /v2\n=>\n201",
    "header": "GET /v2\n=>\n200\nContent-Type: text/html",
    "header that must be absent": "GET /v2\n=>\n200\n!Content-Type",
    "header pattern": "GET /v2\n=>\n200\nContent-Type: ~application",
    "missing member": 'GET /v2\n=>\n200\n\n{"nothing": 1}',
    "value": 'GET /v2\n=>\n200\n\n{"name": "other"}',
    "type": 'GET /v2/health/live\n=>\n200\n\n{"live": 1}',
    "pattern": 'GET /v2\n=>\n200\n\n{"name": "~may"}',
    "length of a list": 'GET /v2\n=>\n200\n\n{"extensions": ["binary_tensor_data"]}',
    "element of a list": 'GET /v2\n=>\n200\n\n{"extensions": ["...", "none"]}',
    "line of text": "GET /metrics\n=>\n200\n\nno_such_metric 1",
    "closed, not kept": "GET /v2\nConnection: close\n=>\n200",
    "kept, not closed": "GET /v2\n=>\n200\nConnection: close",
    "no 100": "POST /v2/models/none/infer\nExpect: 100-continue\n\n{}\n=>\n100",
    "a second answer": "raw\nGET /v2 HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n\n=>\n200\nConnection: close\n=>\n200",
    "bytes of no answer": "raw\nGET /v2 HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\nGET /v2 HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n\n=>\n200",
    "binary": "GET /v2\n=>\n200\n@binary 00",
    "no body": "GET /v2\n=>\n200\n@empty",
}


@pytest.mark.parametrize("what", WRONG)
def test_the_runner_fails_on_a_wrong(shared, what):
    with pytest.raises(cases.Failure):
        cases.Runner(shared.address).run(cases.parse("--- wrong\n" + WRONG[what]))


def requests_that_succeed():
    """(method, path without query) of every request of the case files that is answered with 2xx."""
    found = set()
    for path in FILES:
        for e in cases.parse(path.read_text()).exchanges:
            if e.request.first != "raw" and e.answers and e.answers[-1].first.startswith("2"):
                method, target = e.request.first.split(" ")[:2]
                found.add((method.lower(), target.split("?")[0]))
    return found


@pytest.fixture(scope="module")
def openapi(shared):
    return shared.http("/openapi.json").json()


def test_openapi_document(shared, openapi):
    """Every operation is whole, every reference leads somewhere, every path is served."""
    assert openapi["openapi"].startswith("3.0.") and openapi["info"]["title"] and openapi["info"]["version"]
    for path, methods in openapi["paths"].items():
        for method, op in methods.items():
            assert method in ("get", "post", "put", "patch", "delete", "options") and op["summary"], path
            assert op["responses"].get("200") or op["responses"]["501"], path
            declared = [p["name"] for p in op["parameters"] if p["in"] == "path" and p["required"]]
            assert declared == re.findall(r"\{(\w+)\}", path), path
            assert all(n in openapi["components"]["securitySchemes"] for rule in op.get("security", []) for n in rule)
        answer = shared.http(re.sub(r"\{\w+\}", "none", path), "OPTIONS")
        assert answer.headers["Mayfly-Reason"] != "no_such_path", path
    for ref in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(openapi)):
        at = openapi
        for step in ref.split("/"):
            at = at[step]


def test_openapi_describes_what_the_cases_do(openapi):
    patterns = [(m, re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + "/?")) for path in openapi["paths"] for m in openapi["paths"][path]]
    undescribed = [(m, path) for m, path in requests_that_succeed()
                   if not any(p.fullmatch(path) and method == m.replace("head", "get") for method, p in patterns)]
    assert undescribed == []
