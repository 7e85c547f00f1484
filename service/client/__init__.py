"""Ask a running server from Python: needs httpx, pydantic, pillow and numpy, no torch.

with RewardClient("http://localhost:8000") as client:
    answer = client.score("What is shown?", ["An apple.", "A dog."], images=[Path("apple.png")])
    print([row.score for row in answer.scores])
"""

from service.client.asynchronous import AsyncRewardClient
from service.client.blocking import RewardClient
from service.client.errors import RewardServerError
from service.client.pictures import Picture
from service.client.question import Prompt
from service.schemas import (
    CompareResponse,
    ModelName,
    ModelResponse,
    Ranked,
    RankResponse,
    Score,
    ScoreResponse,
    Usage,
)

__all__ = [
    "AsyncRewardClient",
    "CompareResponse",
    "ModelName",
    "ModelResponse",
    "Picture",
    "Prompt",
    "RankResponse",
    "Ranked",
    "RewardClient",
    "RewardServerError",
    "Score",
    "ScoreResponse",
    "Usage",
]
