"""The losses a stage can ask for: `loss: {kind: …, …}`; their formulas are in losses.py."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, WrapSerializer

from training.spec import Spec


class LossSpec(Spec):
    """What every kind takes. `centering` adds its multiple of (chosen + rejected)², per pair."""

    centering: float = Field(default=0.0, ge=0.0)


class BradleyTerry(LossSpec):
    """-log sigmoid(chosen - rejected)."""

    kind: Literal["bradley_terry"] = "bradley_terry"


class Margin(LossSpec):
    """Asks for a lead of `margin` times the pair's strength."""

    kind: Literal["margin"] = "margin"
    margin: float = Field(default=1.0, gt=0.0)


class Scaled(LossSpec):
    """Weighs each pair by its strength."""

    kind: Literal["scaled"] = "scaled"


class LabelSmoothing(LossSpec):
    """Believes that a share `smoothing` of the labels is the wrong way round."""

    kind: Literal["label_smoothing"] = "label_smoothing"
    smoothing: float = Field(default=0.1, gt=0.0, lt=0.5)


class Ties(LossSpec):
    """Rao-Kupper: for rows whose labels are equal (strength 0) beside those that are not.

    Scores closer than about `threshold` count as equal; it is set, not learned.
    """

    kind: Literal["ties"] = "ties"
    threshold: float = Field(default=0.5, gt=0.0)


class Listwise(LossSpec):
    """Plackett-Luce over the order of all answers of a group, read from the strengths."""

    kind: Literal["listwise"] = "listwise"


DEFAULT = BradleyTerry()


def _by_name(given: Any) -> Any:
    """`loss: margin` is short for `loss: {kind: margin}`; without a kind it is the default's."""
    if isinstance(given, str):
        return {"kind": given}
    return {"kind": DEFAULT.kind, **given} if isinstance(given, dict) else given


def _shortly(loss: LossSpec, write_all: SerializerFunctionWrapHandler) -> Any:
    """A loss with nothing but defaults is written by its name, as before there was a choice."""
    written = write_all(loss)
    return written["kind"] if loss == type(loss)() else written


Loss: TypeAlias = Annotated[
    Annotated[
        BradleyTerry | Margin | Scaled | LabelSmoothing | Ties | Listwise,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_by_name),
    WrapSerializer(_shortly),
]
