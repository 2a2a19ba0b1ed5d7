"""OpenStack: what is asked of it, and how its answers are read.

Answers are libcloud's published fixtures, with the addresses of the services in the catalogue put right; errors are
written from OpenStack's API reference and messages. All of it goes over HTTP on loopback.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from libcloud.pricing import PRICING_DATA

from nodemanager.clouds.base import BEHAVIOUR_TAG, CLUSTER_TAG, CloudState, NodeOrder
from nodemanager.clouds.errors import (
    CloudError,
    Denied,
    Gone,
    NoCapacity,
    QuotaExceeded,
    RateLimited,
)
from nodemanager.clouds.openstack import OpenStack
from nodemanager.clouds.registry import find_cloud
from nodemanager.errors import ConfigError
from tests.clouds.orders import BOOT_SCRIPT, TAGS, context, order, size
from tests.clouds.wire import Answer, Wire, fixture, serving

COMPUTE, IMAGE, NETWORK = "/compute/v2.1", "/image", "/network"
SERVERS = f"{COMPUTE}/servers"
IMAGE_ID = "f24a3c1b-d52a-4116-91da-25b3eee8f55e"
NEW_ID = "26f7fbee-8ce1-4c28-887a-bfe8e4bb10fe"
FLAVOR = "4GB slice"
GB = 10**9


def catalogue(wire: Wire, **changes: Any) -> Answer:
    """A token and the catalogue of libcloud's fixture, but with the services here."""
    answer: dict[str, Any] = fixture("openstack/_v3__auth.json")
    answer["token"] |= {"expires_at": "2100-01-01T00:00:00.000000Z", **changes}
    paths = {"compute": COMPUTE, "image": IMAGE, "network": NETWORK}
    for service in answer["token"]["catalog"]:
        for endpoint in service["endpoints"]:
            path = paths.get(service["type"], "/elsewhere")
            endpoint["url"] = f"http://127.0.0.1:{wire.port}{path}"
    return Answer(answer, 201, {"X-Subject-Token": "t0k3n"})


@pytest.fixture
def wire() -> Iterator[Wire]:
    """An OpenStack with no servers, where every creation is accepted."""
    with serving() as wire:
        wire.on("POST", "/v3/auth/tokens", catalogue(wire))
        wire.on("GET", f"{SERVERS}/detail", Answer({"servers": []}))
        wire.on("POST", SERVERS, Answer(fixture("openstack/_servers_create.json"), 202))
        wire.on(
            "GET", f"{COMPUTE}/flavors/detail", Answer(fixture("openstack/_flavors_detail.json"))
        )
        wire.on("GET", f"{IMAGE}/v2/images", Answer(fixture("openstack/_images_v2.json")))
        wire.on(
            "GET", f"{NETWORK}/v2.0/networks", Answer(fixture("openstack/_v2_0__networks.json"))
        )
        wire.on("DELETE", f"{SERVERS}/.*", Answer("", 204))
        yield wire


class Make:
    """Makes drivers with the given options beside those that are needed; closes them at the end."""

    def __init__(self, state_dir: Path, wire: Wire) -> None:
        self.state_dir = state_dir
        self.credentials = {
            "key": "robot",
            "secret": "s3cr3t",
            "ex_force_auth_url": f"http://127.0.0.1:{wire.port}",
            "ex_tenant_name": "admin",
        }
        self.listed: dict[str, str] = {}
        self.created = {"image": IMAGE_ID}
        self.made: list[OpenStack] = []

    def __call__(self, **create: str) -> OpenStack:
        cloud = OpenStack(
            context(self.state_dir, self.credentials, self.listed, {**self.created, **create})
        )
        self.made.append(cloud)
        return cloud


@pytest.fixture
def make(tmp_path: Path, wire: Wire) -> Iterator[Make]:
    making = Make(tmp_path, wire)
    yield making
    for cloud in making.made:
        cloud.close()


def refused(status: int, kind: str, message: str, **headers: str) -> Answer:
    """An error in the form that Nova has for all."""
    return Answer({kind: {"code": status, "message": message}}, status, headers)


def server(name: str = "zzzzz-compute-x1", **changes: Any) -> dict[str, Any]:
    """The running server of libcloud's fixture, but ours."""
    made: dict[str, Any] = fixture("openstack/_servers_detail.json")["servers"][1]
    ours = {
        "id": NEW_ID,
        "name": name,
        "metadata": dict(TAGS),
        "OS-EXT-STS:task_state": None,
        "flavor": {"id": "5"},
    }
    return {**made, **ours, **changes}


def servers(*listed: dict[str, Any], **further: Any) -> Answer:
    return Answer({"servers": list(listed), **further})


def sent(wire: Wire) -> dict[str, Any]:
    """The server of the only creation."""
    (asked,) = wire.requests("POST", SERVERS)
    body: dict[str, Any] = asked.body["server"]
    return body


# Options.


def test_is_found_by_its_name() -> None:
    assert find_cloud("openstack") is OpenStack


@pytest.mark.parametrize("name", ["key", "secret", "ex_force_auth_url", "ex_tenant_name"])
def test_credentials_that_are_missing_are_named(make: Make, name: str) -> None:
    del make.credentials[name]
    with pytest.raises(ConfigError, match=rf"\[Cloud Credentials\] {name} is missing"):
        make()


def test_an_application_credential_needs_no_project(make: Make, wire: Wire) -> None:
    del make.credentials["ex_tenant_name"]
    make.credentials["ex_force_auth_version"] = "3.x_appcred"
    make().list()
    identity = wire.requests("POST", "/v3/auth/tokens")[0].body["auth"]["identity"]
    assert identity["application_credential"] == {"id": "robot", "secret": "s3cr3t"}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("ex_force_auth_version", "4", "expected 3.x_password, "),
        ("ex_force_auth_url", "keystone", "a URL such as"),
        ("ex_domian_name", "x", "did you mean ex_domain_name"),
        ("host", "keystone", "leave it out: say ex_force_auth_url"),
    ],
)
def test_credentials_of_no_use_are_an_error(make: Make, name: str, text: str, words: str) -> None:
    make.credentials[name] = text
    with pytest.raises(ConfigError, match=rf"\[Cloud Credentials\] {name}: .*{words}"):
        make()


def test_no_image_is_an_error(make: Make) -> None:
    make.created = {}
    with pytest.raises(ConfigError, match=r"\[Cloud Create\] image is missing"):
        make()


def test_an_unknown_option_names_the_nearest(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"\[Cloud Create\] network: .*did you mean networks"):
        make(network="net1")


def test_an_unknown_list_option_is_an_error(make: Make) -> None:
    make.listed["ex_all_tenants"] = "yes"
    with pytest.raises(ConfigError, match=r"\[Cloud List\] ex_all_tenants"):
        make()


# Signing in.


def test_signs_in_once_with_the_project(make: Make, wire: Wire) -> None:
    make.credentials["ex_domain_name"] = "Science"
    cloud = make()
    cloud.list()
    cloud.list()
    (signed_in,) = wire.requests("POST", "/v3/auth/tokens")
    auth = signed_in.body["auth"]
    assert auth["identity"]["password"]["user"]["name"] == "robot"
    assert auth["identity"]["password"]["user"]["domain"] == {"name": "Science"}
    assert auth["scope"]["project"]["name"] == "admin"
    assert wire.requests("GET", f"{SERVERS}/detail")[0].headers["X-Auth-Token"] == "t0k3n"


@pytest.mark.parametrize("suffix", ["/", "/v3", "/v3/"])
def test_the_address_may_end_in_the_version(make: Make, wire: Wire, suffix: str) -> None:
    make.credentials["ex_force_auth_url"] += suffix
    make().list()
    assert wire.requests("POST", "/v3/auth/tokens")


def test_a_wrong_password_is_denied(make: Make, wire: Wire) -> None:
    wire.on("POST", "/v3/auth/tokens", refused(401, "error", "The request you have made requires"))
    with pytest.raises(Denied):
        make().list()


def test_a_token_that_has_expired_is_renewed_by_the_next_call(make: Make, wire: Wire) -> None:
    wire.on("GET", f"{SERVERS}/detail", refused(401, "unauthorized", "expired"), servers())
    cloud = make()
    with pytest.raises(Denied):
        cloud.list()
    assert list(cloud.list()) == []
    assert len(wire.requests("POST", "/v3/auth/tokens")) == 2


def test_the_region_chooses_among_endpoints(make: Make, wire: Wire) -> None:
    answer = catalogue(wire)
    for service in answer.body["token"]["catalog"]:
        elsewhere = [
            {**endpoint, "region": "other", "url": f"http://127.0.0.1:{wire.port}/other"}
            for endpoint in service["endpoints"]
        ]
        service["endpoints"] += elsewhere
    wire.on("POST", "/v3/auth/tokens", answer)
    with pytest.raises(Denied, match="more than 1 matching endpoint"):
        make().list()
    make.credentials["region"] = "regionOne"
    make().list()
    assert wire.requests("GET", f"{SERVERS}/detail")


# Creating.


def test_create_sends_all_in_one_request(make: Make, wire: Wire) -> None:
    cloud = make(
        networks="net2, d32019d3-bc6e-4319-9c1d-6722fc136a22",
        security_groups="default, ssh",
        ex_keyname="mine",
        ex_config_drive="yes",
        ex_availability_zone="az2",
        tag_group="genomics",
    )
    node = cloud.create(order(size(FLAVOR)))
    assert sent(wire) == {
        "name": "zzzzz-compute-x1",
        "imageRef": IMAGE_ID,
        "flavorRef": "5",
        "metadata": {**TAGS, "group": "genomics"},
        "user_data": base64.b64encode(BOOT_SCRIPT.encode()).decode(),
        "networks": [
            {"uuid": "db193ab3-96e3-4cb3-8fc5-05f4296d0324"},
            {"uuid": "d32019d3-bc6e-4319-9c1d-6722fc136a22"},
        ],
        "security_groups": [{"name": "default"}, {"name": "ssh"}],
        "key_name": "mine",
        "config_drive": True,
        "availability_zone": "az2",
    }
    assert node.cloud_id == NEW_ID
    assert node.state is CloudState.PENDING
    assert node.instance_type == FLAVOR
    assert node.tags == {**TAGS, "group": "genomics"}


def test_what_has_been_looked_up_is_not_looked_up_again(make: Make, wire: Wire) -> None:
    cloud = make(image="hypernode", networks="net1")
    cloud.create(order(size(FLAVOR)))
    before = len(wire.asked)
    cloud.create(order(size(FLAVOR), "zzzzz-compute-x2"))
    assert [asked.method for asked in wire.asked[before:]] == ["POST"]


def test_a_flavor_may_be_named_by_its_id(make: Make, wire: Wire) -> None:
    make().create(order(size("7")))
    assert sent(wire)["flavorRef"] == "7"


def test_a_flavor_that_does_not_exist_is_denied(make: Make, wire: Wire) -> None:
    with pytest.raises(Denied, match=r"no flavor 'm1\.huge'"):
        make().create(order(size("m1.huge")))
    assert not wire.requests("POST", SERVERS)


def test_an_image_is_found_by_its_name_the_newest_first(make: Make, wire: Wire) -> None:
    make(image="hypernode").create(order(size(FLAVOR)))
    assert sent(wire)["imageRef"] == IMAGE_ID
    (asked,) = wire.requests("GET", f"{IMAGE}/v2/images")
    assert asked.query == {"name": "hypernode", "status": "active", "sort": "created_at:desc"}


def test_an_image_that_does_not_exist_is_denied(make: Make, wire: Wire) -> None:
    wire.on("GET", f"{IMAGE}/v2/images", Answer({"images": []}))
    with pytest.raises(Denied, match=r"\[Cloud Create\] image: there is no active image 'worker'"):
        make(image="worker").create(order(size(FLAVOR)))


def test_an_image_that_was_replaced_is_looked_up_again(make: Make, wire: Wire) -> None:
    wire.on(
        "POST",
        SERVERS,
        refused(400, "badRequest", f"Can not find requested image {IMAGE_ID}."),
        Answer(fixture("openstack/_servers_create.json"), 202),
    )
    cloud = make(image="hypernode")
    with pytest.raises(Denied):
        cloud.create(order(size(FLAVOR)))
    cloud.create(order(size(FLAVOR)))
    assert len(wire.requests("GET", f"{IMAGE}/v2/images")) == 2


def test_a_network_that_does_not_exist_is_denied(make: Make) -> None:
    with pytest.raises(Denied, match=r"networks: there is no network 'net9'"):
        make(networks="net9").create(order(size(FLAVOR)))


@pytest.mark.parametrize(
    ("scratch_bytes", "volume_gb"), [(0, None), (150 * GB, None), (150 * GB + 1, 151)]
)
def test_scratch_beyond_the_flavors_disk_is_a_volume(
    make: Make, wire: Wire, scratch_bytes: int, volume_gb: int | None
) -> None:
    make().create(order(size(FLAVOR, scratch_bytes=scratch_bytes)))
    disks = sent(wire).get("block_device_mapping_v2", [])
    assert sent(wire)["imageRef"] == IMAGE_ID
    if volume_gb is None:
        assert disks == []
    else:
        system, scratch = disks
        assert (system["source_type"], system["destination_type"]) == ("image", "local")
        assert system["uuid"] == IMAGE_ID
        assert (scratch["source_type"], scratch["destination_type"]) == ("blank", "volume")
        assert scratch["volume_size"] == volume_gb
        assert system["delete_on_termination"]
        assert scratch["delete_on_termination"]


def test_ephemeral_disks_count_as_scratch(make: Make, wire: Wire) -> None:
    make().create(order(size("256 slice", scratch_bytes=40 * GB)))
    assert "block_device_mapping_v2" not in sent(wire)


def test_a_server_may_boot_from_a_volume_that_goes_with_it(make: Make, wire: Wire) -> None:
    make(boot_volume_size="30").create(order(size(FLAVOR, scratch_bytes=20 * GB)))
    body = sent(wire)
    assert "imageRef" not in body
    assert body["block_device_mapping_v2"] == [
        {
            "source_type": "image",
            "destination_type": "volume",
            "boot_index": 0,
            "delete_on_termination": True,
            "uuid": IMAGE_ID,
            "volume_size": 30,
        }
    ]


def test_a_preemptible_size_is_denied(make: Make, wire: Wire) -> None:
    with pytest.raises(Denied, match="OpenStack has no such machines"):
        make().create(order(size(FLAVOR, preemptible=True)))
    assert not wire.asked


def test_a_boot_script_that_is_too_long_is_denied(make: Make, wire: Wire) -> None:
    with pytest.raises(Denied, match="longer than 48 KiB"):
        make().create(NodeOrder("zzzzz-compute-x1", size(FLAVOR), TAGS, "x" * 50_000))
    assert not wire.requests("POST", SERVERS)


def test_the_ssh_key_becomes_a_key_pair_once(make: Make, wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "id.pub").write_text("ssh-ed25519 AAAA me@here\n")
    keys = f"{COMPUTE}/os-keypairs"
    wire.on(
        "GET",
        f"{keys}/.*",
        Answer(fixture("openstack/_os_keypairs_not_found.json"), 404),
        Answer(fixture("openstack/_os_keypairs_get_one.json")),
    )
    wire.on("POST", keys, Answer(fixture("openstack/_os_keypairs_create_import.json")))
    make(ssh_key=str(tmp_path / "id.pub")).create(order(size(FLAVOR)))
    make(ssh_key=str(tmp_path / "id.pub")).create(order(size(FLAVOR)))
    (imported,) = wire.requests("POST", keys)
    first, second = (asked.body["server"]["key_name"] for asked in wire.requests("POST", SERVERS))
    assert imported.body["keypair"]["public_key"] == "ssh-ed25519 AAAA me@here"
    assert imported.body["keypair"]["name"] == first == second


def test_a_creation_that_raises_but_succeeded_is_no_refusal(make: Make, wire: Wire) -> None:
    wire.on("POST", SERVERS, Answer("gateway timeout", 504))
    wire.on("GET", f"{SERVERS}/detail", servers(server(status="BUILD")))
    cloud = make()
    with pytest.raises(CloudError) as caught:
        cloud.create(order(size(FLAVOR)))
    assert type(caught.value) is CloudError
    (found,) = cloud.list()
    assert (found.name, found.state) == ("zzzzz-compute-x1", CloudState.PENDING)


# Errors in our sorts.

CORES = (
    "Quota exceeded for cores, instances: Requested 4, 1, but already used 20, 10 of 20, 10 cores,"
    " instances"
)
VOLUMES = "Maximum number of volumes allowed (10) exceeded for quota 'volumes'."


@pytest.mark.parametrize(
    ("answer", "sort", "retry_after"),
    [
        (refused(403, "forbidden", CORES), QuotaExceeded, None),
        (refused(413, "overLimit", CORES), QuotaExceeded, None),
        (refused(403, "forbidden", "Maximum number of ports exceeded"), QuotaExceeded, None),
        (refused(403, "forbidden", VOLUMES), QuotaExceeded, None),
        (refused(400, "badRequest", "No more IP addresses available on network"), QuotaExceeded, None),
        (refused(500, "computeFault", "No valid host was found."), NoCapacity, None),
        (refused(413, "overLimit", "Slow down", **{"Retry-After": "9"}), RateLimited, 9.0),
        (refused(429, "overLimit", "Slow down", **{"Retry-After": "11"}), RateLimited, 11.0),
        (refused(429, "overLimit", "Slow down"), RateLimited, None),
        (refused(403, "forbidden", "Policy doesn't allow os_compute_api"), Denied, None),
        (refused(400, "badRequest", "Invalid key_name provided."), Denied, None),
        (refused(404, "itemNotFound", "The resource could not be found."), Denied, None),
        (refused(409, "conflictingRequest", "x"), CloudError, None),
        (refused(500, "computeFault", "Unexpected API Error."), CloudError, None),
        (refused(503, "serviceUnavailable", "x"), CloudError, None),
        (Answer({}, 202), CloudError, None),
    ],
)  # fmt: skip
def test_what_openstack_refuses_is_sorted(
    make: Make, wire: Wire, answer: Answer, sort: type[CloudError], retry_after: float | None
) -> None:
    wire.on("POST", SERVERS, answer)
    with pytest.raises(CloudError) as caught:
        make().create(order(size(FLAVOR)))
    assert type(caught.value) is sort
    assert getattr(caught.value, "retry_after", None) == retry_after


# Listing.


def test_list_leaves_out_foreign_and_untagged_servers(make: Make, wire: Wire) -> None:
    foreign = fixture("openstack/_servers_detail.json")["servers"]
    broken = fixture("openstack/_servers_detail_ERROR_STATE.json")["servers"]
    other = server("other", metadata={**TAGS, CLUSTER_TAG: "yyyyy"})
    wire.on("GET", f"{SERVERS}/detail", servers(*foreign, *broken, other, server()))
    assert [node.name for node in make().list()] == ["zzzzz-compute-x1"]


def test_list_reads_all_there_is(make: Make, wire: Wire) -> None:
    addresses = {"net": [{"version": 4, "addr": "10.1.2.3"}, {"version": 4, "addr": "50.57.94.30"}]}
    wire.on("GET", f"{SERVERS}/detail", servers(server(addresses=addresses)))
    (node,) = make().list()
    assert node.cloud_id == NEW_ID
    assert node.instance_type == FLAVOR
    assert node.state is CloudState.RUNNING
    assert node.tags == TAGS
    assert node.created_at == 1318293902.0
    assert node.addresses == ("10.1.2.3", "50.57.94.30")
    assert node.fault is None


def test_list_asks_for_flavors_once_even_if_one_is_gone(make: Make, wire: Wire) -> None:
    strange = server(flavor={"id": "gone"}, status="DREAMING")
    wire.on("GET", f"{SERVERS}/detail", servers(strange, server()))
    cloud = make()
    cloud.list()
    unknown, known = cloud.list()
    assert (unknown.instance_type, unknown.state) == ("gone", CloudState.UNKNOWN)
    assert known.instance_type == FLAVOR
    assert len(wire.requests("GET", f"{COMPUTE}/flavors/detail")) == 1


def test_newer_answers_have_the_flavors_name_in_them(make: Make, wire: Wire) -> None:
    wire.on("GET", f"{SERVERS}/detail", servers(server(flavor={"original_name": "m9.huge"})))
    assert [node.instance_type for node in make().list()] == ["m9.huge"]


def test_tags_of_the_list_section_are_required_and_given(make: Make, wire: Wire) -> None:
    make.listed["tag_class"] = "dynamic"
    ours = server("ours", metadata={**TAGS, "class": "dynamic"})
    wire.on("GET", f"{SERVERS}/detail", servers(server(), ours))
    cloud = make()
    assert [node.name for node in cloud.list()] == ["ours"]
    assert cloud.create(order(size(FLAVOR))).tags["class"] == "dynamic"


def test_list_follows_the_pages(make: Make, wire: Wire) -> None:
    link = {"rel": "next", "href": f"http://127.0.0.1{SERVERS}/detail?marker=first"}
    wire.on(
        "GET",
        f"{SERVERS}/detail",
        servers(server("first"), servers_links=[link]),
        servers(server("second")),
    )
    assert [node.name for node in make().list()] == ["first", "second"]
    assert wire.requests("GET", f"{SERVERS}/detail")[1].query["marker"] == "first"


def test_a_listing_that_fails_is_no_empty_list(make: Make, wire: Wire) -> None:
    wire.on("GET", f"{SERVERS}/detail", refused(500, "computeFault", "x"))
    with pytest.raises(CloudError):
        make().list()


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"status": "BUILD"}, CloudState.PENDING),
        ({"status": "SHUTOFF"}, CloudState.BROKEN),
        ({"OS-EXT-STS:task_state": "deleting"}, CloudState.STOPPING),
        ({"status": "UNKNOWN"}, CloudState.UNKNOWN),
    ],
)
def test_states_in_our_words(
    make: Make, wire: Wire, changes: dict[str, Any], state: CloudState
) -> None:
    wire.on("GET", f"{SERVERS}/detail", servers(server(**changes)))
    assert [node.state for node in make().list()] == [state]


def test_a_deleted_server_is_gone(make: Make, wire: Wire) -> None:
    wire.on("GET", f"{SERVERS}/detail", servers(server(status="DELETED")))
    assert list(make().list()) == []


@pytest.mark.parametrize(
    ("message", "sort"),
    [
        ("No valid host was found. There are not enough hosts available.", NoCapacity),
        ("Exceeded maximum number of retries. Exhausted all hosts available", NoCapacity),
        (VOLUMES, QuotaExceeded),
        ("Build of instance aborted: Failed to allocate the network(s)", CloudError),
        # In the details only, as in libcloud's fixture of one.
        ("test message", NoCapacity),
    ],
)
def test_a_server_in_error_is_broken_and_says_why(
    make: Make, wire: Wire, message: str, sort: type[CloudError]
) -> None:
    (broken,) = fixture("openstack/_servers_detail_ERROR_STATE.json")["servers"]
    broken |= {"metadata": TAGS, "fault": {"code": 500, "message": message}}
    if message == "test message":
        broken["fault"] = fixture("openstack/_servers_detail.json")["servers"][0]["fault"]
    wire.on("GET", f"{SERVERS}/detail", servers(broken))
    (node,) = make().list()
    assert node.state is CloudState.BROKEN
    assert type(node.fault) is sort
    assert message in str(node.fault)


def test_sizes_have_cores_and_room_for_scratch(make: Make) -> None:
    sizes = {size.name: size for size in make().sizes()}
    assert sizes[FLAVOR].cores == 2
    assert sizes[FLAVOR].disk_bytes == 150 * GB
    assert sizes["256 slice"].disk_bytes == 40 * GB
    assert sizes[FLAVOR].price is None


def test_libclouds_file_of_prices_is_not_read(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(PRICING_DATA["compute"], "openstack", raising=False)
    monkeypatch.setattr("libcloud.pricing.get_pricing_file_path", lambda **_: "/nonexistent")
    assert len(make().sizes()) == 8


# Destroying and tagging.


def test_destroy_asks_once(make: Make, wire: Wire) -> None:
    wire.on("GET", f"{SERVERS}/detail", servers(server()))
    cloud = make()
    cloud.destroy(cloud.list()[0])
    assert [asked.path for asked in wire.requests("DELETE")] == [f"{SERVERS}/{NEW_ID}"]


def test_one_driver_destroys_what_another_listed(make: Make, wire: Wire) -> None:
    wire.on("GET", f"{SERVERS}/detail", servers(server()))
    make().destroy(make().list()[0])
    assert len(wire.requests("DELETE")) == 1


def test_destroying_what_is_gone_is_no_error(make: Make, wire: Wire) -> None:
    wire.on("GET", f"{SERVERS}/detail", servers(server()))
    wire.on("DELETE", ".*", refused(404, "itemNotFound", "Instance could not be found."))
    cloud = make()
    cloud.destroy(cloud.list()[0])
    assert len(wire.requests("DELETE")) == 1


def test_a_destruction_that_fails_says_so(make: Make, wire: Wire) -> None:
    wire.on("GET", f"{SERVERS}/detail", servers(server()))
    wire.on("DELETE", ".*", refused(409, "conflictingRequest", "task_state spawning"))
    cloud = make()
    with pytest.raises(CloudError, match="destroying zzzzz-compute-x1"):
        cloud.destroy(cloud.list()[0])


def test_set_tags_sends_these_to_be_merged(make: Make, wire: Wire) -> None:
    path = f"{SERVERS}/{NEW_ID}/metadata"
    wire.on("GET", f"{SERVERS}/detail", servers(server()))
    wire.on("POST", path, Answer({"metadata": {**TAGS, BEHAVIOUR_TAG: "hold"}}))
    cloud = make()
    cloud.set_tags(cloud.list()[0], {BEHAVIOUR_TAG: "hold"})
    (asked,) = wire.requests("POST", path)
    assert asked.body == {"metadata": {BEHAVIOUR_TAG: "hold"}}


def test_tagging_what_is_gone_says_so(make: Make, wire: Wire) -> None:
    wire.on("GET", f"{SERVERS}/detail", servers(server()))
    wire.on("POST", f"{SERVERS}/.*/metadata", refused(404, "itemNotFound", "x"))
    cloud = make()
    with pytest.raises(Gone):
        cloud.set_tags(cloud.list()[0], {BEHAVIOUR_TAG: "hold"})


# Checking.


def test_check_finds_everything_well_and_changes_nothing(make: Make, wire: Wire) -> None:
    found = make(image="hypernode", networks="net1, net2").check()
    assert [finding.subject for finding in found] == [
        "machines",
        "image",
        "network net1",
        "network net2",
    ]
    assert not any(finding.problem for finding in found)
    assert [asked.path for asked in wire.requests("POST")] == ["/v3/auth/tokens"] * 3


def test_check_names_what_is_wrong(make: Make, wire: Wire) -> None:
    wire.on("GET", f"{IMAGE}/v2/images", Answer({"images": []}))
    found = {finding.subject: finding.problem for finding in make(image="worker").check()}
    assert "no active image 'worker'" in found["image"]
    assert not found["machines"]
