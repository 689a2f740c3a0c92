"""Multi-turn QA beyond the released figures: how questions are worded, which are asked, and what their answers are."""

import re

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModel

from baselines import multi_turn_qa
from baselines._questions import BEGIN, END, NO_TAG, OUTSIDE, SINGLE, tags_of
from baselines._two_models import marker_ids
from baselines.settings import MultiTurnQA
from sinet.contract import Entity, Labels, Relation, Sentence
from sinet.data.sentence import read_sentences
from sinet.efficiency.flops import count_sentences
from sinet.encoders.encoder import Encoder
from sinet.grid.config import load_config
from sinet.grid.mistakes import validated
from sinet.grid.plan import resolve
from sinet.infer.predict import predict
from tests.conftest import CORPUS, LABELS, SMALL, set_on, tiny_tokenizer
from tests.test_systems import build, learn

CPU = torch.device("cpu")
SENTENCES = read_sentences(CORPUS)
ASKS = {"negative_questions": 0, "least_count": 1}


def new_model(encoder, labels: Labels = LABELS, **settings: object) -> multi_turn_qa.System:
    torch.manual_seed(1)
    return multi_turn_qa.System(labels, encoder, **multi_turn_qa.System.test_settings | ASKS | settings)


def texts(model: multi_turn_qa.System, batch, turn: str) -> list[str]:
    """What is read, without padding."""
    pieces = zip(batch[f"{turn}_input_ids"], batch[f"{turn}_attention_mask"], strict=True)
    return [model.encoder.tokenizer.decode(ids[mask.bool()]) for ids, mask in pieces]


@pytest.mark.parametrize(
    "key, text",
    [
        ("entity_question", "find all entities"),
        ("entity_question", "find all {tail} entities {tail}"),
        ("entity_question", "find all {tail} entities of a {head}"),
        ("entity_question", "find all {tail entities"),
        ("entity_question", "find all {tail!r} entities"),
        ("entity_question", "find all {tail:10} entities"),
        ("relation_question", "find all {tail} entities"),
        ("relation_question", "find all {relation} of {}"),
        ("relation_question", "find all {tail} that have {relation} with {word}"),
    ],
)
def test_a_template_that_asks_for_nothing_or_for_what_is_unknown_is_refused(key, text):
    right = (
        "{tail} once" if key == "entity_question" else "{tail} and {relation} once, and may hold {article}, {head}, {m"
    )
    with pytest.raises(Exception, match=re.escape(f"{key} should hold {right}")) as raised:
        validated(MultiTurnQA, {key: text})
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    "key, text, right",
    [
        ("entity_question", "", "should hold words, and may hold {tail}"),
        ("entity_question", "which of {head}?", "should hold words, and may hold {tail}"),
        (
            "relation_question",
            "which {tail} has {tail}?",
            "should hold {tail} once, and may hold {relation}, {article}, {h",
        ),
        (
            "relation_question",
            "in which place?",
            "should hold {tail} once, and may hold {relation}, {article}, {head}, {m",
        ),
    ],
)
def test_the_question_of_one_type_has_to_ask_for_something(key, text, right):
    with pytest.raises(Exception, match=re.escape(f"{key}.Part {right}")) as raised:
        validated(MultiTurnQA, {key: {"Whole": "which {tail}?", "Part": text}})
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    "settings, wrong",
    [
        (
            {"entity_question": {"Task": "which?", "Method": "what?"}},
            "entity_question: there is no question for 'Material'; ",
        ),
        (
            {"relation_question": dict.fromkeys(("Used-for", "Compare"), "{tail}?")},
            "relation_question: there is no question",
        ),
        (
            {"relation_question": dict(zip(LABELS.relation_types, ("which {tail}?", "in {tail}?") * 2, strict=True))},
            "relation_question: 'Used-for' and 'Compare' are both 'which {tail}?' in questions; give one of them other",
        ),
        (
            {"entity_question": dict.fromkeys(LABELS.entity_types, "which {tail}?"), "names": {"Task": "method"}},
            "names: 'Method' and 'Task' are both 'method' in questions; give one of them other words",
        ),
        ({"names": {"Methd": "way"}}, "names: 'Methd' is no such type of the data, did you mean 'Method'?"),
        (
            {"entity_question": {name: f"which {name}?" for name in (*LABELS.entity_types, "Used-for")}},
            "entity_question: 'Used-for' is no such type of the data, known: ",
        ),
    ],
)
def test_types_without_a_question_of_their_own_and_questions_without_a_type_are_refused(settings, wrong, tiny_encoder):
    with pytest.raises(ValueError, match=re.escape(f"settings.{wrong}")):
        new_model(tiny_encoder, **settings)
    one = dict.fromkeys(LABELS.relation_types, "which {tail} and {relation}?")
    assert new_model(tiny_encoder, relation_question=one), "relations that their questions name are told apart"


def test_names_without_words_and_names_that_are_alike_are_refused(tiny_encoder):
    with pytest.raises(Exception, match="names: PER has no words; write what questions should call it"):
        validated(MultiTurnQA, {"names": {"PER": " "}})
    with pytest.raises(
        ValueError, match="names: 'Method' and 'Task' are both 'thing' in questions; give one of them other"
    ):
        new_model(tiny_encoder, names={"Method": "thing", "Task": "thing"})


def test_types_are_called_by_their_names_in_lower_case():
    types = ["OtherScientificTerm", "Used-for", "Live_In", "ORG", "*"]
    assert MultiTurnQA(names={"ORG": "organization"}).called(types) == [
        "other scientific term",
        "used for",
        "live in",
        "organization",
        "*",
    ]


def test_questions_are_worded_by_the_templates(tiny_encoder):
    names = {"Material": "corpus", "Used-for": "a parser"}
    model = new_model(tiny_encoder, names=names, relation_question="{tail} {article} {relation} {mention} , {head}")
    items = [q for q in model.training_items(SENTENCES[:1]) if q.tail == 1]
    batch = model.training_batch(items)
    context = " ".join(SENTENCES[0].tokens).lower()
    first, last = (model.encoder.tokenizer.decode([marker]) for marker in model.wording.markers)
    cut = model.encoder.tokenizer
    (one,), (two,) = texts(model, batch, "turn1"), texts(model, batch, "turn2")
    assert one == cut.decode(cut("find all task entities in the context.", context)["input_ids"])
    head = " ".join(SENTENCES[0].tokens[2:4]).lower()
    expected = cut.decode(cut(f"task an a parser {head} , method", context)["input_ids"])
    # markers that the vocabulary does not have are behind it, and decode to nothing
    assert re.sub(" +", " ", two) == expected and first == last == ""
    assert model.wording.markers == [len(cut), len(cut) + 1]
    assert set(model.wording.markers) <= set(batch["turn2_input_ids"][0].tolist())


def asked_in_words(model: multi_turn_qa.System, items: list, turn: str) -> list[str]:
    """The questions without their sentences, and without blanks, which the tiny tokenizer puts into unknown words."""
    read = texts(model, model.training_batch(items), turn)
    return [text.removeprefix("[CLS]").partition("[SEP]")[0].replace("#", "").replace(" ", "") for text in read]


def test_a_template_may_leave_out_the_head(tiny_encoder):
    model = new_model(tiny_encoder, relation_question="which {tail} has {relation}")
    items = [q for q in model.training_items(SENTENCES[:1]) if q.head]
    relations = [LABELS.relation_types[q.relation].lower().replace("-", "") for q in items]
    kinds = [LABELS.entity_types[q.tail].lower() for q in items]
    expected = [f"which{kind}has{relation}" for kind, relation in zip(kinds, relations, strict=True)]
    assert asked_in_words(model, items, "turn2") == expected
    assert model.decode(model.collate(SENTENCES))


def test_each_type_may_have_its_own_question(tiny_encoder):
    """Each with the words of the head where it has them, or without."""
    entity = {"Method": "which tools .", "Task": "{tail} what else .", "Material": "data."}
    relation = {
        "Used-for": "{mention} helps {head} in which {tail} .",
        "Part-of": "which {tail} .",
        "Compare": "what {tail} has {article} {relation} with {mention}",
        "Never-seen": "{relation} {head} {mention} {tail} .",
    }
    model = new_model(tiny_encoder, entity_question=entity, relation_question=relation, tails_to_the_right=False)
    model.counts.fill_(1)
    sentence = SENTENCES[0]
    items = model.questions(sentence, len(sentence.tokens))
    kinds = [kind.lower() for kind in LABELS.entity_types]
    questions = {"Method": "whichtools.", "Task": "taskwhatelse.", "Material": "data."}
    assert asked_in_words(model, items, "turn1") == [questions[kind] for kind in LABELS.entity_types]
    expected = []
    for _, tail, number, (head, start, end) in (q for q in items if q.head):
        words = "".join(sentence.tokens[start:end]).lower()
        by_relation = {"Used-for": f"{words}helps{kinds[head]}inwhich{kinds[tail]}.", "Part-of": f"which{kinds[tail]}."}
        by_relation["Compare"] = f"what{kinds[tail]}hasacomparewith{words}"
        by_relation["Never-seen"] = f"neverseen{kinds[head]}{words}{kinds[tail]}."
        expected.append(by_relation[LABELS.relation_types[number]])
    assert asked_in_words(model, items, "turn2") == expected and len(set(expected)) > 12


def test_the_questions_of_a_dataset_are_settings_of_its_runs():
    """Over those of the model, which are over those of the recipe."""
    block, of = {"encoders": ["minilm"], "models": ["multi-turn-qa"], "recipe": "equal"}, {}
    for datasets in (["scierc", "conll04", "ace05", "ade-0"], ["scierc-documents"]):
        config = load_config() | {"grid": [block | {"datasets": datasets}], "seeds": [1]}
        config["models"]["multi-turn-qa"]["settings"] = {"names": {"Drug": "medicine"}, "negative_questions": 7}
        plan = resolve(config)
        of |= {run.split("/")[0]: plan.spec(run).settings for run in (*plan.runs, *plan.skipped_recipes)}
    assert of["scierc"] == of["scierc-documents"] and len(of["scierc"]["relation_question"]) == 7
    assert of["scierc"]["names"] == {"Generic": "general term"}
    assert set(of["conll04"]["entity_question"]) == {"Loc", "Org", "Other", "Peop"}
    assert of["ace05"]["names"]["PER"] == "person" and "entity_question" not in of["ace05"]
    assert of["ade-0"] == {"tails_to_the_right": False, "negative_questions": 7, "names": {"Drug": "medicine"}}


def test_triples_of_the_training_data_are_counted_asked_for_and_saved(tiny_encoder):
    model = new_model(tiny_encoder)
    assert bool((model.counts > 10**9).all()), "every triple, before any data"
    model.training_items(SENTENCES)
    model.training_items(SENTENCES)
    gold = sum(len(s.relations) for s in SENTENCES)
    assert int(model.counts.sum()) == gold, "counted anew"
    kinds, relations = LABELS.entity_types.index, LABELS.relation_types.index
    assert int(model.counts[kinds("Method"), relations("Compare"), kinds("Method")]) == 1
    again = new_model(tiny_encoder)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.counts, model.counts)

    passes: list[int] = []
    model.eval().encoder.register_forward_hook(lambda _, inputs, states: passes.append(len(inputs[0])))
    for least, known in ((1, model.counts > 0), (3, model.counts > 2), (100, model.counts > 99)):
        set_on(model, least_count=least)
        del passes[:]
        batch = model.collate(SENTENCES)
        batch.gold_entities = True
        model.decode(batch)
        heads = {(i, e.type, e.start, e.end) for i, s in enumerate(SENTENCES) for e in s.entities}
        assert sum(passes) == sum(int(known[kinds(kind)].sum()) for _, kind, _, _ in heads)


def test_a_sentence_is_read_once_for_each_type_and_for_each_head_and_triple(tiny_encoder):
    model = learn(new_model(tiny_encoder, max_heads=1), SENTENCES, 60).eval()
    model.training_items(SENTENCES)
    passes: list[int] = []
    model.encoder.register_forward_hook(lambda _, inputs, states: passes.append(len(inputs[0])))
    with torch.no_grad():
        batch = model.collate([SENTENCES[3].without_labels()])
        model.decode(batch)
    per_head = [int((of > 0).sum()) for of in model.counts]
    assert sum(passes) - len(LABELS.entity_types) in per_head, "about the likeliest head alone"


def test_a_step_of_sentences_has_all_answers_and_some_other_questions(tiny_encoder):
    whole = new_model(tiny_encoder)
    questions = whole.training_items(SENTENCES)
    everything = whole.training_batch(questions)
    answered = {turn: int((everything[f"{turn}_tags"][:, 0] == OUTSIDE).sum()) for turn in ("turn1", "turn2")}
    for negative in (1, 2):
        model = new_model(tiny_encoder, negative_questions=negative)
        assert model.training_items(SENTENCES) == SENTENCES
        batch = model.training_batch(SENTENCES)
        for turn, found in answered.items():
            tags = batch[f"{turn}_tags"][:, 0]
            assert int((tags == OUTSIDE).sum()) == found
            others = [
                sum(
                    bool(q.head) == (turn == "turn2") and q[1:] not in model.gold(s, 99)[1]
                    for q in whole.questions(s, 99)
                )
                for s in SENTENCES
            ]
            assert int((tags == SINGLE).sum()) == sum(min(negative, n) for n in others)
    assert questions[0].sentence is SENTENCES[0] and whole.item_lengths(questions[:1]) == [len(SENTENCES[0].tokens)]


def test_the_other_questions_of_a_step_are_drawn_anew(tiny_encoder):
    model = new_model(tiny_encoder, negative_questions=1)
    model.counts.fill_(1)
    possible = texts(model, model.training_batch(model.questions(SENTENCES[0], 99)), "turn2")
    drawn = [set(texts(model, model.training_batch(SENTENCES[:1]), "turn2")) for _ in range(12)]
    always = set.intersection(*drawn)
    assert all(len(of_step - always) == 1 for of_step in drawn)
    assert set.union(*drawn) < set(possible) and len(set.union(*drawn) - always) > 5


def test_relations_to_the_left_are_asked_for_only_without_the_rule_of_the_right(tiny_encoder):
    """And a symmetric relation of its left argument."""
    entities = (Entity("Task", 0, 1), Entity("Method", 2, 3), Entity("Method", 4, 5))
    relations = (Relation("Used-for", 1, 0), Relation("Compare", 2, 1))
    sentence = Sentence("left", ("parsers", "in", "neural", "and", "nasal"), entities, relations)
    for right, near, expected in ((False, 45, 3), (True, 45, 2), (True, 1, 0)):
        model = new_model(tiny_encoder, tails_to_the_right=right, max_distance=near)
        asked = [q for q in model.training_items([sentence]) if q.head]
        answers = model.gold(sentence, 5)[1]
        assert sum(q[1:] in answers for q in asked) == (1 if right and near > 1 else 2 if not right else 0)
        assert answers[1, 0, (0, 2, 3)] == [(0, 1)] and answers[0, 2, (0, 2, 3)] == [(4, 5)]
        assert len(asked) == {3: 4, 2: 1, 0: 0}[expected]


def test_nested_answers_are_tagged_as_the_longest():
    column = torch.tensor([[-1, -1, 1, 2, 0, 3, 4, -1]])
    tags = tags_of([[(1, 2), (1, 4), (3, 3)]], column)
    assert tags.tolist() == [[OUTSIDE, NO_TAG, BEGIN, 1, OUTSIDE, 1, END, NO_TAG]]
    assert tags_of([[]], column)[0, 0] == SINGLE


def test_an_answer_that_cuts_a_word_is_the_word(tiny_encoder, monkeypatch):
    model = new_model(tiny_encoder).eval()
    sentence = Sentence("cut", ("abc", "neural", "abcd"))

    def tagged(ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        """S on the second piece of the sentence, in turn 1 alone."""
        logits = torch.nn.functional.one_hot(torch.full_like(ids, OUTSIDE), 5).float()
        if len(ids) == len(LABELS.entity_types):
            logits[torch.arange(len(ids)), types.argmax(1) + 1, SINGLE] = 9.0
        return logits

    monkeypatch.setattr(model, "tag_logits", tagged)
    (found,) = model.decode(model.collate([sentence]))
    assert [(e.type, e.start, e.end) for e in found.entities] == [(kind, 0, 1) for kind in LABELS.entity_types]


def test_words_behind_the_longest_question_do_not_count_as_read(tiny_encoder):
    model = new_model(tiny_encoder)
    types = torch.arange(len(LABELS.entity_types))
    asked = int(model.wording.pieces(model.wording(types)).max())
    tiny_encoder.max_pieces = asked + 3 + 4
    assert model.truncated_words([Sentence("long", ("neural",) * 6), Sentence("short", ("neural",) * 4)]) == 2
    shorter = build(multi_turn_qa.System, tiny_encoder)
    batch = shorter.collate([Sentence("long", ("neural",) * 6)])
    phrases = shorter.wording(types)
    read = shorter.wording.asked(batch, torch.zeros_like(types), phrases).column.max(1).values
    assert int(read.min()) == 4


def answer_scores(model: multi_turn_qa.System, sentences: list[Sentence], turn: str) -> dict[str, list[float]]:
    """Of each sentence the products of the tags' probabilities at both ends of every gold answer of a turn."""
    items = [q for s in sentences for q in model.questions(s, len(s.tokens)) if q[1:] in model.gold(s, 99)[1]]
    items = [q for q in items if bool(q.head) == (turn == "turn2")]
    batch = model.training_batch(items)
    with torch.no_grad():
        asked = (batch[f"{turn}_{what}"] for what in ("input_ids", "attention_mask", "token_type_ids"))
        likely = model.tag_logits(*asked).softmax(-1)
    found: dict[str, list[float]] = {s.id: [] for s in sentences}
    for q, row, figures in zip(items, batch[f"{turn}_tags"].tolist(), likely, strict=True):
        edges = [(tag, float(figures[i, tag])) for i, tag in enumerate(row) if i and tag in (BEGIN, END, SINGLE)]
        scores = [p * edges[i + 1][1] if tag == BEGIN else p for i, (tag, p) in enumerate(edges) if tag != END]
        found[q.sentence.id] += scores
    return {name: sorted(scores) for name, scores in found.items()}


def test_scores_are_the_probabilities_that_are_trained_on(tiny_encoder):
    """Of the tags at both ends of an answer; turn 1 alone says what an entity scores where turn 2 asks for nothing."""
    labels = Labels(LABELS.entity_types, LABELS.relation_types)
    model = learn(new_model(tiny_encoder, labels), SENTENCES, 100).eval()
    found = predict(model, SENTENCES, CPU, "float32")
    model.counts.fill_(1)
    expected = answer_scores(model, found, "turn2")
    assert sum(len(s.relations) for s in found) > 5
    for sentence in found:
        assert sorted(r.score for r in sentence.relations) == pytest.approx(expected[sentence.id], abs=1e-5)
    model.counts.zero_()
    found = predict(model, SENTENCES, CPU, "float32")
    expected = answer_scores(model, found, "turn1")
    assert sum(len(s.entities) for s in found) > 15
    for sentence in found:
        assert sorted(e.score for e in sentence.entities) == pytest.approx(expected[sentence.id], abs=1e-5)


@pytest.mark.parametrize("kind", ["bert", "albert", "mpnet", "distilbert"])
def test_token_types_are_told_apart_where_the_architecture_has_them(kind, fresh_encoder):
    encoder = fresh_encoder(kind).eval()
    inputs = encoder.collate(SENTENCES[:3])
    types = (torch.arange(inputs.input_ids.shape[1]) > 3).long().expand_as(inputs.input_ids)
    real = inputs.attention_mask.bool()
    with torch.no_grad():
        plain = encoder(inputs.input_ids, inputs.attention_mask)[real]
        typed = encoder(inputs.input_ids, inputs.attention_mask, token_type_ids=types)[real]
        with encoder.packed(torch.float32):
            packed = encoder(inputs.input_ids, inputs.attention_mask, token_type_ids=types)[real]
    torch.testing.assert_close(packed, typed, atol=1e-5, rtol=0)
    assert torch.allclose(plain, typed) == (encoder.token_types == 1) == (kind in ("mpnet", "distilbert"))


def test_passes_of_a_sentence_are_counted(tiny_encoder):
    model = new_model(tiny_encoder).eval()
    triples = len(LABELS.entity_types) * len(LABELS.relation_types)
    counted = count_sentences(model, SENTENCES[:4], given=True)
    assert counted["passes"] == triples * sum(len(s.entities) for s in SENTENCES[:4]) / 4
    assert set(counted["operators"]) == {"encoder", "heads"}


@pytest.mark.parametrize("template", ["{tail} {relation} {mention}", "{tail} {relation}"])
def test_as_many_questions_are_read_at_once_as_have_the_pieces(template, tiny_encoder, monkeypatch):
    """Those of a turn the longest first; one that has more pieces by itself alone."""
    model, asked = new_model(tiny_encoder, relation_question=template).eval(), []
    batch = model.collate(SENTENCES)
    batch.gold_entities = True  # of any length
    logits = model.tag_logits
    monkeypatch.setattr(model, "tag_logits", lambda *inputs: asked.append(inputs[1].sum(1)) or logits(*inputs))
    for pieces in range(20, 160, 7):
        set_on(model, pieces_at_once=pieces)
        asked.clear()
        model.decode(batch)
        lengths = [int(of.max()) for of in asked]
        assert all(len(of) * longest <= max(pieces, longest) for of, longest in zip(asked, lengths, strict=True))
        ordered = torch.cat(asked).tolist()
        if "mention" in template:  # else the order is that of the bound
            assert ordered == sorted(ordered, reverse=True)
            assert len(asked[0]) == max(1, pieces // lengths[0]), "and no fewer"


def test_of_a_first_word_that_is_too_long_the_beginning_is_read(tiny_encoder):
    model = new_model(tiny_encoder)
    tiny_encoder.max_pieces = tiny_encoder.max_pieces - model._room() + 4
    model = new_model(tiny_encoder)
    assert model._room() == 4
    word = "abcdefghijklmnopqrst"
    assert model.truncated_words([Sentence("giant", (word,)), Sentence("two", (word, "parsers"))]) == 1


def test_what_lies_beyond_the_words_that_are_read_is_not_asked_for(tiny_encoder):
    entities = (Entity("Task", 0, 1), Entity("Method", 1, 3), Entity("Method", 3, 5))
    relations = (Relation("Used-for", 1, 0), Relation("Used-for", 0, 2), Relation("Part-of", 2, 0))
    sentence = Sentence("cut", ("parsers", "in", "neural", "and", "nasal"), entities, relations)
    model = new_model(tiny_encoder)
    assert model.gold(sentence, 5)[0] == [(1, 0, 1), (0, 1, 3), (0, 3, 5)] and len(model.gold(sentence, 5)[1]) == 5
    for words, read in ((4, 2), (3, 2), (2, 1)):
        found, answers = model.gold(sentence, words)
        assert found == [(1, 0, 1), (0, 1, 3)][:read]
        assert list(answers) == [(1, -1, None), (0, -1, None), (1, 0, (0, 1, 3))][: 2 * read - 1]


def test_training_asks_of_what_is_read_alone(tiny_encoder):
    """And of an entity that is annotated twice once."""
    entities = (Entity("Method", 0, 1), Entity("Method", 2, 3), Entity("Task", 5, 6), Entity("Method", 0, 1))
    relations = (Relation("Used-for", 0, 1), Relation("Used-for", 0, 2), Relation("Used-for", 2, 1))
    sentence = Sentence("cut", ("neural",) * 6, entities, relations)
    model = new_model(tiny_encoder, negative_questions=100)
    tiny_encoder.max_pieces = 6
    model.training_items([sentence])
    assert int(model.counts.sum()) == 1
    model.counts.fill_(1)
    batch, kinds = model.training_batch([sentence]), len(LABELS.entity_types)
    for turn, asked in (("turn1", kinds), ("turn2", 2 * kinds * len(LABELS.relation_types))):
        tags = batch[f"{turn}_tags"]
        assert len(tags) == asked and int((tags[:, 0] == OUTSIDE).sum()) == 1


def test_of_entities_that_start_together_the_shorter_stands_first_and_relations_stay_as_annotated(tiny_encoder):
    """Symmetric ones, too."""
    entities = (Entity("Method", 0, 2), Entity("Task", 0, 1), Entity("Method", 0, 1))
    for head, tail in ((0, 2), (2, 0)):
        sentence = Sentence("nested", ("neural", "parsers"), entities, (Relation("Compare", head, tail),))
        read, answers = new_model(tiny_encoder).gold(sentence, 2)
        assert read == [(0, 0, 1), (1, 0, 1), (0, 0, 2)]
        spans = [(e.start, e.end) for e in entities]
        assert answers[0, 2, (0, *spans[head])] == [spans[tail]]


def test_a_step_is_averaged_over_all_its_parts(tiny_encoder):
    model = new_model(tiny_encoder)
    parts = [model.training_batch(model.training_items(SENTENCES[i : i + 2])) for i in (0, 2)]
    alone = [model.divisors([part]) for part in parts]
    assert model.divisors(parts) == {turn: sum(of[turn] for of in alone) for turn in ("turn1", "turn2")}
    assert all(alone[0].values()) and all(alone[1].values())


def test_decoding_asks_of_the_likeliest_heads_and_relates_no_entity_to_itself(tiny_encoder, monkeypatch):
    """One head a sentence; each is answered by itself and by the word behind it."""
    model = new_model(tiny_encoder, max_heads=1).eval()
    method, compare = LABELS.entity_types.index("Method"), LABELS.relation_types.index("Compare")
    model.counts.zero_()
    model.counts[method, compare, method] = model.settings.least_count
    batch = model.collate([Sentence(name, ("neural",) * 4) for name in ("one", "other")])
    spans = torch.tensor([[0, 1], [2, 3], [5, 6]])  # of the first sentence two, the second of them is likelier
    asked = []

    def answered(batch, sentence, phrases, *extent):
        asked.append(sentence.tolist())
        if not extent:
            question = torch.tensor([method, method, len(LABELS.entity_types) + method])
            return question, spans, torch.tensor([0.6, 0.9, 0.95])
        itself = torch.tensor([[2, 3], [5, 6]])
        return torch.tensor([0, 1, 0, 1]), torch.cat([itself, itself + 1]), torch.tensor([0.8, 0.8, 0.7, 0.2])

    monkeypatch.setattr(model, "answers", answered)
    found = model.decode(batch)
    assert asked[1] == [0, 1]
    for prediction, head, entities in zip(found, ((2, 3), (1, 2)), (3, 2), strict=True):
        assert len(prediction.entities) == entities and {e.type for e in prediction.entities} == {"Method"}
        (relation,) = prediction.relations
        ends = [prediction.entities[end] for end in (relation.head, relation.tail)]
        assert [(e.start, e.end) for e in ends] == [head, (head[0] + 1, head[1] + 1)]


class Largest(TorchDispatchMode):
    """The size of the largest tensor that is made, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **kwargs or {})
        for tensor in made if isinstance(made, list | tuple) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return made


def test_memory_does_not_grow_with_the_questions_of_a_long_sentence(tmp_path, monkeypatch):
    """Every word that is read, of 508, is an answer to every question of turn 1; turn 2 asks about some of them."""
    config = AutoConfig.for_model(
        "bert", **SMALL | {"num_hidden_layers": 1, "vocab_size": 200, "max_position_embeddings": 512}
    )
    encoder = Encoder(AutoModel.from_config(config, attn_implementation="eager"), tiny_tokenizer(tmp_path))
    model, asked = new_model(encoder, pieces_at_once=2400).eval(), []
    tag_logits = model.tag_logits

    def answered(ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        asked.append(ids.shape)
        in_turn_1 = ~torch.isin(ids, torch.tensor(model.wording.markers)).any(1, keepdim=True)
        logits = tag_logits(ids, mask, types)
        logits[..., SINGLE] += 100 * ((types > 0) == in_turn_1)
        logits[:, 0, OUTSIDE] += 50
        return logits

    monkeypatch.setattr(model, "tag_logits", answered)
    batch = model.collate([Sentence("long", ("neural", "parsers") * 254)])
    assert batch["input_ids"].shape[1] == 510
    types, largest = len(LABELS.entity_types), []
    for heads in (1, 6):
        set_on(model, max_heads=heads)
        asked.clear()
        with torch.no_grad(), Largest() as seen:
            (found,) = model.decode(batch)
        assert len(found.entities) > 400 * types and not found.relations
        assert sum(questions for questions, _ in asked) == types + heads * types * len(LABELS.relation_types)
        assert max(pieces for _, pieces in asked) == 512 and {q for q, _ in asked[1:-1]} == {4}
        largest.append(seen.bytes)
    of_attention = 4 * SMALL["num_attention_heads"] * 512 * 512 * 4
    assert largest == [of_attention] * 2, "of as many questions as are asked at once"


@pytest.mark.parametrize("first", [0, 1], ids=["uncased", "cased"])
def test_markers_are_the_first_pieces_that_no_text_has(first, tiny_encoder, monkeypatch):
    unused = {f"[unused{n}]": 5 + n for n in range(first, 4)}
    monkeypatch.setattr(type(tiny_encoder.tokenizer), "get_vocab", lambda _: {"[PAD]": 0, **unused})
    assert marker_ids(tiny_encoder, 2, begin=0).tolist() == [5 + first, 6 + first]
    assert marker_ids(tiny_encoder, 2).tolist() == [6, 7]
