"""Azure: what is asked of it, and how its answers are read.

Answers are libcloud's published fixtures; states, errors and the answers to creations, which libcloud has no fixtures
of, are written from Microsoft's REST documentation. All of it goes over HTTP on loopback.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodemanager.clock import ManualClock
from nodemanager.clouds.azure import Azure
from nodemanager.clouds.base import BEHAVIOUR_TAG, CLUSTER_TAG, CloudState
from nodemanager.clouds.errors import (
    CloudError,
    Denied,
    Gone,
    NoCapacity,
    QuotaExceeded,
    RateLimited,
)
from nodemanager.clouds.registry import find_cloud
from nodemanager.errors import ConfigError
from tests.clouds.orders import BOOT_SCRIPT, TAGS, context, order, size
from tests.clouds.wire import Answer, Asked, Wire, fixture, redirect, serving

TENANT = "77777777-7777-7777-7777-777777777777"
SUBSCRIPTION = "99999999-9999-9999-9999-999999999999"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/000000/providers"
MACHINES = f"{GROUP}/Microsoft.Compute/virtualMachines"
NICS = f"{GROUP}/Microsoft.Network/networkInterfaces"
MACHINE = f"{MACHINES}/zzzzz-compute-x1"
NIC = f"{NICS}/zzzzz-compute-x1-nic"
SIZES = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/locations/eastus/vmSizes"
IMAGE = "Canonical:0001-com-ubuntu-server-jammy:22_04-lts:latest"
VM_PAGE = "azure/_subscriptions_99999999_providers_Microsoft_Compute_virtualMachines.json"
VM_PAGE_2 = "azure/_subscriptions_99999999_providers_Microsoft_Compute_virtualMachines_1.json"
NODE_1 = "azure/_subscriptions_99999999_resourceGroups_000000_providers_Microsoft"
NIC_FILE = f"{NODE_1}_Network_networkInterfaces_test_node_1_nic.json"
VIEW_FILE = f"{NODE_1}_Compute_virtualMachines_test_node_1_InstanceView.json"
SIZES_FILE = (
    "azure/_subscriptions_99999999_providers_Microsoft_Compute_locations_eastus_vmSizes.json"
)
TOKEN_FILE = "azure/_77777777_7777_7777_7777_777777777777_oauth2_token.json"
GB = 10**9


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """Azure with no machines, where every creation works."""
    with serving() as wire:
        redirect(monkeypatch, wire.port)
        token = {**fixture(TOKEN_FILE), "expires_on": "4102444800"}
        wire.on("POST", f"/{TENANT}/oauth2/token", Answer(token))
        wire.on("GET", MACHINES, Answer({"value": []}))
        wire.on("GET", NICS, Answer({"value": []}))
        wire.on("GET", SIZES, Answer(fixture(SIZES_FILE)))
        wire.on("PUT", f"{NICS}/.*", created_nic)
        wire.on("PUT", f"{MACHINES}/.*", created_machine)
        wire.on("DELETE", ".*", Answer("", 202))
        yield wire


class Make:
    """Makes drivers with the given options beside those that are needed; closes them at the end."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.credentials = {
            "tenant_id": TENANT,
            "subscription_id": SUBSCRIPTION,
            "key": "the-application",
            "secret": "s3cr3t",
            "region": "East US",
        }
        self.listed = {"ex_resource_group": "000000"}
        self.created = {"image": IMAGE, "ex_network": "net", "ex_user_name": "arvados"}
        self.made: list[Azure] = []

    def __call__(self, **create: str) -> Azure:
        cloud = Azure(
            context(self.state_dir, self.credentials, self.listed, {**self.created, **create})
        )
        cloud.clock = ManualClock()
        self.made.append(cloud)
        return cloud


@pytest.fixture
def make(tmp_path: Path, wire: Wire) -> Iterator[Make]:
    making = Make(tmp_path)
    yield making
    for cloud in making.made:
        cloud.close()


def refused(status: int, code: str, message: str, **headers: str) -> Answer:
    """An error in the form that all of Azure Resource Manager shares."""
    return Answer({"error": {"code": code, "message": message}}, status, headers)


def created_nic(asked: Asked) -> Answer:
    """What Azure answers to the creation of an interface (form of libcloud's fixture of one)."""
    made = fixture(NIC_FILE)
    del made["properties"]["virtualMachine"]
    made |= {"id": asked.path, "name": asked.path.rpartition("/")[2], "tags": asked.body["tags"]}
    return Answer(made, 201)


def created_machine(asked: Asked) -> Answer:
    """What Azure answers to the creation of a machine: what was sent, and a state."""
    properties = {**asked.body["properties"], "provisioningState": "Creating", "vmId": "a-guid"}
    return Answer(
        {
            **asked.body,
            "id": asked.path,
            "name": asked.path.rpartition("/")[2],
            "type": "Microsoft.Compute/virtualMachines",
            "properties": properties,
        },
        201,
    )


def machine(name: str = "zzzzz-compute-x1", state: str = "Succeeded") -> dict[str, Any]:
    """The machine of libcloud's fixture, but ours."""
    made: dict[str, Any] = fixture(VM_PAGE)["value"][0]
    made |= {"id": f"{MACHINES}/{name}", "name": name, "tags": dict(TAGS)}
    made["properties"]["provisioningState"] = state
    return made


def nic(name: str = "zzzzz-compute-x1-nic", of: str | None = MACHINE) -> dict[str, Any]:
    """The interface of libcloud's fixture, but ours."""
    made: dict[str, Any] = fixture(NIC_FILE)
    made |= {"id": f"{NICS}/{name}", "name": name, "tags": dict(TAGS)}
    made["properties"]["virtualMachine"] = {"id": of} if of else None
    return made


def value(*things: dict[str, Any], **further: Any) -> Answer:
    return Answer({"value": list(things), **further})


# Options.


def test_is_found_by_its_name() -> None:
    assert find_cloud("azure") is Azure


@pytest.mark.parametrize("name", ["tenant_id", "subscription_id", "key", "secret", "region"])
def test_credentials_that_are_missing_are_named(make: Make, name: str) -> None:
    del make.credentials[name]
    with pytest.raises(ConfigError, match=rf"\[Cloud Credentials\] {name} is missing"):
        make()


def test_no_resource_group_is_an_error(make: Make) -> None:
    make.listed = {}
    with pytest.raises(ConfigError, match=r"\[Cloud List\] ex_resource_group is missing"):
        make()


@pytest.mark.parametrize("name", ["image", "ex_network"])
def test_what_every_machine_needs_is_asked_for(make: Make, name: str) -> None:
    del make.created[name]
    with pytest.raises(ConfigError, match=rf"\[Cloud Create\] {name} is missing"):
        make()


def test_an_unknown_option_names_the_nearest(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"\[Cloud Create\] ex_subnets: .*did you mean ex_subnet"):
        make(ex_subnets="inner")


@pytest.mark.parametrize("image", ["ubuntu", "https://store.blob.core.windows.net/vhds/x.vhd"])
def test_an_image_that_is_neither_urn_nor_id_is_an_error(make: Make, image: str) -> None:
    with pytest.raises(ConfigError, match=r"image: expected Publisher:Offer:Sku:Version"):
        make(image=image)


def test_a_host_that_libcloud_would_not_use_is_an_error(make: Make) -> None:
    make.credentials["host"] = "management.example"
    with pytest.raises(ConfigError, match=r"host: leave it out: say cloud_environment"):
        make()


def test_disks_that_azure_has_retired_are_an_error(make: Make) -> None:
    with pytest.raises(ConfigError, match="ex_use_managed_disks: Azure retired"):
        make(ex_use_managed_disks="no")


# Signing in.


def test_signs_in_once(make: Make, wire: Wire) -> None:
    cloud = make()
    cloud.list()
    cloud.list()
    (signed_in,) = wire.requests("POST")
    assert "client_id=the-application" in signed_in.body
    token = fixture(TOKEN_FILE)["access_token"]
    assert wire.requests("GET", MACHINES)[0].headers["Authorization"] == f"Bearer {token}"


def test_a_wrong_secret_is_denied(make: Make, wire: Wire) -> None:
    wrong = {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret"}
    wire.on("POST", f"/{TENANT}/oauth2/token", Answer(wrong, 401))
    with pytest.raises(Denied, match="AADSTS7000215"):
        make().list()


# Creating.


def test_create_makes_the_interface_and_then_the_machine_both_with_our_tags(
    make: Make, wire: Wire
) -> None:
    node = make(tag_group="genomics").create(order(size("Standard_A1")))
    made_nic, made = wire.requests("PUT")
    assert (made_nic.path, made.path) == (NIC, MACHINE)
    assert made_nic.body["tags"] == made.body["tags"] == {**TAGS, "group": "genomics"}
    assert made.body["properties"]["hardwareProfile"] == {"vmSize": "Standard_A1"}
    assert made.body["location"] == made_nic.body["location"] == "eastus"
    assert node.cloud_id == MACHINE
    assert node.name == "zzzzz-compute-x1"
    assert node.state is CloudState.PENDING
    assert node.tags == {**TAGS, "group": "genomics"}
    assert node.addresses == ("10.0.0.1",)


def test_the_interface_is_in_the_subnet(make: Make, wire: Wire) -> None:
    make(ex_subnet="inner", ex_network_resource_group="networks").create(order(size("Standard_A1")))
    (configuration,) = wire.requests("PUT")[0].body["properties"]["ipConfigurations"]
    assert configuration["properties"]["subnet"]["id"] == (
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/networks/providers/Microsoft.Network/"
        "virtualNetworks/net/subnets/inner"
    )


def test_interface_and_disks_are_deleted_together_with_the_machine(make: Make, wire: Wire) -> None:
    make().create(order(size("Standard_A1", scratch_bytes=500 * GB)))
    properties = wire.requests("PUT", MACHINE)[0].body["properties"]
    (face,) = properties["networkProfile"]["networkInterfaces"]
    disks = [properties["storageProfile"]["osDisk"], *properties["storageProfile"]["dataDisks"]]
    assert face["id"] == NIC
    assert face["properties"]["deleteOption"] == "Delete"
    assert [disk["deleteOption"] for disk in disks] == ["Delete", "Delete"]


def test_the_boot_script_is_custom_data(make: Make, wire: Wire) -> None:
    make().create(order(size("Standard_A1")))
    system = wire.requests("PUT", MACHINE)[0].body["properties"]["osProfile"]
    assert base64.b64decode(system["customData"]).decode() == BOOT_SCRIPT


def test_a_boot_script_that_is_too_long_is_denied_before_anything_is_made(
    make: Make, wire: Wire
) -> None:
    longest = order(size("Standard_A1"))
    with pytest.raises(Denied, match="longer than 64 KiB"):
        make().create(type(longest)(longest.name, longest.size, TAGS, "x" * 65536))
    assert not wire.requests("PUT")


def test_the_ssh_key_is_the_only_way_to_log_in(make: Make, wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "id.pub").write_text("ssh-ed25519 AAAA me@here\n")
    make(ssh_key=str(tmp_path / "id.pub")).create(order(size("Standard_A1")))
    system = wire.requests("PUT", MACHINE)[0].body["properties"]["osProfile"]
    linux = system["linuxConfiguration"]
    assert system["adminUsername"] == "arvados"
    assert linux["disablePasswordAuthentication"] is True
    assert linux["ssh"]["publicKeys"] == [
        {"path": "/home/arvados/.ssh/authorized_keys", "keyData": "ssh-ed25519 AAAA me@here"}
    ]
    assert "adminPassword" not in system


def test_without_a_key_nobody_knows_the_password(make: Make, wire: Wire) -> None:
    make().create(order(size("Standard_A1")))
    make().create(order(size("Standard_A1")))
    one, two = (
        asked.body["properties"]["osProfile"]["adminPassword"]
        for asked in wire.requests("PUT", MACHINE)
    )
    assert one != two
    assert len(one) > 40


def test_an_image_of_the_marketplace_is_named_by_its_four_words(make: Make, wire: Wire) -> None:
    make(ex_disk_size="64", ex_storage_account_type="Premium_LRS").create(
        order(size("Standard_A1"))
    )
    storage = wire.requests("PUT", MACHINE)[0].body["properties"]["storageProfile"]
    assert storage["imageReference"] == {
        "publisher": "Canonical",
        "offer": "0001-com-ubuntu-server-jammy",
        "sku": "22_04-lts",
        "version": "latest",
    }
    assert storage["osDisk"]["diskSizeGB"] == 64
    assert storage["osDisk"]["managedDisk"] == {"storageAccountType": "Premium_LRS"}


def test_a_managed_image_is_named_by_its_id(make: Make, wire: Wire) -> None:
    image = f"{GROUP}/Microsoft.Compute/images/worker"
    make(image=image).create(order(size("Standard_A1")))
    storage = wire.requests("PUT", MACHINE)[0].body["properties"]["storageProfile"]
    assert storage["imageReference"] == {"id": image}


@pytest.mark.parametrize(
    ("instance_type", "scratch_bytes", "disk_gb"),
    [
        ("Standard_A1", 0, None),
        ("Standard_A1", 70 * GB, None),
        ("Standard_A1", 71 * GB, 71),
        ("Standard_A1", 500 * GB + 1, 501),
        ("Standard_D64_v99", 10 * GB, 10),
    ],
)
def test_scratch_beyond_the_types_own_disk_is_a_disk_of_its_own(
    make: Make, wire: Wire, instance_type: str, scratch_bytes: int, disk_gb: int | None
) -> None:
    make().create(order(size(instance_type, scratch_bytes=scratch_bytes)))
    storage = wire.requests("PUT", MACHINE)[0].body["properties"]["storageProfile"]
    disks = storage.get("dataDisks", [])
    assert [disk["diskSizeGB"] for disk in disks] == ([] if disk_gb is None else [disk_gb])
    assert all(disk["createOption"] == "Empty" for disk in disks)


def test_more_scratch_than_a_disk_can_have_is_denied_before_anything_is_made(
    make: Make, wire: Wire
) -> None:
    with pytest.raises(Denied, match="a disk of 40000 GB"):
        make().create(order(size("Standard_A1", scratch_bytes=40_000 * GB)))
    assert not wire.requests("PUT")


def test_a_preemptible_size_is_a_spot_machine_that_is_deleted_when_taken_away(
    make: Make, wire: Wire
) -> None:
    make().create(order(size("Standard_A1", preemptible=True)))
    make(ex_spot_max_price="0.05").create(order(size("Standard_A1", preemptible=True)))
    make().create(order(size("Standard_A1")))
    spot, bounded, normal = (a.body["properties"] for a in wire.requests("PUT", MACHINE))
    assert (spot["priority"], spot["evictionPolicy"]) == ("Spot", "Delete")
    assert spot["billingProfile"] == {"maxPrice": -1}
    assert bounded["billingProfile"] == {"maxPrice": 0.05}
    assert "priority" not in normal


def test_a_creation_that_raises_but_succeeded_keeps_its_interface(make: Make, wire: Wire) -> None:
    wire.on("PUT", MACHINE, refused(500, "InternalServerError", "try again"))
    wire.on("GET", MACHINES, value(machine(state="Creating")))
    cloud = make()
    with pytest.raises(CloudError) as caught:
        cloud.create(order(size("Standard_A1")))
    assert type(caught.value) is CloudError
    assert not wire.requests("DELETE")
    (found,) = cloud.list()
    assert found.name == "zzzzz-compute-x1"
    assert found.tags == TAGS
    assert found.state is CloudState.PENDING


# Errors in our sorts.

CORES = (
    "Operation could not be completed as it results in exceeding approved Total Regional Cores"
    " quota. Additional details - Location: eastus, Current Limit: 10"
)


@pytest.mark.parametrize(
    ("answer", "sort", "retry_after"),
    [
        (refused(409, "OperationNotAllowed", CORES), QuotaExceeded, None),
        (refused(409, "QuotaExceeded", "Core quota"), QuotaExceeded, None),
        (refused(409, "SkuNotAvailable", "The requested size is not available"), NoCapacity, None),
        (refused(409, "AllocationFailed", "Allocation failed"), NoCapacity, None),
        (refused(409, "ZonalAllocationFailed", "Allocation failed"), NoCapacity, None),
        (refused(409, "OverconstrainedAllocationRequest", "x"), NoCapacity, None),
        (refused(429, "TooManyRequests", "x", **{"Retry-After": "23"}), RateLimited, 23.0),
        (refused(429, "TooManyRequests", "x"), RateLimited, None),
        (refused(403, "AuthorizationFailed", "The client does not have"), Denied, None),
        (refused(400, "InvalidParameter", "The value of parameter vmSize"), Denied, None),
        (refused(404, "ResourceGroupNotFound", "could not be found"), Denied, None),
    ],
)
def test_a_refusal_is_sorted_and_takes_the_interface_with_it(
    make: Make, wire: Wire, answer: Answer, sort: type[CloudError], retry_after: float | None
) -> None:
    wire.on("PUT", MACHINE, answer)
    with pytest.raises(CloudError) as caught:
        make().create(order(size("Standard_A1")))
    assert type(caught.value) is sort
    assert getattr(caught.value, "retry_after", None) == retry_after
    assert [asked.path for asked in wire.requests("DELETE")] == [NIC]


@pytest.mark.parametrize(
    "answer",
    [
        refused(409, "Conflict", "another operation is in progress"),
        refused(500, "InternalServerError", "x"),
        refused(503, "ServiceUnavailable", "x"),
        Answer("", 200),
    ],
)
def test_a_doubtful_failure_is_no_refusal(make: Make, wire: Wire, answer: Answer) -> None:
    wire.on("PUT", MACHINE, answer)
    with pytest.raises(CloudError) as caught:
        make().create(order(size("Standard_A1")))
    assert type(caught.value) is CloudError
    assert not wire.requests("DELETE")


def test_an_interface_that_is_refused_is_the_end_of_it(make: Make, wire: Wire) -> None:
    wire.on("PUT", NIC, refused(400, "SubnetIsFull", "Subnet inner has not enough capacity"))
    with pytest.raises(QuotaExceeded, match="SubnetIsFull"):
        make().create(order(size("Standard_A1")))
    assert not wire.requests("PUT", MACHINE)


def test_an_interface_that_azure_still_reserves_is_left_and_said(
    make: Make, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    wire.on("PUT", MACHINE, refused(409, "SkuNotAvailable", "x"))
    wire.on("DELETE", NIC, refused(400, "NicReservedForAnotherVm", "reserved for 180 seconds"))
    with pytest.raises(NoCapacity), caplog.at_level(logging.WARNING):
        make().create(order(size("Standard_A1")))
    assert "zzzzz-compute-x1-nic" in caplog.text
    assert "NicReservedForAnotherVm" in caplog.text


# Listing.


def test_list_leaves_out_foreign_and_untagged_machines_and_follows_the_pages(
    make: Make, wire: Wire
) -> None:
    other = machine("other")
    other["tags"][CLUSTER_TAG] = "yyyyy"
    bare = machine("bare")
    del bare["tags"]
    first = fixture(VM_PAGE)
    first["value"] += [other, bare]
    second = fixture(VM_PAGE_2)
    second["value"].append(machine())
    everywhere = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/virtualMachines"
    wire.on("GET", MACHINES, Answer(first))
    wire.on("GET", everywhere, Answer(second))
    assert [node.name for node in make().list()] == ["zzzzz-compute-x1"]
    (followed,) = wire.requests("GET", everywhere)
    assert followed.query["$skiptoken"].startswith("1!/Subscriptions")


def test_list_reads_all_there_is_in_two_requests(make: Make, wire: Wire) -> None:
    listed = machine()
    listed["properties"]["timeCreated"] = "2026-03-01T10:00:00.1234567+00:00"
    wire.on("GET", MACHINES, value(listed))
    wire.on("GET", NICS, value(nic(of=MACHINE.upper())))
    (node,) = make().list()
    assert node.cloud_id == MACHINE
    assert node.instance_type == "Standard_A1"
    assert node.state is CloudState.RUNNING
    assert node.tags == TAGS
    assert node.created_at == pytest.approx(1772359200.123456)
    assert node.addresses == ("10.0.0.1",)
    assert len(wire.requests("GET")) == 2


def test_list_survives_types_and_words_it_does_not_know(make: Make, wire: Wire) -> None:
    strange = machine(state="Dreaming")
    strange["properties"]["hardwareProfile"]["vmSize"] = "Standard_Q9"
    wire.on("GET", MACHINES, value(strange, {**machine("new"), "properties": {}}))
    wire.on("GET", NICS, value({**nic("odd"), "properties": {}}))
    known, new = make().list()
    assert (known.instance_type, known.state) == ("Standard_Q9", CloudState.UNKNOWN)
    assert (new.instance_type, new.state) == ("", CloudState.UNKNOWN)


def test_tags_of_the_list_section_are_required_and_given(make: Make, wire: Wire) -> None:
    make.listed["tag_class"] = "dynamic-compute"
    ours = machine("ours")
    ours["tags"]["class"] = "dynamic-compute"
    wire.on("GET", MACHINES, value(machine(), ours))
    cloud = make()
    assert [node.name for node in cloud.list()] == ["ours"]
    assert cloud.create(order(size("Standard_A1"))).tags["class"] == "dynamic-compute"


def test_an_endless_listing_is_an_error(make: Make, wire: Wire) -> None:
    wire.on("GET", MACHINES, value(machine(), nextLink=f"https://management.azure.com{MACHINES}"))
    with pytest.raises(CloudError, match="more than 1000 pages"):
        make().list()


def test_a_listing_that_fails_is_no_empty_list(make: Make, wire: Wire) -> None:
    wire.on("GET", NICS, refused(500, "InternalServerError", "x"))
    with pytest.raises(CloudError):
        make().list()


@pytest.mark.parametrize(
    ("state", "ours"),
    [
        ("Creating", CloudState.PENDING),
        ("Updating", CloudState.RUNNING),
        ("Deleting", CloudState.STOPPING),
    ],
)
def test_states_in_our_words(make: Make, wire: Wire, state: str, ours: CloudState) -> None:
    wire.on("GET", MACHINES, value(machine(state=state)))
    assert [node.state for node in make().list()] == [ours]


def view(*codes_and_messages: tuple[str, str]) -> Answer:
    """An instance view with these statuses (form of libcloud's fixture of one)."""
    statuses = [
        {"code": code, "level": "Error", "message": message} for code, message in codes_and_messages
    ]
    return Answer({**fixture(VIEW_FILE), "statuses": statuses})


@pytest.mark.parametrize(
    ("code", "message", "sort"),
    [
        ("AllocationFailed", "Allocation failed. We do not have sufficient capacity", NoCapacity),
        ("OperationNotAllowed", CORES, QuotaExceeded),
        ("OSProvisioningTimedOut", "OS Provisioning did not finish", CloudError),
    ],
)
def test_a_machine_whose_creation_failed_is_broken_and_says_why(
    make: Make, wire: Wire, code: str, message: str, sort: type[CloudError]
) -> None:
    wire.on("GET", MACHINES, value(machine(state="Failed")))
    wire.on("GET", f"{MACHINE}/instanceView", view((f"ProvisioningState/failed/{code}", message)))
    (node,) = make().list()
    assert node.state is CloudState.BROKEN
    assert type(node.fault) is sort
    assert message[:20] in str(node.fault)


def test_a_machine_that_runs_although_a_change_of_it_failed_is_not_broken(
    make: Make, wire: Wire
) -> None:
    wire.on("GET", MACHINES, value(machine(state="Failed")))
    failed = ("ProvisioningState/failed/VMExtensionProvisioningError", "x")
    wire.on("GET", f"{MACHINE}/instanceView", view(failed, ("PowerState/running", "VM running")))
    (node,) = make().list()
    assert node.state is CloudState.RUNNING
    assert node.fault is None


def test_a_failed_machine_that_cannot_be_looked_at_is_unknown(make: Make, wire: Wire) -> None:
    wire.on("GET", MACHINES, value(machine(state="Failed")))
    wire.on("GET", f"{MACHINE}/instanceView", refused(500, "InternalServerError", "x"))
    assert [node.state for node in make().list()] == [CloudState.UNKNOWN]


def test_sizes_have_cores_and_their_own_disk(make: Make) -> None:
    sizes = {size.name: size for size in make().sizes()}
    assert sizes["Standard_A2"].cores == 2
    assert sizes["Standard_A2"].disk_bytes == 135 * GB
    assert sizes["Standard_A2"].ram_bytes == 3584 << 20
    assert sizes["Standard_A2"].price is None


# Interfaces that have lost their machine.


def test_an_interface_of_ours_that_stays_without_a_machine_is_deleted(
    make: Make, wire: Wire
) -> None:
    wire.on("GET", NICS, value(nic(of=None)))
    clock = ManualClock()
    cloud = make()
    cloud.clock = clock
    cloud.list()
    clock.advance(299)
    cloud.list()
    assert not wire.requests("DELETE")
    clock.advance(1)
    cloud.list()
    assert [asked.path for asked in wire.requests("DELETE")] == [NIC]


def test_an_interface_that_got_its_machine_meanwhile_stays(make: Make, wire: Wire) -> None:
    wire.on("GET", NICS, value(nic(of=None)), value(nic()), value(nic(of=None)))
    clock = ManualClock()
    cloud = make()
    cloud.clock = clock
    for _ in range(3):
        cloud.list()
        clock.advance(400)
    assert not wire.requests("DELETE")


def test_foreign_interfaces_are_never_touched(make: Make, wire: Wire) -> None:
    foreign = nic("foreign", of=None)
    foreign["tags"] = {"tag_key1": "tag_val1"}
    bare = nic("bare", of=None)
    del bare["tags"]
    wire.on("GET", NICS, value(foreign, bare))
    clock = ManualClock()
    cloud = make()
    cloud.clock = clock
    for _ in range(3):
        cloud.list()
        clock.advance(400)
    assert not wire.requests("DELETE")


def test_an_interface_that_cannot_be_deleted_does_not_spoil_the_listing(
    make: Make, wire: Wire
) -> None:
    wire.on("GET", MACHINES, value(machine()))
    wire.on("GET", NICS, value(nic(of=None)))
    wire.on("DELETE", NIC, refused(400, "NicInUse", "x"), Answer("", 204))
    clock = ManualClock()
    cloud = make()
    cloud.clock = clock
    cloud.list()
    for attempts in (1, 2):
        clock.advance(400)
        assert len(cloud.list()) == 1
        assert len(wire.requests("DELETE")) == attempts


def test_only_some_are_deleted_at_a_time(make: Make, wire: Wire) -> None:
    wire.on("GET", NICS, value(*(nic(f"lost{n}", of=None) for n in range(25))))
    clock = ManualClock()
    cloud = make()
    cloud.clock = clock
    cloud.list()
    clock.advance(400)
    cloud.list()
    assert len(wire.requests("DELETE")) == 10


# Destroying and tagging.


def test_destroy_asks_once_and_does_not_wait(make: Make, wire: Wire) -> None:
    wire.on("GET", MACHINES, value(machine()))
    cloud = make()
    cloud.destroy(cloud.list()[0])
    assert [asked.path for asked in wire.requests("DELETE")] == [MACHINE]
    assert wire.asked[-1].query == {"api-version": "2021-11-01"}


@pytest.mark.parametrize("answer", [Answer("", 204), refused(404, "ResourceNotFound", "x")])
def test_destroying_what_is_gone_is_no_error(make: Make, wire: Wire, answer: Answer) -> None:
    wire.on("GET", MACHINES, value(machine()))
    wire.on("DELETE", MACHINE, answer)
    cloud = make()
    cloud.destroy(cloud.list()[0])
    assert len(wire.requests("DELETE")) == 1


def test_a_destruction_that_fails_says_so(make: Make, wire: Wire) -> None:
    wire.on("GET", MACHINES, value(machine()))
    wire.on("DELETE", MACHINE, refused(409, "Conflict", "another operation"))
    cloud = make()
    with pytest.raises(CloudError, match="destroying zzzzz-compute-x1"):
        cloud.destroy(cloud.list()[0])


def test_set_tags_changes_these_and_leaves_the_others(make: Make, wire: Wire) -> None:
    wire.on("GET", MACHINES, value(machine()))
    wire.on("GET", MACHINE, Answer(machine()))
    wire.on("PATCH", MACHINE, Answer(machine()))
    cloud = make()
    cloud.set_tags(cloud.list()[0], {BEHAVIOUR_TAG: "hold"})
    assert wire.requests("PATCH")[0].body == {"tags": {**TAGS, BEHAVIOUR_TAG: "hold"}}


def test_tagging_what_is_gone_says_so(make: Make, wire: Wire) -> None:
    wire.on("GET", MACHINES, value(machine()))
    wire.on("GET", MACHINE, refused(404, "ResourceNotFound", "x"))
    cloud = make()
    with pytest.raises(Gone):
        cloud.set_tags(cloud.list()[0], {BEHAVIOUR_TAG: "hold"})


# Checking.

VERSIONS = (
    f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/locations/eastus/publishers/Canonical"
    "/artifacttypes/vmimage/offers/0001-com-ubuntu-server-jammy/skus/22_04-lts/versions"
)
SUBNET = f"{GROUP}/Microsoft.Network/virtualNetworks/net/subnets/default"


def test_check_finds_everything_well_and_changes_nothing(make: Make, wire: Wire) -> None:
    wire.on("GET", SUBNET, Answer({"name": "default"}))
    wire.on("GET", VERSIONS, Answer([{"id": "x", "name": "22.04.202601010"}]))
    found = make().check()
    assert [finding.subject for finding in found] == ["machines", "subnet", "image"]
    assert not any(finding.problem for finding in found)
    assert {asked.method for asked in wire.asked} == {"POST", "GET"}


def test_check_names_what_is_wrong(make: Make, wire: Wire) -> None:
    wire.on("GET", SUBNET, refused(404, "NotFound", "no such subnet"))
    wire.on("GET", VERSIONS, Answer([]))
    found = {finding.subject: finding.problem for finding in make().check()}
    assert "no such subnet" in found["subnet"]
    assert "eastus has no Canonical" in found["image"]
    assert not found["machines"]


def test_check_says_that_an_old_option_has_no_effect(make: Make, wire: Wire) -> None:
    found = make(ex_storage_account="arvados").check()
    assert found[-1].subject == "[Cloud Create] ex_storage_account"
    assert not found[-1].problem


@pytest.mark.parametrize(
    ("kind", "version"), [("images/worker", "2021-11-01"), ("galleries/g/images/w", "2022-03-03")]
)
def test_check_looks_at_an_image_by_its_id(make: Make, wire: Wire, kind: str, version: str) -> None:
    image = f"{GROUP}/Microsoft.Compute/{kind}"
    wire.on("GET", image, Answer({"name": "worker"}))
    found = {finding.subject: finding for finding in make(image=image).check()}
    assert found["image"].detail == image
    assert wire.requests("GET", image)[0].query["api-version"] == version
