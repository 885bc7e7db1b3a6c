"""The stored operations: parsed, validated and understood once, at start-up."""

from collections.abc import Iterator, Mapping, Sequence
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
"""The alias of what REST answers with: of each stored operation's one root field, or of a field on the way down."""

type Fragments = Mapping[str, FragmentDefinitionNode]


@dataclass(frozen=True)
class Variable:
    """A variable of a stored operation, which is a parameter of its REST route."""

    name: str
    type: GraphQLInputType
    definition: VariableDefinitionNode


@dataclass(frozen=True)
class Step:
    """A field on the way from the root to the result: as it is selected, and as the schema knows it."""

    node: FieldNode
    field: GraphQLField

    @property
    def name(self) -> str:
        """What the field is called in the data."""
        return self.node.alias.value if self.node.alias else self.node.name.value


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
    def path(self) -> tuple[Step, ...]:
        """The fields from the root to the result: one, or more where the result is a part of another object."""
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
    def field_name(self) -> str:
        """The root field's name in the schema."""
        return self.root.node.name.value

    @property
    def purpose(self) -> GraphQLField:
        """The field whose function says what this operation does: what it changes, or what it reads in the end."""
        return self.root.field if self.node.operation is OperationType.MUTATION else self.result.field

    def result_of(self, data: Any) -> Any:
        """Take the result out of what the schema answered, with its enumerations in REST's case."""
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
        """What may be said for those variables that are enumerations, in REST's case."""
        return {
            name: [value.lower() for value in kind.values]
            for name, variable in self.variables.items()
            if isinstance(kind := get_named_type(variable.type), GraphQLEnumType)
        }

    @cached_property
    def variable_of_argument(self) -> Mapping[str, str]:
        """Which variable feeds which argument: what GraphQL calls `first`, REST calls `limit`."""
        return {
            argument.name.value: argument.value.name.value
            for step in self.path
            for argument in step.node.arguments or ()
            if isinstance(argument.value, VariableNode)
        }

    @cached_property
    def _lower_enums(self) -> "Lowering":
        return self._lowering(self.result.node.selection_set, self.result.field.type)

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
