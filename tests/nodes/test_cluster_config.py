"""The sizes in a config.yml of Arvados."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.errors import ConfigError
from nodemanager.nodes.cluster_config import (
    ClusterConfig,
    InstanceType,
    byte_size,
    parse,
    read,
)

GIB = 2**30
GB = 10**9

CONFIG = """\
AutoReloadConfig: true
Clusters:
  xvhdp:
    ManagementToken: hush
    Containers:
      CloudVMs:
        Enable: true
        Driver: ec2
        DriverParameters: {Region: us-east-1}
      MaximumPriceFactor: 1.2
    InstanceTypes:
      m4.large:
        VCPUs: 2
        RAM: 7782MiB
        IncludedScratch: 32GB
        AddedScratch: 68GB
        Price: 0.1
      gpu.spot:
        ProviderType: g4dn.xlarge
        VCPUs: 4
        RAM: 16GiB
        Scratch: 125000000000
        Price: 0.526
        Preemptible: true
        GPU: {Stack: cuda, DriverVersion: "11.4", HardwareTarget: "7.5", DeviceCount: 1, VRAM: 16GiB}
"""


def of_types(types: str, containers: str = "{}") -> ClusterConfig:
    """What a file with these InstanceTypes says."""
    lines = indent(dedent(types), "      ")
    text = f"Clusters:\n  zzzzz:\n    Containers: {containers}\n    InstanceTypes:\n{lines}"
    return parse(text, "c.yml", "zzzzz")


def problems(types: str, containers: str = "{}") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        of_types(types, containers)
    return str(caught.value).replace("Clusters.zzzzz.", "").splitlines()


def test_a_config_as_arvados_has_it(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(CONFIG)
    assert read(path, "xvhdp") == ClusterConfig(
        types=(
            InstanceType("m4.large", "m4.large", 2, 7782 * 2**20, 100 * GB, 0.1),
            InstanceType(
                "gpu.spot", "g4dn.xlarge", 4, 16 * GIB, 125 * GB, 0.526, preemptible=True, gpus=1
            ),
        ),
        max_price_factor=1.2,
    )


def test_the_only_cluster_is_taken_whatever_its_id() -> None:
    assert len(parse(CONFIG, "c.yml", "zzzzz").types) == 2


def test_of_several_clusters_the_configured_one_is_taken() -> None:
    text = "Clusters: {aaaaa: {InstanceTypes: {a: {VCPUs: 1, RAM: 1, Price: 0}}}, 12345: {}}"
    assert [each.name for each in parse(text, "c.yml", "aaaaa").types] == ["a"]
    assert parse(text, "c.yml", "12345") == ClusterConfig()
    with pytest.raises(ConfigError) as caught:
        parse(text, "c.yml", "zzzzz")
    expected = "c.yml: Clusters: there are aaaaa, 12345; set [Arvados] cluster_id to one of them"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "c.yml: Clusters: is missing; expected the config.yml of an Arvados cluster"),
        ("a: 1", "c.yml: Clusters: is missing; expected the config.yml of an Arvados cluster"),
        ("Clusters: 5", "c.yml: Clusters: expected keys with values, found '5'"),
        ("just words", "c.yml: expected keys with values, found 'just words'"),
        ("- a\n- b", "c.yml: expected keys with values, found \"['a', 'b']\""),
        ("a: 1\nb: [", "c.yml:2: is not YAML: expected the node content"),
        ("a: 2001-99-99", "c.yml: is not YAML: "),
        ("[" * 5000, "c.yml: is not YAML: "),
    ],
)
def test_a_file_that_is_something_else(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "c.yml", "zzzzz")
    assert str(caught.value).startswith(problem)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "none.yml", "zzzzz")
    path = tmp_path / "latin.yml"
    path.write_bytes(b"a: \xfc")
    with pytest.raises(ConfigError, match="cannot be read"):
        read(path, "zzzzz")


def test_every_problem_is_told_with_its_key() -> None:
    types = """\
        one: {VCPUs: 0, RAM: 4 Gigs, Price: -1}
        two: {VCPUs: 2.5, Price: cheap, Preemptible: sometimes, ProviderType: [x]}
        three: 17
        four: {VCPUs: 1, RAM: 1G, Price: .nan, GPU: 1, CUDA: {DeviceCount: many}}
        five: {VCPUs: yes, RAM: 1.5, Price: .inf, Scratch: 3, IncludedScratch: 1, AddedScratch: 1}
    """
    containers = "{MaximumPriceFactor: 0.5, PreemptiblePriceFactor: -1}"
    assert problems(types, containers) == [
        "c.yml: Containers.PreemptiblePriceFactor: expected a number, 0 or more, found '-1'",
        "c.yml: Containers.MaximumPriceFactor: expected a number, 1 or more, found '0.5'",
        "c.yml: InstanceTypes.one.VCPUs: expected a whole number, 1 or more, found '0'",
        "c.yml: InstanceTypes.one.RAM: expected a size such as 64GiB, found '4 Gigs'",
        "c.yml: InstanceTypes.one.Price: expected a number, 0 or more, found '-1'",
        "c.yml: InstanceTypes.two.ProviderType: expected a name, found \"['x']\"",
        "c.yml: InstanceTypes.two.VCPUs: expected a whole number, 1 or more, found '2.5'",
        "c.yml: InstanceTypes.two.RAM: expected a size such as 64GiB, found nothing",
        "c.yml: InstanceTypes.two.Price: expected a number, 0 or more, found 'cheap'",
        "c.yml: InstanceTypes.two.Preemptible: expected true or false, found 'sometimes'",
        "c.yml: InstanceTypes.three: expected keys with values, found '17'",
        "c.yml: InstanceTypes.four.GPU: expected keys with values, found '1'",
        "c.yml: InstanceTypes.four.Price: expected a number, 0 or more, found 'nan'",
        (
            "c.yml: InstanceTypes.four.CUDA.DeviceCount:"
            " expected a whole number, 0 or more, found 'many'"
        ),
        "c.yml: InstanceTypes.five.VCPUs: expected a whole number, 1 or more, found 'True'",
        "c.yml: InstanceTypes.five.RAM: expected a size such as 64GiB, found '1.5'",
        "c.yml: InstanceTypes.five.Scratch: expected the sum of IncludedScratch and AddedScratch",
        "c.yml: InstanceTypes.five.Price: expected a number, 0 or more, found 'inf'",
    ]


@pytest.mark.parametrize(
    ("scratch", "expected"),
    [
        ("", 0),
        ("Scratch: 3G", 3 * GB),
        ("IncludedScratch: 1G", GB),
        ("AddedScratch: 2G", 2 * GB),
        ("IncludedScratch: 1G, AddedScratch: 2G", 3 * GB),
        ("Scratch: 3G, AddedScratch: 2G", 3 * GB),
        ("Scratch: 3G, IncludedScratch: 2G", 3 * GB),
        ("Scratch: 3G, IncludedScratch: 2G, AddedScratch: 1G", 3 * GB),
    ],
)
def test_scratch_is_said_in_three_ways(scratch: str, expected: int) -> None:
    (made,) = of_types(f"a: {{VCPUs: 1, RAM: 1G, Price: 0, {scratch}}}").types
    assert made.scratch_bytes == expected


@pytest.mark.parametrize("gpu", ["GPU: {DeviceCount: 2}", "CUDA: {DeviceCount: 2}"])
def test_gpus_under_the_new_key_and_the_old(gpu: str) -> None:
    (made,) = of_types(f"a: {{VCPUs: 1, RAM: 1G, Price: 0, {gpu}}}").types
    assert made.gpus == 2


def test_preemptible_variants_are_made_of_the_others() -> None:
    types = """\
        a: {VCPUs: 1, RAM: 1G, Price: 2}
        b: {VCPUs: 1, RAM: 1G, Price: 3}
        b.preemptible: {VCPUs: 1, RAM: 1G, Price: 9, ProviderType: b, Preemptible: true}
    """
    made = {each.name: each for each in of_types(types, "{PreemptiblePriceFactor: 0.5}").types}
    assert list(made) == ["a", "b", "b.preemptible", "a.preemptible"]
    assert made["b.preemptible"].price == 9
    variant = made["a.preemptible"]
    assert (variant.price, variant.preemptible, variant.provider_type) == (1.0, True, "a")
    assert len(of_types(types).types) == 3


def test_names_that_yaml_takes_for_something_else_are_text() -> None:
    (made,) = of_types("12: {VCPUs: 1, RAM: 1024, Price: 1, ProviderType: 7}").types
    assert (made.name, made.provider_type, made.ram_bytes) == ("12", "7", 1024)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("123", 123),
        ("64GiB", 64 * GIB),
        ("64Gi", 64 * GIB),
        ("64 GB", 64 * GB),
        ("64G", 64 * GB),
        ("12345M", 12345 * 10**6),
        ("1.5TiB", 3 * 2**39),
        ("2K", 2000),
        ("1PB", 10**15),
        ("1EiB", 2**60),
        (".5Ki", 512),
        ("7B", 7),
    ],
)
def test_byte_sizes(text: str, expected: int) -> None:
    assert byte_size(text) == expected


@pytest.mark.parametrize("text", ["", "GiB", "-1G", "1 G B", "1g", "1KiBB", "1e3", "0x10", "1,5G"])
def test_what_is_no_byte_size(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size such as 64GiB"):
        byte_size(text)


@given(
    st.integers(0, 2**40),
    st.sampled_from(["", " "]),
    st.sampled_from("KMGTPE"),
    st.booleans(),
    st.sampled_from(["", "B"]),
)
def test_a_byte_size_is_its_number_times_its_unit(
    number: int, space: str, prefix: str, binary: bool, b: str
) -> None:
    text = f"{number}{space}{prefix}{'i' if binary else ''}{b}"
    base = 1024 if binary else 1000
    assert byte_size(text) == number * base ** ("KMGTPE".index(prefix) + 1)
    assert byte_size(str(number)) == number


KEYS = st.sampled_from(
    ["InstanceTypes", "Containers", "VCPUs", "RAM", "Price", "GPU", "DeviceCount", "Scratch", "a"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_whatever_the_cluster_holds_it_is_read_or_refused(value: object) -> None:
    text = yaml.safe_dump({"Clusters": {"zzzzz": value}})
    config, complaints = ClusterConfig(), ""
    try:
        config = parse(text, "c.yml", "zzzzz")
    except ConfigError as error:
        complaints = str(error)
    assert all(line.startswith("c.yml: Clusters") for line in complaints.splitlines())
    assert all(each.cores >= 1 and each.price >= 0 for each in config.types)
