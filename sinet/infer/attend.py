"""Cross-task attention of every sentence of a split: what the case study draws and the shares are computed from."""

from pathlib import Path

from tqdm import tqdm

from sinet import machine
from sinet.data.sentence import read_sentences
from sinet.files import write_sealed
from sinet.infer.predict import load_run

DIGITS = 4
"""Significant digits of a weight in the file: nearly all of a head's attention may fall on [CLS]."""


def attend(run: Path, test: Path, out: Path) -> None:
    """Write `attention.json` of a finished run: the device, and of each sentence its id, how many pieces each word has,
    and `{direction: heads x columns}` weights, in float32.

    Columns are the task's own [CLS], the words (their pieces summed) and [SEP]. A model without attention has no
    directions; words beyond what the encoder reads have neither pieces nor a column.
    """
    device = machine.use_device()
    model, _ = load_run(run, device)
    described = machine.describe(device, "float32")
    sentences = []
    for sentence in tqdm(read_sentences(test), desc="attend", unit="sent", mininterval=2):
        maps = {
            direction: [[float(f"{w:.{DIGITS}g}") for w in head] for head in weights.tolist()]
            for direction, weights in model.attention(sentence.without_labels()).items()
        }
        read = min((len(head) - 2 for heads in maps.values() for head in heads), default=len(sentence.tokens))
        pieces = [len(word) for word in model.encoder.word_pieces(sentence.tokens)][:read]
        sentences.append({"id": sentence.id, "pieces": pieces, "attention": maps})
    record = {k: described[k] for k in ("device", "device_name", "threads", "precision")} | {"sentences": sentences}
    write_sealed(out, record, indent=None)
