"""A real moto server for the whole run; before each test it is emptied and gets a proxy that spoils answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from nodemanager.clouds.base import CLUSTER_TAG, CloudContext, NodeOrder
from nodemanager.clouds.ec2 import Ec2
from nodemanager.model import NodeSize, Resources
from tests.clusters.faultproxy import FaultProxy
from tests.clusters.moto import ec2_behind_proxy, moto_server

CLUSTER = "zzzzz"
IMAGE = "ami-03cf127a"
"""One that moto knows."""


@pytest.fixture(scope="session")
def moto() -> Iterator[int]:
    with moto_server() as port:
        yield port


@dataclass(frozen=True)
class Account:
    """An account at EC2: our way to it through the proxy, and a look at it from outside."""

    proxy: FaultProxy
    boto: Any
    state_dir: Path
    open_cloud: Callable[..., Ec2]

    def instances(self) -> list[dict[str, Any]]:
        """All that are not terminated, whoever made them."""
        found = self.boto.describe_instances()["Reservations"]
        instances = [instance for group in found for instance in group["Instances"]]
        return [each for each in instances if each["State"]["Name"] != "terminated"]

    def subnets(self, count: int) -> list[str]:
        """Ids of subnets in so many zones."""
        return [each["SubnetId"] for each in self.boto.describe_subnets()["Subnets"]][:count]


@pytest.fixture
def account(moto: int, tmp_path: Path) -> Iterator[Account]:
    """An account in which nothing runs."""
    with ec2_behind_proxy(moto) as proxy:
        boto = boto3.client(
            "ec2",
            endpoint_url=f"http://127.0.0.1:{moto}",
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        opened: list[Ec2] = []

        def open_cloud(
            create: dict[str, str] | None = None,
            *,
            listed: dict[str, str] | None = None,
            credentials: dict[str, str] | None = None,
            cluster: str = CLUSTER,
            timeout_seconds: float = 20.0,
            driver_class: str = "",
        ) -> Ec2:
            where = {"host": "127.0.0.1", "port": str(proxy.port), "secure": "no"}
            cloud = Ec2(
                CloudContext(
                    cluster_id=cluster,
                    state_dir=tmp_path,
                    credentials={"key": "k", "secret": "s", **where, **(credentials or {})},
                    list_options=listed or {},
                    create_options={"image_id": IMAGE, **(create or {})},
                    timeout_seconds=timeout_seconds,
                    driver_class=driver_class,
                )
            )
            opened.append(cloud)
            return cloud

        yield Account(proxy, boto, tmp_path, open_cloud)
        for cloud in opened:
            cloud.close()
        boto.close()


def an_order(
    name: str = "zzzzz-compute-1",
    *,
    instance_type: str = "m4.large",
    scratch_bytes: int = 0,
    preemptible: bool = False,
    cluster: str = CLUSTER,
) -> NodeOrder:
    size = NodeSize(
        name="a size",
        resources=Resources(2, 7 << 30, scratch_bytes),
        price=0.1,
        instance_type=instance_type,
        preemptible=preemptible,
    )
    tags = {CLUSTER_TAG: cluster, "arvados-node-size": size.name, "booted_at": "1800000000"}
    return NodeOrder(name, size, tags, "#!/bin/sh\necho it boots\n")
