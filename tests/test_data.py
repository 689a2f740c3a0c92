"""The sentence format, the readers, where files come from, and dataset cards."""

import hashlib
import http.server
import io
import json
import random
import re
import tarfile
import threading
from pathlib import Path

import pytest

from sinet.data import sources
from sinet.data.card import check_counts, count
from sinet.data.formats import read
from sinet.data.prepare import prepare
from sinet.data.sentence import Entity, Labels, Relation, Sentence, read_sentences, write_sentences
from sinet.errors import UserError
from sinet.grid.config import load_config
from sinet.mirrors import MIRRORS_VARIABLE
from sinet.provenance import file_sha256
from tests.conftest import CORPUS, DATASETS, LABELS, data_file, dataset


def line(**changes) -> dict:
    record = {"tokens": ["a", "b", "c"], "entities": [{"type": "Task", "start": 0, "end": 2}], "relations": []}
    return record | changes


def written(folder: Path, *records: object) -> Path:
    path = folder / "in.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records), encoding="utf-8")
    return path


def test_round_trip(tmp_path):
    sentences = [
        Sentence(
            "x", ("naïve", "b"), (Entity("Task", 0, 1, 0.5), Entity("Task", 1, 2)), (Relation("Compare", 0, 1),), "d"
        ),
        Sentence("raw", ("only", "words")),
    ]
    write_sentences(tmp_path / "out.jsonl", sentences)
    assert read_sentences(tmp_path / "out.jsonl") == sentences


def test_raw_text_needs_no_labels(tmp_path):
    (sentence,) = read_sentences(written(tmp_path, {"tokens": ["a"]}))
    assert sentence == Sentence("0", ("a",))


@pytest.mark.parametrize(
    "record, message",
    [
        ('{"tokens": [', r":1: broken JSON: .* at column 13"),
        ("[1]", r":1: a sentence is an object"),
        (line(tokens=[]), r":1: tokens: should be a list of at least one word"),
        (line(tokens=["a", " "]), r":1: tokens\[1\]: should be a word"),
        (
            line(entities=[{"type": "Task", "start": 0, "end": 4}]),
            r":1: entities\[0\]: \[0, 4\) is not a span of the 3",
        ),
        (line(entities=[{"type": "Task", "start": 2, "end": 2}]), r":1: .*end is exclusive"),
        (line(entities=[{"type": "Task", "start": True, "end": 2}]), r":1: entities\[0\]"),
        (line(entities={"type": "Task"}), r":1: entities: should be a list"),
        (line(relations=[{"type": "X", "head": 0, "tail": 1}]), r":1: relations\[0\].tail: 1 is not a position"),
        (line(relations=[{"head": 0, "tail": 0}]), r":1: relations\[0\]: should be an object"),
    ],
)
def test_faults_are_named_with_file_line_and_field(tmp_path, record, message):
    with pytest.raises(UserError, match=r"in\.jsonl" + message):
        read_sentences(written(tmp_path, record))


def test_not_utf8(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(b'{"tokens": ["\xe9"]}')
    with pytest.raises(UserError, match="not UTF-8"):
        read_sentences(tmp_path / "in.jsonl")


def test_spert_form(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([line(orig_id="doc")]), encoding="utf-8")
    (sentence,) = read(tmp_path / "a.json", "spert")
    assert (sentence.document, sentence.id) == ("doc", "a-0")
    (tmp_path / "a.json").write_text(json.dumps(line()), encoding="utf-8")
    with pytest.raises(UserError, match="should be a JSON array"):
        read(tmp_path / "a.json", "spert")


def test_counts_by_hand():
    figures = count(read_sentences(CORPUS), LABELS)
    assert figures["sentences"] == 10 and figures["relations"]["Never-seen"] == 0
    assert figures["overlapping_entities"] == 1 and figures["without_entities"] == 1 and figures["wide_entities"] == 0
    twice = Sentence("t", ("a",) * 12, (Entity("Task", 0, 9), Entity("Task", 0, 9)), (Relation("Part-of", 0, 1),) * 2)
    figures = count([twice, twice], LABELS)
    assert (figures["wide_entities"], figures["duplicate_entities"], figures["duplicate_relations"]) == (4, 2, 2)
    assert figures["repeated_sentences"] == 1


def test_wrong_counts_are_all_listed():
    found = count(read_sentences(CORPUS), LABELS)
    with pytest.raises(UserError, match="ten test: sentences 10, declared 9; entities Task") as caught:
        check_counts("ten", "test", found, {"sentences": 9, "entities": found["entities"] | {"Task": 99}})
    assert "Method" not in str(caught.value)


def check_figures(readme: str) -> dict[str, list[list[int]]]:
    """The rows of the README's table on SciERC: label -> figures of train, dev and test."""
    rows = {}
    for row in readme.splitlines():
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if len(cells) == 4 and all(re.fullmatch(r"[\d,;/ ]+", cell) for cell in cells[1:]):
            rows[cells[0]] = [[int(n.replace(",", "")) for n in re.split(r"; | / |, ", cell)] for cell in cells[1:]]
    return rows


def test_scierc_reproduces_every_published_figure(tmp_path):
    card = prepare("scierc", dataset(load_config()["datasets"]["scierc"]), [str(DATASETS)], tmp_path)["splits"]
    rows = check_figures((DATASETS / "README.md").read_text(encoding="utf-8"))
    checked = 0
    for number, split in enumerate(("train", "dev", "test")):
        found = card[split]
        assert len(read_sentences(tmp_path / f"{split}.jsonl")) == found["sentences"]
        for label, columns in rows.items():
            if label.startswith("SciERC sentences"):
                ours = [found["sentences"], found["tokens"]]
            elif label.startswith("entities / relations"):
                ours = [sum(found["entities"].values()), sum(found["relations"].values())]
            elif label.startswith("overlapping entity pairs"):
                ours = [found["overlapping_entities"], found["wide_entities"], found["duplicate_relations"]]
            elif (
                set(label.split(", ")) == found["entities"].keys()
                or set(label.split(", ")) == found["relations"].keys()
            ):
                ours = [(found["entities"] | found["relations"])[kind] for kind in label.split(", ")]
            else:
                continue
            assert ours == columns[number], (split, label)
            checked += 1
    assert checked == 15


def test_conll04_is_as_declared(tmp_path):
    card = prepare("conll04", dataset(load_config()["datasets"]["conll04"]), [str(DATASETS)], tmp_path)["splits"]
    assert [card[split]["sentences"] for split in ("train", "dev", "test")] == [922, 231, 288]
    rows = check_figures((DATASETS / "README.md").read_text(encoding="utf-8"))
    ours = [[sum(card[s][field].values()) for field in ("entities", "relations")] for s in ("train", "dev", "test")]
    assert ours == rows["CoNLL04 entities / relations"]


@pytest.fixture
def server(tmp_path):
    """A loopback server of one folder that fails the first request with 503."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        failures = 1

        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self):
            if Handler.failures:
                Handler.failures -= 1
                self.send_error(503)
            else:
                super().do_GET()

        def log_message(self, *arguments):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()


def test_download_retries_checks_and_becomes_a_mirror(server, tmp_path, monkeypatch):
    folder, url = server
    (folder / "f.json").write_text("[]")
    monkeypatch.setattr(sources, "DOWNLOADS", tmp_path / "mirror")
    monkeypatch.setattr(sources.time, "sleep", lambda seconds: None)
    declared = {"path": "f.json", "url": f"{url}/f.json", "sha256": file_sha256(folder / "f.json")}
    path = sources.obtain_file("toy", data_file(declared), [str(tmp_path / "mirror")])
    assert path.read_text() == "[]"
    (folder / "f.json").unlink()
    assert sources.obtain_file("toy", data_file(declared), [str(tmp_path / "mirror")]) == path
    with pytest.raises(UserError, match="SHA-256"):
        sources.obtain_file("toy", data_file(declared | {"sha256": "0" * 64}), [str(tmp_path / "mirror")])


def archive(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as made:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))


def test_an_archive_is_read_once_for_all_files_it_holds(server, tmp_path, monkeypatch):
    folder, url = server
    asked = []
    fetch = sources._fetch
    monkeypatch.setattr(sources, "_fetch", lambda *given: (asked.append(given), fetch(*given)))
    monkeypatch.setattr(sources, "DOWNLOADS", tmp_path / "mirror")
    monkeypatch.setattr(sources.time, "sleep", lambda seconds: None)
    record = json.dumps(line()).encode()
    members = {f"data/json/{split}.json": record + b"\n" * n for n, split in enumerate(("train", "dev", "test"))}
    archive(folder / "a.tar.gz", members | {"data/elmo/big": b"0" * 100_000})
    files = {
        Path(name).stem: {
            "path": Path(name).name,
            "url": f"{url}/a.tar.gz",
            "member": name,
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        for name, data in members.items()
    }
    declared = {
        "title": "Toy",
        "format": "jsonl",
        "files": files,
        "entity_types": ["Task"],
        "relation_types": ["Compare"],
    }
    card = prepare("toy", dataset(declared), [str(tmp_path / "mirror")], tmp_path / "out")
    assert [f["sha256"] for f in card["files"]] == [f["sha256"] for f in files.values()]
    assert len(asked) == 2, "503 once, then all three files"
    assert sorted(p.name for p in (tmp_path / "mirror" / "toy").iterdir()) == ["dev.json", "test.json", "train.json"]
    assert [p.name for p in (tmp_path / "mirror").iterdir()] == ["toy"], "nothing partial is left"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"sha256": "0" * 64}, r"f\.json: SHA-256 is 4f53cda1\w+, declared 0000"),
        ({"member": "data/other.json"}, r"the archive has no data/other\.json"),
        ({"url": "/whole.json"}, r"not a gzip file|file could not be opened|truncated|invalid"),
        ({"url": "/cut.tar.gz"}, r"unexpected end of data|end-of-stream|ended before"),
    ],
)
def test_an_archive_that_does_not_hold_the_declared_file_leaves_nothing(server, change, message, tmp_path, monkeypatch):
    folder, url = server
    monkeypatch.setattr(sources, "DOWNLOADS", tmp_path / "mirror")
    monkeypatch.setattr(sources.time, "sleep", lambda seconds: None)
    archive(folder / "a.tar.gz", {"data/f.json": b"[]"})
    archive(folder / "whole.tar.gz", {"data/g.bin": random.Random(0).randbytes(200_000), "data/f.json": b"[]"})
    (folder / "cut.tar.gz").write_bytes((folder / "whole.tar.gz").read_bytes()[:100_000])
    (folder / "whole.json").write_text("[]")
    declared = {"path": "f.json", "url": "/a.tar.gz", "member": "data/f.json"} | change
    with pytest.raises(UserError, match=message):
        sources.obtain_file("toy", data_file(declared | {"url": url + declared["url"]}), [str(tmp_path / "mirror")])
    assert list((tmp_path / "mirror").iterdir()) == []


def test_absent_names_both_ways(tmp_path, monkeypatch):
    monkeypatch.setattr(sources.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(sources, "DOWNLOADS", tmp_path / "mirror")
    declared = {"path": "f.json", "url": "http://127.0.0.1:1/f.json"}
    with pytest.raises(UserError, match=r"cannot fetch http://127.*go online, or put f.json into one of"):
        sources.obtain_file("toy", data_file(declared), [str(tmp_path)])
    with pytest.raises(UserError, match=r"not available by itself from a public URL; put f.json"):
        sources.obtain_file("toy", data_file({"path": "f.json"}), [str(tmp_path)])


def test_mirror_from_the_environment_comes_first(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name / "toy").mkdir(parents=True)
        (tmp_path / name / "toy" / "f").write_text(name)
    monkeypatch.setenv(MIRRORS_VARIABLE, str(tmp_path / "two"))
    assert sources.find_file("toy", "f", [str(tmp_path / "one")]).read_text() == "two"


def test_nothing_is_written_on_failure(tmp_path):
    (tmp_path / "m" / "toy").mkdir(parents=True)
    for split in ("train", "dev", "test"):
        (tmp_path / "m" / "toy" / f"{split}.jsonl").write_text(json.dumps(line()))
    declared = {
        "title": "Toy",
        "format": "jsonl",
        "files": {s: {"path": f"{s}.jsonl"} for s in ("train", "dev", "test")},
        "entity_types": ["Tsak"],
        "relation_types": ["Compare"],
    }
    with pytest.raises(
        UserError, match=r"train\.jsonl:1: entities\[0\]\.type: unknown type 'Task', did you mean 'Tsak'"
    ):
        prepare("toy", dataset(declared), [str(tmp_path / "m")], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    declared["entity_types"] = ["Task"]
    card = prepare("toy", dataset(declared), [str(tmp_path / "m")], tmp_path / "out")
    assert card["shared_sentences"] == {"train/dev": 1, "train/test": 1, "dev/test": 1}
    assert Labels.from_json(json.loads((tmp_path / "out" / "labels.json").read_text())).entity_types == ("Task",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "out"]
    (tmp_path / "m" / "toy" / "test.jsonl").write_text('{"tokens": ["a"], "document": "\\ud800"}')
    with pytest.raises(UserError, match=r"test\.jsonl:1: .* is half of a surrogate pair"):
        prepare("toy", dataset(declared), [str(tmp_path / "m")], tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "out"]


def toy(folder: Path, *train: dict) -> dict:
    """A declaration of a dataset that is written below `folder`."""
    (folder / "toy").mkdir()
    for split, records in (("train", train), ("test", [line()])):
        (folder / "toy" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, records)))
    return {
        "title": "Toy",
        "format": "jsonl",
        "files": {s: {"path": f"{s}.jsonl"} for s in ("train", "test")},
        "dev_share": 0.1,
        "entity_types": ["Task"],
        "relation_types": ["Compare"],
    }


def test_a_relation_of_an_entity_to_itself_is_told(tmp_path, caplog):
    loop = line(id="odd", relations=[{"type": "Compare", "head": 0, "tail": 0}])
    prepare("toy", dataset(toy(tmp_path, line(), loop, line())), [str(tmp_path)], tmp_path / "out")
    assert "toy: relations of an entity to itself, such as in sentence odd: 1; systems that" in caplog.text


def test_an_empty_split_is_refused(tmp_path):
    declared = toy(tmp_path, line())
    with pytest.raises(UserError, match="toy: no sentence in train; every split needs some"):
        prepare("toy", dataset(declared), [str(tmp_path)], tmp_path / "out")
