"""How far a message has come, whoever comes to say so."""

from datetime import UTC, datetime

from app.models import Notification, NotificationKind, NotificationStatus

NOW = datetime(2026, 3, 4, 10, 30, tzinfo=UTC)


def message(*parts: str) -> Notification:
    return Notification(cafe_id=1, kind=NotificationKind.ORDERS, tg_chat_id=-1, parts=list(parts))


def test_parts_are_sent_one_after_the_other() -> None:
    """A message is sent when its last part is."""
    told = message("first", "second")

    assert told.part_sent(0, 11, at=NOW)
    assert (told.status, told.is_next(1), told.next_part) == (NotificationStatus.QUEUED, True, "second")
    assert told.part_sent(1, 12, at=NOW)
    assert (told.status, told.sent_at, told.tg_message_ids) == (NotificationStatus.SENT, NOW, [11, 12])


def test_a_part_counts_once() -> None:
    """Of two processes that have sent the same part, the second changes nothing."""
    told = message("first", "second", "third")
    told.part_sent(0, 11, at=NOW)
    told.part_sent(1, 12, at=NOW)

    assert not told.part_sent(1, 13, at=NOW)
    assert (told.tg_message_ids, told.next_part, told.status) == ([11, 12], "third", NotificationStatus.QUEUED)


def test_a_part_that_was_sent_is_not_next() -> None:
    """Nor is one whose turn has not come, or any of a message that is finished."""
    told = message("first", "second")
    told.part_sent(0, 11, at=NOW)

    assert [told.is_next(part) for part in (0, 1, 2)] == [False, True, False]
    told.fail("gone")
    assert not told.is_next(1)


def test_what_may_have_been_sent_stays_known() -> None:
    """However it goes on: a refusal now says nothing of the call before, nor does giving up."""
    told = message("soup")
    told.begin_sending()
    told.not_sent("timed out", is_uncertain=True)
    told.begin_sending()
    told.not_sent("retry after 3 s", is_uncertain=True)
    told.fail("too late")
    told.queue_again(at=NOW)

    assert told.is_uncertain


def test_another_chat_has_not_got_it() -> None:
    """What may have reached the old chat is new to the new one, from the first part on."""
    told = message("first", "second")
    told.part_sent(0, 11, at=NOW)
    told.begin_sending()

    told.move_to(-2)

    assert (told.is_uncertain, told.next_part, told.tg_chat_id) == (False, "first", -2)


def test_who_has_received_it_has_it() -> None:
    """An acknowledgement proves that the message has arrived, even if Telegram's answer was lost."""
    told = message("soup")
    told.begin_sending()

    assert told.acknowledge(by="Boris", at=NOW)
    assert (told.status, told.sent_at) == (NotificationStatus.SENT, NOW)
    assert not told.is_next(0)


def test_the_text_has_all_parts() -> None:
    """Somebody who looks at a message elsewhere sees every part."""
    assert message("first", "second").text == "first\n\nsecond"
