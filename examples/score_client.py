"""Scores through the client: `make serve`, then `python examples/score_client.py [URL]`."""

import sys
from pathlib import Path

from service.client import RewardClient, RewardServerError

url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000"
responses = ["It is an apple.", "It is a banana."]
picture = Path(__file__).with_name("apple.png")  # uploaded once, however many calls follow
try:
    with RewardClient(url, timeout_s=30) as client:
        answer = client.score("What is in the picture?", responses, images=[picture])
except RewardServerError as error:
    sys.exit(error.message)
for response, row in zip(responses, answer.scores, strict=True):
    print(f"{row.score:8.3f}  {response}")
