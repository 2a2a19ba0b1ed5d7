"""A container's story, read from the server's own logic in memory; over HTTP it is tests/server/over_http."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from nodemanager.api import story as stories
from nodemanager.api.story import SaidReason, Story, read_story
from nodemanager.errors import ApiRefused, ApiUnavailable
from nodemanager.model import ContainerState, format_time
from nodemanager.outcome import End, EndKind
from nodemanager.reason import ReasonToken
from nodemanager.testing import GIB, Harness, MemoryResource, Program, Wire

TOO_LARGE = {"vcpus": 64, "ram": GIB}
NODE_LOST = Program(end=End(EndKind.NODE_LOST, detail="node1 is down"), reports=False)


@pytest.fixture
def world() -> Iterator[Harness]:
    with Harness() as harness:
        yield harness


def seen_by(world: Harness, token: str, uuid: str) -> Story:
    return read_story(MemoryResource(world.service, token, Wire()), uuid)


def losing_nodes(attempts: int) -> Harness:
    """A world where containers lose their nodes in the first `attempts`."""

    def program(record: Mapping[str, Any]) -> Program:
        return NODE_LOST if record["attempt"] <= attempts else Program()

    return Harness(program=program)


class TestOfARequest:
    def test_that_went_well(self, world: Harness) -> None:
        request = world.submit(name="align")
        world.advance(10)
        story = read_story(world.root, request)
        assert (story.request, story.name, story.request_state) == (request, "align", "Final")
        assert story.priority == 500
        (attempt,) = story.attempts
        assert (attempt.number, attempt.state, attempt.exit_code) == (1, "Complete", 0)
        me = world.status().me
        assert me is not None
        assert attempt.dispatcher == me.dispatcher
        assert attempt.started_at is not None
        assert attempt.finished_at is not None
        assert attempt.created_at < attempt.started_at < attempt.finished_at
        assert story.reasons == ()

    def test_that_waits(self, world: Harness) -> None:
        request = world.submit(runtime_constraints=TOO_LARGE)
        world.advance(10)
        story = read_story(world.root, request)
        (said,) = story.reasons
        (change,) = story.history
        assert said.name == "site1"
        assert said.reason.token is ReasonToken.NO_NODE_FITS
        assert said.reason.facts == {"cores": {"wanted": 64, "available": 4}}
        assert said.last_checked is not None
        assert world.clock.wall() - said.last_checked < 2 * world.claim_poll_seconds + 5
        assert change.reason is not None
        assert change.reason.same_as(said.reason)
        assert change.container == story.current.uuid
        assert change.dispatcher == said.dispatcher

    def test_with_several_attempts(self) -> None:
        with losing_nodes(2) as world:
            request = world.submit()
            world.advance_until(lambda: world.request(request)["state"] == "Final")
            story = read_story(world.root, request)
        assert [attempt.number for attempt in story.attempts] == [1, 2, 3]
        assert [str(a.state) for a in story.attempts] == ["TempFail", "TempFail", "Complete"]
        assert [attempt.temp_fails for attempt in story.attempts] == [0, 1, 2]
        assert "node1 is down" in story.attempts[0].error
        uuids = {attempt.uuid for attempt in story.attempts}
        assert len(uuids) == 3
        told = [change.reason.token for change in story.history if change.reason is not None]
        assert told.count(ReasonToken.BACKOFF) == 2
        assert {change.container for change in story.history} <= uuids
        assert [c.at for c in story.history] == sorted(c.at for c in story.history)

    def test_whose_retry_waits_tells_the_error_of_the_attempt_that_had_it(self) -> None:
        with losing_nodes(1) as world:
            request = world.submit()
            world.advance_until(lambda: len(world.attempts(request)) == 2)
            first, second = read_story(world.root, request).attempts
        assert "node1 is down" in first.error
        assert second.state is ContainerState.QUEUED
        assert second.error == ""
        assert second.run_after is not None

    def test_that_has_no_container_yet(self, world: Harness) -> None:
        draft = world.submit(state="Uncommitted")
        with pytest.raises(ApiRefused, match=f"{draft}.*Uncommitted.*no container") as caught:
            read_story(world.root, draft)
        assert caught.value.status == 404


class TestOfAContainer:
    def test_is_that_of_its_request(self, world: Harness) -> None:
        request = world.submit(runtime_constraints=TOO_LARGE)
        world.advance(10)
        container = world.request(request)["container_uuid"]
        assert read_story(world.root, container) == read_story(world.root, request)

    def test_of_an_earlier_attempt_as_well(self) -> None:
        with losing_nodes(2) as world:
            request = world.submit()
            world.advance_until(lambda: world.request(request)["state"] == "Final")
            story = read_story(world.root, request)
            for attempt in story.attempts:
                assert read_story(world.root, attempt.uuid) == story

    def test_shared_by_several_requests_is_that_of_the_oldest(self, world: Harness) -> None:
        wanted = {"runtime_constraints": TOO_LARGE, "use_existing": True}
        oldest, other = world.submit(**wanted), world.submit(**wanted)
        container = world.request(oldest)["container_uuid"]
        assert world.request(other)["container_uuid"] == container
        assert read_story(world.root, container).request == oldest
        assert read_story(world.root, other).request == other

    def test_of_a_request_that_joined_a_later_attempt_is_not_told(self) -> None:
        with losing_nodes(1) as world:
            wanted = {"use_existing": True}
            first = world.submit(**wanted)
            world.advance_until(lambda: len(world.attempts(first)) == 2)
            failed = world.attempts(first)[0]["container_uuid"]
            world.submit(**wanted)
            world.call("container_requests", "delete", uuid=first)
            story = read_story(world.root, failed)
        assert story.request == ""
        assert [attempt.uuid for attempt in story.attempts] == [failed]

    def test_that_no_request_names_any_more(self, world: Harness) -> None:
        request = world.submit(priority=7)
        container = world.request(request)["container_uuid"]
        world.advance(10)
        world.call("container_requests", "delete", uuid=request)
        story = read_story(world.root, container)
        assert (story.request, story.name, story.request_state) == ("", "", "")
        assert story.current.uuid == container
        assert story.current.number == 1


class TestThatNobodySpeaksOf:
    def only_reason(self, world: Harness, request: str) -> SaidReason:
        (said,) = read_story(world.root, request, world.clock).reasons
        assert (said.dispatcher, said.name, said.last_checked) == ("", "", None)
        return said

    def test_says_so_while_a_dispatcher_is_alive(self, world: Harness) -> None:
        world.advance(1)
        world.kill(world.site)
        reason = self.only_reason(world, world.submit()).reason
        assert reason.token is ReasonToken.NOT_SEEN
        assert reason.facts["dispatchers"] == 1

    def test_says_that_no_dispatcher_is_alive(self, world: Harness) -> None:
        world.advance(1)
        world.kill(world.site)
        world.advance(1300)
        reason = self.only_reason(world, world.submit()).reason
        assert reason.token is ReasonToken.NOT_SEEN
        assert "no dispatcher is alive" in reason.sentence
        assert "start arvados-node-manager" in reason.advice

    def test_tells_what_its_record_does(self, world: Harness) -> None:
        world.advance(1)
        world.kill(world.site)
        due = world.clock.wall() + 500
        later = world.submit(run_after=format_time(due))
        reason = self.only_reason(world, later).reason
        assert (reason.token, reason.next_attempt_at) == (ReasonToken.RUN_AFTER, due)
        held = world.submit()
        uuid = world.request(held)["container_uuid"]
        world.call("containers", "update", uuid=uuid, body={"container": {"hold": True}})
        assert self.only_reason(world, held).reason.token is ReasonToken.ON_HOLD
        world.advance(600)
        assert self.only_reason(world, later).reason.token is ReasonToken.NOT_SEEN

    def test_has_no_reason_once_it_is_over(self, world: Harness) -> None:
        request = world.submit()
        world.advance(10)
        assert read_story(world.root, request, world.clock).reasons == ()


class TestSeveralDispatchers:
    def test_the_mildest_comes_first(self, world: Harness) -> None:
        world.add_site("site2", nodes=())
        request = world.submit(run_after=format_time(world.clock.wall() + 500))
        world.advance(30)
        mildest, other = read_story(world.root, request).reasons
        assert (mildest.name, mildest.reason.token) == ("site1", ReasonToken.RUN_AFTER)
        assert (other.name, other.reason.token) == ("site2", ReasonToken.NO_NODE_FITS)


class TestWhoAsks:
    def test_the_owner_an_administrator_and_a_dispatcher_read_the_same(
        self, world: Harness
    ) -> None:
        token = world.service.create_user_token("ada").text
        attributes = {
            "command": ["true"],
            "output_path": "/out",
            "mounts": {"/out": {"kind": "tmp"}},
            "runtime_constraints": TOO_LARGE,
            "state": "Committed",
        }
        owner = MemoryResource(world.service, token, Wire())
        body = {"container_request": attributes}
        request = owner.container_requests().create(body=body).execute()
        world.advance(10)
        for uuid in (request["uuid"], request["container_uuid"]):
            story = seen_by(world, world.site.token, uuid)
            assert story.reasons
            assert story.history
            assert seen_by(world, token, uuid) == story
            assert read_story(world.root, uuid) == story

    def test_a_stranger_is_told_that_there_is_no_such_thing(self, world: Harness) -> None:
        request = world.submit()
        container = world.request(request)["container_uuid"]
        token = world.service.create_user_token("eve").text
        for uuid in (request, container, "zzzzz-xvhdp-" + "0" * 15, "zzzzz-dz642-" + "0" * 15):
            with pytest.raises(ApiRefused) as caught:
                seen_by(world, token, uuid)
            assert caught.value.status == 404

    @pytest.mark.parametrize("uuid", ["", "nonsense", "zzzzz-bmxii-" + "0" * 15])
    def test_what_is_no_container_is_refused_in_words(self, world: Harness, uuid: str) -> None:
        with pytest.raises(
            ApiRefused, match="neither a container nor a container request"
        ) as caught:
            read_story(world.root, uuid)
        assert caught.value.status == 404

    def test_an_api_that_is_away_is_no_answer(self, world: Harness) -> None:
        request = world.submit()
        world.wire.down = True
        with pytest.raises(ApiUnavailable):
            read_story(world.root, request)


class TestBounds:
    def test_the_newest_attempts_and_changes_are_kept(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stories, "MOST_ATTEMPTS", 2)
        monkeypatch.setattr(stories, "MOST_CHANGES", 3)
        with losing_nodes(3) as world:
            request = world.submit()
            world.advance_until(lambda: world.request(request)["state"] == "Final")
            world.advance(10)
            story = read_story(world.root, request)
            logs = world.call("logs", "list", order="event_at desc")["items"]
        assert [attempt.number for attempt in story.attempts] == [3, 4]
        kept = {attempt.uuid for attempt in story.attempts}
        about = [log["summary"] for log in logs if log["object_uuid"] in kept][:3]
        assert [c.reason.sentence for c in story.history if c.reason] == about[::-1]

    def test_what_others_wrote_into_the_log_does_no_harm(self, world: Harness) -> None:
        request = world.submit(runtime_constraints=TOO_LARGE)
        world.advance(10)
        before = read_story(world.root, request).history
        container = world.request(request)["container_uuid"]
        for properties in ({"token": "no-such-token"}, {"token": ["x"]}, {"token": "backoff"}):
            entry = {
                "object_uuid": container,
                "event_type": "dispatch",
                "properties": properties,
            }
            world.call("logs", "create", body={"log": entry})
        assert read_story(world.root, request).history == before


def test_as_dict_is_json_with_times_as_the_api_writes_them(world: Harness) -> None:
    request = world.submit(runtime_constraints=TOO_LARGE)
    world.advance(10)
    story = read_story(world.root, request)
    told = json.loads(json.dumps(story.as_dict()))
    assert told["request"] == request
    assert told["attempts"][0]["created_at"] == format_time(story.current.created_at)
    assert told["attempts"][0]["state"] == "Queued"
    assert told["attempts"][0]["finished_at"] is None
    (said,) = told["reasons"]
    assert said["token"] == "no-node-fits"
    assert said["dispatcher_name"] == "site1"
    assert said["last_checked"].endswith("Z")
    assert told["history"][0]["reason"]["token"] == "no-node-fits"
