"""Commands against the in-memory API: what is typed, what comes out, and the exit status."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nodemanager.api.requests import ArvadosRequests, Record
from nodemanager.cli import status as status_module
from nodemanager.cli.site import UsageError
from nodemanager.errors import NodeManagerError, RequestError
from nodemanager.outcome import End, EndKind
from nodemanager.testing import ROOT_TOKEN, Harness, MemoryResource, Program, Wire
from tests.cli.conftest import GIB, Shell, memory_site, node

LARGE = {"vcpus": 1, "ram": 900 * GIB}
UUID = re.compile(r"zzzzz-[a-z0-9]{5}-[a-z0-9]{15}")


def sleeper(seconds: float) -> Any:
    return lambda _record: Program(seconds=seconds)


class TestQueue:
    def test_nothing(self, shell: Shell) -> None:
        assert shell.run("queue") == 0
        assert shell.out == "nothing waits, nothing runs\n"

    def test_what_waits_is_grouped_by_reason_and_what_runs_by_size(
        self, shell: Shell, harness: Harness
    ) -> None:
        harness.program = sleeper(600)
        for _ in range(4):
            harness.submit()
        for _ in range(50):
            harness.submit(runtime_constraints=LARGE)
        harness.submit(run_after="2100-01-01T00:00:00Z")
        harness.advance(30)
        assert shell.run("queue") == 0
        lines = shell.out.splitlines()
        assert lines[0] == "51 containers waiting"
        assert re.match(r" +50  no-node-fits +3\d s +RAM: wants 900 GiB", lines[2]), lines
        assert "-> ask for at most" in lines[2]
        assert re.match(r" +1  run-after +in \d+ d", lines[3]), lines
        assert "4 containers running" in shell.out
        assert "1 core, 256 MiB RAM" in shell.out

    def test_rows_of_all_have_names_and_whole_uuids(self, shell: Shell, harness: Harness) -> None:
        request = harness.submit(name="exome", runtime_constraints=LARGE)
        harness.advance(30)
        container = harness.container_of(request)["uuid"]
        assert shell.run("queue", "--all", width=40) == 0
        assert container in shell.out
        assert "exome" in shell.out

    def test_one_reason_alone(self, shell: Shell, harness: Harness) -> None:
        harness.submit(runtime_constraints=LARGE)
        harness.submit(run_after="2100-01-01T00:00:00Z")
        harness.advance(30)
        assert shell.run("queue", "--reason", "run-after") == 0
        assert "1 container waiting" in shell.out
        assert "no-node-fits" not in shell.out

    def test_the_document_has_what_the_screen_has(self, shell: Shell, harness: Harness) -> None:
        request = harness.submit(runtime_constraints=LARGE, name="exome")
        harness.advance(30)
        assert shell.run("queue", "--json", "--all") == 0
        document = json.loads(shell.out)
        assert document["queued"] == 1
        [group] = document["waiting"]
        assert (group["token"], group["tier"], group["containers"]) == ("no-node-fits", "never", 1)
        [row] = document["containers"]
        assert (row["request"], row["name"]) == (request, "exome")
        assert row["uuid"] == group["oldest"]
        assert row["reason"]["token"] == "no-node-fits"

    def test_what_no_dispatcher_has_seen_is_said_to_be_so(self, harness: Harness) -> None:
        harness.kill(harness.site)
        harness.submit()
        shell = Shell(memory_site(harness.root), harness)
        assert shell.run("queue") == 0
        assert "no dispatcher has said anything of it yet" in shell.out
        harness.advance(3600)
        assert shell.run("queue") == 0
        assert "no dispatcher is alive" in shell.out

    def test_the_mildest_of_several_dispatchers_counts(self, harness: Harness) -> None:
        harness.add_site("site2", nodes=[node("big", ram_gib=2000)])
        harness.program = sleeper(6000)
        for _ in range(9):
            harness.submit(runtime_constraints=LARGE)
        harness.advance(60)
        shell = Shell(memory_site(harness.root), harness)
        shell.run("queue")
        assert "no-node-fits" not in shell.out, shell.out


class TestStatus:
    def test_four_questions(self, shell: Shell, harness: Harness) -> None:
        harness.program = sleeper(600)
        harness.submit()
        harness.submit(runtime_constraints=LARGE)
        harness.advance(30)
        assert shell.run("status") == 0
        for question in ("alive?", "flowing?", "wait?", "cost?"):
            assert question in shell.out
        assert "yes, 1 dispatcher" in shell.out
        assert "yes: 1 container running, 0 claimed, 1 queued" in shell.out
        assert "no-node-fits" in shell.out
        assert "not known here: the daemon's management server cannot be asked" in shell.out

    def test_a_very_long_queue_is_told_in_kinds(
        self, shell: Shell, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(3):
            harness.submit(runtime_constraints=LARGE)
        harness.advance(30)
        assert shell.run("status") == 0
        in_words = shell.out
        monkeypatch.setattr(status_module, "LONG_QUEUE", 2)
        assert shell.run("status") == 0
        assert re.search(r"^ +3  no-node-fits  RAM: wants 900 GiB", in_words, re.MULTILINE)
        assert re.search(r"^ +3  no-node-fits  ", shell.out, re.MULTILINE)
        assert "wants 900 GiB" not in shell.out

    def test_nobody_is_alive_and_nothing_flows(self, shell: Shell, harness: Harness) -> None:
        harness.submit()
        harness.kill(harness.site)
        harness.advance(3600)
        assert shell.run("status") == 0
        assert "no dispatcher is alive" in shell.out
        assert "lost" in shell.out

    def test_one_that_went_silent_is_seen_before_it_is_lost(
        self, shell: Shell, harness: Harness
    ) -> None:
        harness.kill(harness.site)
        harness.advance(200)
        assert shell.run("status") == 0
        assert "1 of 1 dispatcher went silent" in shell.out

    def test_the_document(self, shell: Shell, harness: Harness) -> None:
        harness.submit()
        harness.advance(30)
        assert shell.run("status", "--json") == 0
        document = json.loads(shell.out)
        assert document["containers"] == {"queued": 0, "locked": 0, "running": 0}
        assert document["ended_last_hour"]["Complete"] == 1
        assert document["oldest_wait_seconds"] == 0
        assert [d["state"] for d in document["dispatchers"]] == ["alive"]
        assert document["cost"] is None


class TestWhy:
    def test_a_request_and_its_container_tell_the_same_story(
        self, shell: Shell, harness: Harness
    ) -> None:
        request = harness.submit(name="exome", runtime_constraints=LARGE)
        harness.advance(30)
        container = harness.container_of(request)["uuid"]
        assert shell.run("why", request) == 0
        by_request = shell.out
        assert shell.run("why", container) == 0
        assert shell.out == by_request
        assert "exome" in by_request
        assert f"arvados-node-manager cancel {request}" in by_request

    def test_what_is_not_there_is_told_and_the_others_are_shown(
        self, shell: Shell, harness: Harness
    ) -> None:
        request = harness.submit()
        missing = "zzzzz-xvhdp-000000000000000"
        assert shell.run("why", missing, request) == 1
        assert f"{missing}: there is no such container request, or none that" in shell.err
        assert request in shell.out

    def test_the_uuid_of_something_else_is_wrong_usage(self, shell: Shell) -> None:
        assert shell.run("why", "zzzzz-bmxii-000000000000000") == 2
        assert "is a dispatcher" in shell.err

    def test_the_document(self, shell: Shell, harness: Harness) -> None:
        request = harness.submit(runtime_constraints=LARGE)
        harness.advance(30)
        assert shell.run("why", request, "--json") == 0
        [story] = json.loads(shell.out)["stories"]
        assert (story["asked"], story["request"]) == (request, request)
        assert story["reasons"][0]["token"] == "no-node-fits"
        assert story["what_to_do"]["command"] == f"cancel {request}"


class TestWatch:
    def test_until_all_are_complete(self, shell: Shell, harness: Harness) -> None:
        harness.program = sleeper(20)
        first, second = harness.submit(name="a"), harness.submit(name="b")
        container = harness.container_of(second)["uuid"]
        assert shell.run("watch", first, container, first) == 0
        assert f"{first} a Running" in shell.out
        assert shell.out.splitlines()[-1] == "2 Complete"

    def test_one_that_fails_makes_it_fail(self, shell: Shell, harness: Harness) -> None:
        harness.program = lambda _record: Program(end=End(EndKind.EXITED, 3))
        request = harness.submit()
        assert shell.run("watch", request) == 1
        assert "PermFail" in shell.out
        assert f"arvados-node-manager why {request}" in shell.out

    def test_a_request_is_followed_through_its_attempts(
        self, shell: Shell, harness: Harness
    ) -> None:
        harness.program = lambda record: Program(
            end=End(EndKind.EXITED, 75 if record["attempt"] < 3 else 0)
        )
        request = harness.submit()
        assert shell.run("watch", request) == 0
        assert "attempt 2" in shell.out
        assert "attempt 3" in shell.out
        lines = [line for line in shell.out.splitlines() if "next try waits" in line]
        assert len(lines) == 2, "a reason that only counts down is one line"

    def test_a_container_only_until_it_is_final_itself(
        self, shell: Shell, harness: Harness
    ) -> None:
        harness.program = lambda _record: Program(end=End(EndKind.EXITED, 75))
        container = harness.container_of(harness.submit())["uuid"]
        assert shell.run("watch", container) == 1
        assert "TempFail" in shell.out

    def test_while_the_api_is_away_it_is_awaited(self, shell: Shell, harness: Harness) -> None:
        harness.program = sleeper(20)
        request = harness.submit()

        def go() -> None:
            harness.wire.down = True

        def come() -> None:
            harness.wire.down = False

        shell.after_pause = [go, lambda: None, come]
        assert shell.run("watch", request) == 0
        assert shell.err.count("waiting for it") == 1
        assert shell.err.count("the API answers again") == 1

    def test_what_is_removed_meanwhile_is_no_success(self, shell: Shell, harness: Harness) -> None:
        harness.program = sleeper(600)
        request = harness.submit()
        shell.after_pause = [
            lambda: harness.cancel(request),
            lambda: harness.advance(30),
            lambda: harness.call("container_requests", "delete", uuid=request),
        ]
        assert shell.run("watch", request) == 1

    def test_the_document_at_the_end(self, shell: Shell, harness: Harness) -> None:
        request = harness.submit(name="a")
        assert shell.run("watch", request, "--json") == 0
        [item] = json.loads(shell.out)["watched"]
        assert (item["uuid"], item["name"], item["state"]) == (request, "a", "Complete")
        assert UUID.fullmatch(item["container"])

    def test_the_table_on_a_terminal_ends_with_how_each_ended(
        self, shell: Shell, harness: Harness
    ) -> None:
        request = harness.submit(name="exome")
        assert shell.run("watch", request, width=80) == 0
        assert request in shell.out
        assert "Complete" in shell.out


class TestCancel:
    def test_by_request_and_again(self, shell: Shell, harness: Harness) -> None:
        harness.program = sleeper(600)
        request = harness.submit(name="exome")
        assert shell.run("cancel", request) == 0
        assert shell.out == f"{request} is cancelled (exome)\n"
        harness.advance(60)
        assert harness.container_of(request)["state"] == "Cancelled"
        assert shell.run("cancel", request) == 0
        assert "was cancelled already" in shell.out

    def test_a_container_is_cancelled_by_all_who_want_it(
        self, shell: Shell, harness: Harness
    ) -> None:
        both = [harness.submit(use_existing=True, runtime_constraints=LARGE) for _ in range(2)]
        container = harness.container_of(both[0])["uuid"]
        assert shell.run("cancel", container) == 0
        assert set(UUID.findall(shell.out)) == set(both)
        assert [harness.request(uuid)["priority"] for uuid in both] == [0, 0]

    def test_too_late(self, shell: Shell, harness: Harness) -> None:
        request = harness.submit()
        harness.advance(60)
        container = harness.container_of(request)["uuid"]
        assert shell.run("cancel", request, container) == 1
        assert shell.err.splitlines() == [
            f"{request}: is Complete already",
            f"{container}: is Complete already",
        ]


class TestHold:
    def test_until_it_is_released(self, shell: Shell, harness: Harness) -> None:
        request = harness.submit(run_after="2100-01-01T00:00:00Z")
        container = harness.container_of(request)["uuid"]
        assert shell.run("hold", request, "--reason", "the wrong genome") == 0
        assert shell.out == f"{container} is on hold: the wrong genome\n"
        harness.advance(30)
        assert shell.run("why", request) == 0
        assert "Why: on-hold" in shell.out
        assert "the wrong genome" in shell.out
        assert f"    arvados-node-manager release {request}\n" in shell.out
        assert shell.run("release", container) == 0
        assert harness.container_of(request)["hold"] is False

    def test_what_does_not_wait_cannot_be_held(self, shell: Shell, harness: Harness) -> None:
        request = harness.submit()
        harness.advance(60)
        container = harness.container_of(request)["uuid"]
        assert shell.run("hold", container) == 1
        assert shell.err.startswith(f"{container}: ")
        assert "Complete" in shell.err

    def test_a_backoff_is_skipped(self, shell: Shell, harness: Harness) -> None:
        harness.program = lambda record: Program(
            end=End(EndKind.EXITED, 75 if record["attempt"] < 4 else 0)
        )
        request = harness.submit()
        harness.advance_until(lambda: harness.container_of(request)["attempt"] == 4)
        waiting = harness.container_of(request)
        assert waiting["state"] == "Queued"
        assert shell.run("retry-now", request) == 0
        assert waiting["uuid"] in shell.out
        harness.advance(15)
        assert harness.container_of(request)["state"] == "Complete"


class TestDispatchers:
    def test_those_that_are_alive_and_what_they_hold(self, shell: Shell, harness: Harness) -> None:
        harness.program = sleeper(600)
        harness.submit()
        harness.advance(30)
        for words in (("dispatchers",), ("dispatchers", "list")):
            assert shell.run(*words) == 0
            heading, row = shell.out.splitlines()
            assert heading.startswith("DISPATCHER")
            assert re.fullmatch(r"zzzzz-bmxii-\w{15}  alive  fake +0 +1 .*site1", row), row

    def test_retire_is_refused_while_it_holds_containers(
        self, shell: Shell, harness: Harness
    ) -> None:
        harness.program = sleeper(600)
        harness.submit()
        harness.advance(30)
        harness.kill(harness.site)
        assert shell.run("dispatchers", "retire", "site1") == 1
        assert "still holds 1 containers" in shell.err
        assert shell.run("dispatchers", "retire", "site1", "--release") == 0
        assert "is retired, for good" in shell.out
        assert shell.run("dispatchers", "list", "--json") == 0
        [row] = json.loads(shell.out)["dispatchers"]
        assert row["state"] == "retired"
        assert shell.run("dispatchers", "retire", "site1") == 1
        assert "no dispatcher of this name is alive" in shell.err
        assert shell.run("dispatchers", "retire", row["uuid"]) == 0

    def test_lose_asks_and_without_a_terminal_needs_yes(
        self, shell: Shell, harness: Harness
    ) -> None:
        harness.kill(harness.site)
        assert shell.run("dispatchers", "lose", "site1") == 2
        assert "say --yes" in shell.err
        assert harness.call("dispatchers", "list")["items"][0]["state"] == "alive"
        assert shell.run("dispatchers", "lose", "site1", "--yes") == 0
        assert harness.call("dispatchers", "list")["items"][0]["state"] == "lost"

    def test_one_is_paused_and_resumed(self, shell: Shell, harness: Harness) -> None:
        assert shell.run("dispatchers", "pause", "site1", "--reason", "new switch") == 0
        assert "claims nothing more" in shell.out
        assert "new switch" in shell.out
        request = harness.submit()
        harness.advance(60)
        assert harness.container_of(request)["state"] == "Queued"
        assert shell.run("dispatchers") == 0
        assert " paused " in shell.out
        assert "new switch" in shell.out
        assert shell.run("dispatchers", "resume", "site1") == 0
        assert shell.out.endswith("claims again\n")
        harness.advance(60)
        assert harness.container_of(request)["state"] == "Complete"

    def test_all_are_paused_and_resumed(self, shell: Shell, harness: Harness) -> None:
        assert shell.run("dispatchers", "pause", "--all", "--reason", "restored") == 0
        assert "no dispatcher claims anything more" in shell.out
        assert "restored" in shell.out
        assert shell.run("dispatchers", "resume", "site1") == 0
        assert "would claim again, but all are paused" in shell.out
        request = harness.submit()
        harness.advance(60)
        assert shell.run("status") == 0
        assert "1 paused" in shell.out
        assert shell.run("dispatchers", "resume", "--all") == 0
        harness.advance(60)
        assert harness.container_of(request)["state"] == "Complete"

    def test_one_that_is_not_there_does_not_keep_the_others(
        self, shell: Shell, harness: Harness
    ) -> None:
        assert shell.run("dispatchers", "pause", "site7", "site1") == 1
        assert "site7: no dispatcher of this name is alive" in shell.err
        assert "site1" in shell.out

    def test_verbs_without_a_name(self, shell: Shell) -> None:
        with pytest.raises(UsageError, match="say which dispatcher"):
            shell.run("dispatchers", "pause")
        with pytest.raises(UsageError, match="--all means every dispatcher"):
            shell.run("dispatchers", "pause", "site1", "--all")


class TestRights:
    def test_a_users_token_is_told_which_is_needed(self, shell: Shell, harness: Harness) -> None:
        token = harness.service.create_user_token("ada").text
        user = Shell(memory_site(MemoryResource(harness.service, token, Wire())), harness)
        assert user.run("dispatchers", "lose", "zzzzz-bmxii-000000000000000", "--yes") == 1
        record = harness.call("dispatchers", "list")["items"][0]
        assert user.run("dispatchers", "lose", record["uuid"], "--yes") == 1
        assert "ARVADOS_API_TOKEN" in user.err or "no such" in user.err.lower(), user.err

    def test_a_token_that_nobody_knows(self, harness: Harness) -> None:
        stranger = Shell(memory_site(MemoryResource(harness.service, "bad", Wire())), harness)
        with pytest.raises(NodeManagerError, match="does not know the root token of the tests"):
            stranger.run("queue")


class TestSubmit:
    FILE = """\
- name: one
  command: ["true"]
  output_path: /work/out
  mounts: {/work/out: {kind: tmp, capacity: 1 MiB}}
  runtime_constraints: {vcpus: 1, ram: 64 MiB}
  use_existing: false
- name: two
  command: ["true"]
  output_path: /work/out
  mounts: {/work/out: {kind: tmp, capacity: 1 MiB}}
  runtime_constraints: {vcpus: 1, ram: 64 MiB}
  use_existing: false
  run_after: +1 h
"""

    def path(self, tmp_path: Path, text: str = "") -> str:
        path = tmp_path / "requests.yml"
        path.write_text(text or self.FILE)
        return str(path)

    def test_uuids_come_one_a_line(self, shell: Shell, harness: Harness, tmp_path: Path) -> None:
        assert shell.run("submit", self.path(tmp_path)) == 0
        first, second = shell.out.split()
        assert harness.request(first)["name"] == "one"
        harness.advance(60)
        assert harness.container_of(first)["state"] == "Complete"
        assert harness.container_of(second)["state"] == "Queued", "its time has not come"

    def test_names_stand_beside_them_on_a_terminal_and_in_the_document(
        self, shell: Shell, tmp_path: Path
    ) -> None:
        assert shell.run("submit", self.path(tmp_path), width=80) == 0
        assert shell.out.splitlines()[1].endswith("  two")
        assert shell.run("submit", self.path(tmp_path), "--json") == 0
        assert [item["name"] for item in json.loads(shell.out)["submitted"]] == ["one", "two"]

    def test_nothing_is_submitted_of_a_file_with_a_mistake(
        self, shell: Shell, harness: Harness, tmp_path: Path
    ) -> None:
        with pytest.raises(RequestError, match=r"requests\.yml:14: priority"):
            shell.run("submit", self.path(tmp_path, f"{self.FILE}  priority: many\n"))
        assert harness.call("container_requests", "list")["items"] == []

    def test_what_was_submitted_before_the_api_went_away_is_told(
        self, harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wire = Wire()
        shell = Shell(memory_site(MemoryResource(harness.service, ROOT_TOKEN, wire)), harness)
        create = ArvadosRequests.create

        def create_one(calls: ArvadosRequests, attributes: Mapping[str, Any]) -> Record:
            record = create(calls, attributes)
            wire.down = True
            return record

        monkeypatch.setattr(ArvadosRequests, "create", create_one)
        assert shell.run("submit", self.path(tmp_path), "--json") == 1
        assert [item["name"] for item in json.loads(shell.out)["submitted"]] == ["one"]
        assert "two and what follows it: no API answers" in shell.err

    @pytest.mark.parametrize("more", ["after: [one]", "cancel_after: 5 s"])
    def test_what_needs_somebody_to_watch_says_so(
        self, shell: Shell, harness: Harness, tmp_path: Path, more: str
    ) -> None:
        with pytest.raises(UsageError, match=r"two .* add --watch"):
            shell.run("submit", self.path(tmp_path, f"{self.FILE}  {more}\n"))
        assert harness.call("container_requests", "list")["items"] == []
