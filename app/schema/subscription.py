"""What can be watched."""

from collections.abc import AsyncIterator

import strawberry

from app.models import LinkRequestStatus
from app.resolvers import links, notifications, runs
from app.schema.operations import Info, subscription
from app.schema.recommendations import RecommendationRun
from app.schema.scalars import to_optional_id
from app.schema.types import LinkRequest, Notification


@strawberry.type
class Subscription:
    @subscription(links.link_request_updates)
    async def link_request_updates(
        self, info: Info, status: LinkRequestStatus | None = None, cafe_id: strawberry.ID | None = None
    ) -> AsyncIterator[LinkRequest]:
        updates = await links.link_request_updates(
            info.context, status=status, cafe_id=to_optional_id("cafe_id", cafe_id)
        )
        return updates.map(lambda event: LinkRequest.of(event, info.context))

    @subscription(notifications.notification_updates)
    async def notification_updates(
        self, info: Info, cafe_id: strawberry.ID | None = None
    ) -> AsyncIterator[Notification]:
        updates = await notifications.notification_updates(info.context, to_optional_id("cafe_id", cafe_id))
        return updates.map(lambda event: Notification.of(event, info.context))

    @subscription(runs.recommendation_run_updates)
    async def recommendation_run_updates(self, info: Info) -> AsyncIterator[RecommendationRun]:
        return (await runs.recommendation_run_updates(info.context)).map(RecommendationRun.of)
