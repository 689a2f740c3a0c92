"""Table-sequence encoders, "Two are Better than One".

Wang and Lu, EMNLP 2020, sections 3.2 (table encoder), 3.3 (sequence encoder) and 3.4 (training); details follow the
released code (LorrinWWW/two-are-better-than-one, commit a75de25). The encoder is frozen: word vectors are the mean of
its last four layers, and its attention maps of all layers and heads enter the table.

What differs from the released code:
- GloVe's vectors of words are a setting (`word_vectors`). A word without one has the zero vector, as in the released
  inference; in the released training a random one, which stays as it is.
- The tag layers have as many outputs as there are tags; the released ones have more (32 and 64), which are trained
  down.

The recurrence over the table runs one anti-diagonal at a time, for both directions and the whole batch at once; the
table is kept in the order of its anti-diagonals throughout, so that a step reads and writes contiguous cells.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from baselines._cache import TensorCache
from baselines._table_recurrence import Order, TableRecurrence, from_sweeps, sweep_multiply_adds
from baselines.settings import TableSequence as TableSequenceSettings
from sinet.contract import Batch, Extractor, Labels, Prediction, Sentence
from sinet.encoders.encoder import Encoder
from sinet.model import spans as S
from sinet.model.concat import concatenated
from sinet.model.glove import SIZE as VECTOR_SIZE
from sinet.model.glove import glove

CHARACTERS = 256
"""Code points with an embedding of their own; 0 is padding, all others share the last row."""
CHARACTER_SIZE = 30
LONGEST_WORD = 30
"""Characters read of a word."""


class Layer(nn.Module):
    """One table layer and the sequence layer that its table guides."""

    released = False

    def __init__(self, hidden: int, heads: int, attention_channels: int, states: int, dropout: float) -> None:
        super().__init__()
        self.row, self.column = split_linear(hidden, hidden, hidden)
        self.cell = self.attention_input = None
        if attention_channels:
            self.cell, self.attention_input = split_linear(hidden, attention_channels, hidden)
        self.recurrence = TableRecurrence(hidden, hidden // 2, states)
        self.score = nn.Linear(hidden, heads, bias=False)
        self.value = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden)
        self.feed_forward = nn.Sequential(
            nn.Linear(hidden, 4 * hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(4 * hidden, hidden)
        )
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)
        self.heads = heads

    def forward(
        self, words: Tensor, maps: Tensor | None, below: Tensor | None, mask: Tensor, order: Order
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The next sequence (batch, length, hidden), table (2, cells, batch, hidden / 2) and attention.

        Args:
            words: (batch, length, hidden); maps: (cells, batch, channels), the frozen encoder's attention, row by
            row; below: the table of the layer below; mask: (batch, length).
        """
        batch, length, hidden = words.shape
        by_word = words.transpose(0, 1)
        if self.released:
            weight = torch.cat([self.row.weight, self.column.weight], dim=1)
            table = F.linear(concatenated(by_word.unsqueeze(1), by_word.unsqueeze(0)), weight, self.row.bias)
        else:
            table = self.row(by_word).unsqueeze(1) + self.column(by_word)
        table = F.relu(table).flatten(0, 1)
        if self.cell is not None and self.attention_input is not None:
            table = F.relu(self.cell(table) + self.attention_input(maps))
        table = self.recurrence(table, below, (mask.T.unsqueeze(1) & mask.T).flatten(0, 1), order)

        scores = table_linear(self.score, table, order)
        scores = scores.permute(0, 3, 1, 2).float()
        weights = scores.masked_fill(~mask[:, None, None], -1000.0).softmax(-1)
        values = self.value(words).view(batch, length, self.heads, -1).transpose(1, 2)
        mixed = (weights.to(values.dtype) @ values).transpose(1, 2).reshape(batch, length, hidden)
        words = self.attention_norm(words + self.dropout(F.relu(self.output(mixed))))
        return self.norm(words + self.dropout(self.feed_forward(words))), table, weights


def split_linear(first: int, second: int, outputs: int) -> tuple[nn.Linear, nn.Linear]:
    """A linear layer over [first ; second] as two whose outputs are added; initial weights are those of the one."""
    layers = nn.Linear(first, outputs), nn.Linear(second, outputs, bias=False)
    bound = (first + second) ** -0.5
    for weight in (layers[0].weight, layers[0].bias, layers[1].weight):
        nn.init.uniform_(weight, -bound, bound)
    return layers


def table_linear(layer: nn.Linear, table: Tensor, order: Order) -> Tensor:
    """A linear map of every cell's [first direction ; second direction], (batch, length, length, outputs).

    Both halves are multiplied in the order of their direction, so that only the few outputs are reordered.
    """
    parts = [F.linear(half, weight) for half, weight in zip(table, layer.weight.chunk(2, dim=1), strict=True)]
    cells = from_sweeps(torch.stack(parts), order)
    length = math.isqrt(len(cells))
    cells = cells.unflatten(0, (length, length)).permute(2, 0, 1, 3)
    return cells if layer.bias is None else cells + layer.bias


class CharacterLSTM(nn.Module):
    """The final states of a bidirectional LSTM over a word's characters; in products that a FLOP counter sees.

    Gates are in the order forget, input, output, cell. As in torch's LSTM the gates have two biases: together they
    learn at twice the rate of one. Initial weights are the released ones (Xavier-uniform for each gate, both biases of
    the forget gate 1).
    """

    def __init__(self, size: int, dropout: float = 0.0) -> None:
        super().__init__()
        half = size // 2
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Embedding(CHARACTERS + 1, size, padding_idx=0)
        self.input = nn.Linear(size, 2 * 4 * half)
        self.recurrent = nn.Parameter(torch.empty(2, half, 4 * half))
        self.recurrent_bias = nn.Parameter(torch.empty(2, 1, 4 * half))
        with torch.no_grad():
            self.embedding.weight[1:].uniform_(-((3 / size) ** 0.5), (3 / size) ** 0.5)
            for weight, fan_in in ((self.input.weight, size), (self.recurrent, half)):
                weight.uniform_(-((6 / (fan_in + half)) ** 0.5), (6 / (fan_in + half)) ** 0.5)
            for bias in (self.input.bias.view(2, 1, 4 * half), self.recurrent_bias):
                bias.zero_()
                bias[..., :half] = 1  # the forget gate

    def forward(self, characters: Tensor) -> Tensor:
        """(words, size) of the characters (words, longest), 0 at padding."""
        lengths = (characters > 0).sum(1)
        place = torch.arange(characters.shape[1], device=characters.device)
        half = self.recurrent.shape[1]
        # both directions read the same characters, dropped alike
        embedded = self.dropout(self.embedding(characters))
        order = (lengths.unsqueeze(1) - 1 - place).clamp(min=0).unsqueeze(-1).expand_as(embedded)
        inputs = [self.input(c).chunk(2, dim=-1)[k] for k, c in enumerate((embedded, embedded.gather(1, order)))]
        h = cell = self.recurrent.new_zeros(2, len(characters), half)
        for t, step in enumerate(torch.stack(inputs).float().unbind(2)):
            gates = step + torch.baddbmm(self.recurrent_bias, h, self.recurrent)
            keep, write, out = gates[..., : 3 * half].sigmoid().chunk(3, dim=-1)
            cell_next = keep * cell + write * gates[..., 3 * half :].tanh()
            going = (t < lengths).view(1, -1, 1)
            h = torch.where(going, out * cell_next.tanh(), h)
            cell = torch.where(going, cell_next, cell)
        return torch.cat(h.unbind(0), dim=-1)


class TableSequence(nn.Module):
    """Everything between word representations and tag scores."""

    def __init__(
        self,
        inputs: int,
        hidden: int,
        heads: int,
        layers: int,
        attention_channels: int,
        entity_tags: int,
        relation_tags: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.reduce = nn.Linear(inputs, hidden)
        self.layers = nn.ModuleList(
            Layer(hidden, heads, attention_channels, 3 if k else 2, dropout) for k in range(layers)
        )
        self.entity_tags = nn.Linear(hidden, entity_tags)
        self.relation_tags = nn.Linear(hidden, relation_tags)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.reduce, self.entity_tags, self.relation_tags):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, words: Tensor, maps: Tensor | None, mask: Tensor) -> tuple[Tensor, Tensor]:
        """BIO scores (batch, length, tags) and relation scores (batch, length, length, tags).

        Args:
            words: (batch, length, inputs); maps: (batch, length, length, channels); mask: (batch, length).
        """
        order = Order.of(words.shape[1], words.device)
        *_, (sequence, table, _) = self.states(words, maps, mask, order)
        return self.entity_tags(self.dropout(sequence)), table_linear(self.relation_tags, self.dropout(table), order)

    def states(
        self, words: Tensor, maps: Tensor | None, mask: Tensor, order: Order
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of every layer the sequence, the table (2, cells, batch, hidden / 2) and the attention."""
        if maps is not None:
            maps = maps.permute(1, 2, 0, 3).flatten(0, 1)
        sequence, table, found = self.reduce(words), None, []
        for layer in self.layers:
            sequence, table, attention = layer(sequence, maps, table, mask, order)
            found.append((sequence, table, attention))
        return found


class System(Extractor):
    """Table-sequence encoders."""

    Settings = TableSequenceSettings
    settings: TableSequenceSettings
    citation = (
        "Wang and Lu, EMNLP 2020: Two are Better than One: Joint Entity and Relation Extraction with Table-Sequence "
        "Encoders"
    )
    test_settings: ClassVar[dict] = {"hidden_size": 32, "heads": 4, "layers": 2}
    released_form = "the concatenation of every two words in each table layer"
    flop_handlers: ClassVar[dict] = {"sinet::table_sweep": sweep_multiply_adds}

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        encoder.requires_grad_(False)
        s, config = self.settings, encoder.model.config
        channels = config.num_hidden_layers * config.num_attention_heads
        self.characters = CharacterLSTM(CHARACTER_SIZE, s.dropout)
        self.network = TableSequence(
            encoder.hidden_size + CHARACTER_SIZE + (VECTOR_SIZE if s.word_vectors else 0),
            s.hidden_size,
            s.heads,
            s.layers,
            channels,
            1 + 2 * len(labels.entity_types),
            1 + 2 * len(labels.relation_types),
            s.dropout,
        )
        self.dropout = nn.Dropout(s.dropout)
        self._cache = TensorCache(s.cache_mib << 20)
        self.register_load_state_dict_post_hook(lambda model, _: model._cache.clear())

    def train(self, mode: bool = True) -> "System":
        super().train(mode)
        self.encoder.eval()
        return self

    # -- input ---------------------------------------------------------------------------------------------

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        """Pieces; `characters` (distinct words, longest), 0 at padding, and for every word its row there, `word_form`
        (words); by the setting `word_vectors` (distinct words, 100), GloVe's; gold tags, O = 0: `entity_tags` (batch,
        words), B- and I- of type k = 2k + 1 and 2k + 2; `relation_tags` (batch, words, words), type k = 2k + 1 in the
        rectangle of head and tail, 2k + 2 in its mirror.
        """
        pieces = self.encoder.collate(sentences)
        tensors = pieces.tensors()
        words = [w for s, n in zip(sentences, pieces.lengths, strict=True) for w in s.tokens[:n]]
        distinct = {word: i for i, word in enumerate(dict.fromkeys(words))}
        characters = [
            torch.tensor([min(ord(c), CHARACTERS - 1) + 1 for c in word[:LONGEST_WORD]] or [CHARACTERS])
            for word in distinct
        ]
        tensors["characters"] = pad_sequence(characters, batch_first=True)
        tensors["word_form"] = torch.tensor([distinct[word] for word in words])
        if self.settings.word_vectors:
            tensors["word_vectors"] = glove(list(distinct))
        longest = max(pieces.lengths)
        tags = torch.zeros(len(sentences), longest, dtype=torch.long)
        table = torch.zeros(len(sentences), longest, longest, dtype=torch.long)
        for b, (sentence, length) in enumerate(zip(sentences, pieces.lengths, strict=True)):
            write_tags(self.labels, sentence, length, tags[b], table[b])
        tensors |= {"entity_tags": tags, "relation_tags": table}
        return Batch(sentences, tensors)

    # -- features of the frozen encoder --------------------------------------------------------------------

    @torch.no_grad()
    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Word vectors (batch, words, hidden) and attention between words (batch, words, words, layers * heads)."""
        layers, attentions = self.encoder.all_layers(batch["input_ids"], batch["attention_mask"])
        rows, width = batch["input_ids"].shape
        lengths = batch["lengths"].tolist()
        start, end = (pad_sequence(batch[name].split(lengths), batch_first=True) for name in ("word_start", "word_end"))
        origin = torch.arange(rows, device=start.device).unsqueeze(1) * width
        piece = torch.arange(width, device=start.device)
        # (batch, words, pieces): 1 where the piece belongs to the word
        belongs = (piece >= (start - origin).unsqueeze(-1)) & (piece < (end - origin).unsqueeze(-1))
        belongs = belongs.to(layers[-1].dtype)
        hidden = torch.stack(layers[-4:]).mean(0)
        words = belongs @ hidden / belongs.sum(-1, keepdim=True).clamp(min=1)
        maps = torch.cat(attentions, dim=1).to(hidden.dtype)
        # expanded, because fvcore's count of a product does not see a broadcast first factor
        belongs = belongs.unsqueeze(1).expand(-1, maps.shape[1], -1, -1)
        maps = belongs @ maps @ belongs.transpose(2, 3)
        return words, maps.permute(0, 2, 3, 1)

    def cached_features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The same, each sentence encoded once in the life of the model, and alone, so that order changes nothing."""
        device = batch["input_ids"].device
        found = []
        for sentence in batch.sentences:
            if sentence.tokens not in self._cache:
                alone = Batch([sentence], self.encoder.collate([sentence]).tensors()).to(device)
                self._cache.put(sentence.tokens, tuple(f[0] for f in self.features(alone)))
            found.append(self._cache.get(sentence.tokens))
        longest = max(len(words) for words, _ in found)
        maps = found[0][1].new_zeros(len(found), longest, longest, found[0][1].shape[-1])
        for b, (words, attention) in enumerate(found):
            maps[b, : len(words), : len(words)] = attention
        return pad_sequence([words for words, _ in found], batch_first=True).to(device), maps.to(device)

    # -- training and prediction ---------------------------------------------------------------------------

    def scores(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of the entity and relation tags, and the mask of words (batch, words)."""
        words, maps = self.cached_features(batch) if self.training else self.features(batch)
        mask = torch.arange(words.shape[1], device=words.device) < batch["lengths"].unsqueeze(1)
        forms = batch["word_form"]
        if self.training:  # each word has a dropout of its own
            forms = self.characters(batch["characters"][forms])
        else:
            forms = self.characters(batch["characters"])[forms]
        if self.settings.word_vectors:
            forms = torch.cat([forms, batch["word_vectors"][batch["word_form"]].to(forms.dtype)], dim=-1)
        forms = pad_sequence(forms.split(batch["lengths"].tolist()), batch_first=True)
        inputs = self.dropout(torch.cat([words, forms.to(words.dtype)], dim=-1))
        return *self.network(inputs, maps, mask), mask

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy summed over the words and over the cells of the table."""
        return tag_losses(*self.scores(batch), batch["entity_tags"], batch["relation_tags"])

    @torch.no_grad()
    def decode(self, batch: Batch) -> list[Prediction]:
        """BIO spans; for each ordered pair of them the likeliest relation type or none."""
        entity, relation, mask = self.scores(batch)
        return decode_tags(self.labels, entity.float(), relation.float(), mask)


def write_tags(labels: Labels, sentence: Sentence, length: int, tags: Tensor, table: Tensor) -> None:
    """Write the gold tags of a sentence into `tags` (words) and `table` (words, words), empty (0) before, as released.

    What is annotated later writes over what was earlier, but for the mirror image of a relation, which is written only
    if its first cell is still empty after the relation itself is written. So a relation of an entity to itself is
    forward only. What ends behind `length` is passed over.
    """
    for e in sentence.entities:
        if e.end <= length:
            kind = 2 * labels.entity_types.index(e.type)
            tags[e.start : e.end] = kind + 2
            tags[e.start] = kind + 1
    for r in sentence.relations:
        head, tail = sentence.entities[r.head], sentence.entities[r.tail]
        if max(head.end, tail.end) <= length:
            kind = 2 * labels.relation_types.index(r.type)
            table[head.start : head.end, tail.start : tail.end] = kind + 1
            if not table[tail.start, head.start]:
                table[tail.start : tail.end, head.start : head.end] = kind + 2


def tag_losses(
    entity: Tensor, relation: Tensor, mask: Tensor, entity_tags: Tensor, relation_tags: Tensor
) -> dict[str, Tensor]:
    """Cross-entropy summed over the words of `mask` (batch, words) and the cells between them.

    Args:
        entity: scores (batch, words, tags); relation: (batch, words, words, tags);
        entity_tags, relation_tags: the targets, as `collate` makes them.
    """
    both = mask.unsqueeze(2) & mask.unsqueeze(1)
    return {
        "entity": F.cross_entropy(entity[mask].float(), entity_tags[mask], reduction="sum"),
        "relation": F.cross_entropy(relation[both].float(), relation_tags[both], reduction="sum"),
    }


def decode_tags(labels: Labels, entity: Tensor, relation: Tensor, mask: Tensor) -> list[Prediction]:
    """Predictions from tag scores.

    An I tag continues the entity before it whatever its type, and is dropped after O. A pair's types are summed over
    the rectangle of both spans (forward tags) and its mirror image (backward tags); all else counts as none.
    """
    tags = entity.argmax(-1).masked_fill(~mask, 0)
    begins, inside = tags % 2 == 1, (tags > 0) & (tags % 2 == 0)
    spans = bio_spans(begins, inside)
    sentence, start, end = spans.unbind(1)
    kind = (tags[sentence, start] + 1) // 2
    score = entity.softmax(-1).amax(-1)[sentence, start]

    pairs = S.ordered_pairs(torch.bincount(sentence, minlength=len(tags)))
    head, tail = pairs.unbind(1)
    both = (mask.unsqueeze(2) & mask.unsqueeze(1)).unsqueeze(-1)
    # sums over rectangles from sums over corners; in double precision, as large sums are subtracted
    sums = F.pad((relation.softmax(-1) * both).double().cumsum(1).cumsum(2), (0, 0, 1, 0, 1, 0))

    def rectangle(rows: Tensor, columns: Tensor) -> Tensor:
        b = sentence[rows]
        top, bottom, left, right = start[rows], end[rows], start[columns], end[columns]
        return sums[b, bottom, right] - sums[b, top, right] - sums[b, bottom, left] + sums[b, top, left]

    types = rectangle(head, tail)[:, 1::2] + rectangle(tail, head)[:, 2::2]
    size = (end - start)[head] * (end - start)[tail]
    none = 2 * size.unsqueeze(1) - types.sum(1, keepdim=True)
    best = torch.cat([none, types], dim=1).argmax(1)
    related = best.nonzero().squeeze(1)
    best = best[related]
    return S.build_predictions(
        labels,
        len(tags),
        torch.cat([spans, kind.unsqueeze(1)], dim=1),
        score,
        torch.stack([head[related], tail[related], best - 1], dim=1),
        types[related, best - 1] / (2 * size[related]),
    )


def bio_spans(begins: Tensor, inside: Tensor) -> Tensor:
    """Spans (spans, 3) sentence, start, end, of tags (batch, words): a B and the I tags that follow it."""
    width = begins.shape[1]
    place = torch.arange(width, device=begins.device).expand_as(begins)
    # the word after the last that continues: the next word that is not inside
    stops = F.pad(torch.where(inside, width, place), (0, 1), value=width)
    end = stops.flip(1).cummin(1).values.flip(1)[:, 1:]
    sentence, start = begins.nonzero(as_tuple=True)
    return torch.stack([sentence, start, end[sentence, start]], dim=1)
