"""The discovery document: `METHODS` and `RESOURCES` in the words of Google's API discovery format.

The Python client builds its calls from it, so an added method or parameter needs nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from nodemanager import __version__
from nodemanager.server.listing import MOST_ITEMS
from nodemanager.server.methods import BASE_PATH, METHODS, Method, Parameter
from nodemanager.server.resources import RESOURCES, FieldType, Resource

PATH = "/discovery/v1/apis/arvados/v1/rest"
MAX_AGE_SECONDS = 600
"""Stock Arvados says a day; an embedded server is upgraded with its daemon and then speaks differently."""

_TYPE_WORDS: Mapping[FieldType, str] = {
    FieldType.STRING: "string",
    FieldType.TEXT: "text",
    FieldType.INTEGER: "integer",
    FieldType.FLOAT: "float",
    FieldType.BOOLEAN: "boolean",
    FieldType.DATETIME: "datetime",
    FieldType.JSON_OBJECT: "Hash",
    FieldType.JSON_ARRAY: "Array",
}
_LISTS = ("list", "claim", "changes")
_RECORDS = ("get", "create", "update", "delete", "current", "ping", "retire", "lose")
_SCOPES = ["https://api.arvados.org/auth/arvados", "https://api.arvados.org/auth/arvados.readonly"]


class Discovery:
    """The document of one server; all but the URLs in it is made once."""

    def __init__(self, cluster_id: str, max_request_size: int) -> None:
        self._fixed = _document(cluster_id, max_request_size)
        text = json.dumps(self._fixed, sort_keys=True)
        self.revision = hashlib.sha256(text.encode()).hexdigest()[:16]

    def document(self, root_url: str) -> dict[str, Any]:
        """The document for a client that reached us under `root_url`, such as ``https://host:port/``."""
        return {
            **self._fixed,
            "revision": self.revision,
            "rootUrl": root_url,
            "baseUrl": root_url.rstrip("/") + BASE_PATH,
        }


def _document(cluster_id: str, max_request_size: int) -> dict[str, Any]:
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": "arvados:v1",
        "name": "arvados",
        "version": "v1",
        "title": "Arvados dispatch API",
        "description": "The part of the Arvados API that runs containers, and dispatchers.",
        "documentationLink": "https://doc.arvados.org/api/index.html",
        "packageVersion": __version__,
        "source_version": __version__,
        "sourceVersion": __version__,
        "protocol": "rest",
        "basePath": BASE_PATH,
        "servicePath": BASE_PATH.lstrip("/"),
        "batchPath": "batch",
        "uuidPrefix": cluster_id,
        "maxRequestSize": max_request_size,
        "maxItemsPerResponse": MOST_ITEMS,
        "parameters": {
            "alt": {
                "type": "string",
                "description": "Data format of the answer.",
                "default": "json",
                "enum": ["json"],
                "location": "query",
            },
        },
        "auth": {"oauth2": {"scopes": {s: {"description": "The API."} for s in _SCOPES}}},
        "schemas": _schemas(),
        "resources": _resources(),
    }


def _schemas() -> dict[str, Any]:
    schemas: dict[str, Any] = {
        "Answer": {"id": "Answer", "type": "object", "description": "See the method."}
    }
    for resource in RESOURCES.values():
        schemas[resource.schema] = _schema(resource)
        schemas[f"{resource.schema}List"] = _list_schema(resource)
    return schemas


def _schema(resource: Resource) -> dict[str, Any]:
    properties: dict[str, Any] = {"etag": {"type": "string", "description": "Object version."}}
    for field in resource.published:
        properties[field.name] = {"type": _TYPE_WORDS[field.type], "description": field.doc}
    return {
        "id": resource.schema,
        "description": f"{resource.schema}.",
        "type": "object",
        "uuidPrefix": resource.infix,
        "properties": properties,
    }


def _list_schema(resource: Resource) -> dict[str, Any]:
    name = f"{resource.schema}List"
    return {
        "id": name,
        "description": f"A page of {resource.plural}.",
        "type": "object",
        "properties": {
            "kind": {"type": "string", "description": "Object type.", "default": f"arvados#{name}"},
            "etag": {"type": "string", "description": "List version."},
            "items": {
                "type": "array",
                "description": "The records.",
                "items": {"$ref": resource.schema},
            },
            "items_available": {"type": "integer", "description": "How many match in all."},
            "cursor": {"type": "string", "description": "For the next call of `changes`."},
            "paused": {
                "type": "string",
                "description": "Why `claim` finds nothing, if it is paused.",
            },
        },
    }


def _resources() -> dict[str, Any]:
    resources: dict[str, Any] = {}
    for method in METHODS:
        methods = resources.setdefault(method.resource, {"methods": {}})["methods"]
        methods[method.name] = _method(method)
    return resources


def _method(method: Method) -> dict[str, Any]:
    resource = RESOURCES[method.resource]
    described: dict[str, Any] = {
        "id": f"arvados.{method.id}",
        "path": method.path,
        "httpMethod": method.http,
        "description": method.doc,
        "parameters": {p.name: _parameter(p) for p in method.parameters},
        "response": {"$ref": _response(method, resource)},
        "scopes": _SCOPES,
    }
    if method.body:
        described["request"] = {
            "required": method.name in ("create", "update"),
            "properties": {resource.singular: {"$ref": resource.schema}},
        }
    return described


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described: dict[str, Any] = {
        "type": parameter.type,
        "description": parameter.doc,
        "required": parameter.required,
        "location": parameter.location,
    }
    if parameter.default is not None:
        default = parameter.default
        # Every default is a text in this format.
        text = str(default).lower() if isinstance(default, bool) else str(default)
        described["default"] = text
    return described


def _response(method: Method, resource: Resource) -> str:
    if method.name in _LISTS:
        return f"{resource.schema}List"
    return resource.schema if method.name in _RECORDS else "Answer"
