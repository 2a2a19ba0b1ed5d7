"""The connection over which made-up calls go, and what must be true of every answer."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from collections import Counter
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from hypothesis import note

from tests.server.over_http.fuzz_calls import TOKEN_FORMS, Calls, Made, body_text, path_text
from tests.server.over_http.fuzz_world import ALIVE, World

MINTS = ("auth", "create_auth", "auth_many", "secret_mounts")
"""Methods whose answers are secret."""

REFUSALS = (401, 403, 404, 413, 422)
_PRIVATE = ("arvados#containerRequest", "arvados#log", "arvados#apiClientAuthorization")
"""Nobody sees another's; containers may serve several users' requests."""

MALFORMED = (400, 431)
"""For what is no HTTP: unknown verbs, endless heads."""

_LONGEST_HEAD = 50_000
_ERROR_TOKEN = re.compile(r"[0-9]{10,}\+[0-9a-f]{8}")


class Wire:
    """One connection, and what must be true of everything that comes back over it."""

    def __init__(self, world: World) -> None:
        self.world = world
        parts = urlsplit(world.endpoint.url)
        trust = ssl.create_default_context(cafile=str(world.endpoint.ca_file))
        self._connection = http.client.HTTPSConnection(
            str(parts.hostname), parts.port, context=trust, timeout=30
        )
        self.statuses: Counter[tuple[str, int]] = Counter()
        _, document, _ = self.send("GET", "/discovery/v1/apis/arvados/v1/rest", None, {})
        self.document: dict[str, Any] = json.loads(document)
        self.calls = Calls(self.document)

    def close(self) -> None:
        self._connection.close()

    def send(
        self, verb: str, path: str, body: Any, headers: dict[str, str]
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        """A connection that is dropped raises, and fails the test."""
        wire = self._connection
        wire.putrequest(verb, path, skip_host="Host" in headers)
        for name, value in headers.items():
            wire.putheader(name, value.encode("latin-1", "replace"))
        if isinstance(body, list):
            wire.putheader("Transfer-Encoding", "chunked")
        elif body is not None:
            wire.putheader("Content-Length", str(len(body)))
        wire.endheaders(body, encode_chunked=isinstance(body, list))
        reply = wire.getresponse()
        return reply.status, reply.read(), reply.headers

    def make(self, made: Made) -> None:
        """Do the call, and check what comes back."""
        world = self.world
        made = replace(made, path=world.filled(made.path))
        if made.http not in ("GET", "HEAD") and not world.cast.isdisjoint(map(str, made.path)):
            return
        query = world.filled(made.query)
        body, headers = world.filled(made.body), {**made.headers}
        token = world.tokens.get(made.token, made.token)
        self._show_token(made.token_form, token, query, body, headers)
        target = path_text(made.path, query)[:_LONGEST_HEAD]
        content: Any = None
        if body is not None:
            headers.setdefault("Content-Type", _content_type(made.body_form))
            content = body_text(body, made.body_form)
        described = f"{made.http} {target[:800]} {headers} as {made.token}: {str(content)[:1500]}"
        note(described)
        if made.body_form == "chunked" and content:
            content = [content[i : i + 7] for i in range(0, min(len(content), 700), 7)]
        status, answer, answered = self.send(made.http, target, content, headers)
        note(f"-> {status} {answer[:600]!r}")
        self.statuses[(made.method_id, status)] += 1
        self._check(made, described, status, answer, answered)

    def _show_token(
        self, form: str, token: str, query: list[Any], body: Any, headers: dict[str, str]
    ) -> None:
        if form in ("api_token", "oauth_token"):
            query.append((form, token))
        elif form == "in the body" and isinstance(body, dict):
            body["api_token"] = token
        elif form == "secret alone":
            headers["Authorization"] = f"Bearer {token.rpartition('/')[2]}"
        elif form == "twice":
            query.append(("api_token", "nobody"))
            headers["Authorization"] = f"OAuth2 {token}"
        else:
            headers["Authorization"] = f"{form} {token}"

    def _check(
        self,
        made: Made,
        described: str,
        status: int,
        answer: bytes,
        headers: http.client.HTTPMessage,
    ) -> None:
        text = answer.decode()
        here = f"{described}\n-> {status} {text[:1000]}"
        method = self.calls.methods.get(made.method_id, {})
        name = made.method_id.partition(".")[2]
        # A node's own secret is the administrators' to see.
        sees_nodes = made.token == "root" and made.method_id.startswith("nodes.")
        if name not in MINTS and not sees_nodes:
            leaked = [secret for secret in self.world.secrets if secret in text + str(headers)]
            assert not leaked, f"a secret in the answer: {leaked}\n{here}"
        if made.http == "HEAD":
            assert text == "", here
            assert status in (200, *REFUSALS, *MALFORMED), here
            return
        if status == 404 and made.token == "root":
            self.world.forget(described)
        if status != 200:
            assert status in (*REFUSALS, *MALFORMED), here
            check_refusal(text, headers, here)
            good = made.token in ALIVE and made.token_form in TOKEN_FORMS[:3]
            # The container's own call may have ended it; a node shows a secret instead of a token.
            ended = made.token == "container" or made.method_id == "nodes.ping"
            assert status != 401 or not good or ended, here
            return
        assert made.token in ALIVE or made.method_id == "nodes.ping", here
        self.world.learn(text)
        record = json.loads(text)
        assert isinstance(record, dict), here
        if made.token == "eve":
            shown = record.get("items", [record])
            owned = [r for r in shown if r.get("owner_uuid") == self.world.ada]
            assert not [r for r in owned if r.get("kind") in _PRIVATE], here
        reference = method.get("response", {}).get("$ref", "Answer")
        # Without a UUID the same path is that of a list.
        if (
            made.http == method.get("httpMethod")
            and "" not in made.path
            and not _means_another(made)
        ):
            _check_form(self.document["schemas"], reference, record, here)


def _means_another(made: Made) -> bool:
    """A POST may say that it is another method."""
    said = {name for name, _value in made.query} | set(made.headers)
    said |= made.body.keys() if isinstance(made.body, dict) else set()
    return bool(said & {"_method", "X-Http-Method-Override"}) or made.body_form == "form of json"


def _content_type(body_form: str) -> str:
    is_form = body_form in ("form", "form of json")
    return "application/x-www-form-urlencoded" if is_form else "application/json"


def check_refusal(text: str, headers: http.client.HTTPMessage, here: str) -> None:
    body = json.loads(text)
    assert headers["Content-Type"] == "application/json", here
    assert body["errors"], here
    assert all(isinstance(message, str) for message in body["errors"]), here
    if "X-Request-Id" in headers:
        identity = headers["X-Request-Id"]
        assert all(message.endswith(f"({identity})") for message in body["errors"]), here
    assert _ERROR_TOKEN.fullmatch(body["error_token"]), here


def _check_form(schemas: dict[str, Any], reference: str, record: dict[str, Any], here: str) -> None:
    """The record is what the document says it is."""
    schema = schemas[reference]
    properties = schema.get("properties", {})
    if "items" in properties:
        assert isinstance(record["items"], list), here
        item = properties["items"]["items"]["$ref"]
        for each in record["items"]:
            _check_form(schemas, item, each, here)
    elif "uuidPrefix" in schema:
        assert record["kind"] == f"arvados#{reference[0].lower()}{reference[1:]}", here
        if "uuid" in record:
            assert f"-{schema['uuidPrefix']}-" in record["uuid"], here
        for name, value in record.items():
            expected = _JSON_TYPES.get(properties.get(name, {}).get("type", ""))
            assert expected is None or value is None or isinstance(value, expected), (name, here)


_JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str, "text": str, "datetime": str, "integer": int, "float": (int, float),
    "boolean": bool, "Hash": dict, "Array": list,
}  # fmt: skip
