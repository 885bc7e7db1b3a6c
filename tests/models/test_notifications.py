"""The delivery state of a notification, which several processes record."""

from datetime import UTC, datetime, timedelta

from app.models import Notification, NotificationKind, NotificationStatus

NOW = datetime(2026, 3, 4, 10, 30, tzinfo=UTC)


def make_notification(*parts: str) -> Notification:
    return Notification(cafe_id=1, kind=NotificationKind.ORDERS, tg_chat_id=-1, parts=list(parts), queued_at=NOW)


def test_parts_are_sent_in_order() -> None:
    """A notification is sent when its last part is sent."""
    notification = make_notification("first", "second")

    assert notification.record_part(0, 11, at=NOW)
    assert (notification.status, notification.is_next(1), notification.next_part) == (
        NotificationStatus.QUEUED,
        True,
        "second",
    )
    assert notification.record_part(1, 12, at=NOW)
    assert (notification.status, notification.sent_at, notification.tg_message_ids) == (
        NotificationStatus.SENT,
        NOW,
        [11, 12],
    )


def test_a_part_is_recorded_once() -> None:
    """If two processes have sent the same part, the second record changes nothing."""
    notification = make_notification("first", "second", "third")
    notification.record_part(0, 11, at=NOW)
    notification.record_part(1, 12, at=NOW)

    assert not notification.record_part(1, 13, at=NOW)
    assert (notification.tg_message_ids, notification.next_part, notification.status) == (
        [11, 12],
        "third",
        NotificationStatus.QUEUED,
    )


def test_only_the_first_unsent_part_is_next() -> None:
    """A sent part, a later part, and a part of a finished notification are not next."""
    notification = make_notification("first", "second")
    notification.record_part(0, 11, at=NOW)

    assert [notification.is_next(part) for part in (0, 1, 2)] == [False, True, False]
    notification.fail("gone")
    assert not notification.is_next(1)


def test_an_unknown_delivery_stays_unknown() -> None:
    """A later refusal, a failure and a retry do not make an unknown delivery known."""
    notification = make_notification("soup")
    notification.begin_sending()
    notification.record_failure("timed out", is_uncertain=True, at=NOW)
    notification.begin_sending()
    notification.record_failure("retry after 3 s", is_uncertain=True, at=NOW)
    notification.fail("too late")
    notification.requeue(at=NOW)

    assert notification.is_uncertain


def test_the_time_for_the_delivery_begins_with_the_first_failure() -> None:
    """A message that has waited for long without a failure has the whole time from its first failure on."""
    notification = make_notification("soup")
    notification.queued_at = NOW - timedelta(hours=2)
    notification.record_failure("timed out", is_uncertain=True, at=NOW)
    notification.record_failure("timed out", is_uncertain=True, at=NOW + timedelta(minutes=5))

    assert notification.queued_at == NOW


def test_a_new_chat_gets_the_notification_from_the_beginning() -> None:
    """The parts and the unknown delivery of the former chat do not count for the new chat."""
    notification = make_notification("first", "second")
    notification.record_part(0, 11, at=NOW)
    notification.begin_sending()

    notification.move_to(-2)

    assert (notification.is_uncertain, notification.next_part, notification.tg_chat_id) == (False, "first", -2)


def test_a_new_topic_gets_the_rest_of_the_notification() -> None:
    """In another topic of the same chat, delivered parts are not repeated."""
    notification = make_notification("first", "second")
    notification.record_part(0, 11, at=NOW)

    notification.move_to(notification.tg_chat_id, 77)

    assert (notification.next_part, notification.tg_thread_id) == ("second", 77)


def test_an_acknowledged_notification_is_sent() -> None:
    """An acknowledgement proves the delivery, even if Telegram's answer was lost."""
    notification = make_notification("soup")
    notification.begin_sending()

    assert notification.acknowledge(by="Boris", at=NOW)
    assert (notification.status, notification.sent_at) == (NotificationStatus.SENT, NOW)
    assert not notification.is_next(0)


def test_the_text_has_all_parts() -> None:
    """The text of a notification joins its parts."""
    assert make_notification("first", "second").text == "first\n\nsecond"
