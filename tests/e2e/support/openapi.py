"""docs/openapi.yaml, and validators made from it."""

from functools import cache

import httpx
import jsonschema_rs
import yaml

from support.proxy import ROOT

FILE = ROOT / "docs" / "openapi.yaml"
DOCUMENT = yaml.safe_load(FILE.read_text())
# Answers that do not end.
STREAMS = ["/api/v1/events", "/api/v1/tail"]


def operations() -> list[tuple[str, str, dict]]:
    """Every operation: method, path, and what is said of it."""
    return [
        (method.upper(), path, item[method])
        for path, item in DOCUMENT["paths"].items()
        for method in ("get", "post")
        if method in item
    ]


def resolved(value: dict) -> dict:
    """What a reference stands for; anything else is itself."""
    while "$ref" in value:
        target = DOCUMENT
        for step in value["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        value = target
    return value


@cache
def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    """The validator of a schema of the document, formats included."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": DOCUMENT["components"]["schemas"]}}
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


def assert_valid(name: str, instance: object) -> None:
    """Fails with every place where a value is not what the schema of this name says."""
    found = [f"{error.instance_path}: {error.message}" for error in validator(name).iter_errors(instance)]
    assert not found, f"not a {name}: {found[:5]}"


def assert_documented(answer: httpx.Response, method: str, path: str) -> None:
    """Status, content type, headers and body are among those that the document has for this operation."""
    operation = DOCUMENT["paths"][path][method.lower()]
    documented = operation["responses"]
    status = str(answer.status_code)
    assert status in documented or "default" in documented, f"{method} {path}: {status} {answer.text[:200]}"
    response = resolved(documented.get(status) or documented["default"])
    for name, header in response.get("headers", {}).items():
        described = resolved(header)
        assert name in answer.headers or not described.get("required"), f"{path} {status}: {name} is missing"
        if name in answer.headers:
            jsonschema_rs.validate(described["schema"], answer.headers[name])
    if "content" not in response:
        return
    kind = answer.headers["content-type"].split(";")[0]
    content = response["content"].get(kind) or response["content"].get("*/*")
    assert content is not None, f"{path} {status}: {kind} is not documented"
    schema = content["schema"]
    if "$ref" in schema:
        assert_valid(schema["$ref"].rsplit("/", 1)[1], answer.json())
    elif schema:
        jsonschema_rs.validate(schema, yaml.safe_load(answer.text) if kind == "application/yaml" else answer.text)
