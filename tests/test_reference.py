"""Our systems against the figures of their authors' released code, within the tolerances of the reference's README."""

import pytest
import torch

from baselines import spert
from sinet.contract import Labels, Sentence
from sinet.model import sinet
from sinet.model.spanbased import SpanBased
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
SPERT_NAMES = {n: SINET_NAMES[n] for n in ("rel_classifier", "entity_classifier", "size_embeddings", "bert")}


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


def span_model(system: type[SpanBased], reference: Reference, names: dict[str, str], **settings: object) -> SpanBased:
    """SINET or SpERT with the reference's sizes and weights."""
    config = reference.config
    encoder = bert_encoder(config["encoder"], cls=config["cls_token_id"], sep=config["sep_token_id"])
    if "entity_type_names" in config:
        symmetric = frozenset(config["symmetric_relation_types"])
        labels = Labels(tuple(config["entity_type_names"][1:]), tuple(config["relation_type_names"]), symmetric)
    else:
        labels = numbered_labels(config["entity_types_with_none"], config["relation_types"])
    sizes = {"max_span_width": config["max_span_width"], "width_size": config["width_embedding_size"]}
    model = system(labels, encoder, **sizes, **settings)
    weights = renamed(reference.weights(), names)
    model.width = torch.nn.Embedding(*weights["width.weight"].shape)
    model.load_state_dict(weights, strict=True)
    return model.eval()


@pytest.fixture(scope="module")
def sinet_figures() -> tuple[Reference, SpanBased]:
    reference = Reference("sinet.npz")
    model = span_model(sinet.System, reference, SINET_NAMES, heads=reference.config["attention_heads"])
    model.cross_attention.norm.eps = reference.config["layer_norm_eps_ctam"]
    return reference, model


@pytest.fixture(scope="module")
def spert_figures() -> tuple[Reference, SpanBased]:
    reference = Reference("spert.npz")
    return reference, span_model(spert.System, reference, SPERT_NAMES, threshold=reference.config["relation_threshold"])


def stored_sentences(reference: Reference) -> list[Sentence]:
    names = reference.groups("sentence")
    return [Sentence(n, words_of(reference[f"{n}/input_ids"], reference[f"{n}/word_offsets"])) for n in names]


def word_span(offsets: torch.Tensor, span: list[int]) -> tuple[int, int]:
    """A span of word pieces in words."""
    return (int((offsets[:, 0] < span[0]).sum()), int((offsets[:, 0] < span[1]).sum()))


def span_figures(
    model: SpanBased, reference: Reference, sentences: list[Sentence], company: list[Sentence] | None = None
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
            ours = {
                "span_pool": pooled["entity"],
                "entity_logits": model.entity_logits(pooled["entity"], states["entity_cls"][b], width),
            }
            if len(pairs):
                sentence_of_pair = torch.full((len(pairs),), b)
                ours["relation_logits"] = model.pair_logits(
                    states, spans, pooled["relation"], pairs, sentence_of_pair, length
                )
            if "relation_cls" in states:
                ours["relation_cls"] = states["relation_cls"][b : b + 1]
            out.append(ours)
            row += length
    return out


@pytest.mark.parametrize("system", ["sinet", "spert"])
def test_span_systems_equal_the_released_code(system, request):
    reference, model = request.getfixturevalue(f"{system}_figures")
    compared = set()
    for sentence in stored_sentences(reference):
        (ours,) = span_figures(model, reference, [sentence])
        for name, value in ours.items():
            if f"{sentence.id}/{name}" in reference.arrays.files:
                compared.add(name)
                torch.testing.assert_close(value, reference[f"{sentence.id}/{name}"], atol=2e-5, rtol=0)
    assert {"entity_logits", "relation_logits"} < compared


@pytest.mark.parametrize("system", ["sinet", "spert"])
def test_padding_changes_nothing(system, request):
    reference, model = request.getfixturevalue(f"{system}_figures")
    sentences = stored_sentences(reference)
    longest = max(sentences, key=lambda s: sum(map(len, model.encoder.word_pieces(s.tokens)))).tokens
    longer = Sentence("longer", longest + longest[:1])
    for sentence, together in zip(sentences, span_figures(model, reference, sentences, [longer]), strict=True):
        (alone,) = span_figures(model, reference, [sentence])
        for name, value in alone.items():
            torch.testing.assert_close(together[name], value, atol=1e-5, rtol=0)


def test_spert_decodes_as_the_released_code(spert_figures):
    reference, model = spert_figures
    sentences = stored_sentences(reference)
    found = 0
    for group, stored in zip(reference.groups("batch"), reference.config["decoded"], strict=True):
        chosen = [sentences[i] for i in reference[f"{group}/sentences"].tolist()]
        predicted = model.decode(model.collate(chosen))
        for sentence, ours, theirs in zip(chosen, predicted, stored, strict=True):
            offsets = reference[f"{sentence.id}/word_offsets"]
            spans = [(*word_span(offsets, e[:2]), e[2]) for e in theirs["entities"]]
            assert [(e.start, e.end, e.type) for e in ours.entities] == spans
            assert [e.score for e in ours.entities] == pytest.approx([e[3] for e in theirs["entities"]], abs=2e-5)
            expected = {
                (r["type"], *((*word_span(offsets, r[side][:2]), r[side][2]) for side in ("head", "tail"))): r["score"]
                for r in theirs["relations"]
            }
            assert {
                (r.type, spans[r.head], spans[r.tail]): pytest.approx(r.score, abs=2e-5) for r in ours.relations
            } == expected
            found += len(expected)
    assert found
