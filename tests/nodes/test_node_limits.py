"""What refusals and failures teach, and how that is unlearnt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.clouds.errors import CloudError, NoCapacity
from nodemanager.nodes.limits import Brake, NoPlace, Quota, Shortages, first_pause
from nodemanager.nodes.policy import NodePolicy

POLICY = NodePolicy(
    max_nodes=64,
    max_boot_failures=3,
    brake_time=600,
    capacity_pause=60,
    capacity_pause_max=1800,
    quota_pause=60,
)


class TestQuota:
    def test_nothing_is_known_before_a_refusal(self) -> None:
        assert Quota().allowed(17, now=0) is None
        assert Quota().created(17) == Quota()

    def test_a_refusal_teaches_how_many_there_may_be(self) -> None:
        quota = Quota().refused(2, POLICY, now=100)
        assert quota.allowed(2, now=100) == 2
        assert quota.allowed(1, now=100) == 2, "when one has gone another may come"

    def test_after_a_pause_one_more_is_tried(self) -> None:
        quota = Quota().refused(2, POLICY, now=100)
        assert quota.allowed(2, now=159) == 2
        assert quota.allowed(2, now=160) == 3

    def test_each_success_moves_it_up_by_one(self) -> None:
        quota = Quota().refused(2, POLICY, now=100).created(3)
        assert quota.allowed(3, now=101) == 4
        assert quota.created(4).allowed(4, now=102) == 5

    def test_a_success_below_the_limit_teaches_nothing(self) -> None:
        quota = Quota().refused(5, POLICY, now=100)
        assert quota.created(4) == quota

    def test_refused_with_nothing_there_it_is_not_asked_all_the_time(self) -> None:
        """Others may have used up the account's quota."""
        quota = Quota().refused(0, POLICY, now=100)
        assert quota.allowed(0, now=101) == 0
        assert quota.allowed(0, now=160) == 1

    @given(st.lists(st.sampled_from(["refuse", "create", "go", "wait"]), max_size=60))
    def test_whatever_happens_one_more_is_allowed_in_the_end(self, events: list[str]) -> None:
        quota, nodes, now = Quota(), 0, 0.0
        for event in events:
            allowed = quota.allowed(nodes, now)
            match event:
                case "refuse" if allowed is None or allowed > nodes:
                    quota = quota.refused(nodes, POLICY, now)
                case "create" if allowed is None or allowed > nodes:
                    nodes += 1
                    quota = quota.created(nodes)
                case "go":
                    nodes = max(0, nodes - 1)
                case "wait":
                    now += 10
        last = quota.allowed(nodes, now + POLICY.quota_pause)
        assert last is None or last > nodes


NONE_LEFT = NoCapacity("none left")


class TestShortages:
    def test_a_size_is_left_alone_for_a_while(self) -> None:
        shortages = Shortages().short("a", "none left", NONE_LEFT, POLICY, now=100)
        assert shortages.unavailable(159) == {"a"}
        assert shortages.unavailable(160) == frozenset()
        assert shortages.until("a") == 160

    def test_pauses_double_up_to_a_limit(self) -> None:
        shortages, now, pauses = Shortages(), 0.0, []
        for _ in range(8):
            shortages = shortages.short("a", "none left", NONE_LEFT, POLICY, now)
            pauses.append(shortages.until("a") - now)
            now = shortages.until("a")
        assert pauses == [60, 120, 240, 480, 960, 1800, 1800, 1800]

    def test_refusals_of_one_burst_are_one_shortage(self) -> None:
        shortages = Shortages().short("a", "none left", NONE_LEFT, POLICY, now=100)
        assert shortages.short("a", "none left", NONE_LEFT, POLICY, now=101) == shortages

    def test_a_success_ends_it(self) -> None:
        shortages = (
            Shortages().short("a", "x", NONE_LEFT, POLICY, 0).short("b", "x", NONE_LEFT, POLICY, 0)
        )
        assert shortages.had("a").unavailable(1) == {"b"}
        again = shortages.had("a").short("a", "x", NONE_LEFT, POLICY, 1)
        assert again.until("a") == 61, "it begins with a short pause again"

    def test_what_is_long_past_makes_no_pause_longer(self) -> None:
        shortages = Shortages().short("a", "x", NONE_LEFT, POLICY, now=0)
        later = 60 + POLICY.capacity_pause_max + 1
        assert shortages.short("a", "x", NONE_LEFT, POLICY, later).until("a") == later + 60

    @pytest.mark.parametrize(
        ("error", "seconds"),
        [(NONE_LEFT, 60.0), (CloudError("?"), 5.0), (None, 5.0), (NoPlace("no place"), 5.0)],
    )
    def test_what_may_be_over_soon_is_tried_again_sooner(
        self, error: CloudError | None, seconds: float
    ) -> None:
        assert first_pause(error, POLICY) == seconds

    def test_it_is_known_who_had_no_place(self) -> None:
        shortages = Shortages().short("a", "x", NONE_LEFT, POLICY, 0)
        shortages = shortages.short("b", "x", NoPlace("no place"), POLICY, 0)
        assert not shortages.pauses["a"].by_scheduler
        assert shortages.pauses["b"].by_scheduler


class TestBrake:
    def failed(self, times: int) -> Brake:
        brake = Brake()
        for n in range(times):
            brake = brake.failed(f"failure {n}", POLICY, now=1000.0)
        return brake

    def test_without_failures_there_is_no_limit(self) -> None:
        assert Brake().allowed(1000, POLICY, 0) is None

    def test_it_goes_on_after_so_many_failures_in_a_row(self) -> None:
        assert not self.failed(2).is_on(POLICY)
        assert self.failed(3).is_on(POLICY)
        assert self.failed(3).last == "failure 2"

    def test_while_failures_mount_up_no_more_are_on_trial_than_are_left(self) -> None:
        brake = self.failed(1)
        assert brake.allowed(0, POLICY, 1001) == 2
        assert brake.allowed(1, POLICY, 1001) == 1
        assert brake.allowed(2, POLICY, 1001) == 0
        assert brake.allowed(5, POLICY, 1001) == -3, "so many are too many"

    def test_on_it_tries_one_at_a_time_and_after_a_pause(self) -> None:
        brake = self.failed(3)
        assert brake.allowed(0, POLICY, 1599) == 0
        assert brake.allowed(0, POLICY, 1600) == 1
        assert brake.allowed(1, POLICY, 1600) == 0
        assert brake.allowed(4, POLICY, 1600) == -3
        again = brake.failed("once more", POLICY, 1700)
        assert again.allowed(0, POLICY, 2299) == 0
        assert again.allowed(0, POLICY, 2300) == 1

    def test_a_node_that_proves_itself_releases_it(self) -> None:
        assert self.failed(5).proved().allowed(0, POLICY, 1001) is None
