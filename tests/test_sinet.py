"""SINET's ablation settings and its loss."""

import pytest
import torch

from sinet.contract import Sentence
from sinet.data.sentence import Entity, read_sentences
from sinet.model.sinet import CrossTaskAttention, System
from tests.conftest import CORPUS, LABELS, set_on

# setting -> projection, attention for the entity classifier, attention for the relation classifier
SETTINGS = {
    "base": (False, False, False),
    "tap": (True, False, False),
    "ctam_ner": (True, True, False),
    "ctam_re": (True, False, True),
    "ctam": (True, True, True),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_setting_has_the_parts_it_names(setting, tiny_encoder):
    projects, entities, relations = SETTINGS[setting]
    model = System(LABELS, tiny_encoder, **System.test_settings, interaction=setting).eval()
    parts = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert ("project_entities" in parts) == ("project_relations" in parts) == projects
    assert ("cross_attention" in parts) == (entities or relations)
    states = model.encode(model.collate(read_sentences(CORPUS)[:2]))
    assert ("entity_attention" in states) == entities
    assert ("relation_attention" in states) == relations


def test_base_feeds_the_raw_cls_to_both_classifiers(tiny_encoder):
    model = System(LABELS, tiny_encoder, **System.test_settings, interaction="base").eval()
    batch = model.collate(read_sentences(CORPUS)[:2])
    states = model.encode(batch)
    raw = tiny_encoder.eval()(batch["input_ids"], batch["attention_mask"])[:, 0]
    assert torch.equal(states["entity_cls"], raw) and torch.equal(states["relation_cls"], raw)


def test_settings_that_cannot_be_are_refused(tiny_encoder):
    for wrong in ({"interaction": "all"}, {"hads": 4}, {"heads": 1.5}, {"heads": 0}, {"dropout": True}):
        with pytest.raises(ValueError, match=f"1 validation error for SINET\n{next(iter(wrong))}\n"):
            System(LABELS, tiny_encoder, **wrong)
    assert System(LABELS, tiny_encoder, **System.test_settings, dropout=0).settings.dropout == 0.0
    with pytest.raises(ValueError, match="3 attention heads do not divide the hidden size 32"):
        CrossTaskAttention(32, 3, 0.0)


def test_loss_is_the_mean_over_candidates_that_can_be_enumerated(tiny_encoder):
    """With room for every negative there is no chance left, and the loss can be computed by loops."""
    sentences = read_sentences(CORPUS)
    model = System(
        LABELS, tiny_encoder, **System.test_settings | {"negative_spans": 10**6, "negative_pairs": 10**6}
    ).eval()
    batch = model.training_batch(sentences)
    states = model.encode(batch)
    pieces = tiny_encoder(batch["input_ids"], batch["attention_mask"]).flatten(0, 1)
    entity_terms, relation_terms, row = [], [], 0
    for b, sentence in enumerate(sentences):
        gold = {(e.start, e.end): e.type for e in sentence.entities}
        n = len(sentence.tokens)
        grid = [(i, j) for i in range(n) for j in range(i + 1, min(n, i + model.settings.max_span_width) + 1)]
        for i, j in grid:
            pooled = states["entity"][row + i : row + j].amax(0)
            seen = states["entity_cls"][b], pooled, model.width.weight[j - i]
            logits = model.entity_classifier(*seen)
            target = LABELS.entity_types.index(gold[i, j]) + 1 if (i, j) in gold else 0
            entity_terms.append(-logits.log_softmax(-1)[target])
        related = {}
        for r in sentence.relations:
            head, tail = r.head, r.tail
            if r.type in LABELS.symmetric and sentence.entities[tail].start < sentence.entities[head].start:
                head, tail = tail, head
            related.setdefault((head, tail), set()).add(r.type)
        for i, head in enumerate(sentence.entities):
            for j, tail in enumerate(sentence.entities):
                if i == j:
                    continue
                low, high = min(head.end, tail.end), max(head.start, tail.start)
                context = torch.zeros(32)
                if low < high:
                    first, last = batch["word_start"][row + low], batch["word_end"][row + high - 1]
                    context = pieces[first:last].max(0).values
                vectors = (states["relation"][row + e.start : row + e.end].amax(0) for e in (head, tail))
                widths = (model.width.weight[e.end - e.start] for e in (head, tail))
                logits = model.relation_classifier(context, states["relation_cls"][b], *vectors, *widths)
                target = torch.tensor([float(t in related.get((i, j), ())) for t in LABELS.relation_types])
                relation_terms.append(torch.nn.functional.binary_cross_entropy_with_logits(logits, target))
        row += n
    expected = torch.stack(entity_terms).mean() + torch.stack(relation_terms).mean()
    assert model.loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_gold_wider_than_the_candidates_is_trained_on(tiny_encoder):
    wide = Sentence("w", ("neural",) * 8, (Entity("Task", 0, 7),))
    model = System(LABELS, tiny_encoder, **System.test_settings).eval()
    set_on(model, negative_spans=0, negative_pairs=0)
    assert float(model.loss(model.training_batch([wide]))) > 0
