"""A real moto server, an imitation of Amazon's services, with a proxy before it that can spoil its answers.

moto gives no promise for client tokens, which EC2 does ("Ensuring idempotency in Amazon EC2 API requests" in its
documentation). In its XML it leaves out the slash at the end of the namespace, gives errors a namespace, and says
their message twice. The proxy makes up for that.
"""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs

from tests.clusters.faultproxy import Answer, Call, Fault, FaultProxy, Forward, fault_proxy

_STARTED = re.compile(rb"Running on http://127\.0\.0\.1:([0-9]+)")
_NAMESPACE = re.compile(rb'( xmlns="http://ec2\.amazonaws\.com/doc/[0-9-]+)"')
_TWICE = re.compile(rb"<message>.*?</message>", re.DOTALL)


@contextmanager
def moto_server(*, seconds: float = 60.0) -> Iterator[int]:
    """The port of a moto process that lives as long as the block."""
    with tempfile.TemporaryDirectory(prefix="moto-") as directory:
        log = Path(directory, "log")
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )
        try:
            yield _port(process, log, time.monotonic() + seconds)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


@contextmanager
def ec2_behind_proxy(moto: int) -> Iterator[FaultProxy]:
    """A proxy before the moto server on port `moto`, which is emptied first."""
    connection = http.client.HTTPConnection("127.0.0.1", moto, timeout=30)
    try:
        connection.request("POST", "/moto-api/reset")
        connection.getresponse().read()
    finally:
        connection.close()
    with fault_proxy(moto, _Ec2Promises().around) as proxy:
        yield proxy


def ec2_error(code: str, message: str = "said the test", *, status: int = 400,
              retry_after: str = "") -> Fault:  # fmt: skip
    """EC2's way of saying no."""
    body = (
        f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
        "<RequestID>0a1b2c</RequestID></Response>"
    )
    headers = {"Content-Type": "text/xml"}
    if retry_after:
        headers["Retry-After"] = retry_after
    return Fault(answer=Answer(status, headers, body.encode()))


class _Ec2Promises:
    """What EC2 does and moto does not."""

    def __init__(self) -> None:
        self._done: dict[str, tuple[bytes, Answer]] = {}
        self._lock = threading.Lock()

    def around(self, call: Call, forward: Forward) -> Answer:
        fields = parse_qs(call.body.decode("latin-1"))
        token = fields.get("ClientToken", [""])[0]
        if fields.get("Action") != ["RunInstances"] or not token:
            return _repaired(forward(call))
        with self._lock:
            if token in self._done:
                body, answer = self._done[token]
                refusal = ec2_error("IdempotentParameterMismatch").answer
                assert refusal is not None
                return answer if body == call.body else refusal
            answer = _repaired(forward(call))
            if answer.status == 200:
                self._done[token] = (call.body, answer)
            return answer


def _repaired(answer: Answer) -> Answer:
    if answer.status == 200:
        body = _NAMESPACE.sub(rb'\1/"', answer.body)
    else:
        body = _TWICE.sub(b"", _NAMESPACE.sub(b"", answer.body))
    return Answer(answer.status, answer.headers, body)


def _port(process: subprocess.Popen[bytes], log: Path, deadline: float) -> int:
    while (found := _STARTED.search(log.read_bytes())) is None:
        words = log.read_bytes().decode(errors="replace")[-2000:]
        if process.poll() is not None:
            raise RuntimeError(f"moto ended with {process.returncode}: {words}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"moto is not there in time: {words}")
        time.sleep(0.05)
    return int(found[1])
