"""Our systems against the figures of their authors' released code, within the tolerances of the reference's README."""

import contextlib
import copy
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import BertTokenizerFast

from baselines import dygiepp, multi_turn_qa, pfn, plmarker, pure, scinet, spe, spert, table_sequence, tcre, unire
from baselines._coreference import antecedents
from baselines._questions import BEGIN, END, MIDDLE, NO_TAG, OUTSIDE, SINGLE, Asked, tagged_spans, tags_of
from baselines._segments import OBJECT, SUBJECT
from sinet.contract import Batch, Entity, Labels, Prediction, Relation, Sentence
from sinet.efficiency.flops import as_released
from sinet.encoders.fast import fast_inference
from sinet.infer.released import PFN_NAMES, PURE_ENTITY_NAMES, PURE_RELATION_NAMES, SINET_NAMES, SPERT_NAMES, renamed
from sinet.model import sinet
from sinet.model.spanbased import SpanBased
from sinet.model.spans import ordered_pairs, range_max
from tests.conftest import set_on
from tests.reference import Reference, Vocabulary, numbered_labels, stored_encoder, words_of


def document_sentences(config: dict, entities: str = "entities", relations: str = "") -> list[tuple[list, Sentence]]:
    """The sentences of a file in their documents, with the entities, and relations, of these names, that have
    both arguments; of each its document and its number."""
    found = []
    for d, document in enumerate(config["documents"]):
        words = [tuple(" ".join(map(str, word)) for word in sentence) for sentence in document["sentences"]]
        text, offset = tuple(word for sentence in words for word in sentence), 0
        for s, tokens in enumerate(words):
            typed = [Entity(kind, start, end) for start, end, kind in document[entities][s]]
            place = {(e.start, e.end): i for i, e in enumerate(typed)}
            related = document[relations][s] if relations else []
            known = [(kind, tuple(h), tuple(t)) for h, t, kind in related if {tuple(h), tuple(t)} <= place.keys()]
            triples = tuple(Relation(kind, place[h], place[t]) for kind, h, t in known)
            found.append(([d, s], Sentence(f"{d}-{s}", tokens, tuple(typed), triples, str(d), (), text, offset)))
            offset += len(tokens)
    return found


def recorded(encoder: torch.nn.Module) -> list[tuple[torch.Tensor, ...]]:
    """What is asked of an encoder from now on, and what it says."""
    asked: list[tuple[torch.Tensor, ...]] = []
    encoder.register_forward_hook(lambda _, inputs, states: asked.append((*inputs, states)))
    return asked


def span_model(system: type[SpanBased], reference: Reference, names: dict[str, str], **settings: object) -> SpanBased:
    """SINET or SpERT with the reference's sizes and weights."""
    config = reference.config
    if "entity_type_names" in config:
        symmetric = frozenset(config["symmetric_relation_types"])
        labels = Labels(tuple(config["entity_type_names"][1:]), tuple(config["relation_type_names"]), symmetric)
    else:
        labels = numbered_labels(config["entity_types_with_none"], config["relation_types"])
    sizes = {"max_span_width": config["max_span_width"], "width_size": config["width_embedding_size"]}
    model = system(labels, stored_encoder(config), **sizes, **settings)
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
            pairs = reference[f"{name}/pairs"]
            ours = {
                "span_pool": range_max(states["entity"], spans),
                "entity_logits": model.entity_logits(batch, states, spans),
            }
            if len(pairs):
                ours["relation_logits"] = model.relation_logits(batch, states, spans, pairs)
            if "relation_cls" in states:
                ours["relation_cls"] = states["relation_cls"][b : b + 1]
            out.append(ours)
            row += length
    return out


def assert_released_figures(model: SpanBased, reference: Reference) -> None:
    own = "relation_cls" if isinstance(model, sinet.System) else "span_pool"  # stored of one of them only
    for sentence in stored_sentences(reference):
        (ours,) = span_figures(model, reference, [sentence])
        pairs = ["relation_logits"] if len(reference[f"{sentence.id}/pairs"]) else []
        for name in ["entity_logits", own, *pairs]:
            torch.testing.assert_close(ours[name], reference[f"{sentence.id}/{name}"], atol=2e-5, rtol=0)


@pytest.mark.parametrize("form", ["ours", "released"])
@pytest.mark.parametrize("system", ["sinet", "spert"])
def test_span_systems_equal_the_released_code(system, form, request):
    reference, model = request.getfixturevalue(f"{system}_figures")
    with as_released(model) if form == "released" else contextlib.nullcontext():
        assert_released_figures(model, reference)


@pytest.mark.parametrize("system", ["sinet", "spert"])
def test_padding_changes_nothing(system, request):
    reference, model = request.getfixturevalue(f"{system}_figures")
    sentences = stored_sentences(reference)
    longest = max(sentences, key=lambda s: sum(map(len, model.encoder.word_pieces(s.tokens)))).tokens
    longer = Sentence("longer", longest + longest[:1])
    for sentence, together in zip(sentences, span_figures(model, reference, sentences, [longer]), strict=True):
        (alone,) = span_figures(model, reference, [sentence])
        for name, value in alone.items():
            torch.testing.assert_close(together[name], value, atol=2e-5, rtol=0)


def test_spert_decodes_as_the_released_code(spert_figures):
    reference, model = spert_figures
    sentences = {s.id: s for s in stored_sentences(reference)}
    for group, stored in zip(reference.groups("batch"), reference.config["decoded"], strict=True):
        chosen = [sentences[f"sentence{i}"] for i in reference[f"{group}/sentences"].tolist()]
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


# -- Multi-turn QA -------------------------------------------------------------------------------------------------


class Phrases(Vocabulary):
    """Also cuts text, by the file's word pieces."""

    def __init__(self, config: dict, folder: Path) -> None:
        super().__init__(config)
        (folder / "vocab.txt").write_text("\n".join(config["vocabulary"]), encoding="utf-8")
        self.of_text = BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=True)

    def get_vocab(self) -> dict[str, int]:
        return self.of_text.get_vocab()

    def __call__(self, words: list[str], add_special_tokens: bool) -> dict:
        if all(piece.isdigit() for word in words for piece in word.split()):
            return super().__call__(words, add_special_tokens)
        return self.of_text(words, add_special_tokens=add_special_tokens)

    def cut(self, text: str) -> list[int]:
        return self.of_text(text, add_special_tokens=False)["input_ids"]


@pytest.fixture(scope="module")
def multi_turn_figures(tmp_path_factory) -> tuple[Reference, multi_turn_qa.System, list[Sentence]]:
    """The file, the system, and the sentences without a title, whose pieces are their words."""
    reference = Reference("multi_turn_qa.npz")
    config = reference.config
    encoder = stored_encoder(config)
    encoder.tokenizer = Phrases(config, tmp_path_factory.mktemp("vocabulary"))
    encoder.max_pieces = config["max_pieces"]
    placeholders = {"entity type": "tail", "tail type": "tail", "head type": "head", "head text": "mention"}
    templates = [config["templates"][turn] for turn in ("turn1", "turn2")]
    for theirs, ours in placeholders.items():
        templates = [template.replace(f"{{{theirs}}}", f"{{{ours}}}") for template in templates]
    labels = Labels(tuple(config["entity_names"]), tuple(config["relation_names"]), frozenset())
    model = multi_turn_qa.System(
        labels,
        encoder,
        entity_question=templates[0],
        relation_question=templates[1],
        names=config["entity_names"] | config["relation_names"],
        least_count=config["count_threshold"],
        max_distance=config["max_distance"],
        turn_weight=config["theta"],
        max_heads=1000,
    )
    assert model.wording.markers == [config["head_start_token_id"], config["head_end_token_id"]]
    assert [config["tags"].index(tag) for tag in "BMESO"] == [BEGIN, MIDDLE, END, SINGLE, OUTSIDE]
    weights = {n: w for n, w in reference.weights().items() if ".pooler." not in n}
    stored = renamed(weights, {"bert": "encoder.model", "tag_linear": "tag"})
    missing, unexpected = model.load_state_dict(stored, strict=False)
    assert not unexpected and set(missing) == {"counts"}
    counts = torch.tensor(config["triple_counts"]).view_as(model.counts)
    # the released code asks in training, too, only for what is frequent
    model.counts.copy_(counts.masked_fill(counts < config["count_threshold"], 0))
    return reference, model.eval(), [multi_turn_sentence(f"{i}", of) for i, of in enumerate(config["plain"])]


def multi_turn_sentence(name: str, stored: dict) -> Sentence:
    entities = tuple(Entity(*entity) for entity in stored["entities"])
    relations = tuple(Relation(*relation) for relation in stored["relations"])
    return Sentence(name, tuple(map(str, stored["pieces"])), entities, relations)


def multi_turn_asked(model: multi_turn_qa.System, sentences: list[Sentence], rows: list[dict]) -> Asked:
    """The questions of the rows of one turn."""
    types, relations = (names.index for names in (model.labels.entity_types, model.labels.relation_types))
    numbers = [[types(row["type"]) for row in rows]]
    heads = [row["head"] for row in rows if "head" in row]
    if heads:
        numbers += [[relations(row["relation"]) for row in rows], [types(kind) for kind, _, _ in heads]]
    extent = [torch.tensor([[start + 1, end] for _, start, end in heads])] if heads else []
    sentence = torch.tensor([row["sentence"] for row in rows])
    phrases = model.wording(*map(torch.tensor, numbers))
    return model.wording.asked(model.collate(sentences), sentence, phrases, *extent)


def assert_asked(asked: Asked, reference: Reference, prefix: str, rows: list[int] | slice = slice(None)) -> None:
    """The stored inputs of these rows, which may be padded further."""
    width = asked.ids.shape[1]
    mask = reference[f"{prefix}/attention_mask"][rows]
    assert int(mask.sum(1).max()) == width and torch.equal(asked.mask, mask[:, :width])
    assert torch.equal(asked.ids * asked.mask, (reference[f"{prefix}/input_ids"][rows] * mask)[:, :width])
    assert torch.equal(asked.types, reference[f"{prefix}/token_type_ids"][rows][:, :width])
    read = asked.column >= 0
    read[:, 0] = True
    assert torch.equal(read.long(), reference[f"{prefix}/context_mask"][rows][:, :width])


@pytest.mark.parametrize("turn", ["plain_turn1", "plain_turn2"])
def test_multi_turn_qa_asks_as_the_released_code(turn, multi_turn_figures):
    reference, model, sentences = multi_turn_figures
    rows = reference.config[turn]["rows"]
    asked = multi_turn_asked(model, sentences, rows)
    assert_asked(asked, reference, turn)
    for i, row in enumerate(rows):
        question = [model.encoder.tokenizer.cls_token_id, *model.encoder.tokenizer.cut(row["question"])]
        assert asked.ids[i, : len(question)].tolist() == question
        assert row["offset"] == len(question) + 1 == int((asked.types[i] == 0).sum())


def test_multi_turn_qa_cuts_what_is_too_long_as_the_released_code(multi_turn_figures):
    """Questions of any wording; a title is read as a part of the question."""
    reference, model, _ = multi_turn_figures
    config = reference.config
    wording, tokenizer = copy.deepcopy(model.wording), model.encoder.tokenizer
    assert {bool(case["head"]) for case in config["input_cases"]} == {False, True}
    for case in config["input_cases"]:
        title = [tokenizer.sep_token_id, *case["title"]] if case["title"] else []
        question = torch.tensor([*tokenizer.cut(case["question"]), *title])
        wording.phrases, wording.lengths = question.expand(3, -1), torch.tensor([0, 0, len(question)])
        wording.longest = case["max_pieces"]
        batch = model.collate([Sentence("case", tuple(map(str, case["context"])))])
        extent = [torch.tensor([[case["head"][0] + 1, case["head"][1]]])] if case["head"] else []
        asked = wording.asked(batch, torch.zeros(1, dtype=torch.long), torch.tensor([[2]]), *extent)
        assert asked.ids.tolist() == [case["input_ids"]] and asked.types.tolist() == [case["token_type_ids"]]
        tags = tags_of([[(start + 1, end) for start, end in case["answers"]]], asked.column)
        assert (tags != NO_TAG).long().tolist() == [case["context_mask"]]
        assert tags.masked_fill(tags == NO_TAG, -1).tolist() == [case["tags"]]


def test_multi_turn_qa_tags_as_the_released_code(multi_turn_figures):
    """All stored questions, with titles and without; answers from the stored tags and from ours."""
    reference, model, _ = multi_turn_figures
    for name in ("turn1", "turn2", "plain_turn1", "plain_turn2", "train"):
        inputs = [reference[f"{name}/{what}"] for what in ("input_ids", "attention_mask", "token_type_ids")]
        with torch.no_grad():
            logits = model.tag_logits(*inputs)
        real = inputs[1].bool()
        torch.testing.assert_close(logits[real], reference[f"{name}/tag_logits"][real], atol=2e-5, rtol=0)
        inside = reference[f"{name}/context_mask"].bool()
        inside[:, 0] = False
        if name != "train":
            found: list[list] = [[] for _ in real]
            for row, first, last in zip(*tagged_spans(logits.argmax(-1), inside), strict=True):
                found[row].append([int(first), int(last) + 1])
            assert found == reference.config[name]["spans"]


def test_multi_turn_qa_reads_answers_off_tags_as_the_released_code(multi_turn_figures):
    """Also where other tags stand outside of the sentence."""
    cases = multi_turn_figures[0].config["decoding_cases"]
    longest = max(len(case["context"]) for case in cases)
    for outside in "BMESO":
        lines = [case["cls"] + outside + case["context"].ljust(longest + 1, outside) for case in cases]
        inside = [[False, False, *(i < len(case["context"]) for i in range(longest + 1))] for case in cases]
        tags = torch.tensor([["BMESO".index(tag) for tag in line] for line in lines])
        found: list[list] = [[] for _ in cases]
        for row, first, last in zip(*tagged_spans(tags, torch.tensor(inside)), strict=True):
            found[row].append([int(first) - 2, int(last) - 1])
        assert found == [case["spans"] for case in cases]


def multi_turn_questions(model: multi_turn_qa.System, sentence: Sentence) -> tuple[dict, list[dict]]:
    """Our training questions of a sentence in the form of the file, the question by its pieces."""
    words = len(sentence.tokens)
    answers, turns = model.gold(sentence, words)[1], ({}, {})
    types, kinds = model.labels.entity_types, model.labels.relation_types
    for question in model.questions(sentence, words):
        row = {"sentence": 0, "type": types[question.tail]}
        head = question.head and [types[question.head[0]], *question.head[1:]]
        if head:
            row |= {"relation": kinds[question.relation], "head": head}
        asked = multi_turn_asked(model, [sentence], [row])
        pieces = tuple(asked.ids[0, 1 : int((asked.types == 0).sum()) - 1].tolist())
        turns[bool(head)].setdefault(tuple(head or ()), {})[pieces] = sorted(answers.get(question[1:], []))
    return turns[0].get((), {}), list(turns[1].items())


def test_multi_turn_qa_learns_from_the_released_questions(multi_turn_figures):
    """Of sentences without a title, by the distance of the tails and without."""
    reference, model, sentences = multi_turn_figures
    config, cut = reference.config, model.encoder.tokenizer.cut

    def stored(questions: dict) -> dict:
        return {tuple(cut(text)): sorted(map(tuple, spans)) for text, spans in questions.items()}

    by_distance = [made for made in config["training_questions"] if not made["title"]]
    for nearby, listed in ((True, by_distance), (False, config["plain_all_turn2_questions"])):
        set_on(model, tails_to_the_right=nearby)
        for sentence, made in zip(sentences, listed, strict=True):
            assert list(sentence.tokens) == list(map(str, made["context"]))
            first, second = multi_turn_questions(model, sentence)
            assert list(first.items()) == list(stored(made["turn1"]).items())
            expected = [(tuple(of["head"]), stored(of["questions"])) for of in made["turn2"] if of["questions"]]
            assert [(head, list(of.items())) for head, of in second] == [(h, list(of.items())) for h, of in expected]
    set_on(model, tails_to_the_right=True)


def test_multi_turn_qa_makes_the_released_training_tensors(multi_turn_figures):
    """The rows of sentences without a title among all."""
    reference, model, sentences = multi_turn_figures
    made = reference.config["training_questions"]
    turn = reference["train/turn"]
    titled = [bool(of["title"]) for of in made for _ in of["turn1"]]
    titled += [bool(of["title"]) for of in made for head in of["turn2"] for _ in head["questions"]]
    assert len(titled) == len(turn)
    items = [q for sentence in sentences for q in model.questions(sentence, len(sentence.tokens))]
    batch = model.training_batch(items)
    for number in (1, 2):
        rows = [i for i, has in enumerate(titled) if not has and int(turn[i]) == number]
        width = batch[f"turn{number}_tags"].shape[1]
        for name in ("input_ids", "attention_mask", "token_type_ids", "tags"):
            ours, theirs = batch[f"turn{number}_{name}"], reference[f"train/{name}"][rows]
            real = batch[f"turn{number}_attention_mask"].bool()
            assert int(reference["train/attention_mask"][rows].sum()) == int(real.sum())
            ours = ours.masked_fill(ours == NO_TAG, -1) if name == "tags" else ours
            assert torch.equal(ours[real], theirs[:, :width][real]), name


def test_multi_turn_qa_losses_equal_the_released_code(multi_turn_figures):
    reference, model, _ = multi_turn_figures
    shares = {"turn1": reference.config["theta"], "turn2": 1 - reference.config["theta"]}
    assert len({tuple(reference[f"{name}/losses"].bool().tolist()) for name in reference.groups("batch")}) > 1
    for name in reference.groups("batch"):
        rows, tensors = reference[f"{name}/rows"], {}
        for number in (1, 2):
            chosen = rows[reference["train/turn"][rows] == number]
            if len(chosen):
                for what in ("input_ids", "attention_mask", "token_type_ids", "tags"):
                    tensors[f"turn{number}_{what}"] = reference[f"train/{what}"][chosen]
                tags = tensors[f"turn{number}_tags"]
                tags.masked_fill_(tags == -1, NO_TAG)
        batch = Batch([], tensors)
        terms, divisors = model.losses(batch), model.divisors([batch])
        ours = [float(terms[t]) / divisors[t] / share if t in terms else 0.0 for t, share in shares.items()]
        total, *stored = reference[f"{name}/losses"].tolist()
        assert ours == pytest.approx(stored, abs=2e-5) and float(model.loss(batch)) == pytest.approx(total, abs=2e-5)


@pytest.mark.parametrize("pieces", [1, 100, 10**6])
@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
def test_multi_turn_qa_decodes_as_the_released_code(together, pieces, multi_turn_figures):
    """Tails are entities besides those of turn 1; a relation of an entity with itself is none."""
    reference, model, sentences = multi_turn_figures
    set_on(model, pieces_at_once=pieces)
    plain = [sentence.without_labels() for sentence in sentences]
    found = [p for part in ([plain] if together else [[s] for s in plain]) for p in model.decode(model.collate(part))]
    theirs = reference.config["plain_predicted"]
    triples = {(s, tuple(h), name, tuple(t)) for s, h, name, t in theirs["triples"] if h != t}
    entities = {(s, *entity) for s, *entity in theirs["entities"]} | {(s, *tail) for s, _, _, tail in triples}
    spans = [[(e.type, e.start, e.end) for e in p.entities] for p in found]
    assert {(s, *span) for s, of in enumerate(spans) for span in of} == entities
    ours = [(s, spans[s][r.head], r.type, spans[s][r.tail]) for s, p in enumerate(found) for r in p.relations]
    assert set(ours) == triples and len(ours) == len(triples) and sum(map(len, spans)) == len(entities)


# -- PFN -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pfn_figures() -> tuple[Reference, pfn.System]:
    reference = Reference("pfn.npz")
    config = reference.config
    encoder = torch.nn.Module()  # the stored inputs are embeddings already
    encoder.hidden_size = config["input_size"]
    labels = numbered_labels(config["entity_types"] + 1, config["relation_types"])
    model = pfn.System(labels, encoder, hidden_size=config["hidden_size"], dropconnect=config["dropconnect"])
    model.load_state_dict(renamed(reference.weights(), PFN_NAMES), strict=True)
    return reference, model.eval()


def pfn_tables(
    model: pfn.System, embeddings: torch.Tensor, mask: torch.Tensor, padding: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """Our counterparts, batch first; `padding` (batch, length) is 0 where the global feature must not look."""
    with torch.no_grad():
        entity, relation, share = model.partition_filter(embeddings)
        both = (mask.unsqueeze(2) * mask.unsqueeze(1)).unsqueeze(-1)
        out = {"h_ner": entity, "h_re": relation, "h_share": share}
        for name, table, task, ordered in (
            ("ner_scores", model.entity_table, entity, True),
            ("re_scores", model.relation_table, relation, False),
        ):
            summary = table.summary(share, task, padding)
            scores = table(task, summary, ordered).sigmoid() * both
            with as_released(table):
                written_out = table(task, summary, ordered=False).sigmoid() * both
            if ordered:
                written_out = written_out.permute(0, 3, 1, 2).triu().permute(0, 2, 3, 1)
            torch.testing.assert_close(scores, written_out, atol=1e-5, rtol=0)
            out[name] = scores
    return out


def pfn_batches(reference: Reference) -> list[tuple[str, torch.Tensor, torch.Tensor, list[int]]]:
    """Name, embeddings (batch, length, input), mask (batch, length) and real lengths of each stored batch."""
    found = []
    for name in reference.groups("batch"):
        mask = reference[f"{name}/mask"].T
        # up to the last real piece; a sentence that is masked throughout has none
        lengths = [int((row * torch.arange(1, len(row) + 1)).max()) for row in mask]
        found.append((name, reference[f"{name}/embeddings"].transpose(0, 1), mask, lengths))
    return found


def pfn_stored(reference: Reference, name: str, what: str) -> torch.Tensor:
    """A stored array, batch first."""
    array = reference[f"{name}/{what}"]
    return array.transpose(0, 1) if array.ndim == 3 else array.permute(2, 0, 1, 3)


def test_pfn_equals_the_released_code_with_its_mask_off(pfn_figures):
    reference, model = pfn_figures
    for name, embeddings, mask, _ in pfn_batches(reference):
        for what, ours in pfn_tables(model, embeddings, mask, None).items():
            torch.testing.assert_close(ours, pfn_stored(reference, name, what), atol=1e-5, rtol=0)


def test_pfn_with_its_mask_equals_the_released_code_without_padding_and_ignores_padding(pfn_figures):
    reference, model = pfn_figures
    for name, embeddings, mask, lengths in pfn_batches(reference):
        padding = torch.arange(mask.shape[1]) < torch.tensor(lengths).unsqueeze(1)
        together = pfn_tables(model, embeddings, mask, padding)
        for b, n in enumerate(lengths):
            if not n:  # nothing of it is real: no cell has a score
                for what in ("ner_scores", "re_scores"):
                    assert not together[what][b].any() and not pfn_stored(reference, name, what)[b].any()
                continue
            alone = pfn_tables(model, embeddings[b : b + 1, :n], mask[b : b + 1, :n], None)
            for what in ("ner_scores", "re_scores"):
                torch.testing.assert_close(together[what][b, :n, :n], alone[what][0], atol=1e-5, rtol=0)
                if n == mask.shape[1]:
                    released = pfn_stored(reference, name, what)[b]
                    torch.testing.assert_close(together[what][b], released, atol=1e-5, rtol=0)


# -- table-sequence encoders ---------------------------------------------------------------------------------------


def table_sequence_weights(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Released weights under our names: products of concatenations apart, both directions of a recurrence together."""
    ours = {
        "reduce": "reduce_emb_dim",
        "entity_tags": "ner_tag_logits_layer",
        "relation_tags": "re_tag_logits_layer",
    }
    out = {f"{a}.{w}": stored[f"{b}.{w}"] for a, b in ours.items() for w in ("weight", "bias")}
    prefixes = ["bi_encoding.layer0."]
    while f"bi_encoding.layers.{len(prefixes) - 1}.seq_encoding.linear_o.weight" in stored:
        prefixes.append(f"bi_encoding.layers.{len(prefixes) - 1}.")
    for k, prefix in enumerate(prefixes):
        layer = {n.removeprefix(prefix): v for n, v in stored.items() if n.startswith(prefix)}
        new = {"score.weight": layer["seq_encoding.linear_qk.weight"]}
        for a, b in {
            "value": "linear_v",
            "output": "linear_o",
            "attention_norm": "norm0",
            "norm": "norm1",
            "feed_forward.0": "ffn.0",
            "feed_forward.3": "ffn.3",
        }.items():
            new |= {f"{a}.{w}": layer[f"seq_encoding.{b}.{w}"] for w in ("weight", "bias")}
        pair = layer["tab_encoding.seq2mat.reduce.weight"]
        hidden = len(pair)
        new |= {"row.weight": pair[:, :hidden], "column.weight": pair[:, hidden:]}
        new["row.bias"] = layer["tab_encoding.seq2mat.reduce.bias"]
        if (joined := layer.get("tab_encoding.reduce_X.weight")) is not None:
            new |= {"cell.weight": joined[:, :hidden], "attention_input.weight": joined[:, hidden:]}
            new["cell.bias"] = layer["tab_encoding.reduce_X.bias"]
        cells = [
            {w: layer[f"tab_encoding.mdrnn.{c}.{w}"] for w in ("Wi.weight", "Wi.bias", "Ws.weight", "Ws.bias")}
            for c in ("cellf", "cellb")
        ]
        new["recurrence.input"] = torch.stack([c["Wi.weight"].T for c in cells])
        new["recurrence.input_bias"] = torch.stack([c["Wi.bias"] for c in cells])[:, None]
        new["recurrence.state"] = torch.stack([c["Ws.weight"].T for c in cells])
        new["recurrence.state_bias"] = torch.stack([c["Ws.bias"] for c in cells])[:, None]
        out |= {f"layers.{k}.{name}": value for name, value in new.items()}
    return out


def table_sequence_network(config: dict, weights: dict[str, torch.Tensor]) -> table_sequence.TableSequence:
    """The network of a file's sizes and weights, without dropout."""
    sizes = (config[n] for n in ("word_input_size", "hidden_size", "attention_heads", "layers", "lm_attention_size"))
    network = table_sequence.TableSequence(*sizes, len(config["ner_tags"]), len(config["re_tags"]), 0.0)
    network.load_state_dict(table_sequence_weights(weights), strict=True)
    return network


def table_sequence_labels(config: dict) -> Labels:
    """The types of a file's tags, which stand in our order."""
    types = tuple(tag[2:] for tag in config["ner_tags"] if tag.startswith("B-"))
    relations = tuple(tag.split(":")[2] for tag in config["re_tags"] if ":fw:" in tag)
    assert config["ner_tags"] == ["O", *(f"{x}-{t}" for t in types for x in "BI")]
    assert config["re_tags"] == ["O", *(f"I:{way}:{r}" for r in relations for way in ("fw", "bw"))]
    return Labels(types, relations, frozenset())


def table_sequence_variants() -> list[tuple[Reference, str, dict, table_sequence.TableSequence]]:
    reference = Reference("table_sequence.npz")
    return [
        (reference, variant, config, table_sequence_network(config, reference.weights(f"{variant}/weight/")))
        for variant, config in reference.config["variants"].items()
    ]


def table_sequence_batches(reference: Reference, variant: str) -> list[tuple[str, tuple, torch.Tensor]]:
    """Prefix of the stored arrays, network input, mask, of each stored batch."""
    found = []
    for prefix in reference.groups(f"{variant}/batch")[: reference.config["variants"][variant]["batches"]]:
        maps = f"{prefix}/lm_attention"
        maps = reference[maps] if maps in reference.arrays.files else None
        found.append((prefix, (reference[f"{prefix}/word_inputs"], maps), reference[f"{prefix}/mask"].bool()))
    return found


def test_table_sequence_equals_the_released_code():
    for reference, variant, config, network in table_sequence_variants():
        for prefix, (words, maps), mask in table_sequence_batches(reference, variant):
            both = mask.unsqueeze(2) & mask.unsqueeze(1)
            with torch.no_grad():
                order = table_sequence.Order.of(words.shape[1], words.device)
                states, (entity, relation) = network.states(words, maps, mask, order), network(words, maps, mask)
            figures = {"S_0": (network.reduce(words), mask, 1e-5)}
            assert len(states) == config["layers"]
            for k, (sequence, table, attention) in enumerate(states, 1):
                rows = [way[places] for way, places in zip(table, order.places, strict=True)]
                table = torch.cat(rows, dim=-1).unflatten(0, words.shape[1:2] * 2).permute(2, 0, 1, 3)
                queries = mask.unsqueeze(1).expand(attention.shape[:3])
                figures |= {f"S_{k}": (sequence, mask, 1e-5), f"T_{k}": (table, both, 1e-5)}
                figures[f"attention_{k}"] = attention, queries, 1e-5
            figures |= {"ner_logits": (entity, mask, 5e-5), "re_logits": (relation, both, 5e-5)}
            for name, (ours, inside, tolerance) in figures.items():
                theirs = reference[f"{prefix}/{name}"]
                torch.testing.assert_close(ours[inside], theirs[inside], atol=tolerance, rtol=0)


def test_table_sequence_decodes_as_the_released_code():
    for reference, variant, config, network in table_sequence_variants():
        labels = table_sequence_labels(config)
        batches = table_sequence_batches(reference, variant)
        for (_, inputs, mask), stored in zip(batches, config["decoded"], strict=True):
            with torch.no_grad():
                predicted = table_sequence.decode_tags(labels, *network(*inputs, mask), mask)
            for ours, theirs in zip(predicted, stored, strict=True):
                spans = [[e.start, e.end, e.type] for e in ours.entities]
                assert spans == theirs["entities"]
                related = sorted([spans[r.head][:2], spans[r.tail][:2], r.type] for r in ours.relations)
                assert related == sorted(theirs["relations"])


# -- TCRE ----------------------------------------------------------------------------------------------------------

TCRE_NAMES = {
    "feature_extractor.unit.input_transform1": "unit.entity.gates",
    "feature_extractor.unit.input_transform2": "unit.relation.gates",
    "feature_extractor.unit.input_transform3": "unit.entity.exchange",
    "feature_extractor.unit.input_transform4": "unit.relation.exchange",
    "feature_extractor.unit.att1": "unit.entity.attention",
    "feature_extractor.unit.att2": "unit.relation.attention",
} | {released: ours for released, ours in PFN_NAMES.items() if released.startswith(("ner.", "re.", "bert"))}
TCRE_TASKS = {"ner": "entity", "re": "relation"}


def tcre_model(**settings: object) -> tuple[Reference, tcre.System]:
    """A model of the file's sizes and weights, or of what it has of them."""
    reference = Reference("tcre.npz")
    config, weights = reference.config, reference.weights()
    labels = Labels(tuple(config["entity_types"]), tuple(config["relation_types"]), frozenset())
    sizes = {"hidden_size": config["hidden_size"], "heads": config["attention_heads"], "dropout": 0.0}
    thresholds = dict.fromkeys(("threshold", "entity_threshold"), config["threshold"])
    model = tcre.System(labels, stored_encoder(config), **sizes | thresholds | settings)
    mixed = {f"weight{k}": weights.pop(f"feature_extractor.unit.weight{k}").T for k in (1, 2)}
    # ours has the share of its own task first, the released code that of entities
    fuse = {"unit.entity.fuse.weight": mixed["weight1"], "unit.relation.fuse.weight": mixed["weight2"].flip(0)}
    weights = renamed({n: w for n, w in weights.items() if not n.startswith("re.r.")}, TCRE_NAMES) | fuse
    if model.settings.interaction == "tcre":
        model.load_state_dict(weights, strict=True)
        assert model.entity_table.norm.eps == model.relation_table.norm.eps == config["layer_norm_eps"]
    else:
        model.unit.load_state_dict({n.removeprefix("unit."): w for n, w in weights.items() if ".gates." in n})
    return reference, model.eval()


@pytest.fixture(scope="module")
def tcre_figures() -> tuple[Reference, tcre.System]:
    """In training, without dropout, and with padding computed with: as the released code in training and prediction."""
    reference, model = tcre_model(mask_padding=False)
    return reference, model.train()


def tcre_sentences(reference: Reference, name: str) -> list[Sentence]:
    """The sentences of a batch with their gold."""
    found = []
    for k, (ids, gold) in enumerate(zip(reference[f"{name}/input_ids"], batch_gold(reference, name), strict=True)):
        place = {(start, end): i for i, (start, end, _) in enumerate(gold["entities"])}
        entities = tuple(Entity(kind, start, end) for start, end, kind in gold["entities"])
        relations = (Relation(kind, place[tuple(head)], place[tuple(tail)]) for kind, head, tail in gold["relations"])
        words = words_of(ids, reference[f"{name}/word_offsets_{k}"])
        found.append(Sentence(f"{name}-{k}", words, entities, tuple(relations)))
    return found


def batch_gold(reference: Reference, name: str, what: str = "gold") -> list[dict]:
    return reference.config[what][reference.groups("batch").index(name)]


def tcre_unit(model: tcre.System, states: torch.Tensor, mask: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Our counterparts of the stored arrays of the unit, batch first."""
    seen: dict[str, torch.Tensor] = {}
    hooks = []
    for theirs, ours in TCRE_TASKS.items():

        def exchanged(_: object, inputs: tuple, out: torch.Tensor, name: str = theirs) -> None:
            seen[f"interaction_gate_output_{name}"] = inputs[0].chunk(2, dim=-1)[0]
            seen[f"interaction_{name}"] = out

        def attended(_: object, inputs: tuple, out: tuple, name: str = theirs) -> None:
            seen[f"attention_output_{name}"], seen[f"attention_weights_{name}"] = out

        def fused(_: object, inputs: tuple, out: torch.Tensor, name: str = theirs) -> None:
            seen[f"share_{name}"] = out.softmax(-1)[..., 0]

        task = getattr(model.unit, ours)
        hooks += [task.exchange.register_forward_hook(exchanged), task.attention.register_forward_hook(attended)]
        hooks.append(task.fuse.register_forward_hook(fused))
    with torch.no_grad():
        seen["h_ner"], seen["h_re"] = model.unit(states, mask)
    for hook in hooks:
        hook.remove()
    hidden = model.settings.hidden_size
    seen |= {f"task_gated_{name}": seen[f"h_{name}"][..., :hidden] for name in TCRE_TASKS}
    # the term without a gradient, of the share that each task has of itself
    both = (seen.pop("share_ner") * seen.pop("share_re")).double()
    return seen | {"loss_fusion": (both.sum().log().abs() / both.numel()).float()}


def tcre_scores(model: tcre.System, seen: dict[str, torch.Tensor], mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """Both tables, batch first, over the unit's features, with their padding."""
    both, scores = (mask.unsqueeze(2) * mask.unsqueeze(1)).unsqueeze(-1), {}
    for name, task in TCRE_TASKS.items():
        table, features = getattr(model, f"{task}_table"), seen[f"h_{name}"]
        with torch.no_grad():
            logits = table(features, table.summary(None, features, None), ordered=name == "ner")
        scores[f"{name}_scores"] = logits.sigmoid() * both
    return scores


def tcre_states(reference: Reference, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The stored states and mask of a batch, batch first."""
    return reference[f"{name}/embeddings"].transpose(0, 1), reference[f"{name}/mask"].T


def test_tcre_equals_the_released_code(tcre_figures):
    reference, model = tcre_figures
    for name in reference.groups("batch"):
        states, mask = tcre_states(reference, name)
        ours = tcre_unit(model, states, None)
        ours |= tcre_scores(model, ours, mask)
        assert len(ours) == 15
        for what, array in ours.items():
            stored = reference[f"{name}/{what}"]
            if stored.ndim and "weights" not in what:
                stored = pfn_stored(reference, name, what)
            torch.testing.assert_close(array, stored, atol=1e-5, rtol=0, msg=f"{name}: {what}")


def test_tcre_equals_the_released_code_where_its_attention_says_nothing(tcre_figures, monkeypatch):
    reference, model = tcre_figures
    for task in (model.unit.entity, model.unit.relation):
        silent = lambda query, key, value, **options: (torch.zeros_like(query), None)  # noqa: E731
        monkeypatch.setattr(task.attention, "forward", silent)
    for name in reference.groups("batch"):
        ours = tcre_unit(model, tcre_states(reference, name)[0], None)
        for what in ("h_ner", "h_re", "loss_fusion"):
            stored = reference[f"{name}/without_attention/{what}"]
            stored = stored.transpose(0, 1) if stored.ndim else stored
            torch.testing.assert_close(ours[what], stored, atol=1e-5, rtol=0)


def test_tcre_reads_sentences_and_learns_as_the_released_code(tcre_figures):
    """From words and gold: states, gold cells, and the losses that have a gradient."""
    reference, model = tcre_figures
    for name in reference.groups("batch"):
        batch = model.training_batch(tcre_sentences(reference, name))
        assert torch.equal(batch["input_ids"], reference[f"{name}/input_ids"])
        states, mask = tcre_states(reference, name)
        assert torch.equal(batch["attention_mask"].long(), mask)
        with torch.no_grad():
            ours = model.encoder(batch["input_ids"], batch["attention_mask"])
            losses = model.losses(batch)
        torch.testing.assert_close(ours, states, atol=2e-5, rtol=0)
        divisors = model.divisors([batch])
        assert set(losses) == set(TCRE_TASKS.values())
        for theirs, task in TCRE_TASKS.items():
            cells = {"entity": "gold_entities", "relation": "gold_relations"}[task]
            stored = pfn_stored(reference, name, f"{theirs}_labels")
            assert sorted(batch[cells].tolist()) == stored.nonzero().tolist()
            released = reference[f"{name}/loss_{theirs}"]
            torch.testing.assert_close(losses[task] / divisors[task], released, atol=2e-5, rtol=0)


def named_cells(cells: torch.Tensor, types: tuple[str, ...]) -> list[list]:
    """Cells (cells, 3) as they are stored: two positions and a type's name."""
    return [[i, j, types[kind]] for i, j, kind in cells.tolist()]


def test_tcre_decodes_as_the_released_code(tcre_figures):
    """All cells of the tables, and their counts by the released metric; of these our decoding has those on first
    pieces, relations between two entities alone."""
    reference, model = tcre_figures
    types, kinds = model.labels.entity_types, model.labels.relation_types
    for name in reference.groups("batch"):
        states, mask = tcre_states(reference, name)
        scores = tcre_scores(model, tcre_unit(model, states, None), mask)
        counts = {"entities": torch.zeros(3), "triples": torch.zeros(3)}
        sentences = tcre_sentences(reference, name)
        predicted = model.decode(model.collate([s.without_labels() for s in sentences]))
        stored = batch_gold(reference, name, "decoded")
        for k, (ours, theirs) in enumerate(zip(predicted, stored, strict=True)):
            entity, relation = (scores[f"{n}_scores"][k] >= reference.config["threshold"] for n in TCRE_TASKS)
            starts = entity.any(2).any(1)
            kept = relation & starts[:, None, None] & starts[:, None]
            assert named_cells(entity.nonzero(), types) == theirs["entity_cells"]
            assert named_cells(relation.nonzero(), kinds) == theirs["relation_cells_above_threshold"]
            assert named_cells(kept.nonzero(), kinds) == theirs["relation_cells"]
            gold, related = (pfn_stored(reference, name, f"{n}_labels")[k].bool() for n in TCRE_TASKS)
            right = (entity & gold).any(2).any(1)
            counts["entities"] += torch.stack([x.sum() for x in (entity, gold, entity & gold)])
            both = right[:, None, None] & right[:, None]
            counts["triples"] += torch.stack([x.sum() for x in (kept, related, kept & related & both)])

            word = {int(first): w for w, (first, _) in enumerate(reference[f"{name}/word_offsets_{k}"])}
            cells = [(word[i], word[j] + 1, t) for i, j, t in theirs["entity_cells"] if i in word and j in word]
            assert sorted((e.start, e.end, e.type) for e in ours.entities) == sorted(cells)
            begin = [start for start, _, _ in cells]
            expected = {
                (word[i], word[j], t)
                for i, j, t in theirs["relation_cells_above_threshold"]
                if {i, j} <= word.keys() and begin.count(word[i]) and begin.count(word[j]) > (i == j)
            }
            spans = ours.entities
            assert {(spans[r.head].start, spans[r.tail].start, r.type) for r in ours.relations} == expected
        assert {what: found.tolist() for what, found in counts.items()} == batch_gold(reference, name, "counts")


@pytest.mark.parametrize("mask_padding, training", [(True, True), (True, False), (False, False)])
def test_tcre_with_its_mask_equals_the_released_code_without_padding_and_ignores_padding(mask_padding, training):
    reference, model = tcre_model(mask_padding=mask_padding)
    model.train(training)
    for name in reference.groups("batch"):
        sentences = tcre_sentences(reference, name)
        with torch.no_grad():
            together = model.encode(model.collate(sentences))
            for b, sentence in enumerate(sentences):
                alone, n = model.encode(model.collate([sentence])), int(reference[f"{name}/mask"][:, b].sum())
                for theirs, one, all_ in zip(TCRE_TASKS, alone, together, strict=True):
                    torch.testing.assert_close(all_[1][b, :n], one[1][0], atol=1e-5, rtol=0)
                    torch.testing.assert_close(all_[2][b], one[2][0], atol=1e-5, rtol=0)
                    if n == len(reference[f"{name}/mask"]):
                        released = pfn_stored(reference, name, f"h_{theirs}")[b]
                        torch.testing.assert_close(one[1][0], released, atol=3e-5, rtol=0)


def test_mge_is_the_gates_of_tcre_alone():
    """Of the stored figures both gates; it has no weight but theirs and the tables'."""
    reference, model = tcre_model(interaction="mge")
    parts = {
        n.split(".")[0] + "." + n.split(".")[-2] for n, _ in model.named_parameters() if not n.startswith("encoder.")
    }
    tables = {f"{task}_table.{part}" for task in TCRE_TASKS.values() for part in ("pair", "norm", "classify")}
    assert parts == {"unit.gates"} | tables
    for name in reference.groups("batch"):
        with torch.no_grad():
            found = model.unit(tcre_states(reference, name)[0], None)
        for theirs, ours in zip(TCRE_TASKS, found, strict=True):
            gates = [f"task_gated_{theirs}", f"interaction_gate_output_{theirs}"]
            stored = torch.cat([pfn_stored(reference, name, gate) for gate in gates], dim=-1)
            torch.testing.assert_close(ours, stored, atol=1e-5, rtol=0)


# -- PURE ----------------------------------------------------------------------------------------------------------


def pure_model(reference: Reference, names: dict[str, str], labels: Labels, **settings: object) -> pure.System:
    """PURE with the stored half of its weights; the other half stays random and is not used."""
    config = reference.config
    keys = {"max_span_width": "max_span_width", "head_hidden_size": "hidden_size"}
    keys |= {"width_embedding_size": "width_size", "max_sequence_length": "max_sequence_length"}
    settings |= {ours: config[theirs] for theirs, ours in keys.items() if theirs in config}
    model = pure.System(labels, stored_encoder(config), **settings)
    missing, unexpected = model.load_state_dict(renamed(reference.weights(), names), strict=False)
    assert not unexpected and not {n for n in missing if n.startswith(tuple(names.values()))}
    if ids := config.get("marker_token_ids"):
        ids = ids.get(str(settings.get("relation_window")), ids)
        model.encoder.max_pieces = 10**6  # a sequence is cut after its markers are in it, not its sentence before
        model.relation_model.norm.eps = config["layer_norm_eps"]
        markers = [
            [[f"{role}_{end}={t}" for end in ("START", "END")] for role in ("SUBJ", "OBJ")] for t in labels.entity_types
        ]
        model.markers = torch.tensor([[[ids.get(n, -1) for n in role] for role in kind] for kind in markers])
    return model.eval()


def test_pure_entity_model_equals_the_released_code():
    reference = Reference("pure_entity.npz")
    model = pure_model(reference, PURE_ENTITY_NAMES, numbered_labels(len(reference.config["labels"]), 1))
    for group in reference.groups("batch"):
        ids = reference[f"{group}/input_ids"]
        offsets = [reference[f"{group}/word_offsets_{b}"] for b in range(len(ids))]
        sentences = [Sentence(f"{group}/{b}", words_of(*pair)) for b, pair in enumerate(zip(ids, offsets, strict=True))]
        batch = model.collate(sentences)
        width = batch["input_ids"].shape[1]
        assert (
            torch.equal(batch["input_ids"], ids[:, :width])
            and not reference[f"{group}/attention_mask"][:, width:].any()
        )
        with torch.no_grad():
            scores, fits = model.entity_scores(batch)
        kept = reference[f"{group}/spans_mask"].bool()
        first_word = (batch["lengths"].cumsum(0) - batch["lengths"]).unsqueeze(1)
        start, last = reference[f"{group}/word_spans"].unbind(-1)
        rows, widths = (start + first_word)[kept], (last - start)[kept]
        assert fits[rows, widths].all() and len(rows) == int(fits.sum())
        torch.testing.assert_close(scores[rows, widths], reference[f"{group}/logits"][kept], atol=2e-5, rtol=0)


def test_pure_relation_model_equals_the_released_code():
    reference = Reference("pure_relation.npz")
    config, pairs = reference.config, reference.config["pairs"]
    types = sorted({p[side][2] for p in pairs for side in ("subject", "object")})
    labels = Labels(tuple(types), tuple(config["labels"][1:]), frozenset())
    model = pure_model(reference, PURE_RELATION_NAMES, labels, pair_batch=len(pairs))
    seen = []
    model.relation_encoder.register_forward_hook(lambda _, inputs, out: seen.append((*inputs, out)))
    model.relation_model.register_forward_hook(lambda _, inputs, out: seen.append(inputs[2:]))

    sentences = [Sentence(str(i), tuple(" ".join(map(str, w)) for w in s)) for i, s in enumerate(config["sentences"])]
    for number, sentence in enumerate(sentences):
        rows = [i for i, p in enumerate(pairs) if p["sentence"] == number]
        if not rows:
            continue
        arguments = [pairs[i][side] for i in rows for side in ("subject", "object")]
        spans = torch.tensor([a[:2] for a in arguments])
        kinds = torch.tensor([types.index(a[2]) for a in arguments])
        seen.clear()
        with torch.no_grad():
            scores = model.relation_scores(
                model.collate([sentence]), spans, kinds, torch.arange(len(arguments)).view(-1, 2)
            )
        torch.testing.assert_close(scores, reference["logits"][rows], atol=2e-5, rtol=0)
        (inputs, mask, hidden), (subject, object) = seen
        width = inputs.shape[1]
        for ours, name in ((inputs, "input_ids"), (mask, "attention_mask")):
            assert torch.equal(ours, reference[name][rows, :width])
        assert not reference["attention_mask"][rows, width:].any()
        real = mask.bool()
        torch.testing.assert_close(hidden[real], reference["last_hidden_state"][rows, :width][real], atol=2e-5, rtol=0)
        assert torch.equal(subject, reference["subject_index"][rows])
        assert torch.equal(object, reference["object_index"][rows])
    together = model.collate(sentences)
    first = torch.tensor([0, *together["lengths"].cumsum(0).tolist()])
    spans = torch.tensor([[first[p["sentence"]] + x for x in p[s][:2]] for p in pairs for s in ("subject", "object")])
    kinds = torch.tensor([types.index(p[s][2]) for p in pairs for s in ("subject", "object")])
    set_on(model, pair_batch=3)  # several batches, mixed sentences
    with torch.no_grad():
        scores = model.relation_scores(together, spans, kinds, torch.arange(len(spans)).view(-1, 2))
    torch.testing.assert_close(scores, reference["logits"], atol=2e-5, rtol=0)


@pytest.mark.parametrize("way", ["alone", "shared"])
def test_pure_approximation_equals_the_released_code(way):
    reference = Reference("pure_approximation.npz")
    config = reference.config
    labels = Labels(tuple(config["entity_types"]), tuple(config["labels"][1:]), frozenset())
    for window in config["windows"]:
        settings = {"markers": "batched", "relation_window": window, "pieces_at_once": 1}
        model = pure_model(reference, PURE_RELATION_NAMES, labels, **settings)
        model.stage, prefix = "relation", f"window{window}/{way}/"
        stored, asked = reference[f"{prefix}pairs"], recorded(model.relation_encoder)
        sentences = document_sentences(config, "predicted_entities", "relations")
        for where, sentence in sentences:
            rows = (stored[:, :2] == torch.tensor(where)).all(1).nonzero().squeeze(1)
            items = model.training_items([sentence])
            if not len(rows):
                assert not items
                continue
            spans = torch.tensor([[e.start, e.end] for e in sentence.entities])
            kinds = torch.tensor([labels.entity_types.index(e.type) for e in sentence.entities])
            pairs = ordered_pairs(torch.tensor([len(spans)]))
            assert spans[pairs].flatten(1).tolist() == stored[rows, 2:6].tolist()
            asked.clear()
            batch, number = model.collate([sentence.without_labels()]), stored[rows, 6] - stored[rows[0], 6]
            with torch.no_grad():
                scores = model.relation_scores(batch, spans, kinds, pairs, number)
                assert_same_markers(asked, reference, prefix, stored[rows, 6].unique().tolist())
                loss = float(model.loss(model.training_batch(items)))
            theirs = reference[f"{prefix}logits"][rows]
            torch.testing.assert_close(scores, theirs, atol=2e-5, rtol=0)
            classes = reference[f"{prefix}labels"][stored[rows, 6], stored[rows, 7]]
            assert loss == pytest.approx(float(F.cross_entropy(theirs, classes)), abs=2e-5)
            given = model.collate([sentence])
            given.gold_entities, model.stage = True, None
            (ours,) = model.decode(given)
            model.stage, of = "relation", [[e.start, e.end] for e in ours.entities]
            found = [[of[r.head], of[r.tail], r.type] for r in ours.relations]
            assert sorted(found) == sorted(config["decoded"][str(window)][where[0]][where[1]])
        items = model.training_items([sentence for _, sentence in sentences])
        set_on(model, pieces_at_once=10**5)  # mixed sentences
        with torch.no_grad():
            loss = float(model.loss(model.training_batch(items)))
        assert loss == pytest.approx(float(reference[f"{prefix}loss"]), abs=2e-5)


def assert_same_markers(asked: list[tuple], reference: Reference, prefix: str, rows: list[int]) -> None:
    """The input of passes, each encoded alone, the longest first, is the stored one of `rows`, as are states that are
    stored. There the four markers of a pair stand side by side, here those of a kind."""
    used = reference[f"{prefix}sub_obj_masks"].sum(1).long()
    for (ids, mask, positions, states), row in zip(asked, sorted(rows, key=lambda row: -used[row]), strict=True):
        text, pairs = int(reference[f"{prefix}text_length"][row]), int(used[row])
        behind = [text + 4 * pair + marker for marker in range(4) for pair in range(pairs)]
        columns = torch.tensor([*range(text), *behind])
        for ours, name in ((ids, "input_ids"), (positions, "position_ids")):
            assert torch.equal(ours[0], reference[f"{prefix}{name}"][row][columns]), name
        assert torch.equal(mask[0].long(), reference[f"{prefix}attention_mask"][row][columns][:, columns].long())
        if (name := f"{prefix}last_hidden_state") in reference.arrays:
            torch.testing.assert_close(states[0], reference[name][row][columns], atol=2e-5, rtol=0)


def test_context_of_words_equals_the_released_code():
    reference = Reference("pure_context.npz")
    for group in reference.groups("document"):
        lengths = reference[f"{group}/sentence_lengths"].tolist()
        text = tuple(map(str, range(sum(lengths))))
        starts = [sum(lengths[:i]) for i in range(len(lengths))]
        for window in reference.config["windows"]:
            for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
                own = text[start : start + length]
                before, after = Sentence(str(row), own, document=group, text=text, offset=start).context(window)
                first, end = start - len(before), start + length + len(after)
                assert text[first:end] == (*before, *own, *after)
                ours = [first, end, len(before), len(before) + length]
                assert ours == reference[f"{group}/window{window}"][row].tolist()


# -- SPE -----------------------------------------------------------------------------------------------------------

SPE_NAMES = {
    "ent_model.embedding_model.bert_encoder.bert_model.pooler.dense": "pooler",
    "ent_model.embedding_model.bert_encoder.bert_model": "encoder.model",
    "ent_model.ent_span_decoder.hidden2label": "tag",
    "ent_model.cnn_ent_model.entity_span_extractor.cnn_encoder.conv_layer_": "span_convolutions.layers.",
    "ent_model.cnn_ent_model.ent2hidden": "span_hidden",
    "ent_model.cnn_ent_model.entity_decoder.hidden2label": "entity",
    "rel_model.context_span_extractor.cnn_encoder.conv_layer_": "context_convolutions.layers.",
    "rel_model.context2hidden": "context_hidden",
    "rel_model.position_embedding": "segment_attention.distance",
    "rel_model.attention_encoder": "segment_attention",
    "rel_model.ent_mention_mlp": "pair_hidden.0",
    "rel_model.mlp": "pair_hidden.1",
    "rel_model.relation_decoder.hidden2label": "relation",
}


def spe_name(name: str) -> str:
    """A released name under ours."""
    theirs = next(prefix for prefix in SPE_NAMES if name.startswith(prefix))
    rest = name.removeprefix(theirs).replace("layer_norm.", "norm.").replace("feature_linear", "place")
    return SPE_NAMES[theirs] + rest.replace("_linear", "")


class SpeFigures:
    """The model, the stored sentences with their gold, and what the model computed of a batch by its stored name."""

    def __init__(self) -> None:
        self.reference = Reference("spe.npz")
        config = self.reference.config
        names = [name for name in config["relation_labels"] if name.endswith("@>")]
        relation_types = tuple(name.removesuffix("@>") for name in names)
        labels = Labels(tuple(config["entity_labels"][1:]), relation_types, frozenset())
        of_ours = ["None", *(f"{name}@{way}" for name in relation_types for way in "><")]
        # in which class of theirs is ours, of tags and of pairs
        self.tags = torch.tensor([config["boundary_tags"].index(tag) for tag in spe.TAGS])
        self.relations = torch.tensor([config["relation_labels"].index(name) for name in of_ours])
        assert config["entity_labels"][0] == "None"
        places = {"subject_positions": SUBJECT, "object_positions": OBJECT}
        assert all(config[name] == list(range(7))[place] for name, place in places.items())
        self.model = spe.System(
            labels,
            stored_encoder(config),
            kernels=config["cnn_kernel_sizes"],
            channels=config["cnn_channels"],
            attention_size=config["attention_size"],
            position_size=config["position_embedding_size"],
            hidden_size=config["relation_hidden_size"],
            gold_epochs=config["schedule"]["pretrain_epochs"] + 1,
            sampling_decay=config["schedule"]["k"],
            dropout=0.0,
        )
        weights = {spe_name(name): weight for name, weight in self.reference.weights().items()}
        for layer, order in (("tag", self.tags), ("relation", self.relations)):
            weights |= {f"{layer}.{part}": weights[f"{layer}.{part}"][order] for part in ("weight", "bias")}
        self.model.load_state_dict(weights, strict=True)
        norms = [module for module in self.model.modules() if isinstance(module, torch.nn.LayerNorm)]
        assert {norm.eps for norm in norms} == {config["layer_norm_eps"]}
        self.model.eval()
        self.sentences = []
        for sentence, gold in zip(stored_sentences(self.reference), config["gold"], strict=True):
            place = {tuple(span): i for i, (*span, _) in enumerate(gold["entities"])}
            entities = (Entity(kind, start, end) for start, end, kind in gold["entities"])
            relations = (Relation(kind, place[tuple(h)], place[tuple(t)]) for kind, h, t in gold["relations"])
            self.sentences.append(sentence.with_labels(tuple(entities), tuple(relations)))

    @contextlib.contextmanager
    def computed(self, batch: Batch) -> Iterator[dict[str, torch.Tensor]]:
        """What the model computes within, once it is left."""
        model, found = self.model, {}
        of_spans, of_pairs = model.span_convolutions.maxima, model.segments

        def maxima(windows: list, spans: torch.Tensor) -> torch.Tensor:
            return found.setdefault("span_cnn", of_spans(windows, found.setdefault("spans", spans)))

        def segments(
            windows: list, spans: torch.Tensor, features: torch.Tensor, pairs: torch.Tensor, of: Batch
        ) -> list:
            made = of_pairs(windows, spans, features, pairs, of)
            found["pairs"] = spans[pairs].flatten(1)
            found["segments"] = torch.stack([s.rows[s.of_pair] for s in made], dim=1)
            found["attention"] = model.segment_attention.weights(made, model.encode(of)[1])
            return made

        model.span_convolutions.maxima, model.segments = maxima, segments
        layers = {"span_hidden": "span_features", "entity": "entity_logits", "segment_attention": "pair_features"}
        layers |= {"relation": "relation_logits", "tag": "tag_logits"}
        hooks = [
            getattr(model, layer).register_forward_hook(lambda *given, name=name: found.update({name: given[2]}))
            for layer, name in layers.items()
        ]
        try:
            yield found
        finally:
            for hook in hooks:
                hook.remove()
            del model.span_convolutions.maxima, model.segments

    def assert_stored(self, found: dict[str, torch.Tensor], batch: Batch, prefix: str) -> None:
        """What was computed of a batch is what is stored under `prefix`, spans and pairs in the same order."""
        begin = 0
        for sentence in batch.sentences:
            end, stored = begin + len(sentence.tokens), f"{prefix}{sentence.id}/"
            spans, pairs = found["spans"], found.get("pairs", torch.zeros(0, 4, dtype=torch.long))
            own = ((spans[:, 0] >= begin) & (spans[:, 0] < end), (pairs[:, 0] >= begin) & (pairs[:, 0] < end))
            assert torch.equal(spans[own[0]] - begin, self.reference[f"{stored}spans"])
            assert torch.equal(pairs[own[1]] - begin, self.reference[f"{stored}pairs"])
            for name, values in found.items():
                of_pairs = name in ("segments", "attention", "pair_features", "relation_logits", "relation_labels")
                if name in ("spans", "pairs"):
                    continue
                if name == "tag_logits":
                    ours, theirs = values[begin:end], self.reference[f"{sentence.id}/{name}"][:, self.tags]
                else:
                    ours, theirs = values[own[of_pairs]], self.reference[f"{stored}{name}"]
                if name == "relation_logits":
                    theirs = theirs[:, self.relations]
                ours = self.relations[ours] if name == "relation_labels" else ours
                torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0, msg=lambda m, n=stored + name: f"{n}: {m}")
            begin = end


@pytest.fixture(scope="module")
def spe_figures() -> SpeFigures:
    return SpeFigures()


def test_spe_reads_words_and_pools_as_the_released_code(spe_figures):
    model, reference = spe_figures.model, spe_figures.reference
    batch = model.collate(spe_figures.sentences)
    with torch.no_grad():
        words, pooled = model.encode(batch)
    for sentence, ours, own in zip(spe_figures.sentences, pooled, words.split(batch["lengths"].tolist()), strict=True):
        first = reference[f"{sentence.id}/word_offsets"][:, 0]
        theirs = reference[f"{sentence.id}/last_hidden_state"][first]
        torch.testing.assert_close(own, theirs, atol=1e-4, rtol=0)
        torch.testing.assert_close(ours, reference[f"{sentence.id}/pooled"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [1, None])
@pytest.mark.parametrize("released", [False, True])
def test_spe_decodes_as_the_released_code(released, size, spe_figures):
    """One sentence at a time and all in one batch, in its own products and in those of the released code."""
    model, sentences = spe_figures.model, spe_figures.sentences
    stored = iter(spe_figures.reference.config["decoded"])
    for part in [sentences] if size is None else [[sentence] for sentence in sentences]:
        batch = model.collate([sentence.without_labels() for sentence in part])
        form = as_released(model) if released else contextlib.nullcontext()
        with spe_figures.computed(batch) as found, form, torch.no_grad():
            predictions = model.decode(batch)
        spe_figures.assert_stored(found, batch, "")
        tags = [spe.TAGS[tag] for tag in found["tag_logits"].argmax(1).tolist()]
        for sentence, ours in zip(part, predictions, strict=True):
            theirs, of = next(stored), [[e.start, e.end] for e in ours.entities]
            assert tags[: len(sentence.tokens)] == theirs["tags"]
            tags = tags[len(sentence.tokens) :]
            assert [[e.start, e.end, e.type] for e in ours.entities] == theirs["entities"]
            relations = [[r.type, of[r.head], of[r.tail]] for r in ours.relations]
            assert sorted(relations) == sorted(theirs["relations"])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("stage", ["gold", "predicted"])
def test_spe_learns_as_the_released_code(stage, training, spe_figures, monkeypatch):
    """Candidates, targets and losses of both stages; in training every pair has contexts of its own."""
    model, reference = spe_figures.model, spe_figures.reference
    model.train(training)
    monkeypatch.setattr(model, "epoch", 0 if stage == "gold" else 10**6)  # whose draws all take the prediction
    targets, cross_entropy = [], F.cross_entropy
    monkeypatch.setattr(F, "cross_entropy", lambda *a, **more: targets.append(a[1]) or cross_entropy(*a, **more))
    batch = model.training_batch(model.training_items(spe_figures.sentences))
    assert len(batch) == len(spe_figures.sentences)
    with spe_figures.computed(batch) as found, torch.no_grad():
        terms, divisors = model.losses(batch), model.divisors([batch])
    found |= {"entity_labels": targets[0], "relation_labels": targets[1]}
    model.eval()
    spe_figures.assert_stored(found, batch, f"{stage}/")
    means = {name: term / divisors[name] for name, term in terms.items()}
    for name, loss in (means | {"": sum(means.values())}).items():
        torch.testing.assert_close(loss, reference[f"{stage}/loss{'_' * bool(name)}{name}"], atol=1e-4, rtol=0)
    if stage == "predicted":
        spe_figures_typed(spe_figures, found, batch)


def spe_figures_typed(figures: SpeFigures, found: dict[str, torch.Tensor], batch: Batch) -> None:
    """The types and labels that candidates get are the stored ones."""
    first = (batch["lengths"].cumsum(0) - batch["lengths"]).tolist()
    types, labels = found["entity_logits"].argmax(1).tolist(), found["relation_logits"].argmax(1).tolist()
    ours = [{"entities": [], "relations": []} for _ in first]
    for (start, end), kind in zip(found["spans"].tolist(), types, strict=True):
        n = int(batch["word_sentence"][start])
        if kind:
            ours[n]["entities"].append([start - first[n], end - first[n], figures.model.labels.entity_types[kind - 1]])
    for (*pair,), label in zip(found["pairs"].tolist(), labels, strict=True):
        n = int(batch["word_sentence"][pair[0]])
        left, right = ([word - first[n] for word in span] for span in (pair[:2], pair[2:]))
        if label:
            name = figures.model.labels.relation_types[(label - 1) // 2]
            ours[n]["relations"].append([name, *((left, right) if label % 2 else (right, left))])
    for one, theirs in zip(ours, figures.reference.config["decoded_in_predicted_stage"], strict=True):
        assert one["entities"] == theirs["entities"]
        assert sorted(one["relations"]) == sorted(theirs["relations"])


def test_spe_takes_gold_as_often_as_the_released_code(spe_figures, monkeypatch):
    shares = spe_figures.reference.config["schedule"]["gold_probability_by_epoch_counted_from_0"]
    for epoch, share in shares.items():
        monkeypatch.setattr(spe_figures.model, "epoch", int(epoch))
        assert spe_figures.model.gold_share == pytest.approx(share, abs=1e-9)


# -- DyGIE++ with coreference ----------------------------------------------------------------------------------------

# {}: the data set's name
DYGIE_NAMES = {
    "_embedder.token_embedder_bert._matched_embedder.transformer_model": "encoder.model",
    "_endpoint_span_extractor._span_width_embedding": "width",
    "_ner._ner_scorers.{}__ner_labels.0._module._linear_layers.0": "entity.first",
    "_ner._ner_scorers.{}__ner_labels.0._module._linear_layers.1": "entity.second",
    "_ner._ner_scorers.{}__ner_labels.1._module": "entity.output",
    "_relation._mention_pruners.{}__relation_labels._scorer.0._module._linear_layers.0": "mention.first",
    "_relation._mention_pruners.{}__relation_labels._scorer.0._module._linear_layers.1": "mention.second",
    "_relation._mention_pruners.{}__relation_labels._scorer.1._module": "mention.output",
    "_relation._relation_feedforwards.{}__relation_labels._linear_layers.0": "relation.first",
    "_relation._relation_feedforwards.{}__relation_labels._linear_layers.1": "relation.second",
    "_relation._relation_scorers.{}__relation_labels": "relation.output",
}
COREFERENCE_NAMES = {
    "_coref._mention_pruner._scorer.0._module._linear_layers.0": "coreference.mention.first",
    "_coref._mention_pruner._scorer.0._module._linear_layers.1": "coreference.mention.second",
    "_coref._mention_pruner._scorer.1._module": "coreference.mention.output",
    "_coref._antecedent_feedforward._module._linear_layers.0": "coreference.antecedent.first",
    "_coref._antecedent_feedforward._module._linear_layers.1": "coreference.antecedent.second",
    "_coref._antecedent_scorer._module": "coreference.antecedent.output",
    "_coref._distance_embedding": "coreference.distance",
    "_coref._f_network._linear_layers.0": "coreference.gate",
}


def dygie_documents(reference: Reference) -> list[list[Sentence]]:
    """The stored documents with their gold; a cluster's number is its place in the file."""
    documents = []
    for d, gold in enumerate(reference.config["gold"]):
        sentences = []
        for k, (entities, relations) in enumerate(zip(gold["entities"], gold["relations"], strict=True)):
            name = f"document{d}/sentence{k}"
            words = words_of(reference[f"{name}/input_ids"], reference[f"{name}/word_offsets"])
            spans = [(a, e) for a, e, _ in entities]
            related = tuple(Relation(t, spans.index(tuple(h)), spans.index(tuple(x))) for h, x, t in relations)
            clusters = enumerate(gold["clusters"])
            mentions = tuple((a, e, c) for c, cluster in clusters for sentence, a, e in cluster if sentence == k)
            found = tuple(Entity(t, a, e) for a, e, t in entities)
            sentences.append(Sentence(name, words, found, related, f"document{d}", mentions))
        documents.append(sentences)
    return documents


def dygie_model(reference: Reference, **settings: object) -> dygiepp.System:
    """DyGIE++ of the file's sizes and weights, with the released weights of the losses."""
    config = reference.config
    model = dygiepp.System(
        Labels(tuple(config["entity_types"]), tuple(config["relation_types"]), frozenset()),
        stored_encoder(config),
        max_span_width=config["max_span_width"],
        width_size=config["feature_size"],
        hidden_size=config["feedforward_hidden"],
        spans_per_word=config["relation_spans_per_word"],
        entity_weight=config["loss_weights"]["ner"],
        coreference_spans_per_word=config["coref_spans_per_word"],
        max_antecedents=config["max_antecedents"],
        **settings,
    )
    names = DYGIE_NAMES if not model.settings.coreference_weight else DYGIE_NAMES | COREFERENCE_NAMES
    names = {released.format(config["dataset"]): ours for released, ours in names.items()}
    stored = {n: v for n, v in reference.weights().items() if n.startswith(tuple(names))}
    model.load_state_dict(renamed(stored, names), strict=True)
    return model.eval()


@contextlib.contextmanager
def outputs(*modules: torch.nn.Module) -> Iterator[list[list[torch.Tensor]]]:
    """What each of some modules puts out at each call within it."""
    found: list[list[torch.Tensor]] = [[] for _ in modules]
    with contextlib.ExitStack() as stack:
        for module, seen in zip(modules, found, strict=True):
            stack.callback(module.register_forward_hook(lambda _, __, out, seen=seen: seen.append(out)).remove)
        yield found


@pytest.fixture(scope="module")
def dygie_figures() -> list[tuple[Reference, dygiepp.System, str]]:
    """The model by rounds of propagation."""
    reference = Reference("dygiepp.npz")
    settings = {"coreference_weight": reference.config["loss_weights"]["coref"]}
    rounds = reference.config["propagations"]
    return [(reference, dygie_model(reference, coreference_rounds=n, **settings), f"prop{n}") for n in rounds]


def test_dygiepp_propagates_coreference_as_the_released_code(dygie_figures):
    for reference, model, rounds in dygie_figures:
        for d, sentences in enumerate(dygie_documents(reference)):
            document, stored = f"document{d}", f"document{d}/{rounds}"
            batch = model.collate(sentences)
            with torch.no_grad(), outputs(model.coreference.mention, model.coreference.gate) as (mentions, gates):
                words = dygiepp.word_means(model.encoder(batch["input_ids"], batch["attention_mask"]), batch)
                _, fits, _, _, _, links = model.scores(batch)
                spans = fits.nonzero()
                table = model.span_vectors(words, spans, links)
                relation_mention = model.span_scores(model.mention, words, links)[fits].squeeze(-1)
            sentence, start = batch["word_sentence"][spans[:, 0]], batch["word_index"][spans[:, 0]]
            theirs = reference[f"{document}/spans"]
            assert torch.equal(torch.stack([sentence, start, start + spans[:, 1] + 1], dim=1), theirs)
            kept = reference[f"{document}/coref_kept"]
            assert torch.equal(links.spans, spans[kept])
            before, known = antecedents(torch.zeros(len(kept), dtype=torch.long), model.settings.max_antecedents)
            real = reference[f"{document}/antecedent_mask"].bool()
            assert torch.equal(known.flip(1), real), "ours has the nearest last"
            assert torch.equal(before.flip(1)[real], reference[f"{document}/antecedents"][real])
            last = mentions[-1] if gates else mentions[0][links.spans.unbind(1)]
            figures = {
                f"{document}/coref_mention_scores": mentions[0][fits].squeeze(-1),
                f"{stored}/kept_mention_scores": last.squeeze(-1),
                f"{stored}/kept_representation": links.vectors,
                f"{stored}/coref_scores": torch.cat([links.scores[:, :1], links.scores[:, 1:].flip(1)], dim=1),
                f"{stored}/span_representation": table,
                f"{stored}/relation_mention_scores": relation_mention,
            }
            if gates:
                figures[f"{stored}/gate"] = gates[-1].sigmoid()
            assert len(gates) == model.settings.coreference_rounds
            for name, ours in figures.items():
                torch.testing.assert_close(ours, reference[name], atol=2e-5, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


def test_dygiepp_reads_what_was_propagated_as_the_released_code(dygie_figures):
    for reference, model, rounds in dygie_figures:
        for d, sentences in enumerate(dygie_documents(reference)):
            stored, numbers = f"document{d}/{rounds}", range(len(sentences))
            batch = model.collate(sentences)
            with torch.no_grad():
                entity, fits, kept, _, relation, _ = model.scores(batch)
                terms = {name: float(term) for name, term in model.losses(batch).items()}
            torch.testing.assert_close(entity[fits], reference[f"{stored}/ner_scores"], atol=2e-5, rtol=0)
            assert torch.equal(kept, fits.nonzero()[reference[f"{stored}/relation_kept"]])
            theirs = torch.cat([reference[f"{stored}/sentence{k}/relation_scores"].flatten(0, 1) for k in numbers])
            torch.testing.assert_close(relation, theirs, atol=2e-5, rtol=0)
            weights = reference.config["loss_weights"]
            losses = {name: float(reference[f"{stored}/loss_{name}"]) for name in weights}
            assert terms == {
                "entity": pytest.approx(weights["ner"] * losses["ner"], abs=2e-4),
                "relation": pytest.approx(losses["relation"], abs=2e-4),
                "coreference": pytest.approx(weights["coref"] * losses["coref"], abs=2e-4),
            }
            whole = float(reference[f"{stored}/loss"]) + (1 - weights["relation"]) * losses["relation"]
            assert sum(terms.values()) == pytest.approx(whole, abs=2e-4)


def assert_dygie_predictions(ours: Prediction, theirs: dict) -> None:
    """The stored entities and relations of a sentence are predicted, with their probabilities."""
    entities = {(e.start, e.end, e.type): pytest.approx(e.score, abs=2e-5) for e in ours.entities}
    assert entities == {(a, e, t): p for a, e, t, _, p in theirs["entities"]}
    spans = [(e.start, e.end) for e in ours.entities]
    released = {(tuple(h), tuple(t), kind): p for h, t, kind, _, p in theirs["relations"]}
    # without what the common format has no place for: a span with itself, spans that are no entities
    placed = {r: p for r, p in released.items() if r[0] != r[1] and r[0] in spans and r[1] in spans}
    related = {(spans[r.head], spans[r.tail], r.type): r.score for r in ours.relations}
    assert related == {r: pytest.approx(p, abs=2e-5) for r, p in placed.items()}


def test_dygiepp_decodes_documents_as_the_released_code(dygie_figures):
    for reference, model, rounds in dygie_figures:
        documents = dygie_documents(reference)
        decoded = [stored[rounds] for stored in reference.config["decoded"]]
        apart = [p for s in documents for p in model.decode(model.collate([x.without_labels() for x in s]))]
        together = model.decode(model.collate([x.without_labels() for s in documents for x in s]))
        for found in (apart, together):  # the documents of a batch know nothing of each other
            of_sentences = iter(found)
            for stored in decoded:
                clusters: dict[int, set] = {}
                for k, theirs in enumerate(stored["sentences"]):
                    ours = next(of_sentences)
                    assert_dygie_predictions(ours, theirs)
                    for start, end, cluster in ours.coreference:
                        clusters.setdefault(cluster, set()).add((k, start, end))
                expected = sorted(sorted(map(tuple, cluster)) for cluster in stored["clusters"])
                assert sorted(map(sorted, clusters.values())) == expected


# -- UniRE ---------------------------------------------------------------------------------------------------------


def unire_name(name: str) -> str:
    """A released name under ours."""
    prefixes = {
        "embedding_model.bert_encoder.bert_model.": "encoder.model.",
        "head_mlp.": "head.",
        "tail_mlp.": "tail.",
    }
    for theirs, ours in prefixes.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs).replace("layer_norm.", "norm.")
    return {"U": "biaffine"}[name]


@pytest.fixture(scope="module")
def unire_figures() -> tuple[Reference, unire.System, list[Sentence]]:
    """The model and the stored sentences with their gold. Some are read with context and others alone, so that both can
    be of one batch `states` takes the place of the encoder's."""
    reference = Reference("unire.npz")
    config = reference.config
    symmetric = frozenset(config["symmetric_relation_labels"])
    labels = Labels(tuple(config["entity_labels"]), tuple(config["relation_labels"]), symmetric)
    assert config["labels"] == ["None", *labels.entity_types, *labels.relation_types]
    model = unire.System(labels, stored_encoder(config), hidden_size=config["mlp_size"])
    assert model.head.norm.eps == model.tail.norm.eps == config["layer_norm_eps"]
    weights = {unire_name(n): w for n, w in reference.weights().items() if ".pooler." not in n}
    model.load_state_dict(weights, strict=True)
    model.encode = lambda batch: batch["states"]
    sentences = []
    for sentence, gold in zip(stored_sentences(reference), config["gold"], strict=True):
        place = {tuple(span): i for i, (*span, _) in enumerate(gold["entities"])}
        relations = (Relation(kind, place[tuple(head)], place[tuple(tail)]) for kind, head, tail in gold["relations"])
        entities = (Entity(kind, start, end) for start, end, kind in gold["entities"])
        sentences.append(sentence.with_labels(tuple(entities), tuple(relations)))
    return reference, model.eval(), sentences


def unire_batch(model: unire.System, reference: Reference, sentences: list[Sentence]) -> Batch:
    batch = model.collate(sentences)
    first = {s.id: reference[f"{s.id}/word_offsets"][:, 0] for s in sentences}
    batch.tensors["states"] = torch.cat([reference[f"{n}/last_hidden_state"][f] for n, f in first.items()])
    return batch


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", ["alone", "in a document"])
def test_unire_reads_words_as_the_released_code(form, packed, unire_figures):
    reference, model, sentences = unire_figures
    of_document = [sentences[i] for i in reference.config["document"]["sentences"]]
    window = reference.config["document"]["window_words"] if form == "in a document" else 0
    model = unire.System(model.labels, model.encoder, hidden_size=reference.config["mlp_size"], window=window).eval()
    if window:
        text = tuple(word for s in of_document for word in s.tokens)
        starts = itertools.accumulate((len(s.tokens) for s in of_document), initial=0)
        chosen = [replace(s, text=text, offset=start) for s, start in zip(of_document, starts, strict=False)]
    else:
        chosen = [s for s in sentences if s not in of_document]
    batch = model.collate(chosen)
    with torch.no_grad(), fast_inference(model, torch.float32) if packed else contextlib.nullcontext():
        ours = model.encode(batch)
    torch.testing.assert_close(ours, unire_batch(model, reference, chosen)["states"], atol=1e-4, rtol=0)
    for row, sentence in enumerate(chosen):
        stored, n = reference[f"{sentence.id}/input_ids"], len(reference[f"{sentence.id}/input_ids"])
        assert torch.equal(batch["input_ids"][row, :n], stored) and int(batch["attention_mask"][row].sum()) == n
        types = batch["token_type_ids"][row] if window else torch.zeros_like(batch["input_ids"][row])
        assert torch.equal(types[:n], reference[f"{sentence.id}/token_type_ids"]) and not types[n:].any()


def test_unire_tables_equal_the_released_code(unire_figures):
    reference, model, sentences = unire_figures
    batch = unire_batch(model, reference, sentences)
    with torch.no_grad():
        scores, real = model.scores(batch["states"], batch["lengths"])
        symmetrised = model.symmetrised(scores, real)
        between = unire.distances(symmetrised)
    for b, sentence in enumerate(sentences):
        n, stored = len(sentence.tokens), f"{sentence.id}/"
        assert torch.equal(batch["table"][b, :n, :n], reference[stored + "table_labels"])
        torch.testing.assert_close(scores[b, :n, :n], reference[stored + "scores"], atol=2e-4, rtol=0)
        torch.testing.assert_close(symmetrised[b, :n, :n], reference[stored + "symmetrised"], atol=1e-4, rtol=0)
        torch.testing.assert_close(between[b, : n - 1], reference[stored + "distances"], atol=1e-4, rtol=0)
        assert not batch["table"][b, n:].any() and not symmetrised[b, n:].any() and not symmetrised[b, :, n:].any()


def test_unire_losses_equal_the_released_code(unire_figures):
    reference, model, sentences = unire_figures
    for name in reference.groups("batch"):
        chosen = [sentences[i] for i in reference[f"{name}/sentences"].tolist()]
        batch = unire_batch(model, reference, chosen)
        divisors = model.divisors([batch])
        for term, loss in model.losses(batch).items():
            stored = reference[f"{name}/loss_{term}"]
            torch.testing.assert_close(loss / divisors[term], stored, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [1, None])
def test_unire_decodes_as_the_released_code(size, unire_figures):
    """One sentence at a time, and all in one batch."""
    reference, model, sentences = unire_figures
    parts = [sentences] if size is None else [[s] for s in sentences]
    for threshold, stored in reference.config["decoded"].items():
        set_on(model, split_threshold=float(threshold))
        found = [p for part in parts for p in model.decode(unire_batch(model, reference, part))]
        for ours, theirs in zip(found, stored, strict=True):
            spans = [(e.start, e.end) for e in ours.entities]
            assert [[e.start, e.end, e.type] for e in ours.entities] == theirs["entities"]
            expected = set()
            for kind, *pair in theirs["relations"]:
                pair = sorted(map(tuple, pair)) if kind in model.labels.symmetric else map(tuple, pair)
                expected.add((kind, *pair))
            assert {(r.type, spans[r.head], spans[r.tail]) for r in ours.relations} == expected
            assert len(ours.relations) == len(expected)


# -- PL-Marker -----------------------------------------------------------------------------------------------------

PLMARKER_NAMES = {
    "plmarker_ner": {"bert": "encoder.model", "ner_classifier": "entity_model"},
    "plmarker_relation": {
        "bert": "relation_encoder.model",
        "re_classifier_m1": "relation_model.subject",
        "re_classifier_m2": "relation_model.object",
        "ner_classifier": "relation_model.object_type",
    },
}


def plmarker_model(name: str, **settings: object) -> tuple[Reference, plmarker.System]:
    """The file of one of PL-Marker's models, and the system with that half of its weights."""
    reference = Reference(f"{name}.npz")
    config, names = reference.config, PLMARKER_NAMES[name]
    relations = tuple(config.get("relation_labels", [])[1:])
    labels = Labels(tuple(config["entity_labels"][1:]), relations, frozenset(config.get("symmetric", ())))
    sizes = {"max_span_width": config["max_span_width"]} if "max_span_width" in config else {}
    of = ("entity_window", "spans_at_once") if name == "plmarker_ner" else ("relation_window", "objects_at_once")
    sizes |= dict(zip(of, (config["max_sequence_length"], config["max_pairs"]), strict=True))
    model = plmarker.System(labels, stored_encoder(config), **sizes | settings)
    missing, unexpected = model.load_state_dict(renamed(reference.weights(), names), strict=False)
    assert not unexpected and not {n for n in missing if n.startswith(tuple(names.values()))}
    model.stage = "entity" if name == "plmarker_ner" else "relation"
    return reference, model.eval()


def assert_same_passes(asked: list[tuple], reference: Reference, rows: list[int], prefix: str = "") -> None:
    """The input of passes, each encoded alone, is the stored one of `rows`; of the whole text, the states too."""
    width, places = reference.config["max_sequence_length"], reference.config["max_pairs"]
    assert len(asked) == len(rows)
    for (ids, mask, positions, states), row in zip(asked, rows, strict=True):
        text = int(reference[f"{prefix}text_length"][row])
        used = (ids.shape[1] - text) // 2
        columns = torch.tensor(
            [*range(text), *(width + i for i in range(used)), *range(width + places, width + places + used)]
        )
        for ours, name in ((ids, "input_ids"), (positions, "position_ids")):
            assert torch.equal(ours[0], reference[f"{prefix}{name}"][row][columns]), name
        theirs = reference[f"{prefix}attention_mask"][row].bool()
        assert torch.equal(mask[0], theirs[columns][:, columns])
        if not prefix:
            hidden = reference["last_hidden_state"][row][columns]
            torch.testing.assert_close(states[0], hidden, atol=2e-5, rtol=0)


def test_plmarker_entity_model_equals_the_released_code():
    reference, model = plmarker_model("plmarker_ner", pieces_at_once=1)
    asked, stored = recorded(model.encoder), reference["sentence"].tolist()
    sentences = document_sentences(reference.config)
    for where, sentence in sentences:
        rows = [row for row, home in enumerate(stored) if home == where]
        items = model.training_items([sentence])
        batch = model.training_batch(items)
        used = reference["labels"][rows] >= 0
        assert batch["spans"].tolist() == reference["word_spans"][rows][used].tolist()
        assert batch["span_labels"].tolist() == reference["labels"][rows][used].tolist()
        asked.clear()
        with torch.no_grad():
            scores = model.entity_scores(batch, batch["spans"], batch["span_pass"])
            assert_same_passes(asked, reference, rows)
            losses = [float(model.loss(model.training_batch([item]))) for item in items]
        torch.testing.assert_close(scores, reference["logits"][rows][used], atol=2e-5, rtol=0)
        assert losses == pytest.approx(reference["loss_of_item"][rows].tolist(), abs=2e-5)
    items = model.training_items([sentence for _, sentence in sentences])
    for pieces in (200, 10**5):  # mixed sentences
        set_on(model, pieces_at_once=pieces)
        with torch.no_grad():
            assert float(model.loss(model.training_batch(items))) == pytest.approx(float(reference["loss"]), abs=2e-5)


def test_plmarker_entities_are_decoded_as_by_the_released_code(monkeypatch):
    reference, model = plmarker_model("plmarker_ner")
    removed, judge = [], plmarker.undisputed

    def recording(scores: torch.Tensor, cells: list) -> list[int]:
        kept = judge(scores, cells)
        removed.append(len(cells) - len(kept))
        return kept

    monkeypatch.setattr(plmarker, "undisputed", recording)
    for (d, s), sentence in document_sentences(reference.config):
        (ours,) = model.decode(model.collate([sentence.without_labels()]))
        theirs = reference.config["decoded"][d][s]
        assert removed.pop() == len(theirs["removed"])
        by_score = sorted(ours.entities, key=lambda e: -e.score)
        assert [[e.start, e.end, e.type] for e in by_score] == [kept[:3] for kept in theirs["kept"]]
        assert [e.score for e in by_score] == pytest.approx([kept[3] for kept in theirs["kept"]], abs=2e-5)


def plmarker_arguments(model: plmarker.System, sentence: Sentence) -> tuple[Batch, torch.Tensor, torch.Tensor]:
    """A batch of one sentence without labels, its entities' spans and their classes."""
    spans = torch.tensor([[e.start, e.end] for e in sentence.entities])
    kinds = torch.tensor([model.labels.entity_types.index(e.type) + 1 for e in sentence.entities])
    return model.collate([sentence.without_labels()]), spans, kinds


@pytest.mark.parametrize("typed", [False, True], ids=["solid", "typed"])
def test_plmarker_relation_model_equals_the_released_code(typed):
    reference, model = plmarker_model("plmarker_relation", pieces_at_once=1, typed_markers=typed)
    prefix, asked = "typed/" * typed, recorded(model.relation_encoder)
    stored = reference["sentence"].tolist()
    for where, sentence in document_sentences(reference.config, "predicted_entities"):
        rows = [row for row, home in enumerate(stored) if home == where]
        used = reference["labels"][rows] >= 0
        batch, spans, kinds = plmarker_arguments(model, sentence)
        pairs = ordered_pairs(torch.tensor([len(spans)]), itself=True)
        subjects = reference["subject"][rows].unsqueeze(1).expand(-1, used.shape[1], -1)
        assert torch.equal(spans[pairs], torch.stack([subjects, reference["objects"][rows]], dim=2)[used])
        number = torch.arange(len(rows)).unsqueeze(1).expand_as(used)[used]
        asked.clear()
        with torch.no_grad():
            related, kind = model.relation_scores(batch, spans, kinds, pairs, number)
        if not typed:
            longest_first = sorted(range(len(rows)), key=lambda i: -int(used[i].sum()))
            assert_same_passes(asked, reference, [rows[i] for i in longest_first])
        for ours, name in ((related, "logits"), (kind, "ner_logits")):
            torch.testing.assert_close(ours, reference[f"{prefix}{name}"][rows][used], atol=2e-5, rtol=0)


def test_plmarker_relation_model_learns_from_the_released_passes():
    reference, model = plmarker_model("plmarker_relation", pieces_at_once=1)
    sentences, asked = document_sentences(reference.config, relations="relations"), recorded(model.relation_encoder)
    items = model.training_items([sentence for _, sentence in sentences])
    used = reference["train/labels"] >= 0
    homes = [int(home) for home in (reference["train/sentence"] * torch.tensor([1000, 1])).sum(1)]
    assert [1000 * int(item.sentence.document) + int(item.sentence.id.split("-")[1]) for item in items] == homes
    for row, item in enumerate(items):
        asked.clear()
        batch = model.training_batch([item])
        with torch.no_grad():
            loss = float(model.loss(batch))
        assert_same_passes(asked, reference, [row], "train/")
        assert batch["pair_labels"].tolist() == reference["train/labels"][row][used[row]].tolist()
        assert loss == pytest.approx(float(reference["train/loss_of_pass"][row, 0]), abs=2e-5)
    for pieces in (200, 10**5):
        set_on(model, pieces_at_once=pieces)
        with torch.no_grad():
            batch = model.training_batch(items)
            assert float(model.loss(batch)) == pytest.approx(float(reference["train/loss"]), abs=2e-5)
            related, kind = model.relation_scores(
                batch, batch["gold_spans"], batch["gold_types"], batch["pairs"], batch["pair_pass"]
            )
        torch.testing.assert_close(related, reference["train/logits"][used], atol=2e-5, rtol=0)
        torch.testing.assert_close(kind, reference["train/ner_logits"][used], atol=2e-5, rtol=0)


@pytest.mark.parametrize("retypes", [False, True], ids=["types_given", "types_of_the_relation_model"])
def test_plmarker_relations_are_decoded_as_by_the_released_code(retypes, monkeypatch):
    reference, model = plmarker_model("plmarker_relation", retype_arguments=retypes)
    decoded = reference.config["decoded"]["types_of_the_relation_model" if retypes else "types_given"]["sentences"]
    judge = plmarker.undisputed
    for (d, s), sentence in document_sentences(reference.config, "predicted_entities"):
        theirs = decoded[d][s]
        batch, spans, kinds = plmarker_arguments(model, sentence)
        pairs = ordered_pairs(torch.tensor([len(spans)]))
        if not len(pairs):
            assert not theirs["kept"]
            continue
        everything = sorted(theirs["kept"] + theirs["removed"], key=lambda r: -r[3])
        ways = {"all": lambda scores, cells: scores.argsort(descending=True).tolist(), "kept": judge}
        for way, expected in (("all", everything), ("kept", theirs["kept"])):
            monkeypatch.setattr(plmarker, "undisputed", ways[way])
            with torch.no_grad():
                types, relations, scores = model._related(batch, spans, kinds, pairs)
            words, names = spans.tolist(), model.labels.relation_types
            assert [[words[h], words[t], names[k]] for h, t, k in relations.tolist()] == [r[:3] for r in expected]
            assert (2 * scores.log()).tolist() == pytest.approx([r[3] for r in expected], abs=2e-5)
        arguments = {tuple(words[i]): model.labels.entity_types[types[i] - 1] for i in relations[:, :2].flatten()}
        assert sorted([*span, kind] for span, kind in arguments.items()) == sorted(theirs["types"])
        if not retypes:  # the same through the whole system, of entities that it is given
            batch = model.collate([sentence.with_labels(sentence.entities, ())])
            batch.gold_entities, model.stage = True, None
            (ours,) = model.decode(batch)
            found = [(ours.entities[r.head], ours.entities[r.tail], r.type) for r in ours.relations]
            found = [[[h.start, h.end], [t.start, t.end], kind] for h, t, kind in found]
            assert found == [r[:3] for r in theirs["kept"]]


# -- SCI-Net -------------------------------------------------------------------------------------------------------

SCINET_ATTENTION = {"wq": "query", "wk": "key", "wv": "value", "proj": "output", "addnorm.ln": "norm"}
SCINET_NAMES = {
    "linear_r": "project_relations",
    "rel_classifier": "relation_classifier",
    "size_embeddings": "width",
    "bert": "encoder.model",
}
for number, view in enumerate("so"):
    SCINET_NAMES |= {f"linear_{view}": f"project.{number}", f"entity_classifier_{view}": f"entity_classifiers.{number}"}
    SCINET_NAMES |= {
        f"cross_attention_{view}.{theirs}": f"cross_attention.{number}.{ours}"
        for theirs, ours in SCINET_ATTENTION.items()
    }
SCINET_TOLERANCE = 3e-5


@pytest.fixture(scope="module")
def scinet_figures() -> tuple[Reference, scinet.System, list[Sentence]]:
    """The reference, our model with its weights, and its sentences with their gold."""
    reference = Reference("scinet.npz")
    config = reference.config
    labels = Labels(tuple(config["entity_type_names"][1:]), tuple(config["relation_type_names"]))
    model = scinet.System(
        labels,
        stored_encoder(config),
        max_span_width=config["max_span_width"],
        width_size=config["width_embedding_size"],
        heads=config["attention_heads"],
        threshold=config["relation_threshold"],
        negative_spans=10**6,
        negative_pairs=10**6,
    )
    weights = {name: w for name, w in reference.weights().items() if not name.startswith("bert.pooler.")}
    weights = {name: w.flatten() if ".addnorm.ln." in name else w for name, w in weights.items()}
    model.load_state_dict(renamed(weights, SCINET_NAMES), strict=True)
    assert all(attend.norm.eps == config["layer_norm_eps_ctam"] for attend in model.cross_attention)
    sentences = []
    for sentence, gold in zip(stored_sentences(reference), config["gold"], strict=True):
        place = {tuple(span): i for i, (*span, _) in enumerate(gold["entities"])}
        relations = (Relation(kind, place[tuple(h)], place[tuple(t)]) for kind, h, t in gold["relations"])
        entities = (Entity(kind, start, end) for start, end, kind in gold["entities"])
        sentences.append(sentence.with_labels(entities, relations))
    return reference, model.eval(), sentences


@pytest.mark.parametrize("together", [False, True], ids=["alone", "in one batch"])
@pytest.mark.parametrize("form", ["ours", "released"])
def test_scinet_equals_the_released_code(form, together, scinet_figures):
    reference, model, sentences = scinet_figures
    with as_released(model) if form == "released" else contextlib.nullcontext(), torch.no_grad():
        for batched in [sentences] if together else [[sentence] for sentence in sentences]:
            batch = model.collate(batched)
            states, (spans, _) = model.encode(batch), model.every_span(batch)
            of_span = batch["word_sentence"][spans[:, 0]]
            for b, sentence in enumerate(batched):
                assert_scinet_figures(reference, sentence.id, model, batch, states, spans[of_span == b], b)


def assert_scinet_figures(
    reference: Reference,
    name: str,
    model: scinet.System,
    batch: Batch,
    states: dict[str, torch.Tensor],
    spans: torch.Tensor,
    b: int,
) -> None:
    """All stored figures of sentence `b` of a batch, whose `spans` are in word rows."""
    ours = {}
    for view, kind in (("head", "aspect"), ("tail", "opinion")):
        ours |= {
            f"{kind}_cls": states[f"{view}_cls"][b : b + 1],
            f"relation_cls_{kind}": states[f"{view}_relation_cls"][b : b + 1],
            f"mixed_{kind}": states[f"{view}_mixed"][b : b + 1],
            f"{kind}_pool": range_max(states[view], spans),
        }
    logits = model.entity_logits(batch, states, spans)
    by_tail = scinet.judged(logits)
    ours |= {"aspect_logits": logits[0], "opinion_logits": logits[1]}
    if len(pairs := reference[f"{name}/pairs"]):
        ours["pair_logits"] = model.relation_logits(batch, states | {"by_tail": by_tail}, spans, pairs)
        ours["pair_probabilities"] = ours["pair_logits"].sigmoid()
    first, last = (batch[edge] - b * batch["input_ids"].shape[1] for edge in ("word_start", "word_end"))
    assert torch.stack([first[spans[:, 0]], last[spans[:, 1] - 1]], 1).equal(reference[f"{name}/span_offsets"])
    assert (spans[:, 1] - spans[:, 0]).equal(reference[f"{name}/span_widths"])
    assert by_tail.long().equal(reference[f"{name}/judge"])
    for what, figure in ours.items():
        torch.testing.assert_close(figure, reference[f"{name}/{what}"], atol=SCINET_TOLERANCE, rtol=0, msg=what)


def test_scinet_learns_what_the_released_code_learns(scinet_figures):
    reference, model, sentences = scinet_figures
    chosen = [(group, reference[f"{group}/sentences"].tolist()) for group in reference.groups("batch")]
    for name, numbers in [(s.id, [i]) for i, s in enumerate(sentences)] + chosen:
        batch = model.training_batch([sentences[i] for i in numbers])
        with torch.no_grad():
            terms, divisors = model.losses(batch), model.divisors([batch])
            loss = model.loss(batch)
        ours = {"aspect": terms["head"] / divisors["head"], "opinion": terms["tail"] / divisors["tail"]}
        ours |= {"pairs": terms["relation"] / divisors["relation"]} if "relation" in terms else {}
        for what, figure in ours.items():
            assert float(figure) == pytest.approx(float(reference[f"{name}/loss_{what}"]), abs=SCINET_TOLERANCE)
        assert float(loss) == pytest.approx(float(reference[f"{name}/loss"]), abs=SCINET_TOLERANCE)
        if name in dict(chosen):
            continue
        with torch.no_grad():
            states, gold, pairs = model.encode(batch), batch["gold_spans"], batch["candidate_pairs"]
            states["by_tail"] = scinet.judged(model.entity_logits(batch, states, gold))
            logits = model.relation_logits(batch, states, gold, pairs) if len(pairs) else None
        edges = torch.stack([batch["word_start"][gold[:, 0]], batch["word_end"][gold[:, 1] - 1]], 1)
        place = {tuple(pair): i for i, pair in enumerate(edges[pairs].flatten(1).tolist())}
        assert len(place) == len(pairs) == len(reference[f"{name}/train_pairs"])
        rows = [place[tuple(pair)] for pair in reference[f"{name}/train_pairs"].tolist()]
        assert batch["candidate_relations"][rows].long().equal(reference[f"{name}/train_pair_labels"])
        if logits is not None:
            stored = reference[f"{name}/train_pair_logits"]
            torch.testing.assert_close(logits[rows], stored, atol=SCINET_TOLERANCE, rtol=0)


def test_scinet_decodes_as_the_released_code(scinet_figures, monkeypatch):
    reference, model, sentences = scinet_figures
    decided: list[torch.Tensor] = []
    monkeypatch.setattr(model, "related", lambda *given: decided.append(given[1]) or type(model).related(model, *given))
    whole = model.decode(model.collate(sentences[::-1]))[::-1]
    crossed = 0
    for sentence, together, theirs in zip(sentences, whole, reference.config["decoded"], strict=True):
        decided.clear()
        (ours,) = model.decode(model.collate([sentence]))
        assert without_scores(ours) == without_scores(together)
        entities = [(e.start, e.end, e.type) for e in ours.entities]
        assert sorted(entities) == sorted((*span, kind) for *span, kind, _ in theirs["entities"])
        scores = {(*span, kind): score for *span, kind, score in theirs["entities"]}
        assert [e.score for e in ours.entities] == pytest.approx([scores[e] for e in entities], abs=SCINET_TOLERANCE)
        expected = {(r["type"], tuple(r["head"]), tuple(r["tail"])): r["score"] for r in theirs["triplets"]}
        assert {(r.type, entities[r.head], entities[r.tail]): r.score for r in ours.relations} == pytest.approx(
            expected, abs=SCINET_TOLERANCE
        )
        # every pair that was decided, also those below the threshold
        offsets = reference[f"{sentence.id}/word_offsets"]
        spans = [word_span(offsets, span) for span in reference[f"{sentence.id}/span_offsets"].tolist()]
        pairs = {tuple(entities[i][:2] for i in pair) for pair in decided[0].tolist()}
        assert pairs == {tuple(spans[i] for i in pair) for pair in reference[f"{sentence.id}/pairs"].tolist()}
        assert len(pairs) == len(decided[0])
        kinds = {(h[2], t[2]) for _, h, t in expected}
        crossed += bool(kinds - {model.labels.entity_types})
    assert crossed, "and a relation may begin at an entity of the second type, or end at one of the first"


def without_scores(prediction: Prediction) -> list[list[tuple]]:
    return [
        [(e.type, e.start, e.end) for e in prediction.entities],
        [(r.type, r.head, r.tail) for r in prediction.relations],
    ]
