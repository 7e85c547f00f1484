"""Scorer: what a script, the service, the trainer's evaluation and the benchmarks all call.

scorer = Scorer.load()
picture = decode(Path("apple.png").read_bytes(), max_pixels=10_000_000)
group = ScoreGroup(Conversation.ask("What is shown?", picture), ("an apple", "a bicycle"))
print(scorer.score([group]))
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rm_core import attention, golden
from rm_core.calibration import Calibration
from rm_core.chat import TEMPLATE_DIGEST
from rm_core.checkpoints import Checkpoint, load
from rm_core.cost import CostModel
from rm_core.encode import EncodedGroup
from rm_core.errors import InvalidInput, OutOfMemory, TooManyTokens, UnknownName
from rm_core.features import FeatureCache
from rm_core.layout import Find
from rm_core.memory import memory_errors
from rm_core.options import Options
from rm_core.packing import PackedBatch, pack
from rm_core.prefixes import PrefixCache
from rm_core.types import ScoreGroup

FAST = Options()
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
    score_mode: str
    context_limit: int
    min_pixels: int
    max_pixels: int
    template_digest: str
    num_parameters: int


class Scorer:
    """A loaded checkpoint. `encode` is thread-safe; one thread at a time may score."""

    def __init__(self, checkpoint: Checkpoint, options: Options = FAST) -> None:
        self.model = checkpoint.model
        self.encoder = checkpoint.encoder
        self.calibration: Calibration | None = checkpoint.calibration
        self.options = options
        self.model.attention = attention.choose(
            options.attention, self.model.device, self.model.dtype
        )
        self.features = FeatureCache(options.feature_cache_bytes)
        self.prefixes = PrefixCache(options.prefix_cache_bytes)
        self.info = _describe(checkpoint, options)
        self._cost = CostModel.of(self.model)
        self._golden = golden.Golden.read(checkpoint.folder)

    @classmethod
    def load(
        cls,
        source: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        max_pixels: int | None = None,
        options: Options = FAST,
    ) -> "Scorer":
        """Open a folder, a hub id (`org/name[@revision]`) or, without a name, the embedded model.

        Raises CheckpointError or UnknownName; nothing is ever half loaded.
        """
        place = choose_device(device)
        kind = choose_dtype(dtype, place)
        checkpoint = load(source, device=place, dtype=kind, max_pixels=max_pixels)
        return cls(checkpoint, options)

    def encode(self, group: ScoreGroup) -> EncodedGroup:
        """Text and pictures to numbers, on the CPU. Raises TooManyTokens; nothing is cut."""
        encoded = self.encoder.encode(group)
        if encoded.longest > self.info.context_limit:
            raise TooManyTokens(encoded.longest, self.info.context_limit)
        return encoded

    def pack(self, groups: Sequence[EncodedGroup]) -> list[PackedBatch]:
        """The forward passes for these groups, on the CPU; one, unless the mode is invariant.

        Thread-safe: it can be called while another batch runs.
        """
        if self.options.is_invariant:
            return [self._pack([group]) for group in groups]
        return [self._pack(groups, self.prefixes.kept.get)]

    def _pack(
        self, groups: Sequence[EncodedGroup], find: Find[Tensor] | None = None
    ) -> PackedBatch:
        return pack(groups, self.model.image_pad_id, self.encoder.rules.merge_size, find)

    def forward(self, batch: PackedBatch) -> list[list[float]]:
        """One forward pass: one list of raw scores per group, answers in order.

        Raises OutOfMemory when the device has no room for it.
        """
        with memory_errors():
            return batch.split(self._scores(batch.to(self.model.device)))

    @torch.inference_mode()
    def _scores(self, batch: PackedBatch) -> list[float]:
        past = self.prefixes.past(batch)
        scores_N = self.model(batch, self.features.of(self.model, batch), past)
        scores: list[float] = scores_N.tolist()
        if past and all(map(math.isfinite, scores)):
            with suppress(OutOfMemory), memory_errors():  # the scores are there all the same
                self.prefixes.keep(batch, past)
        return scores

    def cost(self, group: EncodedGroup) -> float:
        """The arithmetic of one group, as a number of text tokens."""
        return self._cost.tokens(group)

    def score_encoded(self, groups: Sequence[EncodedGroup]) -> list[list[float]]:
        """One list of raw scores per group, answers in order."""
        return [scores for batch in self.pack(groups) for scores in self.forward(batch)]

    def score(self, groups: Sequence[ScoreGroup]) -> list[list[float]]:
        """Encode and score at once. Batching is the caller's: memory grows with `groups`."""
        if not groups:
            raise InvalidInput("there is nothing to score: the list of groups is empty")
        return self.score_encoded([self.encode(group) for group in groups])

    def self_check(self) -> golden.SelfCheck:
        """Score the checkpoint's golden rows again and compare."""
        if self._golden is None:
            return golden.SelfCheck(rows=0, max_difference=0.0, tolerance=0.0)
        scores = [self.score([row.group()])[0] for row in self._golden.rows]
        return golden.compare(self._golden, scores, self.info.dtype)


def _describe(checkpoint: Checkpoint, options: Options) -> ModelInfo:
    model, rules = checkpoint.model, checkpoint.encoder.rules
    return ModelInfo(
        name=checkpoint.name,
        revision=checkpoint.revision,
        layout=checkpoint.layout,
        head=model.head_kind,
        dtype=str(model.dtype).removeprefix("torch."),
        device=_device_name(model.device),
        attention=model.attention,
        score_mode=options.score_mode,
        context_limit=int(model.backbone.config.get_text_config().max_position_embeddings),
        min_pixels=rules.min_pixels,
        max_pixels=rules.max_pixels,
        template_digest=TEMPLATE_DIGEST,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def choose_device(name: str) -> torch.device:
    """`auto`: a CUDA device where there is one. Raises UnknownName."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UnknownName("device", name, ["auto", "cpu", "cuda", "cuda:0"]) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UnknownName("device", name, ["auto", "cpu"])
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto`: bfloat16 on CUDA, float32 elsewhere. Raises UnknownName."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in ALL_DTYPES:
        raise UnknownName("dtype", name, ["auto", *DTYPES])
    return ALL_DTYPES[name]


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
