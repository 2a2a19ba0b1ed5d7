"""What a new node runs first: a template with placeholders, and the values that go into them.

A template is a script for ``/bin/sh``, handed to cloud-init as user data. A placeholder is written
``@{ping_url}``, always as the whole value of an assignment on a line of its own::

    ping_url=@{ping_url}

so that the quotes which `render` puts round every value hold whatever the value is. Nothing else in the script
is touched; the shell's own ``$`` and ``%`` need no escape. The default template is `boot.sh` beside this file.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field, fields
from pathlib import Path

from nodemanager.config.kinds import nearest
from nodemanager.errors import ConfigError

DEFAULT_TEMPLATE = Path(__file__).with_name("boot.sh")


@dataclass(frozen=True, slots=True)
class BootValues:
    """What a template can have put in, by the names of these fields. Empty means: leave that step out."""

    ping_url: str = ""
    """Where to announce the node; see `ping_url`."""
    ping_secret: str = field(default="", repr=False)
    """Of the node's record. Letters, digits and ``-._~``, so that it can stand in a form as it is."""
    host_name: str = ""
    """The name under which it joins the scheduler; empty: the one that the API answers."""
    join_command: str = ""
    """For the shell, such as ``systemctl start slurmd``; run again until it ends with 0."""
    ca_certificate: str = ""
    """PEM text of the authority that signed the API's certificate; empty: those the system trusts."""
    insecure: bool = False
    """Accept any certificate of the API (`[Arvados] insecure`)."""
    scratch_dir: str = "/tmp"  # noqa: S108 (measured, not written to)
    """Whose file system is told as the node's scratch space."""
    ping_seconds: float = 300.0
    """How often it announces itself once it has been answered."""
    retry_seconds: float = 10.0
    """How long after a failure it tries again."""

    def __post_init__(self) -> None:
        """A secret that would change the form it is sent in is refused."""
        if not re.fullmatch(r"[A-Za-z0-9._~-]*", self.ping_secret):
            raise ConfigError(
                "a node's ping_secret may hold letters, digits and -._~ only: make the record again "
                "without choosing the secret"
            )

    def texts(self) -> dict[str, str]:
        """What stands for each placeholder, not yet quoted."""
        return {each.name: _text(getattr(self, each.name)) for each in fields(self)}


def ping_url(ping_host: str, record_uuid: str) -> str:
    """Where a node with this record announces itself; `ping_host` is ``host`` or ``host:port``."""
    return f"https://{ping_host}/arvados/v1/nodes/{record_uuid}/ping"


def load_template(path: Path | None) -> str:
    """The text of the operator's template, or of the default for None; checked.

    Raises `ConfigError` that names file and line.
    """
    path = path or DEFAULT_TEMPLATE
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"[Cloud] boot_script: {path} cannot be read: {error}") from error
    render(text, BootValues(), str(path))
    return text


def render(template: str, values: BootValues, where: str = "the boot script") -> str:
    """The script, ready to run. `where` is the template's file, for `ConfigError`, which names the line."""
    texts = values.texts()
    lines = template.split("\n")
    for number, line in enumerate(lines, start=1):
        if "@{" in line:
            lines[number - 1] = _rendered(
                line, texts, f"[Cloud] boot_script: {where}, line {number}"
            )
    return "\n".join(lines)


_ASSIGNMENT = re.compile(
    r"(?P<before>[ \t]*(export[ \t]+)?[A-Za-z_][A-Za-z0-9_]*=)@\{(?P<name>[^{}]*)\}\s*"
)


def _rendered(line: str, texts: dict[str, str], where: str) -> str:
    match = _ASSIGNMENT.fullmatch(line)
    if match is None:
        raise ConfigError(
            f"{where}: a placeholder must be all of a variable's value, on a line of its own and "
            f"without quotes: name=@{{name}}"
        )
    name = match["name"]
    if name not in texts:
        raise ConfigError(
            f"{where}: there is no placeholder @{{{name}}}{nearest(name, texts)} "
            f"(there are {', '.join(texts)})"
        )
    return match["before"] + shlex.quote(texts[name])


def _text(value: str | bool | float) -> str:
    """As a shell wants it: true is yes, false is empty; 300.0 is 300."""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return value
