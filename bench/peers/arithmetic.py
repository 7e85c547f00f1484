"""How much arithmetic an answer needs at least, and how much this machine does in a second."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

from bench.peers.process import ROOT, environ
from bench.peers.workloads import Item
from rm_core.chat import render
from rm_core.types import Conversation

SIDE, ROUNDS = 1536, 30


def useful_flops(item: Item, config: Mapping[str, Any], tokenizer: Tokenizer) -> float:
    """Picture and prompt once and every answer, whatever a peer really computes for it.

    Two for every weight and token, and attention's two products; norms, activations and the
    embedding are left out.
    """
    picture_tokens = item.size[0] * item.size[1] // 28**2
    lengths = [len(tokenizer.encode(_text(item, a)).ids) + picture_tokens for a in item.answers]
    prompt = len(tokenizer.encode(_text(item, "")).ids) + picture_tokens
    own = [length - prompt for length in lengths]
    text = config["text_config"]
    flops: float = 2.0 * decoder_weights(text) * (prompt + sum(own))
    pairs = prompt**2 / 2 + sum(n * prompt + n**2 / 2 for n in own)
    flops += 4.0 * text["num_hidden_layers"] * text["hidden_size"] * pairs
    return flops + _tower_flops(config["vision_config"], 4 * picture_tokens)


def _text(item: Item, answer: str) -> str:
    return render(Conversation.ask(item.question), answer)


def decoder_weights(text: Mapping[str, Any]) -> int:
    hidden, heads = text["hidden_size"], text["num_attention_heads"]
    keys = text["num_key_value_heads"] * (hidden // heads)
    layer = 2 * hidden * hidden + 2 * hidden * keys + 3 * hidden * text["intermediate_size"]
    return int(text["num_hidden_layers"] * layer)


def tower_weights(vision: Mapping[str, Any]) -> float:
    """Weights a patch meets; the merger's a quarter of them, as it sees four patches as one."""
    hidden = vision["hidden_size"]
    layer = 4 * hidden * hidden + 3 * hidden * vision["intermediate_size"]
    patch = vision["in_channels"] * vision["temporal_patch_size"] * vision["patch_size"] ** 2
    merged = 4 * hidden
    merger = (merged * merged + merged * vision["out_hidden_size"]) / 4
    return float(vision["depth"] * layer + hidden * patch + merger)


def _tower_flops(vision: Mapping[str, Any], patches: int) -> float:
    whole = len(vision["fullatt_block_indexes"])
    window = (vision["window_size"] // vision["patch_size"]) ** 2
    seen = whole * patches + (vision["depth"] - whole) * min(window, patches)
    flops: float = 2.0 * tower_weights(vision) * patches
    return flops + float(4 * vision["hidden_size"] * patches * seen)


def matmul_gflops(threads: int) -> float:
    """float32 products of large squares by torch, in a process of its own, on `threads` cores.

    By CPU time, so that a busy machine does not lower the limit.
    """
    command = [sys.executable, "-m", "bench.peers.arithmetic", str(threads)]
    done = subprocess.run(
        command, cwd=ROOT, env=environ(threads), capture_output=True, text=True, check=True
    )
    return float(json.loads(done.stdout))


def _measure(threads: int) -> float:
    import torch

    torch.set_num_threads(threads)
    left, right = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    torch.mm(left, right)
    started = time.process_time()
    for _ in range(ROUNDS):
        torch.mm(left, right)
    spent_per_core = (time.process_time() - started) / threads
    return ROUNDS * 2 * SIDE**3 / spent_per_core / 1e9


if __name__ == "__main__":
    print(json.dumps(_measure(int(sys.argv[1]))))
