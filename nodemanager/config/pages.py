"""What people read about the options, made from their declarations: the example file and the reference page.

Both are committed; a test compares them with what is made here. To write them anew:

    python -m nodemanager.config --example > etc/nodemanager.cfg.example
    python -m nodemanager.config --reference > docs/reference/configuration.md
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from nodemanager.config.option import Option, Section, options_of
from nodemanager.config.reload import is_live
from nodemanager.config.sources import ENVIRONMENT_PREFIX
from nodemanager.config.tree import SECTIONS

_WIDTH = 88
_LIVE = {
    ("Daemon", "state_dir"): "../state",
    ("Runner", "input_dirs"): "examples",
    ("Daemon", "max_nodes"): "4",
    ("Cloud", "provider"): "loopback",
    ("Cloud", "shutdown_windows"): "0, 999999",
    ("Size", "cores"): "2",
    ("Size", "ram"): "1536",
    ("Size", "scratch"): "4000",
    ("Size", "price"): "0.10",
}
"""Set in the example file, so that it runs as it lies in a clone, its container requests find their input, and
its nodes, which are shares of this machine, come and go."""
_CLASSES = [part.cls for part in SECTIONS]
_SIZE = "worker"
"""The name of the one size in the example."""

_EXAMPLE_HEAD = """\
arvados-node-manager: every option, with its default.

This file works as it is: it runs containers on this machine, on nodes that are shares of it and come and go
as in a cloud, with an API server of its own. Remove the "#" before an option to change it. Durations are written as 15 s, 10 min or 1 h, sizes as 512 MiB or 4 GiB;
relative paths start at the directory of this file. See what is in effect, and whether it works, with

    arvados-node-manager --config FILE --check

A file that holds a token must be readable by its owner only. The token_file options keep it elsewhere; an
environment variable such as NODE_MANAGER_ARVADOS_TOKEN stands above the file.
"""


def example() -> str:
    """The text of etc/nodemanager.cfg.example."""
    lines = [*_comment(_EXAMPLE_HEAD), ""]
    for part in SECTIONS:
        lines += _example_section(part)
    return "\n".join(lines).rstrip() + "\n"


def _example_section(part: Section) -> Iterator[str]:
    """The options with effect, each by itself; then those without, closely packed."""
    yield _example_header(part)
    yield from _comment(part.sentence.replace("`", ""))
    yield ""
    for made in _own(part):
        if not made.unused:
            yield from _comment(_meaning(made, made.kind.limits))
            yield _example_line(part, made)
            yield ""
    free = part.free()
    if free and not any(
        other is not part.cls and issubclass(part.cls, other) for other in _CLASSES
    ):
        which = "Any other option" if any(part.options()) else "Any option"
        yield from _comment(f"{which}: {_lower(free.sentence)}".replace("`", ""))
        if free.example:
            yield f"#{free.example}"
        yield ""
    reasons = dict.fromkeys(made.unused for made in part.options() if made.unused)
    for reason in reasons:
        yield from _comment(f"{reason[0].upper()}{reason[1:]}.")
        yield ""
        for made in part.options():
            if made.unused == reason:
                yield from _comment(_meaning(made, made.kind.limits))
                yield _example_line(part, made)
                yield ""


def _example_header(part: Section) -> str:
    if not part.many:
        return f"[{part.name}]"
    # The example has a size; it has no use for several schedulers.
    return f"[{part.name} {_SIZE}]" if part.name == "Size" else f"#[{part.title}]"


def _own(part: Section) -> Iterator[Option]:
    """Its options, but for those of another section that it has as well."""
    others = {other.cls for other in SECTIONS} & set(part.cls.__mro__[1:])
    shared = {made.key for other in others for made in options_of(other)}
    return (made for made in part.options() if made.key not in shared)


def _example_line(part: Section, made: Option) -> str:
    live = _LIVE.get((part.name, made.key))
    if live is not None:
        return f"{made.name} = {live}"
    return f"#{made.name} = {made.default or made.example}".rstrip()


def _comment(text: str) -> Iterator[str]:
    """`text` as comment lines; its paragraphs are wrapped, its indented lines are not."""
    for index, paragraph in enumerate(text.strip().split("\n\n")):
        if index:
            yield "#"
        if paragraph.startswith(" "):
            yield from (f"# {line}" for line in paragraph.splitlines())
        else:
            yield from textwrap.wrap(
                " ".join(paragraph.split()),
                _WIDTH,
                initial_indent="# ",
                subsequent_indent="# ",
                break_on_hyphens=False,
                break_long_words=False,
            )


def _meaning(made: Option, limits: str) -> str:
    """The sentence, with the choices or the range unless it says them itself."""
    text = made.sentence.replace("`", "")
    return f"{text} ({limits})" if limits else text


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


_REFERENCE_HEAD = f"""\
# Configuration

<!-- Made by `python -m nodemanager.config --reference`; a test compares the two. -->

One file, given with `--config`, in the INI form of the old node manager. `etc/nodemanager.cfg.example`
holds every option with its default and runs as it is. `arvados-node-manager --config FILE --check` prints
the values in effect, where each came from, and whether what they name can be reached.

## How the file is read

- `[Section]`, then `option = value` or `option: value`. Names of options may be written in upper or lower
  case, names of sections as they are here. A line that is indented deeper than its option continues the
  value.
- A line that begins with `#` or `;` is a comment, and so is the rest of a line after white space and one of
  the two. A value that holds ` #` or ` ;` therefore has to come from the environment or a file.
- An unknown section or option, an option or section given twice, a value of the wrong type or out of range:
  each is an error. All errors are reported together, with line, section, option and the nearest known name,
  and the program ends with status 2.
- Durations: `15` or `15 s`, `500 ms`, `10 min`, `1 h`, `2 d`. Sizes: `512 MiB`, `4 GiB`, `20 GB` or a plain
  number of bytes. Lists: items separated by commas.
- `<config_dir>`, `<state_dir>`, `<host_name>` and `<python>` (the interpreter that runs) in a default are
  filled in when the file is read; values of the same option may use them too.
- A relative path is relative to the directory of the config file, with links not followed; `~` is the home
  directory. There is no interpolation: `%` and `$` mean themselves.

## Changes while the daemon runs

On SIGHUP (`systemctl reload arvados-node-manager`) the daemon reads the file again. Options marked *Reload* are taken
up at once; those of `[Runner]` hold for containers that are claimed from then on. Every change is logged with the old
and the new value, and for all other options the log says that they need a restart, which leaves jobs running. A file
with an error changes nothing: the log says what is wrong, and everything goes on as it was.

## Environment

The variable `{ENVIRONMENT_PREFIX}<SECTION>_<OPTION>`, in upper case and with `_` for spaces, stands above
the file: `{ENVIRONMENT_PREFIX}ARVADOS_TOKEN`, `{ENVIRONMENT_PREFIX}CLOUD_CREDENTIALS_KEY`. An empty
variable counts as unset. A variable that names an unknown option of a known section is an error; one that
names no section gets a warning, except the variables that Kubernetes makes for a service with a name like
ours. `[Size NAME]` sections cannot come from the environment.

## Secrets

The options of type *secret*, and any key that ends in `key`, `secret`, `token`, `password` or `passwd` where
every key is allowed, are masked wherever the configuration is shown. A config file that holds one must be
readable and writable by its owner only. Each named secret has an option with `_file` appended: the path of
a file that holds the secret in one line and nothing else, and that only its owner may read. Giving both is
an error; the environment stands above the config file here too.
"""


def reference() -> str:
    """The text of docs/reference/configuration.md."""
    lines = [_REFERENCE_HEAD]
    for part in SECTIONS:
        lines += _reference_section(part)
    return "\n".join(lines).rstrip() + "\n"


def _reference_section(part: Section) -> Iterator[str]:
    yield f"## [{part.title}]"
    yield ""
    yield part.sentence
    yield ""
    yield "| option | type | default | meaning |"
    yield "|---|---|---|---|"
    for made in _own(part):
        cells = (f"`{made.name}`", made.kind.word, _default(made), _notes(part, made))
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
    if free := part.free():
        which = "any other" if any(part.options()) else "any"
        yield f"| {which} | {free.kind.word} | | {_notes(part, free)} |"
    yield ""


def _default(made: Option) -> str:
    return f"`{made.default}`" if made.default else "none"


def _notes(part: Section, made: Option) -> str:
    notes = [made.sentence]
    if is_live(part, made):
        notes.append("*Reload.*")
    if made.alias:
        notes.append(f"Also read from `[{made.alias[0]}] {made.alias[1]}`, its old place.")
    if made.unused:
        notes.append(f"*{made.unused[0].upper()}{made.unused[1:]}.*")
    return " ".join(notes)
