"""ms-swift GRPO: `--external_plugins <the path of this file> --reward_funcs vlrm`."""

from collections.abc import Sequence
from typing import Any

from swift.rewards import ORM, orms

from service.adapters._http import reward


class VlrmReward(ORM):  # type: ignore[misc]  # swift is not installed where types are checked
    """The raw score of each completion; pictures come from the column `images`."""

    def __call__(
        self, completions: Sequence[str], messages: Sequence[Any], images: Any = None, **_: Any
    ) -> list[float]:
        # ms-swift hands over the whole conversation, the completion included.
        return reward([row[:-1] for row in messages], completions, images)


orms["vlrm"] = VlrmReward
