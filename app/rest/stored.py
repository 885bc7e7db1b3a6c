"""The stored operations with their routes: parsed and validated once, at start-up."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from graphql import (
    DirectiveDefinitionNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputType,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    VariableDefinitionNode,
    VariableNode,
    extend_schema,
    get_named_type,
    parse,
    print_ast,
    type_from_ast,
    validate,
    value_from_ast_untyped,
)

OPERATIONS = Path(__file__).parent / "operations"

ROUTE = parse("""
  "The REST route of a stored operation."
  directive @route(
    method: RestMethod!, path: String!, status: Int! = 200, "Whether the result can be CSV." csv: Boolean! = false
  ) on QUERY | MUTATION | SUBSCRIPTION
  enum RestMethod { GET POST PUT PATCH DELETE }
""")

RESULT = "result"
"""The alias of the field that REST answers with: the root field, or a field below it."""

type Fragments = Mapping[str, FragmentDefinitionNode]


@dataclass(frozen=True)
class Route:
    """A REST route. Its path's parameters, query and body are the variables of the stored operation.

    Args:
        subject: The name of the file, which is the tag in OpenAPI.
    """

    method: str
    path: str
    status: int
    subject: str
    csv: bool


@dataclass(frozen=True)
class Variable:
    """A variable of a stored operation, which is a parameter of its route."""

    name: str
    type: GraphQLInputType
    definition: VariableDefinitionNode


@dataclass(frozen=True)
class Step:
    """A field on the path from the root to the result: its selection, and its definition in the schema."""

    node: FieldNode
    field: GraphQLField

    @property
    def name(self) -> str:
        """The name of the field in the data."""
        return self.node.alias.value if self.node.alias else self.node.name.value


@dataclass(frozen=True)
class StoredOperation:
    """One operation with its route, and all fragments."""

    node: OperationDefinitionNode
    route: Route
    fragments: Fragments
    schema: GraphQLSchema

    @property
    def name(self) -> str:
        return self.node.name.value if self.node.name else ""

    @cached_property
    def text(self) -> str:
        """The document to execute, without the route."""
        used = dict(self._used(self.node.selection_set))
        operation = replace(self.node, directives=())
        return "\n\n".join(print_ast(node) for node in (operation, *used.values()))

    @property
    def is_subscription(self) -> bool:
        return self.node.operation is OperationType.SUBSCRIPTION

    @cached_property
    def path(self) -> tuple[Step, ...]:
        """The fields from the root to the result: more than one if the result is a part of another object."""
        parent = self.schema.get_root_type(self.node.operation)
        selections: SelectionSetNode | None = self.node.selection_set
        steps: list[Step] = []
        while not steps or steps[-1].name != RESULT:
            assert parent is not None
            assert selections is not None
            node = selections.selections[0]
            assert isinstance(node, FieldNode)
            field: GraphQLField = parent.fields[node.name.value]
            steps.append(Step(node, field))
            below = get_named_type(field.type)
            parent = below if isinstance(below, GraphQLObjectType) else None
            selections = node.selection_set
        return tuple(steps)

    @property
    def root(self) -> Step:
        return self.path[0]

    @property
    def result(self) -> Step:
        return self.path[-1]

    @property
    def target_field(self) -> GraphQLField:
        """The field whose operation this is: the change, or the last field that is read."""
        return self.root.field if self.node.operation is OperationType.MUTATION else self.result.field

    def result_of(self, data: Any) -> Any:
        """Take the result out of the schema's answer, with enumerations in REST's case."""
        for step in self.path:
            data = data[step.name]
        return self._lower_enums(data)

    @cached_property
    def variables(self) -> Mapping[str, Variable]:
        found = {}
        for definition in self.node.variable_definitions or ():
            kind: Any = type_from_ast(self.schema, definition.type)
            name = definition.variable.name.value
            found[name] = Variable(name, kind, definition)
        return found

    @cached_property
    def choices(self) -> Mapping[str, Sequence[str]]:
        """The possible values of variables that are enumerations, in REST's case."""
        return {
            name: [value.lower() for value in kind.values]
            for name, variable in self.variables.items()
            if isinstance(kind := get_named_type(variable.type), GraphQLEnumType)
        }

    @cached_property
    def variable_of_argument(self) -> Mapping[str, str]:
        """The variable of each argument: GraphQL's `first` is REST's `limit`."""
        return {
            argument.name.value: argument.value.name.value
            for step in self.path
            for argument in step.node.arguments or ()
            if isinstance(argument.value, VariableNode)
        }

    @cached_property
    def _lower_enums(self) -> "EnumLowercaser":
        return self._lowercaser(self.result.node.selection_set, self.result.field.type)

    def fields_of(
        self, selections: SelectionSetNode, type_: GraphQLOutputType
    ) -> Iterator[tuple[str, FieldNode, GraphQLField]]:
        """Iterate over the selected fields of an object: the name in the result, the selection, the definition."""
        parent = get_named_type(type_)
        assert isinstance(parent, GraphQLObjectType)
        for selection in selections.selections:
            if isinstance(selection, FragmentSpreadNode):
                yield from self.fields_of(self.fragments[selection.name.value].selection_set, type_)
            else:
                assert isinstance(selection, FieldNode)
                name = selection.alias.value if selection.alias else selection.name.value
                yield name, selection, parent.fields[selection.name.value]

    def _lowercaser(self, selections: SelectionSetNode | None, type_: GraphQLOutputType) -> "EnumLowercaser":
        if selections is None:
            return EnumLowercaser(is_enum=isinstance(get_named_type(type_), GraphQLEnumType))
        below = {
            name: self._lowercaser(node.selection_set, field.type)
            for name, node, field in self.fields_of(selections, type_)
        }
        return EnumLowercaser(
            below={name: lowercaser for name, lowercaser in below.items() if lowercaser.is_enum or lowercaser.below}
        )

    def _used(self, selections: SelectionSetNode) -> Iterator[tuple[str, FragmentDefinitionNode]]:
        for selection in selections.selections:
            if isinstance(selection, FragmentSpreadNode):
                fragment = self.fragments[selection.name.value]
                yield selection.name.value, fragment
                yield from self._used(fragment.selection_set)
            elif isinstance(selection, FieldNode) and selection.selection_set:
                yield from self._used(selection.selection_set)


@dataclass(frozen=True)
class EnumLowercaser:
    """Converts the enumerations in a result to lower case."""

    is_enum: bool = False
    below: Mapping[str, "EnumLowercaser"] | None = None

    def __call__(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self(item) for item in value]
        if self.is_enum and isinstance(value, str):
            return value.lower()
        if self.below and isinstance(value, dict):
            return value | {name: lowercase(value[name]) for name, lowercase in self.below.items()}
        return value


@cache
def load(schema: GraphQLSchema) -> Mapping[str, StoredOperation]:
    """Read the stored operations by name.

    Raises ValueError if they do not fit the schema: then the program is wrong and must not start.
    """
    documents = {file.stem: parse(file.read_text(encoding="utf-8")) for file in sorted(OPERATIONS.glob("*.graphql"))}
    definitions = [(subject, node) for subject, document in documents.items() for node in document.definitions]
    whole = DocumentNode(definitions=tuple(node for _, node in definitions))
    if errors := validate(extend_schema(schema, ROUTE), whole):
        raise ValueError("\n".join(str(error) for error in errors))
    fragments = {node.name.value: node for _, node in definitions if isinstance(node, FragmentDefinitionNode)}
    operations = [
        StoredOperation(node, _route(node, subject), fragments, schema)
        for subject, node in definitions
        if isinstance(node, OperationDefinitionNode)
    ]
    return {operation.name: operation for operation in operations}


def _route(node: OperationDefinitionNode, subject: str) -> Route:
    directive = ROUTE.definitions[0]
    assert isinstance(directive, DirectiveDefinitionNode)
    for used in node.directives or ():
        if used.name.value == directive.name.value:
            arguments = {argument.name.value: argument.value for argument in used.arguments or ()}
            defaults = {argument.name.value: argument.default_value for argument in directive.arguments or ()}
            values = {
                name: value_from_ast_untyped(value)
                for name, value in (defaults | arguments).items()
                if value is not None
            }
            return Route(**values, subject=subject)
    raise ValueError(f"the operation {node.name.value if node.name else ''} has no route")
