import pytest

from sweeper.domain.answer import Answer, AnswerKind


@pytest.mark.parametrize(
    "kind, done, not_done",
    [
        (AnswerKind.YES, [200], []),
        (AnswerKind.LOST, [None], []),
        (AnswerKind.UNAVAILABLE, [408, 500, 502, 503, 504, 520, 599, 999], [425]),
        (AnswerKind.THROTTLED, [503], [429]),
        (AnswerKind.UNCLEAR, [200, 202, 204, 206, 299], [404, 406, 418, 451]),
        (AnswerKind.HTML, [200, 202], [400, 404, 422]),
        (AnswerKind.PRESENT, [200], []),
        (AnswerKind.MISCONFIGURED, [300, 301, 302, 303, 304, 399, 501], [307, 308, 405, 415]),
        (AnswerKind.CREDENTIAL, [], [401, 403, 407]),
        (AnswerKind.PAYMENT, [], [402, 412]),
        (AnswerKind.CONFLICT, [], [409, 423]),
        (AnswerKind.REJECTED, [], [400, 413, 414, 422]),
        (AnswerKind.ABSENT, [], [404, 410]),
        (AnswerKind.MISPLACED, [], [404, 410]),
        (AnswerKind.NOT_SENT, [], [None]),
    ],
)
def test_whether_what_was_asked_for_may_have_been_done(
    kind: AnswerKind, done: list[int | None], not_done: list[int | None]
) -> None:
    for status in done:
        assert Answer(kind=kind, status=status).may_have_been_carried_out
    for status in not_done:
        assert not Answer(kind=kind, status=status).may_have_been_carried_out
