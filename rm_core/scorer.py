"""Scorer: what a script, the service, the trainer's evaluation and the benchmarks all call.

scorer = Scorer.load()
picture = decode(Path("apple.png").read_bytes(), max_pixels=10_000_000)
group = ScoreGroup(Conversation.ask("What is shown?", picture), ("an apple", "a bicycle"))
print(scorer.score([group]))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rm_core import attention, golden
from rm_core.calibration import Calibration
from rm_core.chat import TEMPLATE_DIGEST
from rm_core.checkpoints import Checkpoint, load
from rm_core.encode import EncodedGroup
from rm_core.errors import InvalidInput, TooManyTokens, UnknownName
from rm_core.packing import PackedBatch, pack
from rm_core.types import ScoreGroup

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# The reference precision of tests: on no setting's list, but a script may ask for it.
ALL_DTYPES = {**DTYPES, "float64": torch.float64}


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is loaded, as `GET /model` tells it."""

    name: str
    revision: str
    layout: str
    head: str
    dtype: str
    device: str
    attention: str
    context_limit: int
    min_pixels: int
    max_pixels: int
    template_digest: str
    num_parameters: int


class Scorer:
    """A loaded checkpoint. `encode` is thread-safe; one thread at a time may score."""

    def __init__(self, checkpoint: Checkpoint, *, attention_name: str = "auto") -> None:
        self.model = checkpoint.model
        self.encoder = checkpoint.encoder
        self.calibration: Calibration | None = checkpoint.calibration
        self.model.attention = attention.choose(attention_name, self.model.device, self.model.dtype)
        self.info = _describe(checkpoint)
        self._golden = golden.Golden.read(checkpoint.folder)

    @classmethod
    def load(
        cls,
        source: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
        max_pixels: int | None = None,
    ) -> "Scorer":
        """Open a folder, a hub id (`org/name[@revision]`) or, without a name, the embedded model.

        Raises CheckpointError or UnknownName; nothing is ever half loaded.
        """
        place = _device(device)
        checkpoint = load(source, device=place, dtype=_dtype(dtype, place), max_pixels=max_pixels)
        return cls(checkpoint, attention_name=attention)

    def encode(self, group: ScoreGroup) -> EncodedGroup:
        """Text and pictures to numbers, on the CPU. Raises TooManyTokens; nothing is cut."""
        encoded = self.encoder.encode(group)
        if encoded.longest > self.info.context_limit:
            raise TooManyTokens(encoded.longest, self.info.context_limit)
        return encoded

    def pack(self, groups: Sequence[EncodedGroup]) -> PackedBatch:
        return pack(groups, self.model.image_pad_id, self.encoder.rules.merge_size)

    @torch.inference_mode()
    def score_encoded(self, groups: Sequence[EncodedGroup]) -> list[list[float]]:
        """One forward over all groups; one list of raw scores per group, answers in order."""
        batch = self.pack(groups).to(self.model.device)
        return batch.split(self.model(batch).tolist())

    def score(self, groups: Sequence[ScoreGroup]) -> list[list[float]]:
        """Encode and score in one forward. Batching is the caller's: memory grows with `groups`."""
        if not groups:
            raise InvalidInput("there is nothing to score: the list of groups is empty")
        return self.score_encoded([self.encode(group) for group in groups])

    def self_check(self) -> golden.SelfCheck:
        """Score the checkpoint's golden rows again and compare."""
        if self._golden is None:
            return golden.SelfCheck(rows=0, max_difference=0.0, tolerance=0.0)
        scores = [self.score([row.group()])[0] for row in self._golden.rows]
        return golden.compare(self._golden, scores, self.info.dtype)


def _describe(checkpoint: Checkpoint) -> ModelInfo:
    model, rules = checkpoint.model, checkpoint.encoder.rules
    return ModelInfo(
        name=checkpoint.name,
        revision=checkpoint.revision,
        layout=checkpoint.layout,
        head=model.head_kind,
        dtype=str(model.dtype).removeprefix("torch."),
        device=_device_name(model.device),
        attention=model.attention,
        context_limit=int(model.backbone.config.get_text_config().max_position_embeddings),
        min_pixels=rules.min_pixels,
        max_pixels=rules.max_pixels,
        template_digest=TEMPLATE_DIGEST,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UnknownName("device", name, ["auto", "cpu", "cuda", "cuda:0"]) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UnknownName("device", name, ["auto", "cpu"])
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in ALL_DTYPES:
        raise UnknownName("dtype", name, ["auto", *DTYPES])
    return ALL_DTYPES[name]


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
