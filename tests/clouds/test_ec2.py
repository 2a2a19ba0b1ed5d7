"""The EC2 driver against a moto server, over HTTP."""

from __future__ import annotations

import base64
import hashlib
import re
from http.client import HTTPMessage
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nodemanager.clock import ManualClock
from nodemanager.clouds.base import CLUSTER_TAG, CloudNode, CloudState
from nodemanager.clouds.errors import (
    CloudError,
    Denied,
    Gone,
    NoCapacity,
    QuotaExceeded,
    RateLimited,
)
from nodemanager.errors import ConfigError
from tests.clouds.conftest import Account, an_order
from tests.clusters.faultproxy import LOST_AFTER, LOST_BEFORE, Answer, Fault
from tests.clusters.moto import ec2_error

CREATE = "Action=RunInstances"
LIST = "Action=DescribeInstances"

pytestmark = pytest.mark.processes


def test_a_node_is_created_with_all_that_was_ordered(account: Account) -> None:
    cloud = account.open_cloud({"ex_keyname": "compute", "tag_project": "genomes"})
    made = cloud.create(an_order())
    (instance,) = account.instances()
    assert (made.cloud_id, made.name, made.instance_type) == (
        instance["InstanceId"],
        "zzzzz-compute-1",
        "m4.large",
    )
    assert made.state is CloudState.PENDING
    assert {tag["Key"]: tag["Value"] for tag in instance["Tags"]} == {
        "Name": "zzzzz-compute-1",
        "project": "genomes",
        **an_order().tags,
    }
    assert instance["KeyName"] == "compute"
    assert "InstanceLifecycle" not in instance
    data = account.boto.describe_instance_attribute(InstanceId=made.cloud_id, Attribute="userData")[
        "UserData"
    ]["Value"]
    assert base64.b64decode(data).decode() == an_order().user_data


def test_the_list_says_what_was_created(account: Account) -> None:
    cloud = account.open_cloud()
    made = cloud.create(an_order())
    (listed,) = cloud.list()
    assert listed.state is CloudState.RUNNING
    assert listed.tags == an_order().tags
    assert listed.created_at == made.created_at
    assert listed.created_at is not None
    (instance,) = account.instances()
    assert listed.addresses == (instance["PrivateIpAddress"], instance["PublicIpAddress"])


def test_one_call_lists_all_nodes(account: Account) -> None:
    cloud = account.open_cloud()
    for number in range(3):
        cloud.create(an_order(f"zzzzz-compute-{number}"))
    before = len(account.proxy.calls)
    assert len(cloud.list()) == 3
    assert len(account.proxy.calls) == before + 1


def test_others_machines_are_not_listed(account: Account) -> None:
    account.boto.run_instances(ImageId="ami-03cf127a", MinCount=1, MaxCount=1)
    account.open_cloud(cluster="xyzzy").create(an_order("xyzzy-compute-1", cluster="xyzzy"))
    cloud = account.open_cloud()
    assert cloud.list() == ()
    made = cloud.create(an_order())
    assert [node.cloud_id for node in cloud.list()] == [made.cloud_id]
    # EC2 picks them: others' machines do not even travel.
    assert f"tag%3A{CLUSTER_TAG}".encode() in account.proxy.calls[-1].body


def test_the_filters_of_an_old_config_file_become_tags(account: Account) -> None:
    options = {"instance-state-name": "running", "tag_arvados-class": "dynamic-compute"}
    cloud = account.open_cloud(listed=options)
    made = cloud.create(an_order())
    # Nothing of ours goes unlisted because of its state.
    account.boto.stop_instances(InstanceIds=[made.cloud_id])
    (listed,) = cloud.list()
    assert listed.tags["arvados-class"] == "dynamic-compute"
    assert listed.state is CloudState.BROKEN
    assert account.open_cloud(listed={"tag_arvados-class": "other"}).list() == ()


def test_a_spot_node_has_its_price(account: Account) -> None:
    cloud = account.open_cloud({"ex_spot_max_price": "0.05"})
    cloud.create(an_order(preemptible=True))
    (instance,) = account.instances()
    assert instance["InstanceLifecycle"] == "spot"
    body = account.proxy.calls[-1].body.decode()
    assert "InstanceMarketOptions.SpotOptions.MaxPrice=0.05" in body


def test_scratch_that_the_type_lacks_is_a_volume_with_the_same_tags(account: Account) -> None:
    cloud = account.open_cloud()
    cloud.create(an_order(scratch_bytes=80 * 10**9))
    (volume,) = account.boto.describe_volumes()["Volumes"]
    assert (volume["Size"], volume["VolumeType"]) == (80, "gp3")
    (attachment,) = volume["Attachments"]
    assert attachment["Device"] == "/dev/xvdt"
    assert {tag["Key"]: tag["Value"] for tag in volume["Tags"]} == {
        "Name": "zzzzz-compute-1",
        **an_order().tags,
    }


@pytest.mark.parametrize(
    ("instance_type", "scratch_bytes", "gigabytes"),
    [
        ("m4.large", 0, None),
        ("m4.large", 1, 1),
        ("m4.large", 32 * 10**9 + 1, 33),
        ("m4.large", 16384 * 10**9, 16384),
        ("c3.xlarge", 80 * 10**9, None),
        ("c3.xlarge", 100 * 10**9, 20),
        ("m99.huge", 10**9, 1),
    ],
)
def test_the_volume_is_as_large_as_what_is_missing(
    account: Account, instance_type: str, scratch_bytes: int, gigabytes: int | None
) -> None:
    cloud = account.open_cloud({"volume_type": "gp2", "volume_device": "/dev/sdh"})
    account.proxy.spoil(ec2_error("InstanceLimitExceeded"), where=CREATE)
    with pytest.raises(QuotaExceeded):
        cloud.create(an_order(instance_type=instance_type, scratch_bytes=scratch_bytes))
    body = account.proxy.calls[-1].body.decode()
    if gigabytes is None:
        assert "BlockDeviceMapping" not in body
    else:
        assert f"BlockDeviceMapping.1.Ebs.VolumeSize={gigabytes}&" in body
        assert "BlockDeviceMapping.1.Ebs.VolumeType=gp2" in body
        assert "BlockDeviceMapping.1.DeviceName=%2Fdev%2Fsdh" in body


def test_more_scratch_than_a_volume_holds_is_refused_before_anything_is_asked(
    account: Account,
) -> None:
    cloud = account.open_cloud()
    with pytest.raises(Denied, match=r"needs a volume of 16385 GB.*less scratch"):
        cloud.create(an_order(scratch_bytes=16384 * 10**9 + 1))
    assert not account.proxy.calls


def test_a_boot_script_that_is_too_long_is_refused(account: Account) -> None:
    order = an_order()
    long = type(order)(order.name, order.size, order.tags, "#" * 16385)
    with pytest.raises(Denied, match="longer than 16 KiB"):
        account.open_cloud().create(long)
    assert not account.instances()


def test_groups_by_name_are_those_of_the_subnets_network(account: Account) -> None:
    (subnet,) = account.subnets(1)
    cloud = account.open_cloud({"subnet_id": subnet, "security_groups": "default"})
    cloud.create(an_order("zzzzz-compute-1"))
    cloud.create(an_order("zzzzz-compute-2"))
    for instance in account.instances():
        assert [group["GroupName"] for group in instance["SecurityGroups"]] == ["default"]
        assert instance["SubnetId"] == subnet
    assert account.proxy.count("Action=DescribeSecurityGroups") == 1


def test_groups_by_id(account: Account) -> None:
    (subnet,) = account.subnets(1)
    group = account.boto.create_security_group(GroupName="compute", Description="nodes")["GroupId"]
    account.open_cloud({"subnet_id": subnet, "security_groups": group}).create(an_order())
    (instance,) = account.instances()
    assert [each["GroupId"] for each in instance["SecurityGroups"]] == [group]
    mixed = {"subnet_id": subnet, "security_groups": f"default, {group}"}
    account.open_cloud(mixed).create(an_order("zzzzz-compute-2"))
    assert [each["GroupName"] for each in account.instances()[1]["SecurityGroups"]] == [
        "default",
        "compute",
    ]


def test_groups_by_name_in_the_default_network(account: Account) -> None:
    account.open_cloud({"security_groups": "default"}).create(an_order())
    (instance,) = account.instances()
    assert [group["GroupName"] for group in instance["SecurityGroups"]] == ["default"]


def test_an_unknown_group_is_named(account: Account) -> None:
    (subnet,) = account.subnets(1)
    cloud = account.open_cloud({"subnet_id": subnet, "security_groups": "default, nodez"})
    with pytest.raises(Denied, match=r"security_groups: .* has no nodez"):
        cloud.create(an_order())


def test_a_public_key_becomes_a_key_pair_once(account: Account, tmp_path: Path) -> None:
    key = tmp_path / "ssh.pub"
    public = Ed25519PrivateKey.generate().public_key()
    key.write_bytes(public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" ops\n")
    for number in range(2):  # as after a restart
        cloud = account.open_cloud({"ssh_key": str(key)})
        cloud.create(an_order(f"zzzzz-compute-{number}a"))
        cloud.create(an_order(f"zzzzz-compute-{number}b"))
    (pair,) = account.boto.describe_key_pairs()["KeyPairs"]
    assert {each["KeyName"] for each in account.instances()} == {pair["KeyName"]}
    assert account.proxy.count("Action=ImportKeyPair") == 2


def test_other_arguments_of_libcloud_are_passed_on(account: Account) -> None:
    cloud = account.open_cloud({"ex_ebs_optimized": "true", "ex_placement_group": "close"})
    account.proxy.spoil(ec2_error("InstanceLimitExceeded"), where=CREATE)
    with pytest.raises(QuotaExceeded):
        cloud.create(an_order())
    body = account.proxy.calls[-1].body.decode()
    assert "EbsOptimized=true" in body
    assert "Placement.GroupName=close" in body
    assert "InstanceInitiatedShutdownBehavior=terminate" in body


def test_a_destroyed_node_is_not_listed_and_can_be_destroyed_again(account: Account) -> None:
    cloud = account.open_cloud()
    made = cloud.create(an_order(scratch_bytes=10**9))
    cloud.destroy(made)
    assert cloud.list() == ()
    assert account.boto.describe_volumes()["Volumes"] == []
    cloud.destroy(made)
    account.open_cloud().destroy(made)


def test_a_node_that_ec2_never_heard_of_counts_as_destroyed(account: Account) -> None:
    cloud = account.open_cloud()
    cloud.destroy(CloudNode("i-0123456789abcdef0", "zzzzz-compute-9", "", CloudState.RUNNING))


def test_not_found_right_after_creation_proves_nothing(account: Account) -> None:
    cloud = account.open_cloud()
    made = cloud.create(an_order())
    assert made.created_at is not None
    clock = ManualClock(made.created_at + 1)
    cloud.clock = clock
    not_found = ec2_error("InvalidInstanceID.NotFound")
    account.proxy.spoil(not_found, where="Action=TerminateInstances")
    account.proxy.spoil(not_found, where="Action=CreateTags")
    with pytest.raises(CloudError, match="so new that it may not show yet") as caught:
        cloud.destroy(made)
    assert not isinstance(caught.value, Gone)
    with pytest.raises(CloudError) as caught:
        cloud.set_tags(made, {"a": "b"})
    assert not isinstance(caught.value, Gone)
    clock.advance(300)
    account.proxy.spoil(not_found, where="Action=TerminateInstances")
    account.proxy.spoil(not_found, where="Action=CreateTags")
    cloud.destroy(made)
    with pytest.raises(Gone):
        cloud.set_tags(made, {"a": "b"})


def test_tags_are_set_and_others_left(account: Account) -> None:
    cloud = account.open_cloud()
    made = cloud.create(an_order())
    cloud.set_tags(made, {"arvados-behaviour": "hold", "booted_at": "1"})
    (listed,) = cloud.list()
    assert listed.tags == {**an_order().tags, "arvados-behaviour": "hold", "booted_at": "1"}
    assert listed.name == "zzzzz-compute-1"


def test_a_lost_answer_makes_no_twin(account: Account) -> None:
    cloud = account.open_cloud({"subnet_id": ", ".join(account.subnets(2))})
    account.proxy.spoil(LOST_AFTER, where=CREATE)
    with pytest.raises(CloudError) as caught:
        cloud.create(an_order())
    assert type(caught.value) is CloudError
    (listed,) = cloud.list()
    assert listed.name == "zzzzz-compute-1"
    # Even when the listing did not show it yet, and whatever went on in between.
    account.proxy.spoil(ec2_error("InsufficientInstanceCapacity"), where=CREATE)
    cloud.create(an_order("zzzzz-compute-2"))
    account.proxy.spoil(ec2_error("RequestLimitExceeded", status=503), where=CREATE)
    with pytest.raises(RateLimited):
        cloud.create(an_order())
    made = cloud.create(an_order())
    assert made.cloud_id == listed.cloud_id
    assert len(account.instances()) == 2


def test_the_same_name_with_another_script_finds_the_first(account: Account) -> None:
    cloud = account.open_cloud()
    order = an_order()
    made = cloud.create(order)
    again = cloud.create(type(order)(order.name, order.size, order.tags, "#!/bin/sh\n# other\n"))
    assert again.cloud_id == made.cloud_id
    assert len(account.instances()) == 1


def test_a_creation_that_never_arrived_is_made_up_for(account: Account) -> None:
    cloud = account.open_cloud()
    account.proxy.spoil(LOST_BEFORE, where=CREATE)
    with pytest.raises(CloudError):
        cloud.create(an_order())
    assert cloud.list() == ()
    cloud.create(an_order())
    assert len(cloud.list()) == 1


def test_no_room_in_one_zone_means_the_next_which_is_remembered(account: Account) -> None:
    first, second = account.subnets(2)
    cloud = account.open_cloud({"subnet_id": f"{first}, {second}"})
    account.proxy.spoil(ec2_error("InsufficientInstanceCapacity"), where=CREATE)
    cloud.create(an_order("zzzzz-compute-1"))
    cloud.create(an_order("zzzzz-compute-2"))
    assert [each["SubnetId"] for each in account.instances()] == [second, second]
    assert account.proxy.count(CREATE) == 3
    account.proxy.spoil(ec2_error("InsufficientFreeAddressesInSubnet"), where=CREATE)
    cloud.create(an_order("zzzzz-compute-3"))
    assert account.instances()[-1]["SubnetId"] == first


def test_no_room_in_any_zone(account: Account) -> None:
    cloud = account.open_cloud({"subnet_id": ", ".join(account.subnets(2))})
    account.proxy.spoil(ec2_error("InsufficientInstanceCapacity"), where=CREATE, times=2)
    with pytest.raises(NoCapacity):
        cloud.create(an_order())
    account.proxy.spoil(ec2_error("InsufficientFreeAddressesInSubnet"), where=CREATE, times=2)
    with pytest.raises(QuotaExceeded):
        cloud.create(an_order())


def test_a_quota_is_not_tried_in_every_zone(account: Account) -> None:
    cloud = account.open_cloud({"subnet_id": ", ".join(account.subnets(3))})
    account.proxy.spoil(ec2_error("VcpuLimitExceeded"), where=CREATE, times=3)
    with pytest.raises(QuotaExceeded):
        cloud.create(an_order())
    assert account.proxy.count(CREATE) == 1


@pytest.mark.parametrize(
    ("code", "sort"),
    [
        ("InstanceLimitExceeded", QuotaExceeded),
        ("VcpuLimitExceeded", QuotaExceeded),
        ("MaxSpotInstanceCountExceeded", QuotaExceeded),
        ("InsufficientInstanceCapacity", NoCapacity),
        ("SpotMaxPriceTooLow", NoCapacity),
        ("Unsupported", NoCapacity),
        ("Throttling", RateLimited),
        ("UnauthorizedOperation", Denied),
        ("AuthFailure", Denied),
        ("InvalidParameterValue", Denied),
        ("InvalidParameterCombination", Denied),
        ("InvalidAMIID.NotFound", Denied),
        ("UnsupportedOperation", Denied),
        ("InternalError", CloudError),
        ("SomethingNew", CloudError),
    ],
)
def test_every_refusal_has_its_sort(account: Account, code: str, sort: type[CloudError]) -> None:
    account.proxy.spoil(ec2_error(code, "You cannot, because."), where=CREATE)
    with pytest.raises(CloudError) as caught:
        account.open_cloud().create(an_order())
    assert type(caught.value) is sort
    for words in ("ec2: creating zzzzz-compute-1", f"{code}: You cannot, because."):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (ec2_error("RequestLimitExceeded", status=503), None),
        (ec2_error("RequestLimitExceeded", status=503, retry_after="7"), 7.0),
        (Fault(answer=Answer(429, {"Retry-After": "12"}, b"slow down")), 12.0),
        (Fault(answer=Answer(429, {}, b"slow down")), None),
        (Fault(answer=Answer(503, {"Retry-After": "3"}, b"<html>busy")), 3.0),
    ],
)
def test_how_long_to_wait_is_told(account: Account, fault: Fault, seconds: float | None) -> None:
    account.proxy.spoil(fault, where=LIST)
    cloud = account.open_cloud()
    with pytest.raises(RateLimited) as caught:
        cloud.list()
    assert caught.value.retry_after == seconds
    assert cloud.list() == ()


def test_nothing_is_tried_twice_behind_our_back(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBCLOUD_RETRY_FAILED_HTTP_REQUESTS", "1")
    account.proxy.spoil(LOST_BEFORE, where=LIST, times=3)
    account.proxy.spoil(Fault(answer=Answer(429, {}, b"")), where=CREATE, times=3)
    cloud = account.open_cloud()
    with pytest.raises(CloudError):
        cloud.list()
    with pytest.raises(RateLimited):
        cloud.create(an_order())
    assert len(account.proxy.calls) == 2


def test_a_slow_cloud_is_given_up_in_time(account: Account) -> None:
    account.proxy.spoil(Fault(passed_on=True, pause_seconds=30), where=LIST)
    with pytest.raises(CloudError, match=r"[Tt]imed? ?out"):
        account.open_cloud(timeout_seconds=0.3).list()


def test_no_secret_is_in_an_error_or_a_url(account: Account) -> None:
    cloud = account.open_cloud(credentials={"secret": "verysecret"})
    account.proxy.spoil(LOST_BEFORE, where=CREATE)
    with pytest.raises(CloudError) as caught:
        cloud.create(an_order())
    assert "UserData" not in str(caught.value)
    assert {call.path for call in account.proxy.calls} == {"/"}
    assert "verysecret" not in repr(cloud.credentials)


def test_calls_are_signed_as_botocore_would(account: Account) -> None:
    """moto does not look at signatures, EC2 does."""
    account.open_cloud(credentials={"key": "AKIA", "secret": "sec/ret"}).create(an_order())
    call = account.proxy.calls[-1]
    said = call.headers["Authorization"]
    signed = re.findall(r"SignedHeaders=([^,]*)", said)[0].split(";")
    headers = {k: v for k, v in call.headers.items() if k.lower() in signed}
    request = AWSRequest(
        method=call.method,
        url=f"http://127.0.0.1:{account.proxy.port}{call.path}",
        data=call.body,
        headers=headers,
    )
    request.context["timestamp"] = headers["X-AMZ-Date"]
    signer = _Signer(Credentials("AKIA", "sec/ret"), "ec2", "us-east-1")
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert said.endswith(f"Signature={signer.signature(text, request)}")
    assert hashlib.sha256(call.body).hexdigest() == headers["X-AMZ-Content-SHA256"]


class _Signer(SigV4Auth):  # type: ignore[misc]
    def headers_to_sign(self, request: AWSRequest) -> HTTPMessage:
        """All that were signed, the user agent too."""
        message = HTTPMessage()
        for name, value in request.headers.items():
            message[name.lower()] = value
        return message


def test_the_librarys_own_driver_can_take_the_place_of_ours(account: Account) -> None:
    path = "libcloud.compute.drivers.ec2.EC2NodeDriver"
    cloud = account.open_cloud(driver_class=path)
    made = cloud.create(an_order())
    assert [node.name for node in cloud.list()] == [made.name]
    cloud.destroy(made)


def test_making_a_driver_calls_nobody(account: Account) -> None:
    account.open_cloud({"ex_keyname": "compute"})
    assert not account.proxy.calls


def test_the_check_looks_and_changes_nothing(account: Account) -> None:
    subnets = account.subnets(2)
    cloud = account.open_cloud({"subnet_id": ", ".join(subnets), "security_groups": "default"})
    findings = cloud.check()
    assert [finding.problem for finding in findings] == [""] * 4
    text = "\n".join(f"{finding.subject}: {finding.detail}" for finding in findings)
    assert "us-east-1a, 4091 free addresses" in text
    assert "default (sg-" in text
    assert all(b"Action=Describe" in call.body for call in account.proxy.calls)


def test_the_check_names_what_has_no_effect(account: Account, tmp_path: Path) -> None:
    key = tmp_path / "ssh.pub"
    key.write_text("ssh-ed25519 AAAA ops")
    cloud = account.open_cloud(
        {"ssh_key": str(key), "ex_keyname": "compute"}, listed={"instance-state-name": "running"}
    )
    idle = [finding.subject for finding in cloud.check() if "no effect" in finding.detail]
    assert idle == ["[Cloud List] instance-state-name", "[Cloud Create] ssh_key"]


def test_the_check_names_what_is_wrong(account: Account) -> None:
    cloud = account.open_cloud({"image_id": "ami-0000", "subnet_id": "subnet-0000"})
    problems = [finding.problem for finding in cloud.check()]
    assert "ami-0000" in problems[0]
    assert "subnet-0000" in problems[1]
    account.proxy.spoil(ec2_error("AuthFailure", status=401), where="Action=Describe")
    assert "AuthFailure" in account.open_cloud().check()[0].problem


def test_sizes_have_cores_memory_and_price(account: Account) -> None:
    sizes = {size.id: size for size in account.open_cloud().sizes()}
    small = sizes["m4.large"]
    assert (small.cores, small.ram_bytes, small.gpus) == (2, 8 << 30, 0)
    assert small.price is not None
    assert 0.05 < small.price < 0.2
    assert sizes["p3.8xlarge"].gpus == 4
    assert all(size.cores for size in sizes.values())


def test_a_wrong_region_is_denied(account: Account) -> None:
    with pytest.raises(Denied, match=r"Invalid region: us-east-99"):
        account.open_cloud(credentials={"region": "us-east-99"}).list()


@pytest.mark.parametrize(
    ("create", "words"),
    [
        ({"image_id": ""}, "image_id: expected the id of an image"),
        ({"subnet_ids": "subnet-1"}, "subnet_ids: the ec2 driver has no such option; did you mean subnet_id?"),
        ({"ex_iamprofil": "x"}, "did you mean ex_iamprofile?"),
        ({"ex_userdata": "x"}, "ex_userdata: the ec2 driver has no such option"),
        ({"volume_type": "io9"}, "volume_type: expected gp2 or gp3"),
        ({"security_groups": "sg-1"}, "security_groups: ids need a subnet_id"),
        ({"ssh_key": "/nonexistent"}, "ssh_key: /nonexistent cannot be read"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(account: Account, create: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        account.open_cloud(create)
    assert words in str(caught.value)
