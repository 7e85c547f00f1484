"""Scores without a server: `python examples/score.py`."""

from pathlib import Path

from rm_core.images import decode
from rm_core.scorer import Scorer
from rm_core.types import Conversation, ScoreGroup

scorer = Scorer.load()  # the embedded model; a folder or a hub id opens another
picture = decode(Path(__file__).with_name("apple.png").read_bytes(), max_pixels=10_000_000)
question = Conversation.ask("What is in the picture?", picture)
group = ScoreGroup(question, ("It is an apple.", "It is a banana."))
for response, score in zip(group.responses, scorer.score([group])[0], strict=True):
    print(f"{score:8.3f}  {response}")
