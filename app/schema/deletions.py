"""The result of a deletion."""

import strawberry

from app.schema.scalars import Id


@strawberry.type(description="The result of a deletion.")
class Deletion:
    id: Id
    deleted: bool = strawberry.field(description="False if other objects refer to it: then it was deactivated instead.")
    message: str
