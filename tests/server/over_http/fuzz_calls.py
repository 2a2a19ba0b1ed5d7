"""Made-up HTTP calls: sensible ones, nonsense, and what lies between, for every method of a document.

Everything is read from the discovery document, so a method that is added there is called as well. A few
names are known here, to give values that make sense more often.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

from tests.server.over_http.fuzz_values import (
    BATCHES,
    JUNK,
    KNOWN,
    ODD_BATCHES,
    OF_TYPE,
    OPERATORS,
    RECORDS,
    SCALARS,
    STATES,
    TEXTS,
    TIMES,
    WAITS,
    Strategy,
)
from tests.server.over_http.fuzz_world import ALIVE, DEAD, Epoch, Known

NEEDED = ("dispatcher", "epoch")


@dataclass(frozen=True)
class Made:
    """One call. `path` is a list of its parts, `query` of pairs; `body` is JSON before it is text."""

    method_id: str
    http: str
    path: list[Any]
    query: list[Any]
    body: Any
    body_form: str
    token: str
    token_form: str
    headers: dict[str, str]


# --- of a document --------------------------------------------------------------------------------


class Calls:
    """Makes calls of the methods in the discovery `document`, and of none that there is."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._schemas: Mapping[str, Any] = document["schemas"]
        self.methods: dict[str, Mapping[str, Any]] = {
            f"{plural}.{name}": method
            for plural, resource in document["resources"].items()
            for name, method in resource["methods"].items()
        }
        self._infixes = {
            plural: self._infix_of(resource) for plural, resource in document["resources"].items()
        }

    def _infix_of(self, resource: Mapping[str, Any]) -> str:
        for method in resource["methods"].values():
            found = self._schemas[method["response"]["$ref"]].get("uuidPrefix")
            if found:
                return str(found)
        return ""

    def of(self, method_id: str) -> Strategy:
        """Calls of one method, sensible or not."""
        method = self.methods[method_id]
        infix = self._infixes[method_id.partition(".")[0]]
        wrong = KNOWN | st.sampled_from(
            [f"zzzzz-{infix}-000000000000000", f"zzzzz-{infix}-0", *TEXTS]
        )
        right = st.builds(Known, st.just(infix), st.integers(0, 3))
        sensible, odd = (
            {
                name: self._parameter(name, parameter["type"], method, odd=odd)
                for name, parameter in method["parameters"].items()
                if parameter["location"] != "path"
            }
            for odd in (False, True)
        )
        usual: dict[str, Strategy] = {
            "path": _path(method["path"], right),
            "query": _pairs(sensible),
            "http": st.just(method["httpMethod"]),
            "body": self._body(method, sensible, odd=False),
            "body_form": st.just("json"),
            "token": st.sampled_from(
                [*ALIVE, *["dispatcher"] * 6] if "epoch" in sensible else [*ALIVE, "root", "root"]
            ),
            "token_form": st.just("Bearer"),
            "headers": st.just({}),
        }
        unusual: dict[str, Strategy] = {
            "path": _path(method["path"], wrong),
            "query": _pairs(odd) | st.builds(lambda a, b: a + b, _pairs(odd), _STRANGERS),
            "http": _VERBS,
            "body": self._body(method, odd, odd=True) | self._body(method, odd, odd=True) | JUNK,
            "body_form": st.sampled_from(BODY_FORMS),
            "token": st.sampled_from([*DEAD, *_BAD_TOKENS]),
            "token_form": st.sampled_from(TOKEN_FORMS),
            "headers": st.sampled_from(_HEADERS),
        }
        # A call that is odd in several places shows only what is looked at first.
        places = [*[[]] * 4, *([place] for place in unusual), ["query"], ["body"], ["body"]]
        return st.one_of(
            [
                st.builds(
                    Made,
                    st.just(method_id),
                    **{n: unusual[n] if n in odd_places else usual[n] for n in usual},
                )
                for odd_places in places
            ]
        )

    def _parameter(self, name: str, kind: str, method: Mapping[str, Any], *, odd: bool) -> Strategy:
        if name == "wait":
            return WAITS if odd else st.just(0)
        fields = sorted(self._fields(method))
        attributes = st.sampled_from(
            [*fields, "kind", "href", "properties.a", "mounts./out.kind", "any"]
        )
        sensible = {
            "dispatcher": st.builds(Known, st.just("bmxii"), st.just(0)),
            "epoch": st.builds(Epoch, st.sampled_from([0, 1, -1])) if odd else st.just(Epoch()),
            "claim_id": st.sampled_from(["a", "b", ""]),
            "limit": st.integers(0, 5) | st.sampled_from([1000, 1001]),
            "offset": st.integers(0, 5),
            "count": st.sampled_from(["exact", "none"]),
            "select": st.lists(attributes, max_size=4),
            "order": st.lists(
                st.builds("{} {}".format, attributes, st.sampled_from(["asc", "desc", "x"])), max_size=3
            ),
            "filters": st.lists(self._filter(attributes), max_size=3),
            "where": st.dictionaries(attributes, SCALARS | st.lists(SCALARS, max_size=2), max_size=2),
        }.get(name, OF_TYPE[kind])  # fmt: skip
        if not odd:
            return st.just([]) if name in ("filters", "where", "select", "order") else sensible
        return sensible | JUNK

    def _filter(self, attributes: Strategy) -> Strategy:
        named = attributes | st.sampled_from(
            ["(priority<=container_count)", "(created_at < modified_at)", "container.state",
             "container.", "properties.<http://x>", "runtime_status.error", "state.x"]
        )  # fmt: skip
        operand = SCALARS | st.lists(SCALARS, max_size=3) | STATES | TIMES
        return st.tuples(named | st.lists(named, max_size=2), OPERATORS, operand).map(list)

    def _fields(self, method: Mapping[str, Any]) -> Mapping[str, Any]:
        properties: Mapping[str, Any] = self._schemas[method["response"]["$ref"]].get(
            "properties", {}
        )
        items = properties.get("items", {}).get("items", {}).get("$ref")
        if items is not None:
            properties = self._schemas[items]["properties"]
        return properties

    def _body(
        self, method: Mapping[str, Any], named: Mapping[str, Strategy], *, odd: bool
    ) -> Strategy:
        """The record, whole or with some of its fields changed; parameters; the arrays of batches."""
        described = method.get("request")
        if described is None:
            return st.just(None) if method["httpMethod"] == "GET" else st.just({})
        ((singular, reference),) = described["properties"].items()
        properties = self._schemas[reference["$ref"]]["properties"]
        fields = {
            name: OF_TYPE[str(field["type"])] | JUNK if odd else OF_TYPE[str(field["type"])]
            for name, field in properties.items()
        }
        some = st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True)
        changed = some.flatmap(lambda names: st.fixed_dictionaries({n: fields[n] for n in names}))
        record = RECORDS.get(singular, changed)
        if odd:
            record = _both(record, changed)
        wrapped = record.map(lambda attributes: {singular: attributes})
        if not named.keys() & {"dispatcher", "epoch"}:
            return wrapped | record
        parameters = _pairs(named).map(dict)
        batch = _both(parameters, ODD_BATCHES if odd else BATCHES)
        return wrapped | batch | batch


def _both(one: Strategy, other: Strategy) -> Strategy:
    return st.builds(lambda a, b: {**a, **b}, one, other)


def _pairs(named: Mapping[str, Strategy]) -> Strategy:
    """Some of the parameters, as pairs of name and value."""
    always = {n: v for n, v in named.items() if n in NEEDED}
    others = {n: v for n, v in named.items() if n not in NEEDED}
    return st.fixed_dictionaries(always, optional=others).map(lambda found: list(found.items()))


def _path(template: str, uuid: Strategy) -> Strategy:
    parts = [uuid if part == "{uuid}" else st.just(part) for part in template.split("/")]
    return st.tuples(*parts).map(list)


# --- how it is said -------------------------------------------------------------------------------

_VERBS = st.sampled_from(
    ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "BREW"]
)
_BAD_TOKENS = [
    "nobody",
    "",
    "v2//",
    "v2",
    "v2/zzzzz-gj3su-000000000000000/x",
    "x" * 600,
    "a b",
    "é",
]
TOKEN_FORMS = (
    "Bearer", "OAuth2", "bearer", "Basic", "api_token", "oauth_token", "in the body", "secret alone",
    "twice",
)  # fmt: skip
_HEADERS = [
    {"X-Http-Method-Override": "GET"},
    {"X-Http-Method-Override": "delete"},
    {"X-Http-Method-Override": "\xff"},
    {"X-Request-Id": "req-abc"},
    {"X-Request-Id": "<b>" * 100},
    {"Content-Type": "text/plain; charset=utf-16"},
    {"Content-Type": "multipart/form-data; boundary=x"},
    {"Content-Encoding": "gzip"},
    {"Accept": "text/html"},
    {"Expect": "100-continue"},
    {"Upgrade": "h2c", "Connection": "Upgrade"},
    {"Range": "bytes=5-1"},
    {"Host": "x"},
    {"If-None-Match": "*"},
]
_STRANGERS = st.lists(
    st.tuples(
        st.sampled_from(
            ["alt", "_method", "api_token", "reader_tokens", "", "a[b]", "uuid", "select"]
        ),
        JUNK,
    ),
    max_size=2,
)
BODY_FORMS = (
    "chunked", "form", "form of json", "cut short", "garbage after", "duplicate keys", "byte order mark",
    "utf-16", "not utf-8", "huge number", "deep", "very deep", "nothing", "spaces", "large",
)  # fmt: skip


def body_text(value: Any, form: str) -> bytes:
    """`value` as a request's body; each form that is no good is bad in its own way."""
    text = json.dumps(value)
    match form:
        case "cut short":
            return text[: len(text) // 2].encode()
        case "garbage after":
            return text.encode() + b"}]\0"
        case "duplicate keys":
            return b'{"uuid": 1, "uuid": [], "state": {}, ' + text.lstrip("{").encode()
        case "byte order mark":
            return b"\xef\xbb\xbf" + text.encode()
        case "utf-16":
            return text.encode("utf-16")
        case "not utf-8":
            return text.encode().replace(b'"', b'"\xff\xc0', 1)
        case "huge number":
            return b'{"limit": 1e999, "epoch": -' + b"9" * 5000 + b"}"
        case "deep":
            return b'{"properties":' * 200 + b"1" + b"}" * 200
        case "very deep":
            return b"[" * 100_000
        case "nothing":
            return b""
        case "spaces":
            return b" \r\n\t" * 10
        case "large":
            return json.dumps({"properties": {"a": ["x" * 100] * 20_000}}).encode()
        case "form" if isinstance(value, dict):
            pairs = [(str(k), v if isinstance(v, str) else json.dumps(v)) for k, v in value.items()]
            return "&".join(f"{_quoted(k)}={_quoted(v)}" for k, v in pairs).encode()
        case _:
            return text.encode()


def path_text(parts: list[Any], query: list[Any]) -> str:
    """Path and query of a request; what is no text is its JSON."""
    path = "/arvados/v1/" + "/".join(_quoted(str(part)) for part in parts)
    pairs = [(n, v if isinstance(v, str) else json.dumps(v)) for n, v in query]
    return path + ("?" + "&".join(f"{_quoted(n)}={_quoted(v)}" for n, v in pairs) if pairs else "")


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")
