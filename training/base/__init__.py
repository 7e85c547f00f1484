"""A base made from nothing, where there is no pretrained one to start from.

It stands in for Qwen2.5-VL: same architecture, its own tokenizer, three phases. The tower learns to
show words, the decoder to say them, then to tell right answers from wrong ones token by token.
"""

from pathlib import Path
from random import Random

import torch

from rm_core.checkpoints import save
from rm_core.encode import Encoder
from rm_core.model import RewardModel
from training.base.language import Steps, Teacher
from training.base.model import RULES, WIDTH, make_config, start_decoder
from training.base.tokenizer import make_tokenizer
from training.base.tower import warm_up
from training.base.words import picture_mark, spread_to, word_rows
from training.config import FromScratch
from training.runlog import RunLog

__all__ = ["build"]


def build(spec: FromScratch, seed: int, folder: Path, log: RunLog) -> None:
    """Train the base and write it to `folder` as a checkpoint."""
    torch.manual_seed(seed)
    encoder = Encoder(make_tokenizer(seed), RULES)
    model = RewardModel(make_config(encoder.tokenizer), RULES)
    generator = torch.Generator().manual_seed(seed)
    rows_WD = word_rows(WIDTH, generator)
    mark_D = picture_mark(rows_WD, generator)
    log.say(f"base: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")
    warm_up(model, rows_WD, Random(f"tower/{seed}"), log, steps=spec.vision_steps)
    start_decoder(model, mark_D)
    embedding_VD = model.backbone.language_model.embed_tokens.weight
    spread_to(embedding_VD, encoder.tokenizer, rows_WD, mark_D)
    teacher = Teacher(model, encoder, Random(f"language/{seed}"), log)
    teacher.teach(Steps(spec.pointing_steps, spec.speaking_steps, spec.checking_steps))
    save(folder, model, encoder, name="base", dtype=torch.float32)
