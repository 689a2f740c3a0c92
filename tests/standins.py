"""What a rehearsal of the paper's grid has in place of the corpora and weights that cannot be had everywhere.

    python -m tests.standins FOLDER     makes FOLDER a mirror

`ace04/` and `ace05/` are releases of our own making: a small document for each id of the standard split lists.
`encoders/NAME/` are random encoders of two layers in the files of the hub's folder of that name. Scores mean nothing.
"""

import json
import random
import re
import sys
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AlbertConfig, AlbertForPreTraining, BertConfig, BertForPreTraining, BertTokenizerFast

from sinet.data.ace import Lost, find_documents, read_documents
from sinet.data.formats import read
from sinet.data.prepare import declared_labels
from sinet.data.sources import obtain_file
from sinet.grid.config import load_config, read_config
from sinet.mirrors import mirror_folders
from tests.annotation import Annotation, news

# -- the ACE corpora -------------------------------------------------------------------------------------------------

WORDS = {
    "person": ["John Smith", "Ann Lee", "Tom", "Hillary Clinton", "Mary Jones", "José Núñez"],
    "role": ["soldiers", "workers", "president", "leader", "reporters", "doctor", "troops"],
    "kin": ["brother", "wife", "friends", "lawyer", "neighbors"],
    "city": ["Baghdad", "Paris", "New York", "Iowa", "Moscow"],
    "land": ["Iraq", "France", "U.S.", "Russia", "Virginia"],
    "group": ["AT&amp;T", "Yahoo! Inc.", "Senate", "Red Cross", "United Nations"],
    "site": ["airport", "prison", "bridge", "hospital"],
    "region": ["valley", "border", "coast"],
    "vehicle": ["trucks", "tank", "ferry", "Humvee"],
    "weapon": ["rifles", "missiles", "bomb"],
}
# [TYPE head] is a mention; the numbers of a relation are mentions in the order in which they open
SENTENCES = {
    "ace05": [
        ("The [PER {role}] rode in [VEH {vehicle}] to [GPE {city}].", [("ART", 0, 1), ("PHYS", 0, 2)]),
        ("The [PER {role}] of the [ORG {group}] met [PER {person}].", [("ORG-AFF", 0, 1)]),
        ("[GPE {land}] [PER {role}] fired [WEA {weapon}] near the [FAC {site}].", [("GEN-AFF", 1, 0), ("PHYS", 1, 3)]),
        ("[PER {person}] called [PER his] [PER {kin}] from [GPE {city}].", [("PER-SOC", 1, 2), ("PHYS", 0, 3)]),
        ("The [FAC {site}] in the [LOC {region}] of [GPE {land}] was closed.", [("PART-WHOLE", 1, 2), ("PHYS", 0, 1)]),
    ],
    "ace04": [
        ("The [PER {role}] of the [ORG {group}] met [PER {person}].", [("EMP-ORG", 0, 1)]),
        ("[GPE {land}] [PER {role}] own [WEA {weapon}] and [VEH {vehicle}].", [("GPE-AFF", 1, 0), ("ART", 1, 2)]),
        ("[PER {person}] called [PER his] [PER {kin}] from [GPE {city}].", [("PER-SOC", 1, 2), ("PHYS", 0, 3)]),
        ("The [ORG {group}] [PER {role}] left the [FAC {site}] in the [LOC {region}].", [("OTHER-AFF", 1, 0)]),
        ("Some of [PER them] saw the [PER {role}].", [("DISC", 0, 1)]),
    ],
}
NESTED = ("The [ORG Bank of [GPE {city}]] hired [PER {person}].", [])
CASE_STUDY = [
    ("He and [PER his] [PER buddies] went to the [FAC {site}].", [("PER-SOC", 0, 1)]),
    ("[GPE Virginia] [ORG schools] were closed.", [("PART-WHOLE", 0, 1)]),
]
"""The golden triples of the paper's case study."""


def document(release: str, name: str, chosen: random.Random, first: tuple | None = None) -> Annotation:
    """A document of two sentences, the sentence `first` before them and one with a nested mention after."""
    sentences = [*([first] if first else []), *chosen.sample(SENTENCES[release], 2), NESTED]
    texts, mentions, relations, begin = [], [], [], 0
    for number, (template, between) in enumerate(sentences):
        marked = template.format_map({kind: chosen.choice(words) for kind, words in WORDS.items()})
        text, found = read_marks(marked)
        mentions += [(f"{number}-{i}", kind, begin + start, begin + end) for i, (kind, start, end) in enumerate(found)]
        relations += [(kind, f"{number}-{head}", f"{number}-{tail}") for kind, head, tail in between]
        texts.append(text)
        begin += len(text) + 1
    # lines are wrapped as in the releases: in the middle of sentences and of names
    body = textwrap.fill(" ".join(texts), 50, break_on_hyphens=False, break_long_words=False)
    source = news(f"{chosen.choice(WORDS['city'])} news", body)
    made = Annotation(name, release, source)
    place = made.plain.index(body)
    for id, kind, start, end in mentions:
        extent = place + max(0, start - 4), place + end  # of all of a mention the head is the end
        made.mention_at(id, kind, place + start, place + end, extent)
    for relation in relations:
        made.relation(*relation)
    id, kind, start, end = mentions[0]
    made.mention_at("again", kind, place + start, place + end)  # the same head, annotated as another entity too
    if relations and relations[0][1] == id:
        made.relation(relations[0][0], "again", relations[0][2])
    return made


def read_marks(marked: str) -> tuple[str, list[tuple[str, int, int]]]:
    """The text without its marks, and type and characters [start, end) of each mention in the order of opening."""
    text, found, opened = "", [], []
    for part in re.split(r"(\[[A-Z]{3} |\])", marked):
        if part.startswith("["):
            opened.append(len(found))
            found.append((part[1:4], len(text), 0))
        elif part == "]":
            kind, start, _ = found[opened[-1]]
            found[opened.pop()] = kind, start, len(text)
        else:
            text += part
    return text, found


def part_of_release(release: str, name: str) -> Path:
    """The folder of a release in which a document lies, by its source."""
    wires = ("AFP", "APW", "NYT", "XIN")
    if release == "ace04":
        return Path("English", "nwire" if name.startswith(wires) else "bnews")
    kinds = {"nw": wires, "bc": ("CNN_CF", "CNN_IP"), "bn": ("CNN",)}
    kind = next((kind for kind, beginnings in kinds.items() if name.startswith(beginnings)), "wl")
    return Path("English", kind, "timex2norm")


def make_release(release: str, lists: dict[str, list[str]], folder: Path) -> None:
    """Write a document for each name in the lists; in ACE05 the case study's open the first of `test` and of `dev`."""
    chosen, golden = random.Random(0), {}
    if release == "ace05":
        golden = dict(zip((lists[split][0] for split in ("test", "dev")), CASE_STUDY, strict=True))
    for name in sorted({name for names in lists.values() for name in names}):
        made = document(release, name, chosen, golden.get(name))
        made.write(folder / part_of_release(release, name))


# -- the encoders ----------------------------------------------------------------------------------------------------

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
WHOLE_WORDS = 1000
"""The most frequent words of the texts, each one piece; others are cut into letters."""
BERT_FIRST = ["[PAD]", *(f"[unused{i}]" for i in range(1, 100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SCIBERT_FIRST = ["[PAD]", *(f"[unused{i}]" for i in range(100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ALBERT_FIRST = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]


def lowered(word: str) -> str:
    """Lower case without accents, as an uncased tokenizer has it."""
    return "".join(c for c in unicodedata.normalize("NFD", word.lower()) if unicodedata.category(c) != "Mn")


def word_pieces(words: Counter, cased: bool, first: list[str]) -> list[str]:
    """A word-piece vocabulary: the frequent words and, for all others, each character alone and in a word."""
    texts = Counter()
    for word, count in words.items():
        texts.update(dict.fromkeys(re.findall(r"\w+|\W", word if cased else lowered(word)), count))
    letters = sorted({c for text in texts for c in text})
    frequent = [text for text, _ in texts.most_common(WHOLE_WORDS)]
    return list(dict.fromkeys([*first, *letters, *frequent, *(f"##{c}" for c in letters)]))


def write_bert(folder: Path, pieces: list[str], cased: bool | None) -> None:
    """BERT-base (`cased` given: safetensors, norms named as in old checkpoints, files of a tokenizer), or SciBERT
    (None: config.json, vocab.txt, pytorch_model.bin alone, which do not say whether the vocabulary is cased)."""
    folder.mkdir(parents=True)
    config = BertConfig(**SIZES, vocab_size=len(pieces))
    weights = BertForPreTraining(config).state_dict()
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    written = {**SIZES, "hidden_act": "gelu", "max_position_embeddings": 512, "type_vocab_size": 2}
    written |= {"vocab_size": len(pieces), "initializer_range": 0.02, "hidden_dropout_prob": 0.1}
    if cased is None:
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        written |= {"architectures": ["BertForMaskedLM"], "model_type": "bert"}
        old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        names = {name: re.sub("|".join(old), lambda found: old[found[0]], name) for name in weights}
        save_file({names[name]: tensor.clone() for name, tensor in weights.items()}, folder / "model.safetensors")
        tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=not cased)
        tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
        settings = {"do_lower_case": not cased, "model_max_length": 512}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps(written, indent=2))


def write_albert(folder: Path, words: Counter) -> None:
    """ALBERT: a unigram vocabulary as tokenizer.json, lower case; a factorised embedding, layers that share weights."""
    folder.mkdir(parents=True)
    texts = Counter()
    for word, count in words.items():
        texts[lowered(unicodedata.normalize("NFKD", word))] += count
    letters = sorted({c for text in texts for c in text})
    # the score of a piece is the logarithm of its probability: any whole word costs less than two letters
    pieces = [(piece, 0.0) for piece in ALBERT_FIRST] + [("\u2581", -12.0), *((c, -12.0) for c in letters)]
    pieces += [
        (f"\u2581{text}", -6.0 - rank / WHOLE_WORDS) for rank, (text, _) in enumerate(texts.most_common(WHOLE_WORDS))
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=1))
    plain = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD()]
    tokenizer.normalizer = normalizers.Sequence([*plain, normalizers.StripAccents(), normalizers.Lowercase()])
    marks = {"replacement": "\u2581", "prepend_scheme": "always"}
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**marks)]
    )
    tokenizer.decoder = decoders.Metaspace(**marks)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_special_tokens(ALBERT_FIRST)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = AlbertConfig(
        **SIZES, vocab_size=len(pieces), embedding_size=16, hidden_dropout_prob=0, attention_probs_dropout_prob=0
    )
    config.architectures = ["AlbertForMaskedLM"]
    config.to_json_file(folder / "config.json")
    torch.save(AlbertForPreTraining(config).state_dict(), folder / "pytorch_model.bin")


def make(folder: Path, mirrors: Sequence[str]) -> None:
    """Make all stand-ins; the public datasets and lists of documents are looked for in `mirrors`, else fetched."""
    datasets, words = read_config().datasets, Counter()
    for release, name in (("ace05", "ace05"), ("ace04", "ace04-0")):
        declared = datasets[name]
        lists = {
            split: [
                document
                for file in declared.files.of(split)
                for document in obtain_file("ace_splits", file, mirrors).read_text().split()
            ]
            for split in ("train", "dev", "test")
        }
        make_release(release, lists, folder / release)
        read_in = read_documents(lists["train"], find_documents([folder / release]), True, Lost())
        words.update(word for sentence in read_in for word in sentence.tokens)
    for name in ("scierc", "conll04"):
        declared = datasets[name]
        path = obtain_file(name, declared.files.train[0], mirrors)
        for sentence in read(path, declared.format, declared_labels(declared)):
            words.update(sentence.tokens)
    torch.manual_seed(0)
    encoders = folder / "encoders"
    for name, cased in (("scibert-cased", True), ("scibert-uncased", False)):
        write_bert(encoders / name, word_pieces(words, cased, SCIBERT_FIRST), None)
    write_bert(encoders / "bert-base-cased", word_pieces(words, True, BERT_FIRST), True)
    write_albert(encoders / "albert-xxlarge", words)


if __name__ == "__main__":
    make(Path(sys.argv[1]), [str(path) for path in mirror_folders(load_config()["mirrors"])])
