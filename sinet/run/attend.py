"""Cross-task attention of chosen test sentences, with gold and predicted annotations, as data for the figure."""

from collections.abc import Sequence
from pathlib import Path

from sinet.contract import Sentence
from sinet.data.sentence import read_sentences, sentence_to_json
from sinet.errors import UserError
from sinet.files import write_json
from sinet.run import machine
from sinet.run.predict import load_run
from sinet.score.metrics import facts

LONGEST = 24
"""Words of a sentence that a column-wide figure can label legibly."""
RULE = (
    f"chosen by a rule: at most {LONGEST} words, an entity in a triple and one apart in none, most triples predicted "
    "right; not a sample of the typical"
)


def choose(gold: Sequence[Sentence], predicted: Sequence[Sentence], n: int) -> list[int]:
    """The `n` sentences that show most: of at most `LONGEST` words, with an entity in no triple, most right triples.

    Ties go to the sentence with fewer wrong triples, then to the shorter, then to the earlier one.
    """

    def merit(i: int) -> tuple:
        true, claimed = (facts(s[i], "rel_plus", ()) for s in (gold, predicted))
        spans = [set(range(e.start, e.end)) for e in gold[i].entities]
        inside = {j for r in gold[i].relations for j in (r.head, r.tail)}
        covered = set().union(*(spans[j] for j in inside))
        return (
            len(gold[i].tokens) <= LONGEST,
            bool(inside) and any(not span & covered for span in spans),
            len(true & claimed),
            -len(claimed - true),
            -len(gold[i].tokens),
            -i,
        )

    return sorted(range(len(gold)), key=merit, reverse=True)[:n]


def attend(run: Path, test: Path, predictions: Path, sentences: int | list[str], out: Path) -> None:
    """Write `attention.json`: for each sentence its annotations and `{direction: heads x (words + 2)}` weights.

    Columns are the task's own [CLS], the words and [SEP]; a word's pieces are summed.
    """
    gold, predicted = read_sentences(test), read_sentences(predictions)
    if isinstance(sentences, int):
        chosen = choose(gold, predicted, sentences)
    else:
        position = {s.id: i for i, s in enumerate(gold)}
        if unknown := [s for s in sentences if s not in position]:
            raise UserError(f"case_study.sentences: {', '.join(unknown)} not in {test}; ids look like {gold[0].id!r}")
        chosen = [position[s] for s in sentences]
    device = machine.use_device()
    model, _ = load_run(run, device)
    write_json(
        out,
        {
            "sentences": [
                {
                    "gold": sentence_to_json(gold[i]),
                    "predicted": sentence_to_json(predicted[i]),
                    "attention": {
                        direction: [[round(w, 6) for w in head] for head in weights.tolist()]
                        for direction, weights in model.attention(gold[i].without_labels()).items()
                    },
                }
                for i in chosen
            ],
            "choice": RULE if isinstance(sentences, int) else "chosen by id",
        },
    )
