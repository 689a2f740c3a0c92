"""Prediction with a trained model, and finished runs read back from their folders."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from sinet import systems
from sinet.contract import Extractor, Labels, Sentence
from sinet.data.sentence import read_sentences, write_sentences
from sinet.errors import UserError
from sinet.model.pretrained import rebuild_encoder
from sinet.run import machine
from sinet.run.batches import by_length

BATCH = 32
"""Sentences a batch; they are sorted by length."""


@contextlib.contextmanager
def inference(model: Extractor, device: torch.device, precision: str) -> Iterator[None]:
    """Evaluation mode without gradients, in a precision, its weights packed for it."""
    was_training = model.training
    model.eval()
    with (
        torch.inference_mode(),
        machine.autocast(device, precision),
        model.packed(getattr(torch, precision)),
    ):
        yield
    model.train(was_training)


def predict(
    model: Extractor, sentences: Sequence[Sentence], device: torch.device, precision: str, batch_size: int = BATCH
) -> list[Sentence]:
    """The sentences with the model's annotations, in the order given; the model sees no gold labels."""
    found: list[Sentence | None] = [None] * len(sentences)
    with inference(model, device, precision):
        for positions in by_length(model.encoder.piece_counts(sentences), batch_size):
            batch = model.collate([sentences[i].without_labels() for i in positions]).to(device)
            for i, prediction in zip(positions, model.decode(batch), strict=True):
                found[i] = sentences[i].with_labels(prediction.entities, prediction.relations)
    return found


def load_run(folder: Path, device: torch.device) -> tuple[Extractor, dict]:
    """The model of a finished run and its `model.json`; the folder needs nothing else, not even the encoder."""
    description = folder / "model.json"
    if not description.is_file():
        raise UserError(f"{folder}: no model.json, so no finished run; train it first")
    made = json.loads(description.read_text(encoding="utf-8"))
    encoder = rebuild_encoder(made["encoder_config"], folder / "tokenizer")
    model = systems.load(made["system"])(Labels.from_json(made["labels"]), encoder, **made["settings"])
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.to(device).eval(), made


def predict_file(run: Path, sentences: Path, out: Path) -> None:
    """Predict a JSON-lines file with a finished run, under the precision it was trained in."""
    device = machine.use_device()
    model, made = load_run(run, device)
    write_sentences(out, predict(model, read_sentences(sentences), device, made["precision"]))
