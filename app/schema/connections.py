"""Lists, as Relay has them.

https://relay.dev/graphql/connections.htm
"""

from collections.abc import Callable
from typing import Self

import strawberry

from app.resolvers.paging import MAX_PAGE_SIZE, Page, PageRequest

WHOLE = PageRequest(MAX_PAGE_SIZE)
"""For lists that are always shorter than a page."""


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type
class Edge[Node]:
    node: Node
    cursor: str


@strawberry.type(description="One page of a list.")
class Connection[Node]:
    edges: list[Edge[Node]]
    nodes: list[Node]
    page_info: PageInfo
    total_count: int = strawberry.field(description="How many there are in the whole list.")

    @classmethod
    def of[Row](cls, page: Page[Row], node: Callable[[Row], Node], wanted: PageRequest = WHOLE) -> Self:
        nodes = [node(row) for row in page.items]
        return cls(
            edges=[Edge(node=node, cursor=cursor) for node, cursor in zip(nodes, page.cursors, strict=True)],
            nodes=nodes,
            page_info=PageInfo(
                has_next_page=page.has_next_page,
                has_previous_page=wanted.after is not None or wanted.skip > 0,
                start_cursor=page.cursors[0] if page.cursors else None,
                end_cursor=page.cursors[-1] if page.cursors else None,
            ),
            total_count=page.total or 0,  # None only where nobody selects it
        )
