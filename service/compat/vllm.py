"""POST /classify and /pooling as vLLM takes them, /v1/embeddings as verl asks SGLang."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from service.compat.questions import Question, from_messages, from_text
from service.schemas import Message, StopAtFirst, Strict

REMEDY = "send the conversation as messages, with image_url parts"
NOT_HERE = "Not available here; leave it out."
NO_EFFECT = "Accepted; it changes nothing here."


def _input_kind(value: Any) -> str | None:
    return "~one" if isinstance(value, str) else "~many" if isinstance(value, list) else None


Texts = Annotated[
    Annotated[str, Tag("~one")]
    | Annotated[Annotated[list[str], Field(min_length=1), StopAtFirst()], Tag("~many")],
    Discriminator(
        _input_kind,
        custom_error_type="input",
        custom_error_message="input is a text or a list of texts, as the chat template writes them",
    ),
]
Refused = Annotated[None, Field(description=NOT_HERE)]


class Inputs(Strict):
    """What the three routes share. A parameter that would change the score is refused by name."""

    model: Annotated[str | None, Field(description="Any name; there is one model.")] = None
    input: Texts | None = None
    messages: Annotated[
        list[Message] | None, Field(min_length=1, description="The last one is the answer.")
    ] = None
    truncate_prompt_tokens: Annotated[
        int | None, Field(ge=-1, description="A limit: longer is 413, never cut. -1: the model's.")
    ] = None
    truncation_side: Annotated[Literal["left", "right"] | None, Field(description=NO_EFFECT)] = None
    add_special_tokens: Annotated[bool | None, Field(description=NO_EFFECT)] = None
    request_id: Annotated[str | None, Field(description=NO_EFFECT)] = None
    user: Annotated[str | None, Field(description=NO_EFFECT)] = None
    cache_salt: Annotated[str | None, Field(description=NO_EFFECT)] = None
    priority: Annotated[Literal[0], Field(description="Use X-Priority instead.")] = 0
    add_generation_prompt: Literal[False] = False
    continue_final_message: Literal[False] = False
    chat_template: Refused = None
    chat_template_kwargs: Refused = None
    mm_processor_kwargs: Refused = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.input is None) == (self.messages is None):
            raise PydanticCustomError("form", "send either input or messages, and not both")
        return self

    @property
    def token_limit(self) -> int | None:
        limit = self.truncate_prompt_tokens
        return None if limit == -1 else limit


class ClassifyRequest(Inputs):
    """vLLM's classification request."""

    use_activation: Annotated[
        bool | None, Field(description="false: the raw score; else sigmoid of it, as vLLM does.")
    ] = None


class Encoded(Inputs):
    """How numbers are written."""

    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Refused = None
    embed_dtype: Literal["float32"] = "float32"
    endianness: Literal["native", "little"] = "native"


class PoolingRequest(ClassifyRequest, Encoded):
    """vLLM's pooling request, for its task `classify`."""

    task: Literal["classify"] | None = None


class EmbeddingsRequest(Encoded):
    """OpenAI's embeddings request; the embedding is the raw score alone."""


def questions(body: Inputs) -> list[Question]:
    """One question for `messages` or a text, one each for a list of texts."""
    if body.messages is not None:
        return [from_messages(body.messages)]
    if isinstance(body.input, str):
        return [from_text(body.input, "input", remedy=REMEDY)]
    return [
        from_text(text, f"input[{i}]", remedy=REMEDY) for i, text in enumerate(body.input or [])
    ]
