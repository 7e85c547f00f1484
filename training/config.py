"""A recipe: how a reward model comes to be, as frozen typed models."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rm_core.heads import HeadKind
from training.loss_kinds import DEFAULT, Loss
from training.spec import Spec

Part = Literal["vision", "projector", "language", "head"]
Schedule = Literal["cosine", "linear", "constant"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class FromCheckpoint(Spec):
    """Start from a released or earlier checkpoint: a folder or a hub id."""

    added_later = frozenset({"head", "max_pixels"})

    kind: Literal["checkpoint"] = "checkpoint"
    source: str
    head: HeadKind | None = Field(
        default=None, description="A fresh reward head, for a base that has none."
    )
    max_pixels: int | None = Field(
        default=None, ge=56 * 56, description="Pixel budget of a picture, instead of the base's."
    )


class FromScratch(Spec):
    """Train a stand-in base first (training/base): tokenizer, vision warm-up, next-token phase."""

    kind: Literal["from_scratch"] = "from_scratch"
    vision_steps: int = Field(default=4500, ge=1)
    pointing_steps: int = Field(default=600, ge=0)
    speaking_steps: int = Field(default=450, ge=0)
    checking_steps: int = Field(default=2500, ge=0)


Base = Annotated[FromCheckpoint | FromScratch, Field(discriminator="kind")]


class DataSource(Spec):
    """One ingredient of a stage's mixture; `weight` is its share, relative to the others.

    Without one a folder weighs as many as it has rows, a generator one.
    """

    source: str = Field(min_length=1, description="'builtin/<task or group>' or a pairs folder.")
    weight: float | None = Field(default=None, gt=0.0)


class LoraSpec(Spec):
    """Low-rank adapters on the decoder's linear layers, merged when the stage ends."""

    rank: int = Field(default=64, ge=1)
    alpha: float = Field(default=128.0, gt=0.0)


class Stage(Spec):
    """One fine-tuning stage; `batch` is groups per step, `pack_tokens` bounds one forward."""

    added_later = frozenset({"checkpointing", "lora"})
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    data: tuple[DataSource, ...] = Field(min_length=1)
    steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0.0)
    batch: int = Field(default=32, ge=1)
    pack_tokens: int | None = Field(default=None, ge=64)
    max_tokens: int = Field(
        default=16_384, ge=16, description="A longer group is refused, never cut."
    )
    max_refused: Share = 0.01
    learning_rate: float = Field(gt=0.0)
    learning_rate_scale: dict[Part, float] = Field(default_factory=dict)
    schedule: Schedule = "cosine"
    warmup: Share = 0.03
    final_learning_rate: Share = 0.0
    betas: tuple[Share, Share] = (0.9, 0.95)
    weight_decay: float = Field(default=0.0, ge=0.0)
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    frozen: tuple[Part, ...] = ("vision",)
    unfreeze_after: dict[Part, Share] = Field(default_factory=dict)
    loss: Loss = DEFAULT
    checkpointing: bool = Field(
        default=False, description="Keep only layer inputs and compute the decoder twice."
    )
    lora: LoraSpec | None = Field(
        default=None, description="Train adapters instead of the decoder's own weights."
    )
    language_weight: float = Field(
        default=0.0, ge=0.0, description="Weight of next-token loss on the chosen answers."
    )

    @model_validator(mode="after")
    def one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of 'steps' and 'epochs'")
        return self

    @model_validator(mode="after")
    def adapters_train(self) -> Self:
        if self.lora is not None and "language" in self.frozen:
            raise ValueError("lora trains the language part; take 'language' out of 'frozen'")
        return self

    @model_validator(mode="after")
    def only_frozen_parts_thaw(self) -> Self:
        if extra := set(self.unfreeze_after) - set(self.frozen):
            raise ValueError(f"unfreeze_after names {sorted(extra)}, which 'frozen' does not list")
        return self


class Evaluation(Spec):
    """Held-out pairs: measured every so many steps while training, and in full at the end."""

    source: str = "builtin"  # or builtin/<task or group>, or a pairs folder
    rows_per_task: int = Field(default=300, ge=1)
    every_steps: int = Field(default=500, ge=1)
    quick_rows_per_task: int = Field(default=50, ge=1)


class Output(Spec):
    """What is written and how often; `golden_rows` scored examples travel with the checkpoint."""

    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    golden_rows: int = Field(default=24, ge=1)
    save_every_minutes: float = Field(default=5.0, gt=0.0)
    log_every_steps: int = Field(default=20, ge=1)


class Recipe(Spec):
    """The whole way: a base, then stages in order, then held-out evaluation and export."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    seed: int = Field(default=0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(
        default=None, ge=1, description="CPU threads of the training process."
    )
    workers: int = Field(
        default=0, ge=0, description="Processes that prepare batches; 0 prepares in line."
    )
    base: Base
    stages: tuple[Stage, ...] = Field(min_length=1)
    evaluation: Evaluation = Evaluation()
    output: Output = Output()

    @model_validator(mode="after")
    def stage_names_differ(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"stage names must differ: {', '.join(names)}")
        return self
