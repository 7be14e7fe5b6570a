"""A person's decision changes what it says, hastens nothing unasked, and is recorded."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from sweeper import errors
from sweeper.domain import moment
from sweeper.domain.outcome import Outcome
from sweeper.domain.policy import Policy
from sweeper.ledger import clock, tables
from tests.support import invariants, lent, registered
from tests.support.deciding import DAY, WHO, Desk, rule


def refuse(desk: Desk, response_id: str) -> None:
    """Let the provider refuse it."""
    (claim,) = lent.take(desk.db, response_id)
    lent.settle(desk.db, [lent.settled(claim, lent.REJECTED, answer="rejected", status=422)])


def keep_open(desk: Desk, response_id: str) -> None:
    """Let it fail, and wait for its next try."""
    (claim,) = lent.take(desk.db, response_id)
    again = lent.again(Outcome.FAILING, after=1000 * DAY)
    lent.settle(desk.db, [lent.settled(claim, again, answer="unavailable", status=503)])


def live(desk: Desk) -> dict[str, int]:
    """How many each label set counts as live."""
    sets = registered.rows(desk.db, tables.label_sets)
    return {row["labels"]: row["live_count"] for row in sets if row["live_count"]}


def set_wrong_clock(desk: Desk, ahead: timedelta) -> int:
    """Let the guard have held later than now: our clock was set back. Returns that moment."""
    good = moment.to_us(desk.now + ahead)
    with desk.db.write() as connection:
        clock.keep_good(connection, good)
    return good


class TestNothingBecomesDueEarlierUnasked:
    """Each of these is due sooner than it was: refused, and nothing is changed."""

    @staticmethod
    def refused(desk: Desk, response_id: str, **stated: Any) -> None:
        before = desk.everything()
        with pytest.raises(errors.DecisionRefused) as told:
            desk.correct(response_id, **stated)
        assert told.value.hint == "if that is meant, add --earlier"
        assert desk.everything() == before

    def meant(self, desk: Desk, response_id: str, **stated: Any) -> dict[str, Any]:
        self.refused(desk, response_id, **stated)
        desk.correct(response_id, earlier=True, **stated)
        (told,) = desk.records("item.corrected")
        assert told["earlier"] is True
        return told

    def test_by_an_earlier_time(self, desk: Desk) -> None:
        desk.know("resp_1", age=5)
        told = self.meant(desk, "resp_1", age=5.01)
        assert told["due_at"] < told["due_before"]

    def test_by_a_microsecond(self, desk: Desk) -> None:
        desk.know("resp_1", age=5)
        self.meant(desk, "resp_1", age=5 + 0.000001 / 86400)

    def test_by_labels_of_a_shorter_policy(self, desk: Desk) -> None:
        desk.know("resp_1", app="long")
        self.meant(desk, "resp_1", app="support")

    def test_by_labels_that_a_policy_matches_where_none_did(self, desk: Desk) -> None:
        desk.know("resp_1", app="unknown", age=1)
        told = self.meant(desk, "resp_1", app="long")
        assert told["due_before"] is None

    def test_by_labels_of_a_policy_that_deletes_where_one_kept_for_ever(self, desk: Desk) -> None:
        desk.know("resp_1", app="contracts", age=1)
        self.meant(desk, "resp_1", app="support")

    def test_by_losing_the_label_that_kept_it(self, desk: Desk) -> None:
        desk.under(rule("contracts", None), Policy(name="the rest", delete_after=30 * DAY))
        desk.know("resp_1", app="contracts")
        self.meant(desk, "resp_1", labels={"purpose": "none"})

    def test_by_shorter_labels_that_a_later_time_does_not_make_up_for(self, desk: Desk) -> None:
        desk.know("resp_1", app="long", age=50)
        self.meant(desk, "resp_1", app="support", age=49)

    def test_by_an_earlier_time_of_one_in_dispute(self, desk: Desk) -> None:
        desk.know("resp_1", age=5, subject="u-1")
        desk.dispute("resp_1", age=5)
        self.meant(desk, "resp_1", age=6)

    def test_by_the_time_first_given_where_a_later_one_stood(self, desk: Desk) -> None:
        """Known again five minutes later, the later time stands; going back to it is earlier."""
        desk.know("resp_1", age=5)
        desk.know("resp_1", age=5 - 5 / 1440)
        assert desk.row("resp_1")["created_at"] > desk.row("resp_1")["first_created_at"]
        self.meant(desk, "resp_1", age=5)

    @pytest.mark.parametrize("broken", [{"labels": "[]"}, {"subject": ""}, {"created_at": 1}])
    def test_by_lifting_what_broke_the_rules(self, desk: Desk, broken: dict[str, object]) -> None:
        """Nothing was known of it, so it was never due."""
        desk.under(Policy(name="everything", delete_after=400 * DAY))
        desk.break_rules(**broken)
        self.meant(desk, "resp_1", age=1)
        assert desk.row("resp_1")["state"] == "live"

    def test_by_a_link_that_kept_the_one_before(self, desk: Desk) -> None:
        desk.know("resp_0", age=30)
        desk.know("resp_1", age=1, previous_response_id="resp_0")
        desk.know("resp_2", age=1)
        with pytest.raises(errors.DecisionRefused, match="resp_0 would no longer wait for resp_1"):
            desk.correct("resp_1", previous="resp_2")
        self.meant(desk, "resp_1", previous="resp_2")
        assert desk.row("resp_1")["parent_id"] == desk.row("resp_2")["id"]

    def test_by_a_link_to_one_that_is_not_known_yet(self, desk: Desk) -> None:
        desk.know("resp_0", age=30)
        desk.know("resp_1", age=1, previous_response_id="resp_0")
        self.meant(desk, "resp_1", previous="resp_later")
        assert desk.row("resp_1")["parent_id"] is None

    def test_by_a_link_that_kept_one_which_is_set_aside(self, desk: Desk) -> None:
        desk.know("resp_0", age=30, subject="u-1")
        desk.know("resp_1", age=1, previous_response_id="resp_0")
        desk.dispute("resp_0", age=30)
        self.meant(desk, "resp_1", previous="resp_2")

    def test_by_a_link_of_one_that_waits_for_its_next_try(self, desk: Desk) -> None:
        desk.know("resp_0", age=30)
        desk.know("resp_1", age=1, previous_response_id="resp_0")
        keep_open(desk, "resp_1")
        self.meant(desk, "resp_1", previous="resp_2")


class TestWhatIsNotEarlierIsNotAskedAbout:
    @pytest.mark.parametrize(
        "stated",
        [
            {"age": 20},
            {"age": 19},
            {"app": "long"},
            {"app": "contracts"},
            {"app": "unknown", "age": 300},
            {"app": "long", "age": 60},
            {"subject": "u-9"},
            {"previous": "resp_9"},
            {"labels": {"app": "support", "env": "prod"}},
        ],
    )
    def test_a_correction_that_hastens_nothing(self, desk: Desk, stated: dict[str, Any]) -> None:
        desk.know("resp_1", age=20)
        decided = desk.correct("resp_1", **stated)
        (told,) = desk.records("item.corrected")
        assert told["earlier"] is False
        assert decided.before.due_at == desk.now - 6 * DAY

    def test_a_link_that_kept_what_no_policy_deletes(self, desk: Desk) -> None:
        desk.know("resp_0", age=30, app="contracts")
        desk.know("resp_1", age=1, previous_response_id="resp_0")
        desk.correct("resp_1", previous="resp_2")
        assert desk.row("resp_1")["previous_response_id"] == "resp_2"

    def test_a_link_that_kept_what_is_gone(self, desk: Desk) -> None:
        desk.know("resp_0", age=30)
        desk.close("resp_0")
        desk.know("resp_1", age=1, previous_response_id="resp_0")
        assert desk.row("resp_1")["parent_id"] == desk.row("resp_0")["id"]
        desk.correct("resp_1", previous="resp_2")

    def test_one_in_dispute_of_which_what_stood_is_right(self, desk: Desk) -> None:
        desk.know("resp_1", subject="u-1")
        desk.dispute("resp_1")
        decided = desk.correct("resp_1")
        assert decided.before == decided.now
        assert desk.row("resp_1")["state"] == "live"

    def test_one_that_broke_the_rules_and_that_no_policy_deletes(self, desk: Desk) -> None:
        desk.break_rules(labels="[]")
        desk.correct("resp_1", app="contracts")
        assert desk.row("resp_1")["state"] == "live"


class TestCorrecting:
    def test_what_is_stated_stands_and_the_rest_stays(self, desk: Desk) -> None:
        desk.know("resp_1", age=20, subject="u-1")
        desk.correct("resp_1", age=10)
        row = desk.row("resp_1")
        assert row["created_at"] == row["first_created_at"] == moment.to_us(desk.now - 10 * DAY)
        assert (row["subject"], row["state"], row["previous_response_id"]) == ("u-1", "live", None)
        assert live(desk) == {'{"app":"support"}': 1}

    def test_labels_are_stated_as_a_whole_and_counted_where_they_are(self, desk: Desk) -> None:
        desk.know("resp_1")
        desk.know("resp_2")
        desk.correct("resp_1", labels={"env": "prod"})
        assert live(desk) == {'{"app":"support"}': 1, '{"env":"prod"}': 1}
        desk.correct("resp_1", app="contracts")
        desk.correct("resp_2", app="contracts")
        assert live(desk) == {'{"app":"contracts"}': 2}

    def test_labels_of_another_spelling_are_the_same_label_set(self, desk: Desk) -> None:
        desk.know("resp_1", app="contracts")
        desk.correct("resp_1", labels={"b": "ü", "a": "1"})
        desk.know("resp_2", app="contracts")
        desk.correct("resp_2", labels={"a": "1", "b": "ü"})
        assert live(desk) == {'{"a":"1","b":"ü"}': 2}

    def test_a_dispute_is_lifted_and_counted_again(self, desk: Desk) -> None:
        desk.know("resp_1", subject="u-1")
        desk.dispute("resp_1")
        assert live(desk) == {}
        desk.correct("resp_1", subject="u-2")
        row = desk.row("resp_1")
        assert (row["state"], row["quarantine_reason"], row["subject"]) == ("live", None, "u-2")
        assert live(desk) == {'{"app":"support"}': 1}

    def test_a_dispute_is_lifted_into_other_labels(self, desk: Desk) -> None:
        desk.know("resp_1", subject="u-1")
        desk.dispute("resp_1")
        desk.correct("resp_1", app="long")
        assert live(desk) == {'{"app":"long"}': 1}

    def test_registering_what_is_now_right_is_known(self, desk: Desk) -> None:
        desk.know("resp_1", age=20)
        desk.dispute("resp_1", age=10)
        assert desk.row("resp_1")["state"] == "quarantined"
        desk.correct("resp_1", age=10)
        desk.know("resp_1", age=10)
        desk.know("resp_1", age=10 - 9 / 1440)
        assert desk.row("resp_1")["state"] == "live"

    def test_registering_what_was_wrong_is_a_dispute_again(self, desk: Desk) -> None:
        desk.know("resp_1", age=20)
        desk.correct("resp_1", age=10)
        desk.know("resp_1", age=20)
        assert desk.row("resp_1")["quarantine_reason"] == "conflicting"
        invariants.check(desk.db)

    def test_what_the_provider_refused_stays_aside(self, desk: Desk) -> None:
        desk.know("resp_1")
        refuse(desk, "resp_1")
        desk.correct("resp_1", app="long")
        row = desk.row("resp_1")
        assert (row["state"], row["quarantine_reason"]) == ("quarantined", "rejected")
        assert live(desk) == {}
        (told,) = desk.records("item.corrected")
        assert told["lifted"] is None
        desk.retry("resp_1")
        assert live(desk) == {'{"app":"long"}': 1}

    def test_one_that_waits_for_its_next_try_goes_on_waiting(self, desk: Desk) -> None:
        desk.know("resp_1")
        keep_open(desk, "resp_1")
        before = desk.row("resp_1")
        desk.correct("resp_1", app="long")
        assert desk.row("resp_1")["next_try_at"] == before["next_try_at"] is not None
        assert desk.row("resp_1")["outcome"] == "failing"

    def test_what_broke_the_rules_becomes_a_response(self, desk: Desk) -> None:
        desk.break_rules(created_at=1_700_000_000)
        with pytest.raises(errors.InvalidRegistration, match="bad_created_at") as told:
            desk.correct("resp_1", app="long")
        assert "--created-at" in str(told.value.hint)
        desk.correct("resp_1", age=3, app="long", subject="u-1", earlier=True)
        row = desk.row("resp_1")
        assert row["first_created_at"] == row["created_at"] == moment.to_us(desk.now - 3 * DAY)
        assert (row["state"], row["subject"]) == ("live", "u-1")
        desk.know("resp_1", age=3, app="long")
        assert desk.row("resp_1")["state"] == "live"

    def test_what_lay_too_far_ahead_is_not_lifted_with_that_time(self, desk: Desk) -> None:
        desk.break_rules(created_at=moment.to_us(desk.now + 30 * DAY))
        with pytest.raises(errors.InvalidRegistration, match="more than a day ahead"):
            desk.correct("resp_1", app="contracts")
        assert desk.row("resp_1")["quarantine_reason"] == "malformed:bad_created_at"

    def test_what_continues_one_that_broke_the_rules_keeps_it_from_now_on(self, desk: Desk) -> None:
        """Else it could be deleted before the responses that say that they continue it."""
        desk.break_rules(labels="[]")
        desk.know("resp_2", previous_response_id="resp_1")
        desk.know("resp_3", previous_response_id="resp_1")
        desk.know("resp_4", previous_response_id="resp_1", account="other")
        assert registered.edges(desk.db) == {}
        desk.correct("resp_1", app="support", earlier=True)
        assert registered.edges(desk.db) == {"resp_2": "resp_1", "resp_3": "resp_1"}
        assert lent.take(desk.db, "resp_1") == []

    def test_a_time_is_checked_as_in_a_registration(self, desk: Desk) -> None:
        desk.know("resp_1")
        before = desk.everything()
        for age in (-2.0, 366 * 20):
            with pytest.raises(errors.InvalidRegistration, match="bad_created_at"):
                desk.correct("resp_1", age=age, earlier=True)
        assert desk.everything() == before

    @pytest.mark.parametrize(
        "stated, reason",
        [
            ({"labels": {"": "x"}}, "bad_labels"),
            ({"labels": {"a": ""}}, "bad_labels"),
            ({"labels": {str(n): "x" for n in range(17)}}, "bad_labels"),
            ({"labels": {"a": "\ud800"}}, "bad_labels"),
            ({"subject": ""}, "bad_subject"),
            ({"subject": "a\nb"}, "bad_subject"),
            ({"previous": ""}, "bad_previous"),
            ({"previous": "a/b"}, "bad_previous"),
            ({"previous": "resp_1"}, "bad_previous"),
            ({"previous": "x" * 129}, "bad_previous"),
        ],
    )
    def test_what_could_not_be_registered_cannot_be_stated(
        self, desk: Desk, stated: dict[str, Any], reason: str
    ) -> None:
        desk.know("resp_1")
        before = desk.everything()
        with pytest.raises(errors.InvalidRegistration, match=reason) as told:
            desk.correct("resp_1", earlier=True, **stated)
        assert told.value.hint
        assert desk.everything() == before

    def test_a_name_that_is_none_cannot_be_made_one(self, desk: Desk) -> None:
        name = desk.break_rules(response_id="../files/x")
        with pytest.raises(errors.InvalidRegistration, match="bad_id") as told:
            desk.correct(name, app="support", earlier=True)
        assert "close it" in str(told.value.hint)
        desk.close(name)

    def test_saying_nothing_of_one_that_is_not_in_question_is_refused(self, desk: Desk) -> None:
        desk.know("resp_1")
        with pytest.raises(errors.UsageError, match="nothing is said"):
            desk.correct("resp_1")

    def test_what_is_registered_by_then_is_admitted_first(self, desk: Desk) -> None:
        desk.write_row()
        desk.correct("resp_1", app="contracts")
        assert desk.waiting() == 0
        assert live(desk) == {'{"app":"contracts"}': 1}


class TestLinks:
    def test_a_new_link_keeps_the_one_before(self, desk: Desk) -> None:
        desk.know("resp_0")
        desk.know("resp_1")
        desk.correct("resp_1", previous="resp_0")
        assert registered.edges(desk.db) == {"resp_1": "resp_0"}
        assert lent.take(desk.db, "resp_0") == []
        assert lent.take(desk.db, "resp_1")

    def test_a_link_that_closes_a_circle_is_refused(self, desk: Desk) -> None:
        desk.know("resp_0")
        desk.know("resp_1", previous_response_id="resp_0")
        desk.know("resp_2", previous_response_id="resp_1")
        before = desk.everything()
        with pytest.raises(errors.DecisionRefused, match="resp_0 cannot continue resp_2"):
            desk.correct("resp_0", previous="resp_2", earlier=True)
        assert desk.everything() == before

    def test_a_link_may_move_within_its_own_family(self, desk: Desk) -> None:
        desk.know("resp_0", app="contracts")
        desk.know("resp_1", previous_response_id="resp_0")
        desk.know("resp_2", previous_response_id="resp_0")
        desk.correct("resp_2", previous="resp_1")
        assert registered.edges(desk.db) == {"resp_1": "resp_0", "resp_2": "resp_1"}

    def test_a_link_to_one_that_comes_later_is_made_then(self, desk: Desk) -> None:
        desk.know("resp_1")
        desk.correct("resp_1", previous="resp_0")
        desk.know("resp_0")
        assert registered.edges(desk.db) == {"resp_1": "resp_0"}

    def test_no_link_leads_to_a_row_that_broke_the_rules(self, desk: Desk) -> None:
        desk.break_rules(response_id="resp_0", labels="[]")
        desk.know("resp_1")
        desk.correct("resp_1", previous="resp_0")
        assert desk.row("resp_1")["parent_id"] is None
        desk.correct("resp_0", app="contracts")
        assert registered.edges(desk.db) == {"resp_1": "resp_0"}

    def test_no_link_leads_to_another_account(self, desk: Desk) -> None:
        desk.know("resp_0", account="other")
        desk.know("resp_1")
        desk.correct("resp_1", previous="resp_0")
        assert desk.row("resp_1")["parent_id"] is None

    def test_a_link_that_was_dropped_for_a_circle_is_made_when_there_is_none(
        self, desk: Desk
    ) -> None:
        desk.know("resp_1", previous_response_id="resp_2", app="contracts")
        desk.know("resp_2", previous_response_id="resp_1", app="contracts")
        (linked,) = registered.edges(desk.db)
        desk.correct(linked, previous="resp_0")
        other = {"resp_1": "resp_2", "resp_2": "resp_1"}[linked]
        assert registered.edges(desk.db) == {other: linked}

    def test_a_circle_that_stays_is_dropped_and_recorded(self, desk: Desk) -> None:
        desk.break_rules(labels="[]")
        desk.know("resp_2", previous_response_id="resp_1")
        desk.know("resp_3", previous_response_id="resp_2")
        desk.correct("resp_1", app="contracts", previous="resp_3")
        assert registered.edges(desk.db) == {"resp_1": "resp_3", "resp_3": "resp_2"}
        (dropped,) = desk.records("link.dropped")
        assert dropped["item"] == desk.row("resp_2")["item"]
        assert dropped["previous"] == desk.row("resp_1")["item"]


class TestRetrying:
    def test_what_was_refused_is_live_and_counted_again(self, desk: Desk) -> None:
        desk.know("resp_1")
        refuse(desk, "resp_1")
        assert live(desk) == {}
        desk.retry("resp_1")
        row = desk.row("resp_1")
        assert (row["state"], row["quarantine_reason"], row["next_try_at"]) == ("live", None, None)
        assert live(desk) == {'{"app":"support"}': 1}
        assert lent.take(desk.db, "resp_1")

    def test_no_sweep_counts_it_as_refused_any_more(self, desk: Desk) -> None:
        """In the sweep that was refused it, it is simply not tried again."""
        desk.know("resp_1")
        refuse(desk, "resp_1")
        desk.retry("resp_1")
        assert desk.row("resp_1")["sweep_id"] is None

    def test_what_waits_is_tried_next(self, desk: Desk) -> None:
        desk.know("resp_1")
        keep_open(desk, "resp_1")
        assert lent.take(desk.db, "resp_1") == []
        desk.retry("resp_1")
        assert desk.row("resp_1")["failures"] == 1
        assert desk.row("resp_1")["sweep_id"] == "sweep-1"
        assert live(desk) == {'{"app":"support"}': 1}
        assert lent.take(desk.db, "resp_1")

    def test_it_is_no_more_due_than_before(self, desk: Desk) -> None:
        desk.know("resp_1", age=1)
        refuse(desk, "resp_1")
        decided = desk.retry("resp_1")
        assert decided.now == decided.before
        cutoff = moment.to_us(desk.now - 14 * DAY)
        assert lent.take(desk.db, "resp_1", cutoff=cutoff) == []

    def test_what_was_never_tried_waits_for_no_retry(self, desk: Desk) -> None:
        desk.know("resp_1")
        with pytest.raises(errors.DecisionRefused, match="waits for no retry"):
            desk.retry("resp_1")

    @pytest.mark.parametrize("aside", ["conflicting", "malformed:bad_labels"])
    def test_what_nobody_knows_the_truth_of_is_not_tried(self, desk: Desk, aside: str) -> None:
        if aside == "conflicting":
            desk.know("resp_1", subject="u-1")
            desk.dispute("resp_1")
        else:
            desk.break_rules(labels="[]")
        with pytest.raises(errors.DecisionRefused, match=aside) as told:
            desk.retry("resp_1")
        assert "sweeper responses correct resp_1" in str(told.value.hint)
        assert desk.row("resp_1")["quarantine_reason"] == aside

    def test_a_dispute_about_what_was_refused_outlasts_the_refusal(self, desk: Desk) -> None:
        """Else a retry would delete what is in dispute."""
        desk.know("resp_1", subject="u-1")
        refuse(desk, "resp_1")
        desk.dispute("resp_1")
        assert desk.row("resp_1")["quarantine_reason"] == "conflicting"
        assert len(desk.records("item.quarantined")) == 1
        invariants.check(desk.db)
        with pytest.raises(errors.DecisionRefused):
            desk.retry("resp_1")

    def test_a_dispute_about_what_is_being_deleted_outlasts_the_refusal(self, desk: Desk) -> None:
        desk.know("resp_1", subject="u-1")
        (claim,) = lent.take(desk.db, "resp_1")
        desk.dispute("resp_1")
        lent.settle(desk.db, [lent.settled(claim, lent.REJECTED, answer="rejected")])
        row = desk.row("resp_1")
        assert (row["quarantine_reason"], row["outcome"]) == ("conflicting", "rejected")
        invariants.check(desk.db)
        with pytest.raises(errors.DecisionRefused):
            desk.retry("resp_1")
        desk.correct("resp_1", subject="u-1")
        assert desk.row("resp_1")["sweep_id"] is None


class TestClosing:
    def test_what_is_live_is_gone_and_was_not_deleted(self, desk: Desk) -> None:
        desk.know("resp_1")
        desk.know("resp_2")
        desk.close("resp_1")
        row = desk.row("resp_1")
        assert (row["state"], row["outcome"], row["verified"]) == ("gone", "closed", 0)
        assert row["finished_at"] is not None
        assert row["yes_at"] is None
        assert (row["policy"], row["due_at"]) == ("support", moment.to_us(desk.now - 6 * DAY))
        assert live(desk) == {'{"app":"support"}': 1}
        assert lent.take(desk.db, "resp_1") == []

    def test_what_is_set_aside_is_gone_and_counted_once(self, desk: Desk) -> None:
        desk.know("resp_1", subject="u-1")
        desk.dispute("resp_1")
        desk.know("resp_2")
        refuse(desk, "resp_2")
        for each in ("resp_1", "resp_2"):
            desk.close(each)
            assert desk.row(each)["state"] == "gone"
        assert live(desk) == {}

    @pytest.mark.parametrize(
        "broken",
        [{"created_at": 5}, {"account": "no account!"}, {"labels": "[]"}, {"response_id": "a/b"}],
    )
    def test_what_broke_the_rules_can_be_closed(
        self, desk: Desk, broken: dict[str, object]
    ) -> None:
        """Nothing else may be left that only a database client could end."""
        name = desk.break_rules(**broken)
        desk.close(name)
        row = desk.row(name)
        assert (row["state"], row["outcome"], row["due_at"]) == ("gone", "closed", None)
        (told,) = desk.records("deletion.outcome")
        assert (told["created_at"] is None) == ("created_at" in broken)

    def test_its_record_is_that_of_an_outcome_by_a_persons_word(self, desk: Desk) -> None:
        desk.know("resp_1")
        keep_open(desk, "resp_1")
        before = desk.row("resp_1")
        decided = desk.close("resp_1")
        assert desk.row("resp_1")["next_try_at"] is None
        told = desk.records("deletion.outcome")[-1]
        assert told["seq"] == decided.record == desk.row("resp_1")["record_seq"]
        assert (told["outcome"], told["verified"], told["basis"]) == ("closed", False, "manual")
        assert told["supersedes"] == before["record_seq"]
        assert (told["attempts"], told["provider"]) == (1, "fireworks")
        assert told["evidence"]["status"] is None
        assert (told["policy"], told["actor"]["user"]) == ("support", "alice")

    def test_a_parent_waits_no_longer(self, desk: Desk) -> None:
        desk.know("resp_0")
        desk.know("resp_1", previous_response_id="resp_0")
        assert lent.take(desk.db, "resp_0") == []
        desk.close("resp_1")
        assert lent.take(desk.db, "resp_0")

    def test_an_answer_that_comes_late_changes_nothing(self, desk: Desk) -> None:
        """Its claim was taken over; then a person closed it; then the old sweeper was answered."""
        desk.know("resp_1")
        (claim,) = lent.take(desk.db, "resp_1")
        lent.free(desk.db)
        desk.close("resp_1")
        before = desk.row("resp_1")
        written = lent.settle(desk.db, [lent.settled(claim, lent.DELETED, answer="yes")])
        assert written.late == {claim.fence}
        assert desk.row("resp_1") == before
        assert [one["outcome"] for one in desk.records("deletion.late_outcome")] == ["deleted"]

    def test_of_an_account_that_nobody_configured(self, desk: Desk) -> None:
        desk.know("resp_1", account="elsewhere")
        desk.close("resp_1")
        (told,) = desk.records("deletion.outcome")
        assert (told["provider"], told["account"]) == (None, "elsewhere")

    def test_without_its_salt_no_record_can_be_tied_to_it(self, desk: Desk) -> None:
        desk.know("resp_1")
        lent.put(desk.db, "resp_1", salt=None)
        desk.close("resp_1")
        assert desk.records("deletion.outcome")[0]["subject"] is None


EVERY: list[tuple[str, Callable[[Desk], Any]]] = [
    ("retry", lambda desk: desk.retry("resp_1")),
    ("correct", lambda desk: desk.correct("resp_1", app="contracts")),
    ("close", lambda desk: desk.close("resp_1")),
]
DECISIONS = pytest.mark.parametrize("decide", [do for _, do in EVERY], ids=[n for n, _ in EVERY])


@DECISIONS
class TestEveryDecision:
    def test_is_recorded_with_who_and_why(self, desk: Desk, decide: Callable[[Desk], Any]) -> None:
        desk.know("resp_1", subject="u-secret")
        refuse(desk, "resp_1")
        decided = decide(desk)
        told = desk.records()[-1]
        assert told["seq"] == decided.record
        assert told["actor"] == {"user": "alice", "sudo_user": "bob"}
        assert told["item"] == desk.row("resp_1")["item"]
        (reason,) = registered.rows(desk.db, tables.reasons)
        assert (reason["seq"], reason["text"]) == (told["seq"], WHO.reason)
        text = json.dumps(told)
        assert not [one for one in ("resp_1", WHO.reason, "u-secret") if one in text]
        assert "clock" not in told

    def test_is_refused_while_a_sweeper_has_it_in_hand(
        self, desk: Desk, decide: Callable[[Desk], Any]
    ) -> None:
        desk.know("resp_1")
        (claim,) = lent.take(desk.db, "resp_1")
        before = desk.everything()
        with pytest.raises(errors.DecisionRefused, match="being deleted at this moment"):
            decide(desk)
        assert desk.everything() == before
        lent.settle(desk.db, [lent.settled(claim, lent.YES, answer="yes")])
        before = desk.everything()
        with pytest.raises(errors.DecisionRefused, match="being verified"):
            decide(desk)
        assert desk.everything() == before

    def test_is_refused_when_it_is_gone(self, desk: Desk, decide: Callable[[Desk], Any]) -> None:
        desk.know("resp_1")
        (claim,) = lent.take(desk.db, "resp_1")
        lent.settle(desk.db, [lent.settled(claim, lent.DELETED, answer="yes")])
        before = desk.everything()
        with pytest.raises(errors.DecisionRefused, match="resp_1 is gone"):
            decide(desk)
        assert desk.everything() == before

    def test_is_refused_when_it_is_closed_which_is_not_called_gone(
        self, desk: Desk, decide: Callable[[Desk], Any]
    ) -> None:
        desk.know("resp_1")
        desk.close("resp_1")
        before = desk.everything()
        with pytest.raises(errors.DecisionRefused, match="resp_1 is closed already") as caught:
            decide(desk)
        assert "gone" not in str(caught.value)
        assert desk.everything() == before

    def test_of_an_unknown_response_is_refused(
        self, desk: Desk, decide: Callable[[Desk], Any]
    ) -> None:
        with pytest.raises(errors.UnknownResponse):
            decide(desk)

    def test_asks_for_the_account_where_several_have_the_id(
        self, desk: Desk, decide: Callable[[Desk], Any]
    ) -> None:
        desk.know("resp_1")
        desk.know("resp_1", account="other")
        with pytest.raises(errors.UsageError, match="main, other"):
            decide(desk)

    def test_says_so_when_the_clock_is_in_doubt(
        self, desk: Desk, decide: Callable[[Desk], Any]
    ) -> None:
        desk.know("resp_1")
        keep_open(desk, "resp_1")
        good = set_wrong_clock(desk, timedelta(days=400))
        decided = decide(desk)
        told = desk.records()[-1]
        assert (told["seq"], told["clock"]) == (decided.record, "doubted")
        with desk.db.read() as connection:
            assert clock.last_good(connection) == good
        row = desk.row("resp_1")
        if row["state"] == "gone":
            assert row["finished_at"] == good

    def test_writes_nothing_when_it_cannot_write_its_record(
        self, desk: Desk, decide: Callable[[Desk], Any]
    ) -> None:
        desk.know("resp_1")
        keep_open(desk, "resp_1")
        before = desk.everything()
        with desk.db.write() as connection:
            if desk.db.is_sqlite:
                connection.exec_driver_sql(
                    "CREATE TRIGGER refuse BEFORE INSERT ON reasons"
                    " BEGIN SELECT RAISE(ABORT, 'refused'); END"
                )
            else:
                connection.exec_driver_sql(
                    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                    " $$ BEGIN RAISE EXCEPTION 'refused'; END $$"
                )
                connection.exec_driver_sql(
                    "CREATE TRIGGER refuse BEFORE INSERT ON reasons FOR EACH ROW"
                    " EXECUTE FUNCTION refuse()"
                )
        with pytest.raises(errors.LedgerError):
            decide(desk)
        assert desk.everything() == before


class TestADoubtedClock:
    def test_no_time_is_judged_by_it(self, desk: Desk) -> None:
        desk.know("resp_1")
        set_wrong_clock(desk, timedelta(days=400))
        before = desk.everything()
        with pytest.raises(errors.LedgerError, match="clock may be wrong") as told:
            desk.correct("resp_1", age=3)
        assert told.value.hint
        assert desk.everything() == before

    def test_nothing_that_broke_the_rules_is_lifted(self, desk: Desk) -> None:
        """Its time may lie ahead, which nobody can tell now."""
        desk.break_rules(labels="[]")
        set_wrong_clock(desk, timedelta(days=400))
        with pytest.raises(errors.LedgerError, match="clock may be wrong"):
            desk.correct("resp_1", app="contracts")
        assert desk.row("resp_1")["state"] == "quarantined"
