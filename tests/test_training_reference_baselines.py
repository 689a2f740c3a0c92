"""PFN, TCRE, the table-sequence encoders and DyGIE++: what the stored training figures do not show.

Where dropout acts, initial weights, odd annotations, cut sentences.
"""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from baselines import dygiepp, pfn, table_sequence, tcre
from sinet.contract import Extractor, Sentence
from sinet.data.sentence import Entity, Relation, read_sentences
from sinet.grid.config import read_config
from sinet.grid.recipes import spell_out
from sinet.model.endpoints import word_means
from sinet.train.steps import batch_parts, train_step
from tests.conftest import CORPUS, LABELS, recipe_of
from tests.test_baselines import dygie_by_hand, shuffled_weights

# -- dropout -------------------------------------------------------------------------------------------------------


@pytest.fixture
def dropped(monkeypatch) -> list[tuple[nn.Dropout, torch.Size]]:
    """Modules that dropped something, in the order of the calls, and the shapes of what they dropped from."""
    calls: list[tuple[nn.Dropout, torch.Size]] = []
    forward = nn.Dropout.forward

    def recorded(self: nn.Dropout, input: Tensor) -> Tensor:
        if self.training and self.p:
            calls.append((self, input.shape))
        return forward(self, input)

    monkeypatch.setattr(nn.Dropout, "forward", recorded)
    return calls


def outside_the_encoder(model: Extractor, dropped: list[tuple[nn.Dropout, torch.Size]]) -> list[tuple[int, ...]]:
    inside = set(map(id, model.encoder.modules()))
    return [tuple(shape) for module, shape in dropped if id(module) not in inside]


def test_table_sequence_drops_where_the_released_code_does(tiny_encoder, dropped):
    settings = table_sequence.System.test_settings | {"dropout": 0.5}
    model = table_sequence.System(LABELS, tiny_encoder, **settings).train()
    batch = model.training_batch(read_sentences(CORPUS))
    b, n = batch["entity_tags"].shape
    hidden, inputs = settings["hidden_size"], model.network.reduce.in_features
    model.losses(batch)
    layer = [(b, n, hidden), (b, n, 4 * hidden), (b, n, hidden)]
    assert outside_the_encoder(model, dropped) == [
        (len(batch["word_start"]), batch["characters"].shape[1], table_sequence.CHARACTER_SIZE),
        (b, n, inputs),
        *layer * settings["layers"],
        (b, n, hidden),
        (2, n * n, b, hidden // 2),
    ]
    assert len(outside_the_encoder(model, dropped)) == len(dropped), "the frozen encoder drops nothing"
    dropped.clear()
    model.eval()
    model.decode(batch)
    assert not dropped


def test_tags_read_the_dropped_sequence_and_table():
    torch.manual_seed(0)
    network = table_sequence.TableSequence(5, 8, 2, 2, 0, 3, 3, 0.5).train()
    seen: list[Tensor] = []
    network.entity_tags.register_forward_hook(lambda _, inputs, out: seen.append(inputs[0]))
    network(torch.randn(2, 4, 5), None, torch.ones(2, 4, dtype=torch.bool))
    zeros = float((seen[0] == 0).float().mean())
    assert 0.2 < zeros < 0.8, zeros
    # the table as well: dropped whole, nothing but the biases of its tags is left
    network.dropout.p = 1.0
    _, relation = network(torch.randn(2, 4, 5), None, torch.ones(2, 4, dtype=torch.bool))
    assert torch.equal(relation, network.relation_tags.bias.expand_as(relation))


def test_the_same_word_twice_is_dropped_twice(tiny_encoder):
    torch.manual_seed(0)
    model = table_sequence.System(
        LABELS, tiny_encoder, **table_sequence.System.test_settings | {"dropout": 0.5}
    ).train()
    batch = model.training_batch([Sentence("twice", ("parsers", "parsers"))])
    read: list[Tensor] = []
    model.characters.register_forward_hook(lambda _, inputs, out: read.append(out))
    model.losses(batch)
    assert len(read[0]) == 2 and not torch.equal(read[0][0], read[0][1])
    model.eval()
    model.decode(batch)
    assert len(read[1]) == 1, "without dropout a word is read once"


def test_pfn_drops_where_the_released_code_does(tiny_encoder, dropped):
    model = pfn.System(LABELS, tiny_encoder, **pfn.System.test_settings | {"dropout": 0.1, "dropconnect": 0.3}).train()
    batch = model.training_batch(read_sentences(CORPUS))
    b, n = batch["input_ids"].shape
    hidden = pfn.System.test_settings["hidden_size"]
    model.losses(batch)
    tables = [(b, n * (n + 1) // 2, hidden), (b, n, n, hidden)]  # entity cells below the diagonal are in no loss
    assert outside_the_encoder(model, dropped) == [(b, n, tiny_encoder.hidden_size), *tables]
    kept = model.partition_filter.kept(model.partition_filter.hidden_transform.weight)
    assert kept.dtype == torch.bool and float(kept.float().mean()) == pytest.approx(0.7, abs=0.05)


def test_tcre_drops_in_its_tables_alone(tiny_encoder, dropped):
    model = tcre.System(LABELS, tiny_encoder, **tcre.System.test_settings | {"dropout": 0.1}).train()
    batch = model.training_batch(read_sentences(CORPUS))
    b, n = batch["input_ids"].shape
    hidden = tcre.System.test_settings["hidden_size"]
    model.losses(batch)
    assert outside_the_encoder(model, dropped) == [(b, n * (n + 1) // 2, hidden), (b, n, n, hidden)]
    assert not any(isinstance(m, torch.nn.MultiheadAttention) and m.dropout for m in model.modules())


# -- initial weights -----------------------------------------------------------------------------------------------


def assert_uniform(weight: Tensor, bound: float, name: str) -> None:
    """Nothing beyond the bound, and spread up to it."""
    weight = weight.detach()
    assert float(weight.abs().max()) <= bound * (1 + 1e-6), name
    assert float(weight.std()) == pytest.approx(bound / 3**0.5, rel=0.25), name


def test_table_sequence_begins_as_released(tiny_encoder):
    torch.manual_seed(0)
    model = table_sequence.System(LABELS, tiny_encoder)
    network = model.network
    hidden, channels = 200, network.layers[0].attention_input.in_features
    for name in ("reduce", "entity_tags", "relation_tags"):
        layer = getattr(network, name)
        assert_uniform(layer.weight, (6 / sum(layer.weight.shape)) ** 0.5, name)
        assert not layer.bias.any()
    for number, layer in enumerate(network.layers):
        states = 3 if number else 2
        bounds = {
            "row": 2 * hidden,  # both halves of one layer over [row ; column]
            "column": 2 * hidden,
            "cell": hidden + channels,
            "attention_input": hidden + channels,
            "score": hidden,
            "value": hidden,
            "output": hidden,
            "feed_forward.0": hidden,
            "feed_forward.3": 4 * hidden,
        }
        for name, inputs in bounds.items():
            for parameter in layer.get_submodule(name).parameters():
                assert_uniform(parameter, inputs**-0.5, f"{number}.{name}")
        for name, inputs in (("input", hidden), ("state", states * hidden // 2)):
            for parameter in (getattr(layer.recurrence, name), getattr(layer.recurrence, f"{name}_bias")):
                assert_uniform(parameter, inputs**-0.5, f"{number}.{name}")
    characters, half = model.characters, table_sequence.CHARACTER_SIZE // 2
    assert_uniform(characters.embedding.weight[1:], (3 / (2 * half)) ** 0.5, "characters")
    assert not characters.embedding.weight[0].any()
    assert_uniform(characters.input.weight, (6 / (2 * half + half)) ** 0.5, "input gates")
    assert_uniform(characters.recurrent, (6 / (half + half)) ** 0.5, "recurrent gates")
    for bias in (characters.input.bias.view(2, -1), characters.recurrent_bias.view(2, -1)):
        assert (bias[:, :half] == 1).all() and not bias[:, half:].any()


def test_tcre_begins_as_released(tiny_encoder):
    """The layers as torch makes them; of its fused features a task has half its own."""
    torch.manual_seed(0)
    model = tcre.System(LABELS, tiny_encoder)
    hidden, inputs = 300, tiny_encoder.hidden_size
    for task in (model.unit.entity, model.unit.relation):
        assert (task.fuse.weight == 1).all() and task.fuse.bias is None
        for name, size in (("gates", inputs), ("exchange", 2 * hidden), ("attention.out_proj", hidden)):
            assert_uniform(task.get_submodule(name).weight, size**-0.5, name)
        assert_uniform(task.attention.in_proj_weight, (6 / (4 * hidden)) ** 0.5, "attention")
        assert not task.attention.in_proj_bias.any() and not task.attention.out_proj.bias.any()
    for table in (model.entity_table, model.relation_table):
        assert_uniform(table.pair.weight, (12 * hidden) ** -0.5, "pair")
        assert_uniform(table.classify.weight, hidden**-0.5, "classify")


def test_tcre_weighs_its_losses_as_released(tiny_encoder):
    """By their falls two epochs before, in training steps too, of whole batches and of cut ones."""
    sentences = read_sentences(CORPUS)[:4]
    _, own = spell_out(read_config(), "own", "tcre", "")
    model = tcre.System(LABELS, tiny_encoder, **tcre.System.test_settings | own).eval()
    model.epoch_losses = [{"entity": 9.0, "relation": 9.0}, {"entity": 4.0, "relation": 2.0}]
    assert model.term_weights() == {}, "two epochs"
    model.epoch_losses += [{"entity": 3.0, "relation": 0.5}, {"entity": 7.0, "relation": 1.0}]
    fell = {"entity": 3 / 4, "relation": 0.5 / 2}
    expected = {task: 2 * math.exp(t) / sum(map(math.exp, fell.values())) for task, t in fell.items()}
    assert model.term_weights() == pytest.approx(expected, rel=1e-12)

    whole = model.training_batch(sentences)
    terms, divisors = model.losses(whole), model.divisors([whole])
    loss = sum(weight * terms[task] / divisors[task] for task, weight in expected.items())
    torch.testing.assert_close(model.loss(whole), loss)
    gradients = torch.autograd.grad(loss, list(model.unit.parameters()))
    unmoved = SimpleNamespace(step=lambda: None, zero_grad=model.zero_grad, clipped_step=lambda limit, by_part: None)
    for size in (None, 3):
        recipe = recipe_of(micro_batch_size=size)
        parts = batch_parts(model, sentences, recipe)
        told = train_step(model, parts, unmoved, unmoved, recipe, torch.device("cpu"), "float32")
        assert {task: float(term) for task, term in told.items()} == pytest.approx(
            {task: float(term.detach() / divisors[task]) for task, term in terms.items()}
        ), "as they are, for the epochs after this"
        for parameter, gradient in zip(model.unit.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-4)

    model.epoch_losses[-3] = {"entity": 4.0, "relation": 0.0}
    assert model.term_weights() == {}, "of data without relations"
    plain = tcre.System(LABELS, tiny_encoder, **tcre.System.test_settings)
    plain.epoch_losses = model.epoch_losses[:1] * 4
    assert plain.term_weights() == {}


def test_dygiepp_begins_as_released(tiny_encoder):
    torch.manual_seed(0)
    encoder = {name: value.clone() for name, value in tiny_encoder.state_dict().items()}
    model = dygiepp.System(LABELS, tiny_encoder)
    assert all(torch.equal(value, encoder[name]) for name, value in model.encoder.state_dict().items())
    for name, parameter in model.named_parameters():
        if name.startswith("encoder."):
            continue
        if name.endswith("weight"):
            expected = (2 / sum(parameter.shape)) ** 0.5
            assert float(parameter.detach().std()) == pytest.approx(expected, rel=0.2), name
            if parameter.numel() > 1000:
                assert float(parameter.detach().abs().max()) > 2.5 * expected, f"{name} is no normal distribution"
        else:
            module = model.get_submodule(name.removesuffix(".bias"))
            assert float(parameter.detach().abs().max()) <= module.in_features**-0.5
            assert parameter.any(), f"{name}: torch's default, not zero"


# -- annotations ---------------------------------------------------------------------------------------------------


def tags_of(sentence: Sentence, length: int | None = None) -> tuple[list[int], list[list[int]]]:
    n = len(sentence.tokens)
    tags, table = torch.zeros(n, dtype=torch.long), torch.zeros(n, n, dtype=torch.long)
    table_sequence.write_tags(LABELS, sentence, n if length is None else length, tags, table)
    return tags.tolist(), table.tolist()


def test_a_mirror_image_is_written_only_where_its_first_cell_is_empty():
    entities = (Entity("Method", 0, 1), Entity("Task", 1, 3))
    both = (Relation("Compare", 0, 1), Relation("Compare", 1, 0))
    forward = 2 * LABELS.relation_types.index("Compare") + 1
    _, table = tags_of(Sentence("once", ("a", "b", "c"), entities, both[:1]))
    assert table == [[0, forward, forward], [forward + 1, 0, 0], [forward + 1, 0, 0]]
    # annotated the other way round as well: forward in both rectangles, backward in none
    _, table = tags_of(Sentence("twice", ("a", "b", "c"), entities, both))
    assert table == [[0, forward, forward], [forward, 0, 0], [forward, 0, 0]]


def test_a_relation_of_an_entity_to_itself_is_forward_only(tiny_encoder):
    sentence = Sentence("itself", ("a", "b"), (Entity("Method", 0, 2),), (Relation("Used-for", 0, 0),))
    assert tags_of(sentence) == ([1, 2], [[1, 1], [1, 1]])
    model = table_sequence.System(LABELS, tiny_encoder, **table_sequence.System.test_settings)
    assert model.loss(model.training_batch([sentence])).isfinite()


def test_later_tags_write_over_earlier_ones_and_relations_stay():
    entities = (Entity("Method", 0, 3), Entity("Task", 1, 2), Entity("Material", 3, 4))
    sentence = Sentence("nested", ("a", "b", "c", "d"), entities, (Relation("Used-for", 0, 2),))
    tags, table = tags_of(sentence)
    assert tags == [1, 3, 2, 5]
    assert [row[3] for row in table] == [1, 1, 1, 0] and table[3] == [2, 2, 2, 0]
    tags, table = tags_of(sentence, 3)
    assert tags == [1, 3, 2, 0] and not any(map(any, table)), "what ends beyond the words that are read is dropped"


def test_dygiepp_trains_on_relations_as_annotated(tiny_encoder):
    """A span with itself, a symmetric relation against the order, two types on one pair, of which the last counts."""
    entities = (Entity("Method", 0, 1), Entity("Task", 2, 3))
    relations = (
        Relation("Used-for", 0, 0),
        Relation("Compare", 1, 0),
        Relation("Used-for", 0, 1),
        Relation("Part-of", 0, 1),
    )
    words = ("neural", "abcdef", "parsers")  # the second has several pieces
    model = shuffled_weights(
        dygiepp.System(LABELS, tiny_encoder, **dygiepp.System.test_settings | {"spans_per_word": 100.0})
    )
    seen = set()
    for some in (relations, relations[:1], relations[1:2], relations[2:3], ()):
        sentence = Sentence("odd", words, entities, some)
        _, kept, _, loss = dygie_by_hand(model, sentence)
        assert {(0, 1), (2, 3)} <= set(kept)
        ours = float(model.loss(model.training_batch([sentence])).detach())
        assert ours == pytest.approx(loss, rel=1e-4)
        seen.add(round(ours, 4))
    assert len(seen) == 5, "each of them changes the loss"


def test_a_relation_of_a_span_with_itself_is_not_predicted(tiny_encoder):
    model = shuffled_weights(
        dygiepp.System(LABELS, tiny_encoder, **dygiepp.System.test_settings | {"spans_per_word": 100.0})
    )
    with torch.no_grad():
        model.relation.output.bias.fill_(100.0)  # every pair is related
    sentences = read_sentences(CORPUS)
    found = model.decode(model.collate(sentences))
    assert any(p.relations for p in found)
    assert not [r for p in found for r in p.relations if r.head == r.tail]


def test_words_are_means_of_their_pieces(tiny_encoder):
    torch.manual_seed(0)
    sentences = [Sentence("a", ("abcdefgh", "parsers", "qwx")), Sentence("b", ("zebra",)), Sentence("c", ("neural",))]
    model = dygiepp.System(LABELS, tiny_encoder, **dygiepp.System.test_settings)
    for some in (sentences, sentences[2:]):
        batch = model.collate(some)
        hidden = torch.randn(*batch["input_ids"].shape, 4, requires_grad=True)
        rows = hidden.flatten(0, 1)
        spans = list(zip(batch["word_start"].tolist(), batch["word_end"].tolist(), strict=True))
        expected = torch.stack([rows[a:e].mean(0) for a, e in spans])
        ours = word_means(hidden, batch)
        torch.testing.assert_close(ours, expected)
        weight = torch.randn_like(ours)
        found = [torch.autograd.grad((w * weight).sum(), hidden, retain_graph=True)[0] for w in (ours, expected)]
        torch.testing.assert_close(*found)


# -- PFN's sentences -----------------------------------------------------------------------------------------------


def test_pfn_reads_so_many_words_and_no_more(tiny_encoder):
    words = ("neural", "parsers", "abcdef", "parsers", "neural")
    entities = (Entity("Method", 0, 1), Entity("Task", 1, 3), Entity("Task", 2, 4))
    relations = (Relation("Used-for", 0, 1), Relation("Used-for", 0, 2))
    sentence = Sentence("long", words, entities, relations)
    model = pfn.System(
        LABELS, tiny_encoder, **pfn.System.test_settings | {"max_words": 3, "threshold": 0.0, "entity_threshold": 0.0}
    ).eval()
    batch = model.training_batch([sentence])
    cut = model.training_batch([Sentence("cut", words[:3], entities[:2], relations[:1])])
    assert batch["lengths"].tolist() == [3]
    for name in ("input_ids", "gold_entities", "gold_relations"):
        assert torch.equal(batch[name], cut[name]), name
    assert {e.end for e in model.decode(batch)[0].entities} == {1, 2, 3}
    assert pfn.System(LABELS, tiny_encoder, **pfn.System.test_settings).max_words == 128


def test_pfn_sees_padding_only_in_training_and_only_if_it_should(tiny_encoder):
    sentences = [Sentence("short", ("parsers",)), Sentence("long", ("neural", "parsers") * 6)]
    seen = {}
    for mask_padding in (True, False):
        torch.manual_seed(0)
        settings = pfn.System.test_settings | {"dropout": 0.0, "dropconnect": 0.0, "mask_padding": mask_padding}
        model = pfn.System(LABELS, tiny_encoder, **settings)
        shuffled_weights(model)
        for training in (True, False):
            model.train(training)
            model.encoder.eval()
            with torch.no_grad():
                together, alone = (model.encode(model.collate(some)) for some in (sentences, sentences[:1]))
            same = [torch.allclose(a[2][0], b[2][0], atol=1e-5) for a, b in zip(together, alone, strict=True)]
            seen[mask_padding, training] = all(same)
    assert seen == {(True, True): True, (True, False): True, (False, True): False, (False, False): True}


def test_pfn_divides_by_the_longest_sentence_of_all_parts(tiny_encoder):
    model = pfn.System(LABELS, tiny_encoder, **pfn.System.test_settings)
    sentences = [Sentence("short", ("parsers",)), Sentence("long", ("neural", "parsers") * 6)]
    parts = [model.training_batch([sentence]) for sentence in sentences]
    longest = parts[1]["input_ids"].shape[1]
    assert model.divisors(parts) == {"entity": longest, "relation": longest}
    assert longest > parts[0]["input_ids"].shape[1]
