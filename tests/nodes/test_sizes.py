"""Which sizes can be booted: what sections say, what Arvados' types say, and what the cloud's list says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.clouds.base import CloudSize
from nodemanager.config import Size
from nodemanager.errors import ConfigError
from nodemanager.model import NodeSize, Resources
from nodemanager.nodes.cluster_config import InstanceType
from nodemanager.nodes.sizes import needs_cloud_list, node_sizes

GIB = 2**30
GB = 10**9

LISTED = (
    CloudSize("m4.large", "Large", 8 * GIB, 32 * GB, 0.1, cores=2),
    CloudSize("m4.xlarge", "Extra large", 16 * GIB, 0, 0.2, cores=4),
    CloudSize("p2.xlarge", "GPU", 64 * GIB, 0, 0.9, cores=4, gpus=1),
    CloudSize("odd", "Odd", 4 * GIB, 10 * GB),
)
"""The last is one of which the cloud's library does not know cores and price."""

TYPES = (
    InstanceType("big", "m5.4xlarge", 16, 64 * GIB, 100 * GB, 0.8),
    InstanceType("big.spot", "m5.4xlarge", 16, 64 * GIB, 100 * GB, 0.3, preemptible=True),
)


def sizes(
    sections: Mapping[str, Size],
    types: tuple[InstanceType, ...] = (),
    listed: tuple[CloudSize, ...] = LISTED,
    mem_scaling: float = 0.95,
) -> tuple[NodeSize, ...]:
    return node_sizes(sections, types, listed, mem_scaling=mem_scaling, path="x.cfg")


def size(section: Size, name: str = "m4.large", mem_scaling: float = 0.95) -> NodeSize:
    (made,) = sizes({name: section}, mem_scaling=mem_scaling)
    return made


def refused(sections: Mapping[str, Size], listed: tuple[CloudSize, ...] = LISTED) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        sizes(sections, listed=listed)
    return str(caught.value).splitlines()


def test_what_a_section_does_not_say_is_the_clouds() -> None:
    assert size(Size()) == NodeSize(
        "m4.large", Resources(2, int(8 * GIB * 0.95), 32 * GB), 0.1, "m4.large"
    )


def test_five_per_cent_of_the_clouds_ram_are_cut() -> None:
    assert size(Size()).resources.ram_bytes == pytest.approx(7.6 * GIB)


def test_another_share_of_the_ram_can_be_configured() -> None:
    assert size(Size(), mem_scaling=0.5).resources.ram_bytes == 4 * GIB
    assert size(Size(), mem_scaling=1.0).resources.ram_bytes == 8 * GIB


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (Size(ram=5000), {"ram_bytes": 5000 * 2**20}),
        (Size(cores=3), {"cores": 3}),
        (Size(scratch=500), {"scratch_bytes": 500 * 10**6}),
        (Size(disk=50), {"scratch_bytes": 50 * GB}),
        (Size(disk=50, scratch=0), {"scratch_bytes": 0}),
        (Size(gpus=2), {"gpus": 2}),
    ],
)
def test_what_a_section_says_stands_as_it_is(section: Size, expected: dict[str, int]) -> None:
    assert size(section).resources == replace(size(Size()).resources, **expected)


def test_a_section_may_say_the_rest_too() -> None:
    made = size(Size(price=0.0, preemptible=True, partitions=("gpu", "long")))
    assert (made.price, made.preemptible, made.partitions) == (0.0, True, ("gpu", "long"))


def test_gpus_are_those_of_the_cloud_unless_given() -> None:
    assert size(Size(), "p2.xlarge").resources.gpus == 1
    assert size(Size(gpus=0), "p2.xlarge").resources.gpus == 0


@pytest.mark.parametrize("word", ["m4.large", "Large"])
def test_a_cloud_size_is_found_by_its_id_and_its_name(word: str) -> None:
    made = size(Size(instance_type=word), "mine")
    assert (made.name, made.cloud_name, made.resources.cores) == ("mine", word, 2)


def test_an_id_counts_more_than_a_name() -> None:
    listed = (
        CloudSize("1", "2", GIB, 0, 1.0, cores=1),
        CloudSize("2", "1", GIB, 0, 2.0, cores=2),
        CloudSize("3", "2", GIB, 0, 3.0, cores=3),
    )
    for word, cores in (("1", 1), ("2", 2), ("3", 3)):
        (made,) = sizes({word: Size()}, listed=listed)
        assert made.resources.cores == cores


def test_several_sections_may_mean_the_same_cloud_size() -> None:
    spot = Size(instance_type="m4.large", preemptible=True, price=0.04)
    made = sizes({"m4.large": Size(), "m4.large.spot": spot})
    assert [(s.name, s.cloud_name, s.price, s.preemptible) for s in made] == [
        ("m4.large.spot", "m4.large", 0.04, True),
        ("m4.large", "m4.large", 0.1, False),
    ]


def test_sizes_come_cheapest_first_then_by_name() -> None:
    same = {name: Size(instance_type="m4.large", price=0.2) for name in "cab"}
    made = sizes({**same, "m4.xlarge": Size(price=0.3), "p2.xlarge": Size(price=0.1)})
    assert [s.name for s in made] == ["p2.xlarge", "a", "b", "c", "m4.xlarge"]


COMPLETE = Size(cores=1, ram=1024, price=0.5, scratch=0)


def test_a_section_that_says_all_needs_no_cloud() -> None:
    assert not needs_cloud_list({"x": COMPLETE, "y": replace(COMPLETE, scratch=None, disk=1)}, ())
    made = sizes({"x": COMPLETE}, listed=())
    assert made == (NodeSize("x", Resources(1, GIB), 0.5, "x"),)


def test_without_scratch_a_section_asks_the_cloud_but_can_do_without() -> None:
    section = replace(COMPLETE, scratch=None)
    assert needs_cloud_list({"x": section}, ())
    assert size(section).resources.scratch_bytes == 32 * GB
    assert size(section, "unheard-of").resources.scratch_bytes == 0


@pytest.mark.parametrize(
    ("option", "section"),
    [
        ("cores", replace(COMPLETE, cores=None)),
        ("ram", replace(COMPLETE, ram=None)),
        ("price", replace(COMPLETE, price=None)),
    ],
)
def test_what_nobody_tells_is_asked_for(option: str, section: Size) -> None:
    assert needs_cloud_list({"x": section}, ())
    assert refused({"m4.lage": section}) == [
        (
            "x.cfg: [Size m4.lage] instance_type: the cloud knows no size 'm4.lage';"
            f" did you mean m4.large or m4.xlarge?; or else give {option} here"
        )
    ]


def test_all_problems_are_told_at_once() -> None:
    sections = {
        "odd": Size(),
        "zzz": Size(cores=2),
        "fine": Size(instance_type="m4.large"),
        "also": Size(instance_type="none"),
    }
    assert refused(sections) == [
        "x.cfg: [Size odd] cores: is missing, and the cloud does not tell it",
        "x.cfg: [Size odd] price: is missing, and the cloud does not tell it",
        "x.cfg: [Size zzz] instance_type: the cloud knows no size 'zzz'; or else give ram, price here",
        (
            "x.cfg: [Size also] instance_type: the cloud knows no size 'none';"
            " or else give cores, ram, price here"
        ),
    ]
    assert size(Size(cores=1, price=1.0), "odd").resources.ram_bytes == int(4 * GIB * 0.95)


def test_a_figure_of_nought_in_the_clouds_list_is_not_known() -> None:
    nothing = CloudSize("m4.large", "Large", 0, 0, 0.1, cores=0)
    assert refused({"m4.large": Size()}, listed=(nothing,)) == [
        "x.cfg: [Size m4.large] cores: is missing, and the cloud does not tell it",
        "x.cfg: [Size m4.large] ram: is missing, and the cloud does not tell it",
    ]


def test_a_cloud_may_give_nodes_for_nothing() -> None:
    free = CloudSize("free", "free", GIB, 0, 0.0, cores=1)
    (made,) = sizes({"free": Size()}, listed=(free,))
    assert made.price == 0.0


def test_without_any_size_nothing_is_guessed() -> None:
    (problem,) = refused({})
    assert problem.startswith("x.cfg: no valid node sizes are configured; write a [Size NAME]")


def test_the_types_of_arvados_are_sizes() -> None:
    assert not needs_cloud_list({}, TYPES)
    spot, big = sizes({}, TYPES, listed=())
    ram_bytes = int(64 * GIB * 0.95)
    assert big == NodeSize("big", Resources(16, ram_bytes, 100 * GB), 0.8, "m5.4xlarge")
    assert spot == replace(big, name="big.spot", price=0.3, preemptible=True)


def test_sections_change_types_of_their_name_and_add_to_the_others() -> None:
    sections = {"big": Size(price=0.7, partitions=("p",)), "m4.large": Size()}
    small, spot, big = sizes(sections, TYPES)
    assert (big.price, big.partitions, big.cloud_name) == (0.7, ("p",), "m5.4xlarge")
    assert big.resources.cores == 16
    assert (small.name, spot.name) == ("m4.large", "big.spot")
    assert not needs_cloud_list({"big": Size()}, TYPES)
    assert needs_cloud_list(sections, TYPES)


def test_a_section_can_take_back_that_a_type_is_preemptible() -> None:
    sections = {"big": Size(preemptible=True), "big.spot": Size(preemptible=False)}
    made = {s.name: s.preemptible for s in sizes(sections, TYPES)}
    assert made == {"big": True, "big.spot": False}


# Properties.

NAMES = st.sampled_from(["m4.large", "m4.xlarge", "odd", "big", "other"])
SECTIONS = st.builds(
    Size,
    cores=st.none() | st.integers(1, 8),
    ram=st.none() | st.integers(1, 4096),
    price=st.none() | st.floats(0, 2),
    scratch=st.none() | st.integers(0, 1000),
    disk=st.none() | st.integers(0, 10),
    gpus=st.none() | st.integers(0, 4),
    instance_type=st.none() | st.sampled_from(["m4.large", "Extra large", "odd", "nowhere"]),
    preemptible=st.none() | st.booleans(),
)


@given(st.dictionaries(NAMES, SECTIONS, min_size=1), st.sets(st.sampled_from(TYPES)))
def test_every_section_and_type_is_a_size_or_a_problem(
    sections: dict[str, Size], types: set[InstanceType]
) -> None:
    known = tuple(sorted(types, key=lambda each: each.name))
    try:
        made = sizes(sections, known)
    except ConfigError as error:
        wrong = set(re.findall(r"\[Size ([^]]+)]", str(error)))
        assert wrong
        rest = {name: section for name, section in sections.items() if name not in wrong}
        if not (rest or known):
            return
        made = sizes(rest, known)
        sections = rest
    assert {s.name for s in made} == {*sections, *(each.name for each in known)}
    assert [(s.price, s.name) for s in made] == sorted((s.price, s.name) for s in made)
    for each in made:
        said = sections.get(each.name, Size())
        assert said.ram in (None, each.resources.ram_bytes / 2**20)
        assert said.price in (None, each.price)


@given(st.dictionaries(NAMES, SECTIONS, min_size=1), st.sets(st.sampled_from(TYPES)))
def test_a_size_does_not_depend_on_what_stands_beside_it(
    sections: dict[str, Size], types: set[InstanceType]
) -> None:
    """In particular not on whether somebody else needs the cloud's list."""
    known = tuple(types)
    for name, section in sections.items():
        alone = {name: section}
        listed = LISTED if needs_cloud_list(alone, known) else ()
        assert outcome(name, alone, known, listed) == outcome(name, sections, known, LISTED)


def outcome(
    name: str,
    sections: Mapping[str, Size],
    types: tuple[InstanceType, ...],
    listed: tuple[CloudSize, ...],
) -> NodeSize | list[str]:
    """The size of that name, or the problems with it."""
    try:
        return next(s for s in sizes(sections, types, listed) if s.name == name)
    except ConfigError as error:
        problems = [line for line in str(error).splitlines() if f"[Size {name}]" in line]
        if problems:
            return problems
    return outcome(name, {name: sections[name]}, types, listed)
