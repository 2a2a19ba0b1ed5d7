"""Of what several dispatchers say of a container, what counts."""

from hypothesis import given
from hypothesis import strategies as st

from nodemanager.model import ContainerState
from nodemanager.reason import Reason, ReasonToken
from nodemanager.reason.counting import OF_QUEUED_ONES, what_counts

ELM, OAK = "zzzzz-bmxii-000000000000elm", "zzzzz-bmxii-000000000000oak"

said = st.dictionaries(
    st.sampled_from((ELM, OAK)),
    st.sampled_from(ReasonToken).map(lambda token: Reason(token, "it waits")),
)


@given(said, st.sampled_from(ContainerState), st.sampled_from((None, ELM, OAK)))
def test_only_what_is_so_counts(
    told: dict[str, Reason], state: ContainerState, holder: str | None
) -> None:
    found = what_counts(told, state, holder)
    assert dict(found).items() <= told.items()
    tiers = [reason.tier.value for _, reason in found]
    assert tiers == sorted(tiers, reverse=True)
    match state:
        case ContainerState.QUEUED:
            assert dict(found) == told
        case ContainerState.LOCKED:
            assert all(by == holder for by, _ in found)
            assert all(reason.token not in OF_QUEUED_ONES for _, reason in found)
        case _:
            assert found == []


def test_who_has_claimed_it_knows_better_than_who_has_not() -> None:
    told = {
        ELM: Reason(ReasonToken.SCHEDULER_HOLD, "its job is held"),
        OAK: Reason(ReasonToken.CLAIM_LIMIT, "the dispatcher has enough to do"),
    }
    assert [by for by, _ in what_counts(told, ContainerState.QUEUED, None)] == [OAK, ELM]
    assert [by for by, _ in what_counts(told, ContainerState.LOCKED, ELM)] == [ELM]


def test_why_it_was_not_claimed_is_over_when_it_is() -> None:
    told = {ELM: Reason(ReasonToken.RUN_AFTER, "it asked not to start before its run_after")}
    assert what_counts(told, ContainerState.LOCKED, ELM) == []
