"""Arguments that an operator adds to every submission."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.model import NodeSize, Resources
from nodemanager.schedulers.base import JobSpec
from nodemanager.schedulers.templates import Arguments, ArgumentsKind, cheapest

MIB = 1 << 20
JOB = JobSpec(
    "zzzzz-dz642-000000000000000",
    ("true",),
    Resources(4, 100 * MIB + 1, 7 * MIB, 2),
    max_run_seconds=61,
    partitions=("main", "large"),
)
SIZES = (
    NodeSize("spot", Resources(64, 64 << 30, 64 << 30, 8), 0.1, preemptible=True),
    NodeSize("small", Resources(2, 8 << 30), 0.2),
    NodeSize("other", Resources(64, 64 << 30, 64 << 30, 8), 0.3, partitions=("other",)),
    NodeSize("fitting", Resources(4, 8 << 30, 8 << 30, 2), 0.4),
)


def expand(text: str, job: JobSpec = JOB, sizes: tuple[NodeSize, ...] = SIZES) -> tuple[str, ...]:
    arguments: Arguments = ArgumentsKind().parse(text)
    return arguments.expand(job, sizes)


def test_each_letter_is_a_property_of_the_job() -> None:
    text = "--c=%C --g=%G --i=%I --m=%M --p=%P --t=%T --u=%U --w=%W --x=100%% '--mixed=%C of %M'"
    assert expand(text) == (
        "--c=4",
        "--g=2",
        "--i=fitting",
        "--m=101",
        "--p=main,large",
        "--t=7",
        "--u=zzzzz-dz642-000000000000000",
        "--w=2",
        "--x=100%",
        "--mixed=4 of 101",
    )


@pytest.mark.parametrize("letter", ["I", "P", "W"])
def test_what_the_job_does_not_have_is_left_out_with_its_option(letter: str) -> None:
    bare = replace(JOB, partitions=(), max_run_seconds=0)
    text = f"-a=%{letter} -q %{letter} -j y -r a{letter} %{letter}"
    assert expand(text, bare, ()) == ("-j", "y", "-r", f"a{letter}")


def test_a_value_is_never_split() -> None:
    assert expand("-q %P", replace(JOB, partitions=("a b", "-c %U $(x)"))) == (
        "-q",
        "a b,-c %U $(x)",
    )


@pytest.mark.parametrize("text", ["--x=%Q", "100%", "'open", "%c"])
def test_what_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"means nothing|as for a shell"):
        ArgumentsKind().parse(text)


def test_the_cheapest_size_that_holds_the_job_is_named() -> None:
    def name(job: JobSpec) -> str:
        size = cheapest(job, SIZES)
        return "" if size is None else size.name

    assert name(JOB) == "fitting"
    assert name(replace(JOB, preemptible=True)) == "spot"
    assert name(replace(JOB, partitions=("other",))) == "other"
    assert name(replace(JOB, resources=Resources(65, 1))) == ""


def test_a_job_that_no_size_holds_is_refused_only_where_sizes_matter() -> None:
    huge = replace(JOB, resources=Resources(1000, 1))
    arguments: Arguments = ArgumentsKind().parse("--constraint=instancetype=%I")
    assert arguments.refusal(huge, SIZES) == (
        "no size is large enough: there are spot, small, other, fitting"
    )
    assert arguments.refusal(huge, ()) == ""
    assert arguments.refusal(JOB, SIZES) == ""
    assert ArgumentsKind().parse("--mem=%M").refusal(huge, SIZES) == ""


def test_only_the_uuid_sets_jobs_apart() -> None:
    assert ArgumentsKind().parse("-A %U").names_job
    assert not ArgumentsKind().parse("-A %%U %C%M").names_job


@given(st.lists(st.text(alphabet="ab %CMUTG'\"-\\", max_size=6), max_size=4))
def test_what_can_be_read_can_be_written(words: list[str]) -> None:
    kind = ArgumentsKind()
    text = kind.show(Arguments(tuple(words)))
    try:
        arguments = kind.parse(text)
    except ValueError:
        return
    assert arguments.words == tuple(words)
