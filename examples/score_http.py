"""Scores from a running server: `make serve`, then `python examples/score_http.py [URL]`."""

import base64
import sys
from pathlib import Path

import httpx

url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000"
picture = base64.b64encode(Path(__file__).with_name("apple.png").read_bytes()).decode()
responses = ["It is an apple.", "It is a banana."]
request = {
    "prompt": "What is in the picture?",
    "images": [f"data:image/png;base64,{picture}"],
    "responses": responses,
}
answer = httpx.post(f"{url}/rank", json=request)
if answer.is_error:
    sys.exit(answer.json()["error"]["message"])
for row in answer.json()["ranking"]:
    print(f"{row['score']:8.3f}  {responses[row['index']]}")
