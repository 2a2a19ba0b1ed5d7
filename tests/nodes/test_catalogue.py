"""What can be booted, from the config file, the file it names and the cloud together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from nodemanager.clouds.base import CloudSize
from nodemanager.clouds.errors import CloudError
from nodemanager.config import parse
from nodemanager.errors import ConfigError
from nodemanager.nodes.catalogue import Catalogue, read_catalogue

GIB = 2**30
OLD = Path(__file__).parents[1] / "config" / "old"

ARVADOS = """\
Clusters:
  zzzzz:
    Containers: {MaximumPriceFactor: 2}
    InstanceTypes:
      m5.large: {VCPUs: 2, RAM: 8GiB, IncludedScratch: 50GB, Price: 0.1}
"""

LISTED = [
    CloudSize("m4.large", "m4.large", 8 * GIB, 0, 0.12),
    CloudSize("n1-standard-2", "n1-standard-2", 7680 << 20, 10**10),
    CloudSize("Standard_D3", "Standard_D3", 14 * GIB, 200 * 10**9),
    CloudSize("Standard_D4", "Standard_D4", 28 * GIB, 400 * 10**9),
]


def no_list() -> Sequence[CloudSize]:
    raise CloudError("nobody was to ask")


@pytest.fixture
def catalogue(tmp_path: Path) -> Callable[..., Catalogue]:
    """What a config file with `text` makes of Arvados' file and the list."""
    (tmp_path / "config.yml").write_text(ARVADOS)

    def read(text: str, list_sizes: Callable[[], Sequence[CloudSize]] = no_list) -> Catalogue:
        return read_catalogue(parse(text, tmp_path / "x.cfg"), list_sizes)

    return read


def test_arvados_types_need_no_list_of_the_cloud(catalogue: Callable[..., Catalogue]) -> None:
    found = catalogue("[Cloud]\nprovider = ec2\ncluster_config = config.yml\n")
    assert [size.name for size in found.sizes] == ["m5.large"]
    assert found.sizes[0].resources.ram_bytes == int(8 * GIB * 0.95)


def test_the_price_factor_is_the_files_unless_ours_says_it(
    catalogue: Callable[..., Catalogue],
) -> None:
    text = "[Cloud]\nprovider = ec2\ncluster_config = config.yml\n"
    assert catalogue(text).max_price_factor == 2
    assert catalogue(text + "max_price_factor = 1.5\n").max_price_factor == 1.5
    complete = "[Size a]\ncores = 1\nram = 1000\nprice = 1\ndisk = 1\n"
    assert catalogue(complete).max_price_factor == 1.5


def test_an_error_of_the_cloud_is_not_a_size_less(catalogue: Callable[..., Catalogue]) -> None:
    with pytest.raises(CloudError):
        catalogue("[Size a]\ncores = 1\nprice = 1\n")


def test_what_is_wrong_names_the_file_it_is_in(
    catalogue: Callable[..., Catalogue], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/x.cfg: \[Size a\] instance_type: "):
        catalogue("[Size a]\n", lambda: LISTED)
    (tmp_path / "config.yml").write_text("Clusters: {zzzzz: {InstanceTypes: {a: {}}}}")
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/config.yml: Clusters.zzzzz"):
        catalogue("[Cloud]\ncluster_config = config.yml\n", lambda: LISTED)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "ec2",
            [
                ("m4.large.spot", 2, 7782, 0, 0.04, True),
                ("m4.large", 2, 7782, 32_000, 0.1, False),
            ],
        ),
        ("gce", [("n1-standard-2", 2, 7296, 10_000, 0.1, False)]),
        (
            "azure",
            [
                ("Standard_D3", 4, 13619, 200_000, 0.56, False),
                ("Standard_D4", 8, 28672, 400_000, 1.12, False),
            ],
        ),
    ],
)
def test_old_config_files_mean_what_they_meant(name: str, expected: list[object]) -> None:
    """Cores as given; RAM in MiB less 5 % unless given; scratch in MB, or the disk's."""
    config = parse((OLD / f"{name}.cfg").read_text(), f"{name}.cfg")
    assert [
        (
            size.name,
            size.resources.cores,
            size.resources.ram_bytes // 2**20,
            size.resources.scratch_bytes // 10**6,
            size.price,
            size.preemptible,
        )
        for size in read_catalogue(config, lambda: LISTED).sizes
    ] == expected
