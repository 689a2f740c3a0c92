"""DyGIE++ with coreference: what a document decides, what it must not see, what it costs."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from baselines import dygiepp
from baselines._coreference import Links, clusters, gold_tensors, link_loss
from sinet.cli import main
from sinet.contract import Batch, Sentence
from sinet.data.sentence import read_sentences, write_sentences
from sinet.efficiency import flops, timing
from sinet.errors import UserError
from sinet.evaluate.coreference import MEASURES, coreference_scores
from sinet.evaluate.metrics import score
from sinet.infer import extract
from sinet.infer.extract import Predictor
from sinet.infer.predict import predict
from sinet.model.batches import by_document, inference_batches, sample_by_length
from sinet.model.spans import span_grid
from sinet.train.trainer import train_run
from tests.conftest import CORPUS, LABELS, spec, tiny_run
from tests.test_systems import CPU, learn

SETTINGS = dygiepp.System.test_settings | {"coreference_weight": 1.0, "coreference_spans_per_word": 1.0}
DOCUMENTS = ("a", "a", "a", None, None, "b", "b", "c", "c", "c")


def documents() -> list[Sentence]:
    """The corpus in three documents and two single sentences: what is annotated alike in a document is one cluster."""
    numbers: dict = {}
    found = []
    for sentence, document in zip(read_sentences(CORPUS), DOCUMENTS, strict=True):
        mentions = tuple(
            (e.start, e.end, numbers.setdefault((document, e.type), len(numbers))) for e in sentence.entities
        )
        found.append(replace(sentence, document=document, coreference=mentions if document else ()))
    return found


def model_of(encoder, **settings) -> dygiepp.System:
    torch.manual_seed(1)
    return dygiepp.System(LABELS, encoder, **SETTINGS | settings)


def test_learns_the_clusters_of_documents_and_predicts_them(tiny_encoder):
    sentences = documents()
    model = learn(model_of(tiny_encoder, dropout=0.0), sentences, 150)
    found = predict(model, sentences, CPU, "float32")
    figures = score(sentences, found, LABELS)["symmetric"]
    assert figures["ent"]["f1"] == figures["rel_plus"]["f1"] == 100
    for document in by_document([s.document for s in sentences]):
        partitions = []
        for annotated in (sentences, found):
            numbered: dict[int, set] = {}
            for i in document:
                for start, end, cluster in annotated[i].coreference:
                    numbered.setdefault(cluster, set()).add((i, start, end))
            # a mention that nothing refers to is no cluster of the prediction
            partitions.append({frozenset(c) for c in numbered.values() if len(c) > 1})
        assert partitions[0] == partitions[1]


def test_the_clusters_of_the_gold_are_not_seen(tiny_encoder):
    """Nothing of a prediction, its clusters included, depends on the gold clusters."""
    sentences = documents()
    model = learn(model_of(tiny_encoder), sentences, 5)
    without = [replace(s, coreference=()) for s in sentences]
    assert predict(model, sentences, CPU, "float32") == predict(model, without, CPU, "float32")
    light = dygiepp.System(LABELS, tiny_encoder, **dygiepp.System.test_settings)
    assert not any(s.coreference for s in predict(light, sentences, CPU, "float32")), "nor copied"


def test_a_sentence_is_read_with_its_document_alone(tiny_encoder):
    sentences = documents()
    model = learn(model_of(tiny_encoder), sentences, 5)
    batches = inference_batches(model, sentences, 1)
    assert batches == [[0, 1, 2], [3], [4], [5, 6], [7, 8, 9]]
    found = predict(model, sentences, CPU, "float32")
    for document in batches:
        alone = predict(model, [sentences[i] for i in document], CPU, "float32")
        assert alone == [found[i] for i in document]

    def entity(sentence: Sentence, batch: list[Sentence]) -> torch.Tensor:
        with torch.no_grad():
            scores = model.eval().scores(model.collate(batch))
        ends = [0, *torch.tensor([len(s.tokens) for s in batch]).cumsum(0).tolist()]
        place = batch.index(sentence)
        return scores.entity.masked_fill(~scores.fits.unsqueeze(-1), 0)[ends[place] : ends[place + 1]]

    first, second, other = sentences[0], sentences[1], sentences[5]
    torch.testing.assert_close(entity(first, [first, other]), entity(first, [first]), atol=1e-5, rtol=0)
    assert not torch.allclose(entity(second, [first, second]), entity(second, [second]), atol=1e-5), (
        "its own changes it"
    )


def test_gold_antecedents_that_are_no_candidates_leave_none():
    """Kept spans with one candidate each: in its cluster, too wide for one, in a cluster that lies farther away."""
    spans = torch.tensor([[0, 0], [1, 0], [2, 0], [3, 0]])
    scores = torch.tensor([[0.0, -torch.inf], [0.0, 1.0], [0.0, 2.0], [0.0, 3.0]])
    mentions = torch.tensor([[0, 1, 7], [1, 2, 7], [3, 4, 7], [2, 9, 7]])  # the last is wider than any span
    batch = Batch([], {"gold_mentions": mentions})
    loss = link_loss(Links(spans, torch.zeros(4, 2), scores), torch.ones(4, 2, dtype=torch.bool), batch)
    probability = scores.softmax(1)
    expected = -(probability[1, 1].log() + probability[2, 0].log() + probability[3, 0].log())
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)


def test_the_loss_has_its_weight_and_gold_that_is_read(tiny_encoder):
    terms = []
    for weight in (1.0, 3.0):
        model = model_of(tiny_encoder, coreference_weight=weight).eval()
        with torch.no_grad():
            terms.append(float(model.losses(model.collate(documents()))["coreference"]))
    assert terms[1] == pytest.approx(3 * terms[0], rel=1e-6) and terms[0] > 0
    tiny_encoder.max_pieces = 6
    batch = model.collate(documents())
    assert len(batch["gold_mentions"]) > 3
    ends = batch["gold_mentions"][:, 1]
    homes = batch["word_sentence"][batch["gold_mentions"][:, 0]]
    assert (ends <= batch["lengths"].cumsum(0)[homes]).all(), "none reaches into the next sentence"


def test_links_join_to_clusters():
    """0 <- 1 <- 3 across two sentences, 2 alone; of the next document 4 <- 5."""
    reach = 3
    scores = torch.full((6, 1 + reach), -torch.inf)
    scores[:, 0] = 0.0
    for head, tail in ((1, 0), (3, 1), (5, 4)):
        scores[head, 1 + reach - (head - tail)] = 1.0
    spans = torch.tensor([[0, 0], [1, 1], [3, 0], [4, 0], [5, 0], [6, 0]])
    sentences = [
        Sentence("0", ("a",) * 3, document="x"),
        Sentence("1", ("b",) * 2, document="x"),
        Sentence("2", ("c",) * 2),
    ]
    batch = Batch(sentences, {"lengths": torch.tensor([3, 2, 2])})
    batch.tensors |= {
        "word_sentence": torch.tensor([0, 0, 0, 1, 1, 2, 2]),
        "word_index": torch.tensor([0, 1, 2, 0, 1, 0, 1]),
    }
    batch.tensors |= gold_tensors(batch)
    found = clusters(Links(spans, torch.zeros(6, 2), scores), batch)
    assert found == [((0, 1, 0), (1, 3, 0)), ((1, 2, 0),), ((0, 1, 0), (1, 2, 0))]


@pytest.mark.parametrize("words, kept", [(1, 1), (2, 2), (50, 15), (51, 16)])
def test_a_share_of_the_words_is_kept_two_spans_at_least(words, kept, tiny_encoder):
    model = model_of(tiny_encoder, coreference_spans_per_word=0.3)
    with torch.no_grad():
        links = model.scores(model.collate([Sentence("", ("parsers",) * words)])).links
    assert len(links.spans) == kept


def test_memory_hardly_grows_with_the_pairs_of_a_document(tiny_encoder):
    """The largest tensor of four times as many spans is not four times as large."""
    largest = {}
    model = model_of(tiny_encoder, max_antecedents=10).eval()
    for repeats in (20, 80):
        long = [replace(s, id=f"{n}", document="long") for n in range(repeats) for s in read_sentences(CORPUS)]
        batch = model.collate(long)
        with torch.no_grad(), _Largest() as seen:
            model.coreference(
                torch.randn(len(batch["document"]), tiny_encoder.hidden_size),
                model.width.weight,
                span_grid(batch["words_left"], SETTINGS["max_span_width"]),
                batch,
            )
        largest[repeats] = seen.bytes
    assert largest[80] < 2 * largest[20]


def clustered(*of_documents: list[str]) -> list[Sentence]:
    """A sentence of ten words a document, whose clusters are words by letter: "abc" has three mentions of one word."""
    return [
        Sentence(
            f"{n}",
            tuple("abcdefghij"),
            document=f"{n}",
            coreference=tuple(
                (place, place + 1, number)
                for number, letters in enumerate(words)
                for place in map("abcdefghij".index, letters)
            ),
        )
        for n, words in enumerate(of_documents)
    ]


def test_clusters_are_scored_as_published():
    """Figures 1 and 5 to 7 of Pradhan et al. (ACL 2014); a second document counts with its own numbers."""
    gold, predicted = clustered(["abc", "defg"]), clustered(["ab", "cd", "fghi"])
    found = coreference_scores(gold, predicted)["coreference"]
    figures = {m: tuple(round(found[m][f] / 100, 2) for f in ("recall", "precision")) for m in MEASURES}
    assert figures == {"muc": (0.4, 0.4), "b_cubed": (0.42, 0.5), "ceaf_e": (0.65, 0.43)}
    assert found["b_cubed"]["f1"] == pytest.approx(100 * 5 / 11), "of 35/84 and 1/2"
    assert found["f1"] == pytest.approx(sum(found[measure]["f1"] for measure in MEASURES) / 3)
    both = coreference_scores(
        [*gold, *clustered(["abc"], ["ab", "j"])[1:]], [*predicted, *clustered([""], ["ab", "ij"])[1:]]
    )
    muc, exact = both["coreference"]["muc"], 100 * 3 / 7
    assert muc["precision"] == pytest.approx(exact) and muc["recall"] == pytest.approx(100 * 3 / 6)
    assert coreference_scores(gold, gold)["coreference"]["f1"] == 100
    assert coreference_scores(clustered(["abc", "defg", "j"]), predicted) == coreference_scores(gold, predicted)
    assert coreference_scores(gold, clustered([])) == coreference_scores(clustered([]), gold) == {}


class _Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """The bytes of the largest tensor that any operator makes within it."""

    bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **kwargs or {})
        if isinstance(out, torch.Tensor):
            self.bytes = max(self.bytes, out.untyped_storage().nbytes())
        return out


def test_counting_and_sampling_keep_documents_whole(tiny_encoder):
    sentences = documents()
    counts = tiny_encoder.piece_counts(sentences)
    for count in range(1, 10):
        sample = sample_by_length(sentences, counts, count, whole_documents=True)
        names = {s.document or s.id for s in sample}
        assert sample == [s for s in sentences if (s.document or s.id) in names] or len(names) > 1
        assert len(sample) == sum((s.document or s.id) in names for s in sentences)
    model = model_of(tiny_encoder)
    seen: list[list[str]] = []
    collate = model.collate
    model.collate = lambda chosen: seen.append([s.id for s in chosen]) or collate(chosen)
    figures = flops.count_sentences(model, sentences)
    alone = [[s.id] for s in sentences]  # whose pieces are counted
    assert seen == [*alone, *([sentences[i].id for i in document] for document in by_document(DOCUMENTS))]
    apart = sum(flops.count_sentences(model, [s])["heads"] for s in sentences)
    assert figures["heads"] * len(sentences) > apart, "mentions have antecedents in other sentences"


def test_timing_takes_documents_and_the_encoder_over_the_same(tiny_encoder, monkeypatch):
    """Beside a system of sentences: each over its own batches, and the bare encoder over either."""
    full, light = model_of(tiny_encoder), dygiepp.System(LABELS, tiny_encoder, **dygiepp.System.test_settings)
    seen: dict[str, list[int]] = {"full": [], "light": []}
    for name, model in (("full", full), ("light", light)):
        decode = model.decode
        monkeypatch.setattr(model, "decode", lambda b, name=name, decode=decode: seen[name].append(len(b)) or decode(b))
    encoded: list[int] = []
    tiny_encoder.register_forward_pre_hook(lambda _, inputs: encoded.append(len(inputs[0])))
    monkeypatch.setattr(timing, "measure", lambda passes, seconds: {name: 2 * [run()] for name, run in passes.items()})
    found = timing.time_precision({"full": full, "light": light}, documents(), CPU, "float32", 0.0)
    whole = [len(document) for document in by_document(DOCUMENTS)]
    assert seen["full"] == 2 * whole, "no size of batch is tried"
    assert set(seen["light"]) >= {1, 8} and found["full"]["best"]["batch"] == 1
    for batches, passes in ((whole, 3), ([1] * len(documents()), 2)):  # with what is decoded, and once alone
        runs = [encoded[i : i + len(batches)] for i in range(len(encoded))]
        assert sum(run == batches for run in runs) >= passes


def test_trains_on_documents_and_is_refused_without(prepared, tiny_mirror, tmp_path, capsys, monkeypatch):
    run = tiny_run(SETTINGS, 0, epochs=2, batch_size="document", order="shuffled")
    run |= {"system": "dygiepp", "model": "dygiepp-coref"}
    with pytest.raises(
        UserError, match=r"dygiepp-coref needs documents \(batch_size: document\), and ten does not say"
    ):
        train_run(spec(run), prepared, tmp_path / "none", tmp_path / "none-state", [tiny_mirror])
    data = tmp_path / "data"
    shutil.copytree(prepared, data)
    written = [replace(s, document=s.document or "d") for s in documents()]
    write_sentences(data / "train.jsonl", [replace(s, coreference=()) for s in written])
    with pytest.raises(UserError, match="dygiepp-coref is trained on coreference, and ten annotates none"):
        train_run(spec(run), data, tmp_path / "none", tmp_path / "none-state", [tiny_mirror])
    for split in ("train", "dev", "test"):
        write_sentences(data / f"{split}.jsonl", written)
    train_run(spec(run), data, tmp_path / "run", tmp_path / "state", [tiny_mirror])
    out = tmp_path / "p.jsonl"
    argument = ["predict", "--run", str(tmp_path / "run"), "--out", str(out), "--input"]
    assert main([*argument, str(data / "test.jsonl")]) == 0
    assert len(out.read_text().splitlines()) == 10 and "no document" not in capsys.readouterr().err
    predictor, seen = Predictor(tmp_path / "run"), []
    collate = predictor.model.collate
    predictor.model.collate = lambda batch: seen.append([s.tokens[0] for s in batch]) or collate(batch)
    texts = [
        ("x", 0, "We parse news text. Kernels are used."),
        ("x", 40, "Beam search helps."),
        ("y", 0, "Nothing is known."),
    ]
    monkeypatch.setattr(extract, "CHUNK", 1)
    whole = list(predictor.stream(texts))
    assert [s.document for s in whole] == ["x", "x", "x", "y"] and seen == [["We", "Kernels", "Beam"], ["Nothing"]]
    seen.clear()
    assert [s.as_json() for s in predictor.stream(texts, skip=2)] == [s.as_json() for s in whole[2:]]
    assert seen == [["We", "Kernels", "Beam"], ["Nothing"]], "a document is read from its beginning"
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps({"tokens": s.tokens}) + "\n" for s in documents()), encoding="utf-8")
    (tmp_path / "labels.json").write_text(json.dumps(LABELS.to_json()))
    files = ["--gold", str(data / "test.jsonl"), "--predictions", str(data / "test.jsonl")]
    assert main(["score", *files, "--labels", str(tmp_path / "labels.json")]) == 0
    assert json.loads(capsys.readouterr().out)["coreference"]["f1"] == 100
    assert main([*argument, str(raw)]) == 0
    assert "10 sentences name no document, of which dygiepp reads them" in capsys.readouterr().err
