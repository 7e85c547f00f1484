"""Settings: flags over environment over file, read once, frozen, and refused by name when wrong."""

import difflib
import ipaddress
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from service.netguard import Mode, Policy

PREFIX = "VLRM_"
MIB = 1024 * 1024


class SettingsError(Exception):
    """A setting is unknown or out of bounds; the message names it and where it came from."""


class Settings(BaseModel):
    """Everything a server can be told. Each field is a flag, a VLRM_ variable and a file key."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str | None = Field(
        default=None, description="Checkpoint folder or hub id; none: embedded."
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(
        default=8000, ge=0, le=65_535, description="Port to listen on; 0 picks a free one."
    )
    api_keys_file: Path | None = Field(
        default=None,
        description="Lines of `name sha256-of-key [admin]`; without it nobody needs a key.",
    )
    allow_anonymous: bool = Field(
        default=False, description="Listen beyond loopback although no keys are configured."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="Number type of the forward pass; the head is always float32."
    )
    attention: str = Field(default="auto", description="Attention back-end of rm_core, or auto.")
    score_mode: Literal["fast", "invariant"] = Field(
        default="fast",
        description="invariant: every request runs alone, its score is bit-identical whoever else "
        "asks; slower, and the caches are off.",
    )
    threads: int = Field(
        default=0, ge=0, le=1024, description="CPU threads of torch; 0: torch decides."
    )
    max_pixels: int | None = Field(
        default=None,
        ge=784,
        description="Pixel budget pictures are resized to; none: the checkpoint's.",
    )
    max_batch_tokens: int = Field(
        default=16_384,
        ge=64,
        description="Most of one forward pass in text tokens; pictures and attention count by "
        "their arithmetic. On a CPU requests are put together up to 4096.",
    )
    feature_cache_bytes: int = Field(
        default=256 * MIB, ge=0, description="Device memory for picture features; 0: off."
    )
    prefix_cache_bytes: int = Field(
        default=512 * MIB,
        ge=0,
        description="Device memory for keys and values of prompts; 0: off.",
    )
    max_wait_s: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="Above this predicted wait a request is refused with Retry-After.",
    )
    max_in_flight: int = Field(
        default=256,
        ge=1,
        description="Accepted and unanswered requests; above it 503 with Retry-After.",
    )
    max_body_bytes: int = Field(default=32 * MIB, ge=1024, description="Largest request body.")
    max_responses: int = Field(default=1024, ge=1, description="Most candidates in one request.")
    max_images: int = Field(default=64, ge=0, description="Most pictures in one request.")
    max_text_chars: int = Field(
        default=1_000_000, ge=1, description="Most characters in one request."
    )
    max_image_pixels: int = Field(
        default=25_000_000, ge=784, description="Largest picture, by its header, before decoding."
    )
    max_request_pixels: int = Field(
        default=64_000_000, ge=784, description="All pictures of one request together."
    )
    image_store_bytes: int = Field(
        default=256 * MIB,
        ge=1024,
        description="Memory for uploaded pictures; the least used go first.",
    )
    media_urls: Mode = Field(
        default="off",
        description="Fetch pictures by http(s) URL: off, allowlist (media_allowed_hosts only) or "
        "public (any host with public addresses only).",
    )
    media_allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description="With media_urls=allowlist: host, *.suffix, host:port or *.suffix:port, "
        "separated by commas.",
    )
    media_private_addresses: bool = Field(
        default=False,
        description="With media_urls=allowlist: the hosts may have loopback or private addresses.",
    )
    media_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=600,
        description="The pictures of one request must have been fetched within this many seconds.",
    )
    media_max_bytes: int = Field(
        default=32 * MIB, ge=1024, description="Fetched pictures of one request together."
    )
    media_max_fetches: int = Field(
        default=32, ge=1, le=4096, description="Pictures fetched at the same time; others wait."
    )
    prepare_threads: int = Field(
        default=2, ge=1, le=256, description="Threads that decode pictures and tokenize."
    )
    body_timeout_s: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="A body must have arrived within this many seconds.",
    )
    drain_s: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="How long a stopping server may finish accepted work.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe line that is logged."
    )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def media_policy(self) -> Policy:
        """What the three media settings say together."""
        return Policy.of(self.media_urls, self.media_allowed_hosts, self.media_private_addresses)

    @field_validator("media_allowed_hosts", mode="before")
    @classmethod
    def _comma_separated(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [entry.strip() for entry in value.split(",") if entry.strip()]
        return value

    @model_validator(mode="after")
    def _media_settings_agree(self) -> Self:
        _ = self.media_policy
        return self

    @model_validator(mode="after")
    def _invariant_keeps_nothing(self) -> Self:
        for name in {"feature_cache_bytes", "prefix_cache_bytes"} & self.model_fields_set:
            if self.score_mode == "invariant" and getattr(self, name):
                raise ValueError(f"score_mode invariant keeps nothing; set {name} to 0")
        return self

    @model_validator(mode="after")
    def _no_open_server_by_accident(self) -> Self:
        if not (self.is_loopback or self.api_keys_file or self.allow_anonymous):
            raise ValueError(
                f"host {self.host} can be reached from outside and no keys are configured; "
                "set api_keys_file, or allow_anonymous if that is meant"
            )
        return self


def load_settings(flags: Mapping[str, str], environ: Mapping[str, str]) -> Settings:
    """The one reading of flags, VLRM_ variables and the file named by --config or VLRM_CONFIG."""
    variables = {k: v for k, v in environ.items() if k.startswith(PREFIX)}
    given_flags = dict(flags)
    config = given_flags.pop("config", None) or variables.pop(f"{PREFIX}CONFIG", None)
    variables.pop(f"{PREFIX}CONFIG", None)
    values: dict[str, tuple[Any, str]] = {}
    if config:
        values |= {k: (v, f"{k} in {config}") for k, v in _read_file(Path(config)).items()}
    for name, value in variables.items():
        values[name.removeprefix(PREFIX).lower()] = (value, name)
    for name, value in given_flags.items():
        values[name] = (value, "--" + name.replace("_", "-"))
    _refuse_unknown(values)
    return _validate(values)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"config file {path}: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"config file {path} is not valid TOML or JSON: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"config file {path} must hold a table of settings")
    return content


def _refuse_unknown(values: Mapping[str, tuple[Any, str]]) -> None:
    for name, (_, origin) in values.items():
        if name not in Settings.model_fields:
            near = difflib.get_close_matches(name, Settings.model_fields, n=1, cutoff=0.0)
            hint = f"{PREFIX}{near[0].upper()}" if origin.startswith(PREFIX) else near[0]
            raise SettingsError(f"unknown setting {origin}; the nearest one is {hint}")


def _validate(values: Mapping[str, tuple[Any, str]]) -> Settings:
    try:
        return Settings.model_validate({name: value for name, (value, _) in values.items()})
    except ValidationError as error:
        raise SettingsError("; ".join(_sentences(error, values))) from None


def _sentences(error: ValidationError, values: Mapping[str, tuple[Any, str]]) -> list[str]:
    sentences = []
    for problem in error.errors():
        message = problem["msg"].removeprefix("Value error, ")
        name = str(problem["loc"][0]) if problem["loc"] else ""
        given = f", not {str(problem['input'])[:80]!r}" if name else ""
        sentences.append(f"{values[name][1]}: {message}{given}" if name else message)
    return sentences
