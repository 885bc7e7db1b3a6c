"""The stored operations: parsed, validated and understood once, at start-up."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from graphql import (
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
    get_named_type,
    parse,
    print_ast,
    type_from_ast,
    validate,
)

FILE = Path(__file__).parent / "operations.graphql"

RESULT = "result"
"""The alias of each stored operation's one root field: what REST answers with."""

type Fragments = Mapping[str, FragmentDefinitionNode]


@dataclass(frozen=True)
class Variable:
    """A variable of a stored operation, which is a parameter of its REST route."""

    name: str
    type: GraphQLInputType
    definition: VariableDefinitionNode


@dataclass(frozen=True)
class StoredOperation:
    """One operation of `operations.graphql`, with the fragments that it uses."""

    node: OperationDefinitionNode
    fragments: Fragments
    schema: GraphQLSchema

    @property
    def name(self) -> str:
        return self.node.name.value if self.node.name else ""

    @cached_property
    def text(self) -> str:
        """The document to execute."""
        used = dict(self._used(self.node.selection_set))
        return "\n\n".join(print_ast(node) for node in (self.node, *used.values()))

    @property
    def is_subscription(self) -> bool:
        return self.node.operation is OperationType.SUBSCRIPTION

    @cached_property
    def root(self) -> FieldNode:
        field = self.node.selection_set.selections[0]
        assert isinstance(field, FieldNode)
        return field

    @property
    def field_name(self) -> str:
        """The root field's name in the schema."""
        return self.root.name.value

    @cached_property
    def field(self) -> GraphQLField:
        """The root field as the schema knows it."""
        field: GraphQLField = self._root_type.fields[self.field_name]
        return field

    @cached_property
    def variables(self) -> Mapping[str, Variable]:
        found = {}
        for definition in self.node.variable_definitions or ():
            kind: Any = type_from_ast(self.schema, definition.type)
            name = definition.variable.name.value
            found[name] = Variable(name, kind, definition)
        return found

    @cached_property
    def variable_of_argument(self) -> Mapping[str, str]:
        """Which variable feeds which argument of the root field: what GraphQL calls `first`, REST calls `limit`."""
        return {
            argument.name.value: argument.value.name.value
            for argument in self.root.arguments or ()
            if isinstance(argument.value, VariableNode)
        }

    @property
    def _root_type(self) -> GraphQLObjectType:
        root = self.schema.get_root_type(self.node.operation)
        assert root is not None
        return root

    @cached_property
    def lower_enums(self) -> "Lowering":
        """How to give the result's enumerations REST's case."""
        return self._lowering(self.root.selection_set, self.field.type)

    def fields_of(
        self, selections: SelectionSetNode, type_: GraphQLOutputType
    ) -> Iterator[tuple[str, FieldNode, GraphQLField]]:
        """Walk what is selected of an object: the name it is given, the selection, and the schema's field."""
        parent = get_named_type(type_)
        assert isinstance(parent, GraphQLObjectType)
        for selection in selections.selections:
            if isinstance(selection, FragmentSpreadNode):
                yield from self.fields_of(self.fragments[selection.name.value].selection_set, type_)
            else:
                assert isinstance(selection, FieldNode)
                name = selection.alias.value if selection.alias else selection.name.value
                yield name, selection, parent.fields[selection.name.value]

    def _lowering(self, selections: SelectionSetNode | None, type_: GraphQLOutputType) -> "Lowering":
        if selections is None:
            return Lowering(is_enum=isinstance(get_named_type(type_), GraphQLEnumType))
        below = {
            name: self._lowering(node.selection_set, field.type)
            for name, node, field in self.fields_of(selections, type_)
        }
        return Lowering(
            below={name: lowering for name, lowering in below.items() if lowering.is_enum or lowering.below}
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
class Lowering:
    """Where in a result enumerations stand."""

    is_enum: bool = False
    below: Mapping[str, "Lowering"] | None = None

    def __call__(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self(item) for item in value]
        if self.is_enum and isinstance(value, str):
            return value.lower()
        if self.below and isinstance(value, dict):
            return value | {name: lowering(value[name]) for name, lowering in self.below.items()}
        return value


@cache
def load(schema: GraphQLSchema) -> Mapping[str, StoredOperation]:
    """Read `operations.graphql`.

    Raises ValueError if it does not fit the schema: then the program is wrong and must not start.
    """
    document: DocumentNode = parse(FILE.read_text(encoding="utf-8"))
    if errors := validate(schema, document):
        raise ValueError("\n".join(str(error) for error in errors))
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    operations = [
        StoredOperation(node, fragments, schema)
        for node in document.definitions
        if isinstance(node, OperationDefinitionNode)
    ]
    return {operation.name: operation for operation in operations}
