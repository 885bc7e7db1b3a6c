"""The cache of documents."""

import gc
import tracemalloc

import pytest
from graphql import Token, parse

from app.schema.documents import CACHE_MAX_BYTES, CachedDocuments, Document, DocumentCache
from app.schema.schema import Schema, create_schema

WIDE = "\U0001f355"

TEXTS = {
    "fields": "{ " + "name " * 590 + "}",
    "brackets": "{ " + "a{b} " * 140 + "}",
    "a comment": "{ a } #" + "x" * 19_000,
    "a wide comment": "{ a } #" + WIDE * 19_000,
    "comments": "{ a }" + "#x\n" * 1_000,
    "wide comments": "{ a }" + f"#{WIDE}\n" * 1_000,
    "a string": '{ a(b: "' + "x" * 19_000 + '") }',
    "a wide string": f'{{ a(b: "{WIDE * 19_000}") }}',
    "a block string": '{ a(b: """' + " x\n" * 6_000 + '""") }',
    "a long name": "{ " + "x" * 19_000 + " }",
}


def kept(cache: DocumentCache, text: str) -> Document:
    document = Document.of(text, parse(text))
    cache.keep(text, document)
    return document


@pytest.fixture
def cache() -> DocumentCache:
    return DocumentCache()


@pytest.fixture
def schema(cache: DocumentCache) -> Schema:
    """A schema whose cache a test can read."""
    schema = create_schema.__wrapped__()
    schema.extensions = (lambda: CachedDocuments(cache, introspection=True),)
    return schema


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_size_of_a_document_is_not_underestimated(text: str) -> None:
    """A document needs no more memory than is counted, with its comments and strings."""
    texts = [f"{text}#{number}" for number in range(10)]
    gc.collect()
    tracemalloc.start()
    copies = ["".join(list(text)) for text in texts]

    documents = [Document.of(text, parse(text)) for text in copies]

    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used <= sum(document.size for document in documents)


def test_the_cache_is_bounded_in_bytes(cache: DocumentCache) -> None:
    """Many large documents stay within the bytes of the cache, and the last ones are found."""
    texts = [f"{TEXTS['a wide comment']}{number}" for number in range(200)]
    for text in texts:
        kept(cache, text)

    assert 0 < cache.bytes <= CACHE_MAX_BYTES
    assert [cache.find(text) is not None for text in texts] == [n >= 200 - len(cache) for n in range(200)]


def test_a_document_in_use_stays() -> None:
    """The document that was not used for the longest time leaves first."""
    cache = DocumentCache(max_bytes=3 * Document.of("{ a1 }", parse("{ a1 }")).size)
    for text in ("{ a1 }", "{ a2 }", "{ a3 }"):
        kept(cache, text)
    cache.find("{ a1 }")

    kept(cache, "{ a4 }")

    assert [cache.find(f"{{ a{n} }}") is not None for n in range(1, 5)] == [True, False, True, True]


def test_a_document_larger_than_the_cache_is_not_kept() -> None:
    """It would remove all others."""
    cache = DocumentCache(max_bytes=10_000)
    kept(cache, "{ a }")

    kept(cache, TEXTS["fields"])

    assert (len(cache), cache.find("{ a }") is not None) == (1, True)


def test_a_document_that_is_kept_twice_counts_once(cache: DocumentCache) -> None:
    """Two simultaneous requests may parse the same document."""
    size = kept(cache, "{ a }").size

    kept(cache, "{ a }")

    assert cache.bytes == size


def test_a_removed_document_is_freed() -> None:
    """Its memory does not wait for the garbage collector."""
    cache = DocumentCache(max_bytes=10_000)
    gc.collect()
    gc.disable()
    try:
        kept(cache, "{ removed }")
        for number in range(10):
            kept(cache, f"{{ b{number} }}")

        assert not [thing for thing in gc.get_objects() if isinstance(thing, Token) and thing.value == "removed"]
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "document",
    [
        "{ nope }",
        "{ me ",
        "{ " + "a { " * 30 + "b" + " }" * 31,
        "{__typename}#" + "x" * 20_000,
        " ",
        "{ __typename } " * 2,
    ],
)
async def test_a_refused_document_is_not_kept(schema: Schema, cache: DocumentCache, document: str) -> None:
    """Only valid documents are worth their memory."""
    for _ in range(2):
        assert (await schema.execute(document)).errors

    assert (len(cache), cache.bytes) == (0, 0)


async def test_a_valid_document_is_parsed_once(schema: Schema, cache: DocumentCache) -> None:
    """The second request with the same text gets the same document."""
    await schema.execute("{ __typename }")
    first = cache.find("{ __typename }")

    await schema.execute("{ __typename }")

    assert first is not None
    assert cache.find("{ __typename }") is first
