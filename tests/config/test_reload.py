"""What a file that was read again changes, and which of it is taken up."""

from __future__ import annotations

import pytest

from nodemanager.config import Config, parse
from nodemanager.config.pages import reference
from nodemanager.config.reload import LIVE, changes, is_live, merge
from nodemanager.config.tree import SECTIONS
from nodemanager.errors import ConfigError


def config(text: str = "") -> Config:
    return parse(text, "/x/nodemanager.cfg")


def test_every_option_of_the_table_exists() -> None:
    titles = {part.title: part for part in SECTIONS}
    for title, keys in LIVE.items():
        known = {made.key: made for made in titles[title].options()}
        assert (keys or set()) <= known.keys(), title
        assert not any(known[key].unused for key in keys or ()), title


def test_the_reference_page_marks_them() -> None:
    page = reference()
    for part in SECTIONS:
        start = page.index(f"\n## [{part.title}]\n")
        section = page[
            start : page.index("\n## ", start + 5) if "\n## " in page[start + 5 :] else None
        ]
        for line in section.splitlines():
            made = next((o for o in part.options() if line.startswith(f"| `{o.name}` |")), None)
            if made is not None:
                assert ("*Reload.*" in line) == is_live(part, made), line


def test_nothing_is_different_in_the_same_file() -> None:
    text = "[Daemon]\nmax_nodes = 4\n[Scheduler x]\n[Dispatch]\nschedulers = x\n"
    assert changes(config(text), config(text)) == []
    assert merge(config(text), config(text)) == config(text)


def test_what_is_live_is_taken_up_and_the_rest_is_kept() -> None:
    running = config("[Daemon]\nmax_nodes = 4\n[Dispatch]\nname = one\n")
    read = config("[Daemon]\nmax_nodes = 8\nwatchdog = 5 min\n[Dispatch]\nname = two\n")
    assert [(str(change), change.is_live) for change in changes(running, read)] == [
        ("[Dispatch] name: one -> two", False),
        ("[Daemon] watchdog: 10 min -> 5 min", True),
        ("[Daemon] max_nodes: 4 -> 8", True),
    ]
    merged = merge(running, read)
    assert (merged.daemon.max_nodes, merged.daemon.watchdog) == (8, 300.0)
    assert merged.dispatch.name == "one"
    assert [str(change) for change in changes(merged, read)] == ["[Dispatch] name: one -> two"]


def test_secrets_are_not_shown() -> None:
    running = config("[Manage]\nManagementToken = first\n[Cloud Credentials]\nkey = old\n")
    read = config("[Manage]\nManagementToken = second\n[Cloud Credentials]\nkey = new\nuser = me\n")
    assert [str(change) for change in changes(running, read)] == [
        "[Manage] ManagementToken: another one",
        "[Cloud Credentials] key: another one",
        "[Cloud Credentials] user: nothing -> me",
    ]
    assert "second" not in repr(changes(running, read))


def test_sections_that_come_and_go_need_a_restart() -> None:
    running = config("[Size a]\ncores = 1\n[Size b]\ncores = 2\n")
    read = config("[Size b]\ncores = 3\n[Size c]\ncores = 2\n")
    assert [(str(change), change.is_live) for change in changes(running, read)] == [
        ("[Size a] the section: there -> nothing", False),
        ("[Size b] cores: 2 -> 3", False),
        ("[Size c] the section: nothing -> there", False),
    ]
    assert merge(running, read).sizes == running.sizes


def test_each_of_several_schedulers_has_its_own_pace() -> None:
    text = "[Dispatch]\nschedulers = a, b\n[Scheduler a]\nmodule = local\npoll_time = {} s\n[Scheduler b]\nmodule = local\n"
    merged = merge(config(text.format(5)), config(text.format(9)))
    assert {name: each.poll_time for name, each in merged.schedulers.items()} == {
        "a": 9.0,
        "b": 5.0,
    }


def test_free_options_are_compared_one_by_one() -> None:
    running = config("[Logging]\npykka = DEBUG\nhttplib2 = INFO\n")
    read = config("[Logging]\npykka = ERROR\narvados = INFO\n")
    assert [str(change) for change in changes(running, read)] == [
        "[Logging] pykka: DEBUG -> ERROR",
        "[Logging] httplib2: INFO -> nothing",
        "[Logging] arvados: nothing -> INFO",
    ]
    assert merge(running, read).logging == read.logging


def test_what_contradicts_the_running_rest_is_refused() -> None:
    """The new interval would go with the new timeout, which only a restart would bring."""
    running = config()
    read = config("[Dispatch]\nping_interval = 5 min\n[Api]\nping_timeout = 1 h\n")
    with pytest.raises(ConfigError, match=r"\[Api\] ping_timeout: .* restart the daemon"):
        merge(running, read)
