"""Notifications of a cafe about its orders: the order list, its corrections, and their acknowledgement."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import orjson
import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from app.auth.context import Context
from app.auth.viewer import Caller
from app.clients import Clients
from app.errors import BadInput, CafeNotLinked, Forbidden, NotFound, Unauthenticated
from app.events.outbox import TOPIC
from app.events.types import Topic
from app.models import Cafe, Notification, NotificationKind, NotificationStatus, Order, OrderStatus, Outbox, User
from app.models.orders import ExtraInput, OrderChanges
from app.resolvers import deadlines, links, notifications, orders
from app.resolvers.notifications import acknowledge
from app.services import deadlines as deadlines_service
from app.services import notifications as notifications_service
from app.services.notifications import CORRECTION_DELAY, CorrectionTask, DeliveryTask, correct_day
from app.services.pagination import PageRequest
from tests.conftest import Lunch, add_lunch, event_types
from tests.notification_fixtures import change

CHAT, OTHER_CHAT = -1001, -1002
OLGA = 3003


@pytest.fixture
async def lunch(clients: Clients, people: None) -> Lunch:
    """A cafe with a chat, and a second user."""
    async with clients.db() as session:
        session.add(User(tgid=OLGA, name="Olga"))
    return await add_lunch(clients, tg_chat_id=CHAT, linked_at=datetime.now(UTC))


@pytest.fixture
async def ordered(user: Context, lunch: Lunch) -> Order:
    """Ivan's order."""
    return await orders.place_order(user, lunch.cafe.id, lunch.open_date, lunch.meal)


async def announce(clients: Clients, lunch: Lunch) -> Notification | None:
    """Let the deadline pass, and queue the order list."""
    async with clients.db() as session:
        await deadlines_service.pass_deadline(session, lunch.cafe.id, lunch.open_date, datetime.now(UTC))
        return await notifications_service.announce_day(clients, session, lunch.cafe.id, lunch.open_date)


async def send_correction(clients: Clients, lunch: Lunch) -> Notification | None:
    """Queue a correction, as the events process does a minute after a change."""
    async with clients.db() as session:
        return await correct_day(clients, session, CorrectionTask(cafe_id=lunch.cafe.id, date=lunch.open_date))


@pytest.fixture
async def announced(clients: Clients, lunch: Lunch, ordered: Order) -> Notification:
    """The order list, queued after the deadline."""
    notification = await announce(clients, lunch)
    assert notification is not None
    return notification


async def queued_tasks(clients: Clients, queue: str) -> list[bytes]:
    """Return the tasks that wait in a queue of the outbox."""
    async with clients.db() as session:
        rows = await session.scalars(sa.select(Outbox.c.payload).where(Outbox.c.queue == queue).order_by(Outbox.c.id))
        return list(rows)


async def all_notifications(clients: Clients) -> list[Notification]:
    """Return all notifications, the oldest first."""
    async with clients.db() as session:
        return list(await session.scalars(select(Notification).order_by(col(Notification.id))))


def delivery_task(notification: Notification) -> bytes:
    """Return the task that sends the first part of a notification."""
    return DeliveryTask(notification_id=notification.id, part=0).model_dump_json().encode()


@pytest.fixture
def chat(clients: Clients) -> Context:
    """A caller in the cafe's chat."""
    return in_chat(clients, CHAT)


def in_chat(clients: Clients, chat_id: int) -> Context:
    """Return a caller in a chat."""
    return Context(clients, source="test", caller=Caller(telegram_chat=chat_id))


async def test_the_first_version_is_the_order_list(announced: Notification) -> None:
    """The first version is the order list, for the cafe's chat."""
    assert (announced.kind, announced.version, announced.tg_chat_id) == (NotificationKind.ORDERS, 1, CHAT)
    assert "Borscht" in announced.text


async def test_an_order_list_is_queued(clients: Clients, announced: Notification) -> None:
    """An announcement queues a delivery and an event."""
    assert await queued_tasks(clients, DeliveryTask.queue) == [delivery_task(announced)]
    assert (await event_types(clients))[-1] == "notification.queued"


async def test_a_day_is_announced_once(clients: Clients, lunch: Lunch, announced: Notification) -> None:
    """Repeated announcements make one notification."""
    assert await announce(clients, lunch) is None

    assert len(await all_notifications(clients)) == 1


async def test_simultaneous_announcements_make_one_notification(clients: Clients, lunch: Lunch, ordered: Order) -> None:
    """Simultaneous announcements make one notification, because of the unique constraint."""

    async def announce_only() -> Notification | None:
        async with clients.db() as session:
            return await notifications_service.announce_day(clients, session, lunch.cafe.id, lunch.open_date)

    made = await asyncio.gather(*(announce_only() for _ in range(5)))

    assert len([notification for notification in made if notification is not None]) == 1
    assert len(await queued_tasks(clients, DeliveryTask.queue)) == 1


async def test_a_day_without_orders_has_no_order_list(clients: Clients, lunch: Lunch) -> None:
    """A cafe without orders gets no order list."""
    assert await announce(clients, lunch) is None


async def test_cancelled_orders_are_not_on_the_order_list(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order
) -> None:
    """An order that is cancelled before the deadline is not on the order list."""
    await orders.cancel_order(user, ordered.id)

    assert await announce(clients, lunch) is None


@pytest.mark.parametrize(
    "state",
    [
        {"tg_chat_id": None, "linked_at": None},
        {"notifications_enabled": False},
        {"is_active": False},
    ],
)
async def test_a_cafe_without_notifications_gets_no_order_list(
    clients: Clients, lunch: Lunch, ordered: Order, state: dict[str, object]
) -> None:
    """A cafe that has no chat, is deactivated, or has notifications disabled gets no order list."""
    async with clients.db() as session:
        await session.execute(sa.update(Cafe).values(**state))

    assert await announce(clients, lunch) is None


async def test_a_change_after_the_deadline_is_a_correction(
    clients: Clients, manager: Context, lunch: Lunch, announced: Notification
) -> None:
    """A change after the deadline is the next version, and the correction names the difference."""
    [order] = (await orders.list_orders(manager, PageRequest(), orders.OrderFilter())).nodes
    await orders.update_order(manager, order.id, OrderChanges(dish_ids=[lunch.other_soup.id, lunch.main.id]))

    correction = await send_correction(clients, lunch)

    assert correction is not None
    assert (correction.kind, correction.version, correction.tg_chat_id) == (NotificationKind.CORRECTION, 2, CHAT)
    assert "Correction 1" in correction.text
    assert "−1 Borscht (Ivan)" in correction.text
    assert "+1 Solyanka (Ivan)" in correction.text


async def test_a_cancellation_after_the_deadline_is_a_correction(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """A cancellation after the deadline is a correction, even of the only order."""
    await orders.cancel_order(manager, ordered.id)

    correction = await send_correction(clients, lunch)

    assert correction is not None
    assert "−1 Borscht (Ivan)" in correction.text


async def test_an_order_after_the_deadline_is_a_correction(
    clients: Clients, manager: Context, lunch: Lunch, announced: Notification
) -> None:
    """An order that a manager places after the deadline is confirmed, and is a correction."""
    late = await orders.place_order(manager, lunch.cafe.id, lunch.open_date, lunch.meal, OLGA)

    correction = await send_correction(clients, lunch)

    assert late.status is OrderStatus.CONFIRMED
    assert correction is not None
    assert "+1 Borscht (Olga)" in correction.text


async def test_a_new_note_is_a_correction(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """A changed note is a correction."""
    await orders.update_order(manager, ordered.id, OrderChanges(notes="No dill"))

    correction = await send_correction(clients, lunch)

    assert correction is not None
    assert "No dill" in correction.text


async def test_several_changes_are_one_correction(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """All changes until the correction are one correction."""
    await orders.update_order(
        manager, ordered.id, OrderChanges(extras=[ExtraInput(menu_item_id=lunch.cola.id, quantity=2)])
    )
    await orders.place_order(manager, lunch.cafe.id, lunch.open_date, lunch.meal, OLGA)

    first, second = [await send_correction(clients, lunch) for _ in range(2)]

    assert second is None
    assert first is not None
    assert "+2 Cola (Ivan)" in first.text
    assert "+1 Borscht (Olga)" in first.text


async def test_a_correction_is_scheduled_a_minute_after_a_change(
    clients: Clients, manager: Context, ordered: Order, announced: Notification
) -> None:
    """Each change schedules a correction after a minute, so that more changes can join it."""
    await orders.cancel_order(manager, ordered.id)

    async with clients.db() as session:
        query = sa.select(Outbox.c.next_attempt_at).where(Outbox.c.queue == CorrectionTask.queue)
        due = (await session.scalars(query)).one()
    assert due - datetime.now(UTC) == pytest.approx(CORRECTION_DELAY, abs=timedelta(seconds=10))


async def test_changes_before_the_deadline_are_no_corrections(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order
) -> None:
    """A change before the deadline schedules no correction."""
    await orders.update_order(user, ordered.id, OrderChanges(notes="No dill"))
    await orders.cancel_order(user, ordered.id)

    assert await queued_tasks(clients, CorrectionTask.queue) == []


async def test_a_change_that_is_reverted_makes_no_correction(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """A change that is reverted makes no correction."""
    await orders.update_order(manager, ordered.id, OrderChanges(dish_ids=[lunch.other_soup.id, lunch.main.id]))
    await orders.update_order(manager, ordered.id, OrderChanges(dish_ids=[lunch.soup.id, lunch.main.id]))

    assert await send_correction(clients, lunch) is None


async def test_a_correction_is_the_difference_to_the_one_before(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """The second correction is the difference to the first, and has the next number."""
    await orders.update_order(
        manager, ordered.id, OrderChanges(extras=[ExtraInput(menu_item_id=lunch.cola.id, quantity=2)])
    )
    await send_correction(clients, lunch)
    await orders.update_order(
        manager, ordered.id, OrderChanges(extras=[ExtraInput(menu_item_id=lunch.cola.id, quantity=3)])
    )

    correction = await send_correction(clients, lunch)

    assert correction is not None
    assert correction.version == 3
    assert "Correction 2" in correction.text
    assert "+1 Cola (Ivan)" in correction.text


async def test_simultaneous_corrections_make_one_notification(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """The lock on the day serializes simultaneous corrections: the later ones find no change."""
    await orders.cancel_order(manager, ordered.id)

    made = await asyncio.gather(*(send_correction(clients, lunch) for _ in range(5)))

    assert len([correction for correction in made if correction is not None]) == 1


async def test_the_first_order_after_the_deadline_makes_an_order_list(
    clients: Clients, manager: Context, lunch: Lunch
) -> None:
    """If the first order comes after the deadline, the cafe gets an order list instead of a correction."""
    assert await announce(clients, lunch) is None
    await orders.place_order(manager, lunch.cafe.id, lunch.open_date, lunch.meal, OLGA)

    correction = await send_correction(clients, lunch)

    assert correction is not None
    assert (correction.kind, correction.version) == (NotificationKind.ORDERS, 1)


async def test_an_order_between_the_deadline_and_the_list_is_no_correction(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order
) -> None:
    """An order between the deadline and the order list is on the list, so there is no correction."""
    async with clients.db() as session:
        await deadlines_service.pass_deadline(session, lunch.cafe.id, lunch.open_date, datetime.now(UTC))
    await orders.place_order(manager, lunch.cafe.id, lunch.open_date, lunch.meal, OLGA)
    await announce(clients, lunch)

    assert await send_correction(clients, lunch) is None


async def test_a_cafe_with_disabled_notifications_gets_no_correction(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """A cafe whose notifications are disabled after the order list gets no correction."""
    await orders.cancel_order(manager, ordered.id)
    await links.set_notifications(manager, lunch.cafe.id, enabled=False)

    assert await send_correction(clients, lunch) is None


async def test_a_preview_is_the_next_message(clients: Clients, manager: Context, lunch: Lunch, ordered: Order) -> None:
    """A preview before the deadline has the text of the order list."""
    preview = await notifications.preview_notification(manager, lunch.cafe.id, lunch.open_date)

    notification = await announce(clients, lunch)
    assert notification is not None
    assert preview == notification.text


async def test_a_preview_after_a_change_is_the_correction(
    manager: Context, lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """A preview after a change has the text of the correction."""
    await orders.cancel_order(manager, ordered.id)

    preview = await notifications.preview_notification(manager, lunch.cafe.id, lunch.open_date)

    assert preview is not None
    assert "−1 Borscht (Ivan)" in preview


async def test_without_changes_there_is_no_preview(manager: Context, lunch: Lunch, announced: Notification) -> None:
    """There is no preview if the cafe knows all orders."""
    assert await notifications.preview_notification(manager, lunch.cafe.id, lunch.open_date) is None


async def test_a_preview_stores_nothing(clients: Clients, manager: Context, lunch: Lunch, ordered: Order) -> None:
    """A preview makes no notification."""
    await notifications.preview_notification(manager, lunch.cafe.id, lunch.open_date)

    assert await all_notifications(clients) == []


async def test_an_acknowledgement_records_the_person_and_the_time(chat: Context, announced: Notification) -> None:
    """An acknowledgement records the person and the time."""
    at = datetime(2026, 3, 4, 10, 31, tzinfo=UTC)

    acknowledged, is_new = await acknowledge(replace(chat, clock=lambda: at), announced.id, "Anna")

    assert is_new
    assert (acknowledged.acknowledged_by, acknowledged.acknowledged_at) == ("Anna", at)


async def test_an_acknowledgement_is_an_event(clients: Clients, chat: Context, announced: Notification) -> None:
    """An acknowledgement is an event with the person and the version."""
    await acknowledge(chat, announced.id, "Anna")

    async with clients.db() as session:
        of_notifications = Outbox.c.headers[TOPIC].astext == Topic.NOTIFICATIONS
        query = sa.select(Outbox.c.payload).where(of_notifications).order_by(Outbox.c.id.desc()).limit(1)
        payload = orjson.loads(await session.scalar(query) or b"")
    assert (await event_types(clients))[-1] == "notification.acknowledged"
    assert (payload["id"], payload["version"], payload["acknowledged_by"]) == (announced.id, 1, "Anna")


async def test_a_second_acknowledgement_changes_nothing(
    clients: Clients, chat: Context, announced: Notification
) -> None:
    """The first acknowledgement counts; a second one changes nothing and makes no event."""
    await acknowledge(chat, announced.id, "Anna")

    acknowledged, is_new = await acknowledge(chat, announced.id, "Boris")

    assert not is_new
    assert acknowledged.acknowledged_by == "Anna"
    assert (await event_types(clients)).count("notification.acknowledged") == 1


async def test_one_of_simultaneous_acknowledgements_is_the_first(
    clients: Clients, chat: Context, announced: Notification
) -> None:
    """Exactly one of several simultaneous acknowledgements is the first."""
    answers = await asyncio.gather(*(acknowledge(chat, announced.id, str(n)) for n in range(5)))

    assert sum(is_new for _, is_new in answers) == 1
    assert (await event_types(clients)).count("notification.acknowledged") == 1


async def test_another_chat_cannot_acknowledge(clients: Clients, announced: Notification) -> None:
    """A chat cannot acknowledge a message of another chat."""
    with pytest.raises(NotFound):
        await acknowledge(in_chat(clients, OTHER_CHAT), announced.id, "Eve")


@pytest.mark.parametrize("caller", ["anonymous", "user", "manager"])
async def test_only_a_chat_can_acknowledge(
    request: pytest.FixtureRequest, clients: Clients, announced: Notification, caller: str
) -> None:
    """A caller without a chat may not acknowledge, not even a manager."""
    with pytest.raises(Forbidden):
        await acknowledge(request.getfixturevalue(caller), announced.id, "Eve")

    assert [notification.acknowledged_by for notification in await all_notifications(clients)] == [None]


async def test_an_unknown_notification_cannot_be_acknowledged(chat: Context) -> None:
    """An unknown notification cannot be acknowledged."""
    with pytest.raises(NotFound):
        await acknowledge(chat, 999, "Eve")


@pytest.mark.parametrize("kind", [NotificationKind.REMINDER, NotificationKind.LINK_APPROVED, NotificationKind.ALERT])
async def test_only_order_messages_can_be_acknowledged(
    clients: Clients, chat: Context, lunch: Lunch, kind: NotificationKind
) -> None:
    """Messages of other kinds cannot be acknowledged."""
    async with clients.db() as session:
        notification = Notification(cafe_id=lunch.cafe.id, kind=kind, tg_chat_id=CHAT, parts=["soup"])
        session.add(notification)

    with pytest.raises(NotFound):
        await acknowledge(chat, notification.id, "Anna")


async def test_each_version_is_acknowledged_separately(
    clients: Clients, chat: Context, manager: Context, lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """An acknowledgement of the order list does not acknowledge the correction."""
    await orders.cancel_order(manager, ordered.id)
    await send_correction(clients, lunch)

    await acknowledge(chat, announced.id, "Anna")

    assert [notification.acknowledged_by for notification in await all_notifications(clients)] == ["Anna", None]


@pytest.fixture
async def failed(clients: Clients, announced: Notification) -> Notification:
    """An order list whose delivery failed."""
    await change(clients, announced, status=NotificationStatus.FAILED, error="chat not found", attempts=7)
    return announced


async def test_a_failed_notification_can_be_retried(clients: Clients, manager: Context, failed: Notification) -> None:
    """A retry queues a delivery and an event."""
    again = await notifications.retry_notification(manager, failed.id)

    assert again.status is NotificationStatus.QUEUED
    assert await queued_tasks(clients, DeliveryTask.queue) == [delivery_task(failed)] * 2
    assert (await event_types(clients))[-1] == "notification.queued"


async def test_a_retry_starts_the_delivery_time_again(manager: Context, failed: Notification) -> None:
    """A retry starts the time until the delivery fails again."""
    later = failed.queued_at + timedelta(hours=3)

    again = await notifications.retry_notification(replace(manager, clock=lambda: later), failed.id)

    assert again.queued_at == later


@pytest.mark.parametrize("status", [NotificationStatus.QUEUED, NotificationStatus.SENDING, NotificationStatus.SENT])
async def test_only_a_failed_notification_can_be_retried(
    clients: Clients, manager: Context, announced: Notification, status: NotificationStatus
) -> None:
    """A notification that has not failed cannot be retried."""
    await change(clients, announced, status=status)

    with pytest.raises(BadInput):
        await notifications.retry_notification(manager, announced.id)


async def test_one_of_simultaneous_retries_succeeds(clients: Clients, manager: Context, failed: Notification) -> None:
    """The row lock lets one of several simultaneous retries succeed."""
    answers = await asyncio.gather(
        *(notifications.retry_notification(manager, failed.id) for _ in range(4)), return_exceptions=True
    )

    assert sum(isinstance(answer, Notification) for answer in answers) == 1
    assert len(await queued_tasks(clients, DeliveryTask.queue)) == 2


async def test_a_retry_goes_to_the_present_chat(clients: Clients, manager: Context, failed: Notification) -> None:
    """A retry goes to the cafe's present chat, from the first part on."""
    await change(clients, failed, tg_message_ids=[1])
    async with clients.db() as session:
        await session.execute(sa.update(Cafe).values(tg_chat_id=OTHER_CHAT))

    again = await notifications.retry_notification(manager, failed.id)

    assert (again.tg_chat_id, again.tg_message_ids) == (OTHER_CHAT, [])


async def test_a_retry_to_the_same_chat_continues(clients: Clients, manager: Context, failed: Notification) -> None:
    """A retry to the same chat does not repeat delivered parts."""
    await change(clients, failed, tg_message_ids=[1])

    assert (await notifications.retry_notification(manager, failed.id)).tg_message_ids == [1]


async def test_a_cafe_without_a_chat_has_no_retry(manager: Context, lunch: Lunch, failed: Notification) -> None:
    """A retry for an unlinked cafe is refused."""
    await links.unlink(manager, lunch.cafe.id)

    with pytest.raises(CafeNotLinked):
        await notifications.retry_notification(manager, failed.id)


async def test_an_unknown_notification_cannot_be_retried(manager: Context) -> None:
    """An unknown notification cannot be retried."""
    with pytest.raises(NotFound):
        await notifications.retry_notification(manager, 999)


async def test_notifications_are_filtered(
    clients: Clients, manager: Context, lunch: Lunch, failed: Notification
) -> None:
    """The list of notifications can be of one cafe, one date and one status."""
    other = await add_lunch(clients, "Green Fork", tg_chat_id=OTHER_CHAT, linked_at=datetime.now(UTC))
    async with clients.db() as session:
        await notifications_service.notify(
            clients, session, NotificationKind.LINK_APPROVED, other.cafe, chat_id=OTHER_CHAT
        )

    async def cafes_of(**filters: object) -> list[int]:
        page = await notifications.list_notifications(manager, PageRequest(), **filters)  # type: ignore[arg-type]
        return [notification.cafe_id for notification in page.nodes]

    assert await cafes_of() == [other.cafe.id, lunch.cafe.id]
    assert await cafes_of(cafe_id=other.cafe.id) == [other.cafe.id]
    assert await cafes_of(date=lunch.open_date) == [lunch.cafe.id]
    assert await cafes_of(status=NotificationStatus.FAILED) == [lunch.cafe.id]


async def test_a_list_names_every_wrong_argument(manager: Context) -> None:
    """One error names every wrong argument of the list of notifications."""
    page = PageRequest.collect(first=101, skip=-1)

    with pytest.raises(BadInput) as refused:
        await notifications.list_notifications(manager, page, date=date(1999, 12, 31))

    assert [problem.field for problem in refused.value.problems] == ["first", "skip", "date"]


async def test_a_user_with_wrong_arguments_is_forbidden(user: Context) -> None:
    """The caller is authorized before the arguments are validated."""
    with pytest.raises(Forbidden):
        await notifications.list_notifications(user, PageRequest.collect(first=101))
    with pytest.raises(Forbidden):
        await notifications.preview_notification(user, 1, date(1999, 12, 31))


async def test_a_manager_can_close_a_day_early(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order
) -> None:
    """An announcement by a manager before the deadline confirms the orders and makes an event."""
    assert await deadlines.announce_deadline(manager, lunch.cafe.id, lunch.open_date)

    async with clients.db() as session:
        order = await session.get_one(Order, ordered.id)
    assert order.status is OrderStatus.CONFIRMED
    assert await event_types(clients) == ["deadline.passed"]


async def test_one_of_simultaneous_announcements_closes_the_day(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order
) -> None:
    """Exactly one of several simultaneous announcements by managers closes the day and makes an event."""
    answers = await asyncio.gather(
        *(deadlines.announce_deadline(manager, lunch.cafe.id, lunch.open_date) for _ in range(4))
    )

    assert sorted(answers) == [False, False, False, True]
    assert await event_types(clients) == ["deadline.passed"]


async def test_an_unknown_cafe_has_no_deadline(manager: Context, lunch: Lunch) -> None:
    """An unknown cafe has no deadline to announce."""
    with pytest.raises(NotFound):
        await deadlines.announce_deadline(manager, 999, lunch.open_date)


@pytest.mark.parametrize(
    "operation",
    [
        lambda ctx, _: notifications.list_notifications(ctx, PageRequest()),
        lambda ctx, day: notifications.preview_notification(ctx, 1, day),
        lambda ctx, _: notifications.retry_notification(ctx, 1),
        lambda ctx, _: notifications.notification_updates(ctx),
        lambda ctx, day: deadlines.announce_deadline(ctx, 1, day),
    ],
)
async def test_only_managers_may_use_notifications(
    anonymous: Context, user: Context, lunch: Lunch, operation: Callable[..., Awaitable[object]]
) -> None:
    """Users and callers without a token may not use the operations on notifications."""
    with pytest.raises(Forbidden):
        await operation(user, lunch.open_date)
    with pytest.raises(Unauthenticated):
        await operation(anonymous, lunch.open_date)


async def test_after_a_failed_order_list_the_next_message_is_a_list(
    clients: Clients, manager: Context, lunch: Lunch, announced: Notification, ordered: Order
) -> None:
    """A cafe whose order list failed gets a new list instead of a correction."""
    await change(clients, announced, status=NotificationStatus.FAILED)
    await orders.update_order(manager, ordered.id, OrderChanges(notes="No onions"))

    again = await send_correction(clients, lunch)

    assert again is not None
    assert (again.kind, again.version) == (NotificationKind.ORDERS, 2)


async def test_a_new_chat_gets_an_order_list(
    clients: Clients, manager: Context, lunch: Lunch, announced: Notification, ordered: Order
) -> None:
    """A cafe's new chat gets the order list instead of a correction."""
    async with clients.db() as session:
        (await session.get_one(Cafe, lunch.cafe.id)).tg_chat_id = CHAT - 1
    await orders.update_order(manager, ordered.id, OrderChanges(notes="No onions"))

    correction = await send_correction(clients, lunch)

    assert correction is not None
    assert (correction.kind, correction.tg_chat_id) == (NotificationKind.ORDERS, CHAT - 1)


async def test_a_correction_repeats_the_changes_of_a_failed_one(
    clients: Clients, manager: Context, lunch: Lunch, announced: Notification, ordered: Order
) -> None:
    """The correction after a failed one repeats its changes and its number."""
    await orders.update_order(manager, ordered.id, OrderChanges(notes="No onions"))
    first = await send_correction(clients, lunch)
    assert first is not None
    await change(clients, first, status=NotificationStatus.FAILED)
    await orders.cancel_order(manager, ordered.id)

    second = await send_correction(clients, lunch)

    assert second is not None
    assert (second.version, "Correction 1" in second.text, "Borscht" in second.text) == (3, True, True)


async def test_closed_days_without_an_order_list_are_found(clients: Clients, lunch: Lunch, ordered: Order) -> None:
    """A closed day with orders is without a message until its order list is queued."""
    now = datetime.now(UTC)
    async with clients.db() as session:
        await deadlines_service.close_day(session, lunch.cafe.id, lunch.open_date, now)

    async def days_without_message() -> list[tuple[int, date]]:
        async with clients.db() as session:
            return await notifications_service.find_days_without_message(session, now - timedelta(hours=1), now)

    assert await days_without_message() == [(lunch.cafe.id, lunch.open_date)]
    await announce(clients, lunch)
    assert await days_without_message() == []
