"""What an operator can say of pods."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.config.kinds import Kind
from nodemanager.errors import ConfigError
from nodemanager.model import PRIORITY_STEP
from nodemanager.schedulers.kubernetes.claims import Claim, Claims, find_place
from nodemanager.schedulers.kubernetes.options import OPTIONS, KubernetesOptions, Run
from nodemanager.schedulers.kubernetes.placement import LabelKey, Labels, Tolerations
from nodemanager.schedulers.kubernetes.priorities import PriorityRange, PriorityRanges, class_name
from nodemanager.schedulers.kubernetes.syntax import (
    is_label_key,
    is_label_value,
    is_object_name,
    is_variable,
)
from tests.schedulers.kubernetes_specs import context

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "kubernetes.md"


def test_every_option_is_on_the_page() -> None:
    text = PAGE.read_text().split("# Options of `[Scheduler]`\n", 1)[1].split("\n#", 1)[0]
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(OPTIONS)


def test_one_claim_is_all_that_has_to_be_said() -> None:
    options = KubernetesOptions.of(context(claims="/shared/results store"))
    assert options.run is Run.POD
    assert options.claims == (Claim(PurePosixPath("/shared/results"), "store"),)
    assert options.grace_seconds == 30
    assert options.gpu_resource == "nvidia.com/gpu"
    assert options.kubeconfig is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "[Scheduler] claims: none covers [Runner] store (/shared/results)"),
        ({"claims": "/shared/inputs x"}, "keep_output = no, or run = runner"),
        ({"claims": "/elsewhere x"}, "/elsewhere has nothing to do with [Runner] store"),
        ({"claims": "shared x"}, "expected an absolute directory"),
        ({"claims": "/shared/../x x"}, "expected an absolute directory"),
        ({"claims": "/shared x, /shared/ y"}, "/shared twice"),
        ({"claims": "/shared X"}, "expected an absolute directory"),
        ({"run": "runner"}, "runner_image: missing"),
        ({"run": "job"}, "expected pod or runner"),
        ({"namespce": "x"}, "did you mean namespace?"),
        ({"namespace": "Not_One"}, "namespace"),
        ({"priority_classes": "500 b, 1 a"}, "expected a priority above 500, found '1 a'"),
        ({"priority_classes": "0 b"}, "at least 1"),
        ({"priority_classes": "normal"}, "expected a priority and a PriorityClass"),
        ({"node_selector": "disk"}, "expected a label such as disk=ssd, found 'disk'"),
        ({"node_selector": "a=1, a=2"}, "a twice"),
        ({"tolerations": "a=b:Never"}, "expected a taint such as"),
        ({"partition_label": "a=b"}, "expected a label, found 'a=b'"),
        ({"preemptible_label": "-"}, "expected a label, or label=value"),
        ({"shell": "sh"}, "expected an absolute path"),
        ({"grace": "0"}, "at least 1 s"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as raised:
        KubernetesOptions.of(context(**options))
    assert str(raised.value).startswith("[Scheduler] ")


def test_an_output_cannot_be_kept_without_a_store() -> None:
    with pytest.raises(ConfigError, match=r"keep_output: \[Runner\] store is not a directory"):
        KubernetesOptions.of(replace(context(), store=None))
    KubernetesOptions.of(replace(context(keep_output="no"), store=None))


def test_a_runner_needs_no_claim() -> None:
    assert KubernetesOptions.of(context(run="runner", runner_image="x")).claims == ()


def test_cores_are_reserved_in_thousandths() -> None:
    options = KubernetesOptions.of(context(keep_output="no", reserve_cpu="0.1"))
    assert options.reserve_milli_cores == 100


def test_the_nearest_directory_has_the_file() -> None:
    claims = Claims().parse("/ all, /a one, /a/b two")
    for path, place in (("/x/y", ("all", "x/y")), ("/a", ("one", "")), ("/a/b/c", ("two", "c"))):
        found = find_place(claims, PurePosixPath(path))
        assert found is not None
        assert (found.claim.name, found.path) == place
    assert find_place(claims[1:], PurePosixPath("/ab")) is None


_ranges = PriorityRanges().parse("1 low, 500 normal, 900 high")


@given(st.integers(0, 1000))
def test_a_priority_has_the_class_of_its_range(priority: int) -> None:
    expected = "" if priority < 1 else "low" if priority < 500 else "normal"
    expected = "high" if priority >= 900 else expected
    assert class_name(_ranges, priority) == expected
    if priority > 1:
        assert class_name(_ranges, priority * PRIORITY_STEP - 12345) == expected


_names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True)
_keys = st.one_of(_names, st.builds("{}.example/{}".format, _names, _names))
_taints = st.builds(
    lambda key, value, effect: key + value + effect,
    _keys,
    st.one_of(st.just(""), st.builds("={}".format, st.one_of(st.just(""), _names))),
    st.sampled_from(["", ":NoSchedule", ":NoExecute", ":PreferNoSchedule"]),
)


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (
            Labels(),
            st.dictionaries(_keys, _names).map(lambda d: ",".join(map("=".join, d.items()))),
        ),
        (Tolerations(), st.lists(_taints).map(", ".join)),
        (LabelKey(valued=True), st.builds("{}={}".format, _keys, _names)),
        (
            Claims(),
            st.lists(_names, unique=True).map(lambda n: ",".join(f"/{x} y/{x} {x}" for x in n)),
        ),
    ],
)
def test_what_is_shown_is_read_again(kind: Kind, texts: st.SearchStrategy[str]) -> None:
    @given(texts)
    def check(text: str) -> None:
        value = kind.parse(text)
        assert kind.parse(kind.show(value)) == value

    check()


@given(st.dictionaries(st.integers(1, 1000), _names))
def test_ranges_that_are_shown_are_read_again(names: dict[int, str]) -> None:
    ranges = tuple(PriorityRange(least, name) for least, name in sorted(names.items()))
    assert PriorityRanges().parse(PriorityRanges().show(ranges)) == ranges


@pytest.mark.parametrize("text", ["a", "a.b-c.d", "0", "a" * 253])
def test_objects_can_have_such_names(text: str) -> None:
    assert is_object_name(text)


@pytest.mark.parametrize("text", ["", "A", "-a", "a-", "a..b", "a_b", "a\n", "a" * 254])
def test_objects_cannot_have_such_names(text: str) -> None:
    assert not is_object_name(text)


def test_labels_and_variables() -> None:
    assert is_label_key("example.com/A_b.c")
    assert not any(map(is_label_key, ["", "/a", "a/", "A.com/x", "a" * 64, "a b", "a\n"]))
    assert is_label_value("")
    assert not any(map(is_label_value, ["-", "a b", "a" * 64, "a\n"]))
    assert all(map(is_variable, ["A", "_a-b.c", "a1"]))
    assert not any(map(is_variable, ["", "1a", "a=b", "a b", "..", ".", "..a", "a\n"]))
