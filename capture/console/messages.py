"""What a page may say over its WebSocket, checked field by field before anything acts on it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from understudy.capture.session_view import Wish
from understudy.errors import InputError

MOST_BYTES = 8192
"""Of one message."""
Deflection = Annotated[float, Field(ge=-1.0, le=1.0, allow_inf_nan=False)]
Label = Annotated[str, Field(max_length=64)]
Number = Annotated[int, Field(ge=0, le=2**53)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Input(_Message):
    """What moves the arm, many times a second."""

    do: Literal["input"]
    axes: Annotated[dict[Label, Deflection], Field(max_length=32)]
    """Label of the action -> deflection."""
    gripper: Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)] | None = None
    """Opening to ask for, m; None leaves it."""
    moving: bool = False
    """Whether anything is pressed."""
    said_s: Annotated[float, Field(ge=0.0, le=1e10, allow_inf_nan=False)] | None = None
    """When it was said, on the page's own clock, s; None of a page that does not say: then it was said just now."""


class Wished(_Message):
    """A wish to the session."""

    do: Literal["wish"]
    n: Number
    """Repeated in the answer."""
    wish: Wish
    text: Annotated[str, Field(max_length=500)] = ""


class Control(_Message):
    """Control changes hands."""

    do: Literal["take", "ask", "give", "refuse", "release"]
    n: Number


class EpisodeWish(_Message):
    """Drop an episode, or bring it back."""

    do: Literal["drop_episode", "restore_episode"]
    n: Number
    episode: Annotated[str, Field(min_length=1, max_length=255)]


class Judgement(_Message):
    """Judge an episode again."""

    do: Literal["label"]
    n: Number
    episode: Annotated[str, Field(min_length=1, max_length=255)]
    success: bool | None
    note: Annotated[str, Field(max_length=500)] | None = None
    """None leaves it."""


class Hello(_Message):
    """The first message of a page."""

    do: Literal["hello"]
    page: Annotated[str, Field(max_length=64)] = ""
    """The key that it had before a reload; empty for a new one."""


Message = Input | Wished | Control | EpisodeWish | Judgement | Hello
_ADAPTER: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="do")])


def read_message(text: str) -> Message:
    """What a page said.

    Raises:
        InputError: it is not what a page may say; names the field.
    """
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the message"
        raise InputError(f"The console does not understand {where}: {first['msg']}.") from None
