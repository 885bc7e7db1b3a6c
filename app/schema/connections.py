"""Lists as Relay defines them. `app.services.pagination.Page` has the same names.

https://relay.dev/graphql/connections.htm
"""

import strawberry


@strawberry.type(description="The place of a page in its list.")
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
    total_count: int = strawberry.field(description="The length of the whole list.")
