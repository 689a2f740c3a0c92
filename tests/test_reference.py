"""Our systems against the figures of their authors' released code, within the tolerances of the reference's README."""

import pytest
import torch

from sinet.contract import Sentence
from sinet.model import sinet
from sinet.model.spans import RangeMax
from tests.reference import Reference, bert_encoder, numbered_labels, words_of

SINET_NAMES = {
    "linear_s": "project_entities",
    "linear_r": "project_relations",
    "cross_attention.wq": "cross_attention.query",
    "cross_attention.wk": "cross_attention.key",
    "cross_attention.wv": "cross_attention.value",
    "cross_attention.proj": "cross_attention.output",
    "cross_attention.addnorm.ln": "cross_attention.norm",
    "rel_classifier": "relation_classifier",
    "entity_classifier": "entity_classifier",
    "size_embeddings": "width",
    "bert": "encoder.model",
}


def renamed(weights: dict[str, torch.Tensor], names: dict[str, str]) -> dict[str, torch.Tensor]:
    """Released parameter names to ours; poolers, which none of the systems reads, are dropped."""
    out = {}
    for name, value in weights.items():
        if ".pooler." in name:
            continue
        prefix = max((p for p in names if name.startswith(p + ".")), key=len)
        out[names[prefix] + name[len(prefix) :]] = (
            value.squeeze(0) if name.endswith((".ln.weight", ".ln.bias")) else value
        )
    return out


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference("sinet.npz")


@pytest.fixture(scope="module")
def model(reference: Reference) -> sinet.System:
    config = reference.config
    encoder = bert_encoder(config["encoder"], cls=config["cls_token_id"], sep=config["sep_token_id"])
    labels = numbered_labels(config["entity_types_with_none"], config["relation_types"])
    system = sinet.System(
        labels,
        encoder,
        max_span_width=config["max_span_width"],
        width_size=config["width_embedding_size"],
        heads=config["attention_heads"],
    )
    weights = renamed(reference.weights(), SINET_NAMES)
    system.width = torch.nn.Embedding(*weights["width.weight"].shape)
    system.cross_attention.norm.eps = config["layer_norm_eps_ctam"]
    system.load_state_dict(weights, strict=True)
    return system.eval()


def stored_sentences(reference: Reference) -> list[Sentence]:
    names = reference.groups("sentence")
    return [Sentence(n, words_of(reference[f"{n}/input_ids"], reference[f"{n}/word_offsets"])) for n in names]


def figures(
    model: sinet.System, reference: Reference, sentences: list[Sentence], company: list[Sentence] | None = None
) -> list[dict[str, torch.Tensor]]:
    """Our counterparts of the stored arrays, for all sentences in one batch; `company` only pads it."""
    batch = model.collate(sentences + (company or []))
    with torch.no_grad():
        states = model.encode(batch)
        out, row = [], 0
        for b, sentence in enumerate(sentences):
            name, length = sentence.id, len(sentence.tokens)
            offsets = reference[f"{name}/word_offsets"]
            # the stored spans are in word pieces; ours are in words
            start = torch.searchsorted(offsets[:, 0].contiguous(), reference[f"{name}/span_offsets"][:, 0].contiguous())
            end = start + reference[f"{name}/span_widths"]
            spans = torch.stack([start, end], 1) + row
            width = spans[:, 1] - spans[:, 0]
            pooled = {t: RangeMax(states[t], int(width.max()))(*spans.unbind(1)) for t in ("entity", "relation")}
            pairs = reference[f"{name}/pairs"]
            out.append(
                {
                    "entity_logits": model.entity_logits(pooled["entity"], states["entity_cls"][b], width),
                    "relation_logits": model.pair_logits(
                        states, spans, pooled["relation"], pairs, torch.full((len(pairs),), b), length
                    ),
                    "relation_cls": states["relation_cls"][b : b + 1],
                }
            )
            row += length
    return out


def test_sinet_equals_the_released_code(model, reference):
    for sentence in stored_sentences(reference):
        (ours,) = figures(model, reference, [sentence])
        for name, value in ours.items():
            torch.testing.assert_close(value, reference[f"{sentence.id}/{name}"], atol=2e-5, rtol=0)


def test_sinet_padding_changes_nothing(model, reference):
    sentences = stored_sentences(reference)
    longest = max(sentences, key=lambda s: sum(map(len, model.encoder.word_pieces(s.tokens)))).tokens
    longer = Sentence("longer", longest + longest[:1])
    for sentence, together in zip(sentences, figures(model, reference, sentences, [longer]), strict=True):
        (alone,) = figures(model, reference, [sentence])
        for name, value in alone.items():
            torch.testing.assert_close(together[name], value, atol=1e-5, rtol=0)
