"""Google Compute Engine: what is asked of it, and how its answers are read.

Answers are libcloud's published fixtures, and errors as Google documents them, served over HTTP on loopback; sign-in
with a service account's key is part of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from nodemanager.clouds.base import BEHAVIOUR_TAG, CLUSTER_TAG, CloudState
from nodemanager.clouds.errors import (
    CloudError,
    Denied,
    Gone,
    NoCapacity,
    QuotaExceeded,
    RateLimited,
)
from nodemanager.clouds.gce import Gce
from nodemanager.clouds.registry import find_cloud
from nodemanager.errors import ConfigError
from tests.clouds.orders import BOOT_SCRIPT, CLUSTER, TAGS, context, order, size
from tests.clouds.wire import Answer, Wire, fixture, redirect, serving

PROJECT = "/compute/v1/projects/project_name"
ZONE = f"{PROJECT}/zones/us-central1-a"
INSTANCES = f"{ZONE}/instances"
OPERATIONS = f"{ZONE}/operations/.*"
TOKEN = {"access_token": "t0k3n", "token_type": "Bearer", "expires_in": 3600}
N1 = "n1-standard-1"
GB = 10**9


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service account's key, as Google hands it out."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    path = tmp_path_factory.mktemp("gce") / "key.json"
    path.write_text(json.dumps({"type": "service_account", "private_key": pem}))
    return path


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """Google, with the machines of libcloud's fixtures."""
    with serving() as wire:
        redirect(monkeypatch, wire.port)
        wire.on("POST", "/o/oauth2/token", Answer(TOKEN))
        wire.on("GET", f"{PROJECT}/zones", Answer(fixture("gce/zones.json")))
        wire.on("GET", f"{PROJECT}/regions", Answer(fixture("gce/regions.json")))
        wire.on("GET", INSTANCES, Answer(fixture("gce/zones_us-central1-a_instances.json")))
        wire.on("POST", INSTANCES, Answer(fixture("gce/zones_us-central1-a_instances_post.json")))
        wire.on("GET", OPERATIONS, operation())
        yield wire


@pytest.fixture
def credentials(key_file: Path) -> dict[str, str]:
    return {
        "user_id": "robot@project_name.iam.gserviceaccount.com",
        "key": str(key_file),
        "project": "project_name",
        "datacenter": "us-central1-a",
    }


class Make:
    """Makes drivers with the given options beside those that are needed; closes them at the end."""

    def __init__(self, state_dir: Path, credentials: dict[str, str]) -> None:
        self.state_dir = state_dir
        self.credentials = credentials
        self.made: list[Gce] = []

    def __call__(self, listed: dict[str, str] | None = None, **create: str) -> Gce:
        create = {"image": "global/images/worker", **create}
        cloud = Gce(context(self.state_dir, self.credentials, listed or {}, create))
        self.made.append(cloud)
        return cloud


@pytest.fixture
def make(tmp_path: Path, wire: Wire, credentials: dict[str, str]) -> Iterator[Make]:
    making = Make(tmp_path, credentials)
    yield making
    for cloud in making.made:
        cloud.close()


def operation(**changes: Any) -> Answer:
    """A creation that is done, or what became of it."""
    done = fixture("gce/operations_operation_zones_us-central1-a_instances_post.json")
    return Answer({**done, **changes})


def failed(code: str, message: str) -> Answer:
    """A creation that Google accepted and then could not do (form as in libcloud's fixture of a conflict)."""
    form = fixture("gce/operations_operation_zones_europe-west1-a_instances_post.json")
    return Answer({**form, "error": {"errors": [{"code": code, "message": message}]}})


def refused(status: int, reason: str, message: str, **headers: str) -> Answer:
    """An HTTP error in the form that Google's APIs share."""
    error = {"domain": "global", "reason": reason, "message": message}
    body = {"error": {"code": status, "message": message, "errors": [error]}}
    return Answer(body, status, headers)


def instance(name: str = "zzzzz-compute-x1", **changes: Any) -> dict[str, Any]:
    """The machine of libcloud's fixture, but ours."""
    made: dict[str, Any] = fixture("gce/zones_us-central1-a_instances.json")["items"][0]
    metadata = [{"key": key, "value": value} for key, value in TAGS.items()]
    made["name"] = name
    made["metadata"]["items"] = [*metadata, {"key": "startup-script", "value": BOOT_SCRIPT}]
    return {**made, **changes}


def listing(*instances: dict[str, Any], **further: Any) -> Answer:
    whole = fixture("gce/zones_us-central1-a_instances.json")
    return Answer({**whole, "items": list(instances), **further})


def metadata_of(body: dict[str, Any]) -> dict[str, str]:
    return {item["key"]: item["value"] for item in body["metadata"]["items"]}


# Options.


def test_is_found_by_its_name() -> None:
    assert find_cloud("gce") is Gce


@pytest.mark.parametrize("name", ["user_id", "key", "project", "datacenter"])
def test_credentials_that_are_missing_are_named(make: Make, name: str) -> None:
    del make.credentials[name]
    with pytest.raises(ConfigError, match=rf"\[Cloud Credentials\] {name} is missing"):
        make()


def test_a_host_that_libcloud_would_not_use_is_an_error(make: Make) -> None:
    make.credentials["host"] = "private.googleapis.com"
    with pytest.raises(ConfigError, match=r"\[Cloud Credentials\] host: leave it out"):
        make()


def test_no_image_is_an_error(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"\[Cloud Create\] image is missing"):
        make(image="")


def test_an_unknown_option_names_the_nearest(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"\[Cloud Create\] netwrok: .*did you mean network"):
        make(netwrok="default")


def test_an_unknown_list_option_names_what_there_is(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"\[Cloud List\] tag: .*did you mean tags"):
        make({"tag": "zzzzz"})


@pytest.mark.parametrize("text", ["nonsense", "{}", "[1]", '[{"mail": "x"}]', '[{"scopes": [1]}]'])
def test_service_accounts_that_are_no_list_of_accounts_are_an_error(make: Make, text: str) -> None:
    with pytest.raises(ConfigError, match=r"service_accounts: expected a JSON list"):
        make(service_accounts=text)


def test_a_private_key_in_place_of_the_public_one_is_an_error(make: Make, tmp_path: Path) -> None:
    (tmp_path / "id").write_text("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n")
    with pytest.raises(ConfigError, match=r"ssh_key: .*must hold one public key"):
        make(ssh_key=str(tmp_path / "id"))


def test_a_zone_that_does_not_exist_is_named(make: Make, wire: Wire) -> None:
    wire.on("GET", f"{PROJECT}/zones/.*", refused(404, "notFound", "was not found"))
    make.credentials["datacenter"] = "mars-north1-a"
    with pytest.raises(Denied, match="no zone 'mars-north1-a'"):
        make().list()


# Signing in.


def test_signs_in_with_the_accounts_key_once_and_keeps_the_token_to_itself(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    make().list()
    make().list()
    signed_in = wire.requests("POST", "/o/oauth2/token")
    assert len(signed_in) == 1
    assert signed_in[0].headers["Host"] == "accounts.google.com"
    assert "grant_type=urn" in signed_in[0].body
    assert wire.requests("GET", INSTANCES)[-1].headers["Authorization"] == "Bearer t0k3n"
    (token,) = tmp_path.glob("google-token-*.json")
    assert token.stat().st_mode & 0o777 == 0o600


def test_an_account_of_any_name_signs_in_with_its_key(make: Make, wire: Wire) -> None:
    make.credentials["user_id"] = "robot@example.com"
    make().list()
    assert "grant_type=urn" in wire.requests("POST", "/o/oauth2/token")[0].body


def test_a_key_that_google_refuses_is_denied(make: Make, wire: Wire) -> None:
    wire.on(
        "POST",
        "/o/oauth2/token",
        Answer({"error": "invalid_grant", "error_description": "Invalid JWT signature."}, 400),
    )
    with pytest.raises(Denied, match="Invalid JWT signature"):
        make().list()


def test_a_driver_that_could_not_be_made_is_made_by_the_next_call(make: Make, wire: Wire) -> None:
    wire.on(
        "GET",
        f"{PROJECT}/zones",
        refused(503, "backendError", "Try later"),
        Answer(fixture("gce/zones.json")),
    )
    cloud = make()
    with pytest.raises(CloudError, match="Try later"):
        cloud.list()
    assert list(cloud.list()) == []


# Creating.


def test_create_sends_tags_boot_script_and_type_in_one_request(make: Make, wire: Wire) -> None:
    node = make().create(order(size(N1)))
    (asked,) = wire.requests("POST", INSTANCES)
    assert asked.body["name"] == "zzzzz-compute-x1"
    assert asked.body["machineType"] == "zones/us-central1-a/machineTypes/n1-standard-1"
    assert metadata_of(asked.body) == {**TAGS, "startup-script": BOOT_SCRIPT}
    assert node.cloud_id == "16630486471904253898"
    assert node.state is CloudState.PENDING
    assert node.tags == TAGS


def test_create_asks_for_nothing_but_the_machine_and_the_operation(make: Make, wire: Wire) -> None:
    cloud = make()
    cloud.list()
    before = len(wire.asked)
    cloud.create(order(size(N1)))
    assert [asked.method for asked in wire.asked[before:]] == ["POST", "GET"]


def test_create_waits_until_google_is_done(
    make: Make, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libcloud.common.google.GoogleBaseConnection.poll_interval", 0)
    wire.on("GET", OPERATIONS, operation(status="RUNNING"), operation())
    make().create(order(size(N1)))
    assert len(wire.requests("GET", OPERATIONS)) == 2


def test_the_boot_disk_is_made_of_the_image_and_goes_with_the_machine(
    make: Make, wire: Wire
) -> None:
    make(ex_disk_size="100", ex_disk_type="pd-ssd").create(order(size(N1)))
    (disk,) = wire.requests("POST", INSTANCES)[0].body["disks"]
    assert disk["autoDelete"]
    assert disk["initializeParams"] == {
        "sourceImage": "global/images/worker",
        "diskType": "zones/us-central1-a/diskTypes/pd-ssd",
        "diskSizeGb": "100",
    }


def test_an_image_is_found_by_the_beginning_of_its_name_and_looked_up_once(
    make: Make, wire: Wire
) -> None:
    wire.on("GET", f"{PROJECT}/global/images", Answer(fixture("gce/global_images.json")))
    debian = fixture("gce/projects_debian-cloud_global_images.json")
    public = "/compute/v1/projects/debian-cloud/global/images"
    wire.on("GET", public, Answer(debian))
    cloud = make(image="debian-7")
    cloud.create(order(size(N1)))
    cloud.create(order(size(N1), "zzzzz-compute-x2"))
    image = wire.requests("POST", INSTANCES)[1].body["disks"][0]["initializeParams"]["sourceImage"]
    assert image.endswith("projects/debian-cloud/global/images/debian-7-wheezy-v20131120")
    assert len(wire.requests("GET", public)) == 1


def test_an_image_that_does_not_exist_is_denied(make: Make, wire: Wire) -> None:
    wire.on("GET", ".*/global/images", Answer(fixture("gce/global_images.json")))
    with pytest.raises(Denied, match="no-such-image"):
        make(image="no-such-image").create(order(size(N1)))
    assert not wire.requests("POST", INSTANCES)


@pytest.mark.parametrize(
    ("scratch_bytes", "boot_disk_gb", "ssds"),
    [
        (0, 0, 0),
        (1, 0, 1),
        (375 * GB, 0, 1),
        (375 * GB + 1, 0, 2),
        (1000 * GB, 0, 4),
        (3000 * GB, 0, 8),
        (3001 * GB, 0, 16),
        (90 * GB, 100, 0),
        (91 * GB, 100, 1),
    ],
)
def test_scratch_beyond_the_boot_disk_is_local_ssds(
    make: Make, wire: Wire, scratch_bytes: int, boot_disk_gb: int, ssds: int
) -> None:
    cloud = make(ex_disk_size=str(boot_disk_gb)) if boot_disk_gb else make()
    cloud.create(order(size(N1, scratch_bytes=scratch_bytes)))
    disks = wire.requests("POST", INSTANCES)[0].body["disks"][1:]
    assert [disk["type"] for disk in disks] == ["SCRATCH"] * ssds
    assert {disk["initializeParams"]["diskType"] for disk in disks} <= {
        "zones/us-central1-a/diskTypes/local-ssd"
    }


@pytest.mark.parametrize("instance_type", ["c3-standard-8-lssd", "z3-highmem-88", "a2-ultragpu-1g"])
def test_a_type_that_brings_its_local_ssds_gets_no_further_ones(
    make: Make, wire: Wire, instance_type: str
) -> None:
    make().create(order(size(instance_type, scratch_bytes=3000 * GB)))
    assert len(wire.requests("POST", INSTANCES)[0].body["disks"]) == 1


def test_more_scratch_than_a_machine_can_have_is_denied(make: Make, wire: Wire) -> None:
    with pytest.raises(Denied, match="Small size takes 25 local SSDs"):
        make().create(order(size(N1, scratch_bytes=24 * 375 * GB + 1)))
    assert not wire.requests("POST", INSTANCES)


def test_a_preemptible_size_is_a_spot_machine_that_is_deleted_when_taken_away(
    make: Make, wire: Wire
) -> None:
    cloud = make()
    cloud.create(order(size(N1, preemptible=True)))
    cloud.create(order(size(N1)))
    spot, normal = (asked.body["scheduling"] for asked in wire.requests("POST", INSTANCES))
    assert spot["provisioningModel"] == "SPOT"
    assert spot["instanceTerminationAction"] == "DELETE"
    assert spot["automaticRestart"] is False
    assert "provisioningModel" not in normal


def test_gpus_are_attached_and_keep_the_machine_on_its_host(make: Make, wire: Wire) -> None:
    cloud = make(ex_accelerator_type="nvidia-tesla-t4")
    cloud.create(order(size(N1, gpus=2)))
    cloud.create(order(size(N1)))
    body, without = (asked.body for asked in wire.requests("POST", INSTANCES))
    assert "guestAccelerators" not in without
    assert body["guestAccelerators"] == [
        {
            "acceleratorType": "zones/us-central1-a/acceleratorTypes/nvidia-tesla-t4",
            "acceleratorCount": 2,
        }
    ]
    assert body["scheduling"] == {"onHostMaintenance": "TERMINATE"}


def test_network_tags_of_list_and_create_are_set(make: Make, wire: Wire) -> None:
    make({"tags": "zzzzz, compute"}, tags="compute, extra").create(order(size(N1)))
    body = wire.requests("POST", INSTANCES)[0].body
    assert body["tags"] == {"items": ["zzzzz", "compute", "extra"]}


def test_the_default_network_has_an_address_of_its_own(make: Make, wire: Wire) -> None:
    make().create(order(size(N1)))
    (face,) = wire.requests("POST", INSTANCES)[0].body["networkInterfaces"]
    assert face["network"] == "global/networks/default"
    assert face["accessConfigs"][0]["type"] == "ONE_TO_ONE_NAT"


def test_a_subnetwork_is_looked_for_in_the_zones_region(make: Make, wire: Wire) -> None:
    make(subnetwork="inner", external_ip="none").create(order(size(N1)))
    (face,) = wire.requests("POST", INSTANCES)[0].body["networkInterfaces"]
    assert face == {"subnetwork": "regions/us-central1/subnetworks/inner"}


def test_service_accounts_get_whole_scopes(make: Make, wire: Wire) -> None:
    accounts = [{"email": "a@example.com", "scopes": ["storage-ro", "https://example.com/x"]}]
    make(service_accounts=json.dumps(accounts)).create(order(size(N1)))
    assert wire.requests("POST", INSTANCES)[0].body["serviceAccounts"] == [
        {
            "email": "a@example.com",
            "scopes": [
                "https://www.googleapis.com/auth/devstorage.read_only",
                "https://example.com/x",
            ],
        }
    ]


def test_the_ssh_key_is_delivered_for_root(make: Make, wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "id.pub").write_text("ssh-ed25519 AAAA me@here\n")
    make(ssh_key=str(tmp_path / "id.pub")).create(order(size(N1)))
    body = wire.requests("POST", INSTANCES)[0].body
    assert metadata_of(body)["ssh-keys"] == "root:ssh-ed25519 AAAA me@here"


def test_tags_of_the_config_file_are_set_too(make: Make, wire: Wire) -> None:
    node = make(tag_group="genomics").create(order(size(N1)))
    assert metadata_of(wire.requests("POST", INSTANCES)[0].body)["group"] == "genomics"
    assert node.tags["group"] == "genomics"


@pytest.mark.parametrize("name", ["Upper", "1st", "under_score", "x" * 64, "ends-"])
def test_a_name_that_google_would_refuse_is_denied_before_it_is_asked(
    make: Make, wire: Wire, name: str
) -> None:
    with pytest.raises(Denied, match="no name for a machine"):
        make().create(order(size(N1), name))
    assert not wire.requests("POST", INSTANCES)


def test_a_creation_that_was_done_before_is_found(make: Make, wire: Wire) -> None:
    wire.on("GET", OPERATIONS, failed("RESOURCE_ALREADY_EXISTS", "already exists"))
    wire.on("GET", f"{INSTANCES}/zzzzz-compute-x1", Answer(instance(status="RUNNING")))
    node = make().create(order(size(N1)))
    assert node.cloud_id == "4006034190819017667"
    assert node.state is CloudState.RUNNING


def test_a_name_that_a_foreign_machine_has_is_denied(make: Make, wire: Wire) -> None:
    foreign = fixture("gce/zones_us-central1-a_instances.json")["items"][0]
    wire.on("POST", INSTANCES, refused(409, "alreadyExists", "already exists"))
    wire.on("GET", f"{INSTANCES}/node-name", Answer(foreign))
    with pytest.raises(Denied, match="not of cluster zzzzz"):
        make().create(order(size(N1), "node-name"))


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (503, "backendError"),
        (429, "rateLimitExceeded"),
        (403, "quotaExceeded"),
        (401, "authError"),
        (404, "notFound"),
    ],
)
def test_a_creation_that_raises_but_succeeded_is_neither_refused_nor_lost(
    make: Make, wire: Wire, status: int, reason: str
) -> None:
    wire.on("GET", OPERATIONS, refused(status, reason, "cannot tell you"))
    wire.on("GET", INSTANCES, listing(instance()))
    cloud = make()
    with pytest.raises(CloudError, match=r"accepted, but not seen to end.*cannot tell") as caught:
        cloud.create(order(size(N1)))
    assert type(caught.value) is CloudError
    (found,) = cloud.list()
    assert found.name == "zzzzz-compute-x1"
    assert found.tags == TAGS


def test_a_creation_that_takes_too_long_is_a_doubt(
    make: Make, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libcloud.common.google.GoogleBaseConnection.poll_interval", 0)
    wire.on("GET", OPERATIONS, operation(status="RUNNING"))
    cloud = make()
    cloud.driver.connection.timeout = 0.01
    with pytest.raises(CloudError, match="did not complete") as caught:
        cloud.create(order(size(N1)))
    assert type(caught.value) is CloudError


def test_an_answer_that_is_no_json_is_a_doubt(make: Make, wire: Wire) -> None:
    cloud = make()
    cloud.list()
    wire.on("POST", INSTANCES, Answer("", 200))
    with pytest.raises(CloudError) as caught:
        cloud.create(order(size(N1)))
    assert type(caught.value) is CloudError


# Errors in our sorts.


@pytest.mark.parametrize(
    ("answer", "sort"),
    [
        (failed("QUOTA_EXCEEDED", "Quota 'CPUS' exceeded.  Limit: 24.0"), QuotaExceeded),
        (failed("ZONE_RESOURCE_POOL_EXHAUSTED", "The zone does not have enough"), NoCapacity),
        (failed("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "The zone ..."), NoCapacity),
        (failed("IP_SPACE_EXHAUSTED", "IP space of the subnetwork is exhausted"), QuotaExceeded),
        (failed("RESOURCE_NOT_FOUND", "The resource 'x' was not found"), Denied),
        (failed("INVALID_FIELD_VALUE", "Invalid value for field 'machineType'"), Denied),
        (failed("RESOURCE_OPERATION_RATE_EXCEEDED", "Operation rate exceeded"), RateLimited),
        (failed("INTERNAL_ERROR", "Internal error. Please try again"), CloudError),
    ],
)
def test_how_a_creation_failed_is_sorted(
    make: Make, wire: Wire, answer: Answer, sort: type[CloudError]
) -> None:
    wire.on("GET", OPERATIONS, answer)
    with pytest.raises(CloudError) as caught:
        make().create(order(size(N1)))
    assert type(caught.value) is sort
    code = answer.body["error"]["errors"][0]
    assert code["code"] in str(caught.value)
    assert code["message"].split()[0] in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "sort", "retry_after"),
    [
        (refused(403, "quotaExceeded", "Quota exceeded"), QuotaExceeded, None),
        (refused(403, "rateLimitExceeded", "Rate Limit Exceeded"), RateLimited, None),
        (
            refused(429, "rateLimitExceeded", "Too many", **{"Retry-After": "17"}),
            RateLimited,
            17.0,
        ),
        (refused(403, "forbidden", "Required 'compute.instances.create'"), Denied, None),
        (refused(401, "authError", "Invalid Credentials"), Denied, None),
        (refused(400, "invalid", "Invalid value for field"), Denied, None),
        (refused(404, "notFound", "The machine type was not found"), Denied, None),
        (refused(503, "backendError", "Backend Error"), CloudError, None),
        (refused(503, "backendError", "Down", **{"Retry-After": "30"}), RateLimited, 30.0),
        (refused(500, "internalError", "Internal"), CloudError, None),
    ],
)
def test_what_google_refuses_is_sorted(
    make: Make, wire: Wire, answer: Answer, sort: type[CloudError], retry_after: float | None
) -> None:
    wire.on("POST", INSTANCES, answer)
    with pytest.raises(CloudError) as caught:
        make().create(order(size(N1)))
    assert type(caught.value) is sort
    assert getattr(caught.value, "retry_after", None) == retry_after


def test_a_server_that_is_away_is_a_doubt(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    redirect(monkeypatch, 1)
    with pytest.raises(CloudError) as caught:
        make().list()
    assert type(caught.value) is CloudError


# Listing.


def test_list_leaves_out_foreign_and_untagged_machines(make: Make, wire: Wire) -> None:
    untagged = fixture("gce/zones_us-central1-a_instances.json")["items"][0]
    other = instance("other")
    other["metadata"]["items"][0] = {"key": CLUSTER_TAG, "value": "yyyyy"}
    bare = {"id": "1", "name": "bare", "status": "RUNNING"}
    wire.on("GET", INSTANCES, listing(untagged, other, bare, instance()))
    assert [node.name for node in make().list()] == ["zzzzz-compute-x1"]


def test_list_reads_all_there_is(make: Make, wire: Wire) -> None:
    wire.on("GET", INSTANCES, listing(instance()))
    (node,) = make().list()
    assert node.cloud_id == "4006034190819017667"
    assert node.instance_type == "n1-standard-1"
    assert node.state is CloudState.RUNNING
    assert node.tags == TAGS
    assert node.created_at == 1386960323.351
    assert node.addresses == ("10.240.72.75", "23.236.58.15")


def test_list_survives_types_and_words_it_does_not_know(make: Make, wire: Wire) -> None:
    strange = instance(machineType="zones/us-central1-a/machineTypes/q9-huge", status="DREAMING")
    wire.on("GET", INSTANCES, listing(strange))
    (node,) = make().list()
    assert node.instance_type == "q9-huge"
    assert node.state is CloudState.UNKNOWN


def test_list_survives_a_machine_without_type_network_and_time(make: Make, wire: Wire) -> None:
    wire.on(
        "GET",
        INSTANCES,
        listing({"id": "7", "name": "new", "metadata": instance()["metadata"]}),
    )
    (node,) = make().list()
    assert (node.instance_type, node.addresses, node.created_at) == ("", (), None)


def test_addresses_that_are_not_there_yet_are_left_out(make: Make, wire: Wire) -> None:
    faces = [{"accessConfigs": [{"name": "External NAT"}]}, {"networkIP": "10.0.0.2"}]
    wire.on("GET", INSTANCES, listing(instance(networkInterfaces=faces)))
    assert [node.addresses for node in make().list()] == [("10.0.0.2",)]


def test_a_stopped_machine_is_broken_and_not_gone(make: Make, wire: Wire) -> None:
    wire.on("GET", INSTANCES, listing(instance(status="TERMINATED")))
    assert [node.state for node in make().list()] == [CloudState.BROKEN]


def test_list_requires_the_network_tags(make: Make, wire: Wire) -> None:
    both = instance("both", tags={"items": ["zzzzz", "compute", "more"], "fingerprint": "x"})
    one = instance("one", tags={"items": ["zzzzz"], "fingerprint": "x"})
    wire.on("GET", INSTANCES, listing(both, one, instance("none")))
    assert [node.name for node in make({"tags": "zzzzz, compute"}).list()] == ["both"]


def test_tags_of_the_list_section_are_required_and_given(make: Make, wire: Wire) -> None:
    ours = instance("ours")
    ours["metadata"]["items"].append({"key": "class", "value": "dynamic"})
    wire.on("GET", INSTANCES, listing(instance(), ours))
    cloud = make({"tag_class": "dynamic"})
    assert [node.name for node in cloud.list()] == ["ours"]
    assert cloud.create(order(size(N1))).tags["class"] == "dynamic"


def test_list_follows_the_pages(make: Make, wire: Wire) -> None:
    wire.on(
        "GET",
        INSTANCES,
        listing(instance("first"), nextPageToken="p2"),
        listing(instance("second")),
    )
    assert [node.name for node in make().list()] == ["first", "second"]
    assert wire.requests("GET", INSTANCES)[1].query["pageToken"] == "p2"


def test_an_empty_zone_lists_nothing(make: Make, wire: Wire) -> None:
    empty = fixture("gce/zones_us-central1-a_instances.json")
    del empty["items"]
    wire.on("GET", INSTANCES, Answer(empty))
    assert list(make().list()) == []


def test_a_listing_that_fails_is_no_empty_list(make: Make, wire: Wire) -> None:
    wire.on("GET", INSTANCES, refused(500, "internalError", "Internal"))
    with pytest.raises(CloudError):
        make().list()


def test_sizes_have_cores_and_no_disk_of_their_own(make: Make, wire: Wire) -> None:
    types = fixture("gce/zones_us-central1-a_machineTypes.json")
    wire.on("GET", f"{ZONE}/machineTypes", Answer(types))
    sizes = {size.name: size for size in make().sizes()}
    assert sizes[N1].cores == 1
    assert sizes[N1].ram_bytes == 3840 << 20
    assert sizes[N1].disk_bytes == 0
    assert sizes["a2-highgpu-1g"].gpus == 1


# Destroying and tagging.


def test_destroy_deletes_by_name_and_does_not_wait(make: Make, wire: Wire) -> None:
    wire.on("GET", INSTANCES, listing(instance()))
    deleted = fixture("gce/zones_us-central1-a_instances_node-name_delete.json")
    wire.on("DELETE", f"{INSTANCES}/zzzzz-compute-x1", Answer(deleted))
    cloud = make()
    cloud.destroy(cloud.list()[0])
    assert len(wire.requests("DELETE")) == 1
    assert not wire.requests("GET", OPERATIONS)


def test_destroying_what_is_gone_is_no_error(make: Make, wire: Wire) -> None:
    wire.on("GET", INSTANCES, listing(instance()))
    wire.on("DELETE", f"{INSTANCES}/.*", refused(404, "notFound", "was not found"))
    cloud = make()
    cloud.destroy(cloud.list()[0])
    assert len(wire.requests("DELETE")) == 1


def test_set_tags_changes_these_and_leaves_the_others(make: Make, wire: Wire) -> None:
    path = f"{INSTANCES}/zzzzz-compute-x1"
    wire.on("GET", INSTANCES, listing(instance()))
    wire.on("GET", path, Answer(instance()))
    pending = fixture("gce/zones_us_central1_a_instances_node_name_setMetadata_post.json")
    done = fixture("gce/operations_operation_zones_us_central1_a_node_name_setMetadata_post.json")
    wire.on("POST", f"{path}/setMetadata", Answer(pending))
    wire.on("GET", OPERATIONS, Answer(done))
    cloud = make()
    cloud.set_tags(cloud.list()[0], {BEHAVIOUR_TAG: "hold"})
    (asked,) = wire.requests("POST", f"{path}/setMetadata")
    assert asked.body["fingerprint"] == "42WmSpB8rSM="
    assert {item["key"]: item["value"] for item in asked.body["items"]} == {
        **TAGS,
        "startup-script": BOOT_SCRIPT,
        BEHAVIOUR_TAG: "hold",
    }


def test_set_tags_tries_again_when_another_change_came_between(make: Make, wire: Wire) -> None:
    path = f"{INSTANCES}/zzzzz-compute-x1"
    wire.on("GET", INSTANCES, listing(instance()))
    wire.on("GET", path, Answer(instance()))
    pending = fixture("gce/zones_us_central1_a_instances_node_name_setMetadata_post.json")
    wire.on(
        "POST",
        f"{path}/setMetadata",
        refused(412, "conditionNotMet", "Supplied fingerprint does not match"),
        Answer(pending),
    )
    cloud = make()
    cloud.set_tags(cloud.list()[0], {BEHAVIOUR_TAG: "hold"})
    assert len(wire.requests("GET", path)) == 2


def test_tagging_what_is_gone_says_so(make: Make, wire: Wire) -> None:
    wire.on("GET", INSTANCES, listing(instance()))
    wire.on("GET", f"{INSTANCES}/.+", refused(404, "notFound", "was not found"))
    cloud = make()
    with pytest.raises(Gone):
        cloud.set_tags(cloud.list()[0], {BEHAVIOUR_TAG: "hold"})


# Checking.


def test_check_finds_everything_well(make: Make, wire: Wire) -> None:
    wire.on("GET", f"{PROJECT}/global/images/worker", Answer({"name": "worker"}))
    found = make().check()
    assert [finding.subject for finding in found] == ["zone", "machines", "image"]
    assert not any(finding.problem for finding in found)


def test_check_names_what_is_wrong_and_looks_at_the_rest(make: Make, wire: Wire) -> None:
    wire.on("GET", f"{PROJECT}/global/images/worker", refused(404, "notFound", "worker not found"))
    found = {finding.subject: finding for finding in make().check()}
    assert "worker not found" in found["image"].problem
    assert not found["machines"].problem
    assert CLUSTER in found["machines"].detail
    assert not wire.requests("DELETE")
