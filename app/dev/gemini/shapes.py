"""Requests and answers of generateContent: https://ai.google.dev/api/generate-content."""

import math
from typing import Literal, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from app.dev.gemini.errors import ApiError, bad_fields, bad_request
from app.dev.standins import Json

CHARACTERS_PER_TOKEN = 4
"""https://ai.google.dev/gemini-api/docs/tokens"""

JSON_TYPE = "application/json"


class _Shape(BaseModel):
    """Accepts camel case and snake case, as the real service does, and ignores unknown fields."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Part(_Shape):
    """A part of a content; the text is empty if the part is not text."""

    text: str = ""


class Content(_Shape):
    """The content of one turn."""

    parts: list[Part] = []
    role: Literal["user", "model"] | None = None

    @property
    def text(self) -> str:
        """The text of all parts."""
        return "".join(part.text for part in self.parts)


class GenerationConfig(_Shape):
    """The requested format and length of the answer."""

    response_mime_type: Literal[
        "text/plain", "application/json", "application/xml", "application/yaml", "text/x.enum"
    ] = "text/plain"
    response_schema: Json | None = None
    response_json_schema: Json | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _validate_schema_needs_json(self) -> Self:
        has_schema = self.response_schema is not None or self.response_json_schema is not None
        if has_schema and self.response_mime_type != JSON_TYPE:
            raise ValueError(
                f"a response schema with the response mime type '{self.response_mime_type}' is unsupported"
            )
        return self


class GenerateContentRequest(_Shape):
    """The body of generateContent."""

    contents: list[Content] = []
    system_instruction: Content | None = None
    generation_config: GenerationConfig = GenerationConfig()

    @property
    def text(self) -> str:
        """The text of all contents."""
        return "\n".join(content.text for content in self.contents)

    @property
    def system_text(self) -> str:
        """The system instruction; empty if there is none."""
        return self.system_instruction.text if self.system_instruction else ""

    @property
    def wants_json(self) -> bool:
        """Whether the requested answer is JSON."""
        return self.generation_config.response_mime_type == JSON_TYPE


def parse_request(body: bytes) -> GenerateContentRequest:
    """Parse a body.

    Raises ApiError (400).
    """
    try:
        request = GenerateContentRequest.model_validate_json(body)
    except ValidationError as error:
        raise _to_api_error(error) from None
    if not any(content.parts for content in request.contents):
        raise bad_request("* GenerateContentRequest.contents: contents is not specified\n")
    return request


def _to_api_error(error: ValidationError) -> ApiError:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    if problems[0]["type"] == "json_invalid":
        return bad_request(f"Invalid JSON payload received. {problems[0]['msg']}")
    fields = [(_format_path(problem["loc"]), problem["msg"]) for problem in problems]
    return bad_fields((field, f"Invalid value at '{field}': {message}") for field, message in fields)


def _format_path(location: tuple[int | str, ...]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".")


def count_tokens(text: str) -> int:
    """Estimate the number of tokens of a text."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def format_answer(request: GenerateContentRequest, model: str, candidate: Json | None) -> Json:
    """Return the body of an answer. `candidate` is None for an answer without candidates."""
    answer_tokens = sum(count_tokens(part["text"]) for part in (candidate or {}).get("content", {}).get("parts", []))
    prompt_tokens = count_tokens(request.system_text) + count_tokens(request.text)
    usage: Json = {
        "promptTokenCount": prompt_tokens,
        "candidatesTokenCount": answer_tokens,
        "totalTokenCount": prompt_tokens + answer_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt_tokens}],
    }
    answer: Json = {"candidates": [candidate | {"index": 0}]} if candidate else {}
    return answer | {"usageMetadata": usage, "modelVersion": model, "responseId": uuid4().hex[:22]}


def text_candidate(text: str, request: GenerateContentRequest) -> Json:
    """Return a candidate with the text, truncated to the requested number of tokens."""
    limit = request.generation_config.max_output_tokens
    if limit is not None and count_tokens(text) > limit:
        return truncated_candidate(text, limit * CHARACTERS_PER_TOKEN)
    return _candidate("STOP", text)


def truncated_candidate(text: str, length: int) -> Json:
    """Return a candidate whose text ends after `length` characters."""
    return _candidate("MAX_TOKENS", text[:length])


def blocked_candidate() -> Json:
    """Return a candidate without text, which the safety filter blocked."""
    rating: Json = {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": True}
    return {"finishReason": "SAFETY", "safetyRatings": [rating]}


def _candidate(finish_reason: str, text: str) -> Json:
    content: Json = {"parts": [{"text": text}], "role": "model"}
    return {"content": content, "finishReason": finish_reason}
