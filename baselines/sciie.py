"""SciIE: spans by a BiLSTM and attention over their words; entities, relations and coreference of the same spans.

Luan et al., EMNLP 2018, section 4; details follow the released code (bitbucket.org/luanyi/scierc, in the copy
YerevaNN/SciERC, commit be37350c), read, not run. Words x pass a BiLSTM (`baselines._coupled_lstm`), h; a span is
g = [first h ; last h ; width ; sum of its x by attention], with shares softmax(w h_k + b) over its words. All else is
scored as in DyGIE++ (`baselines.dygiepp`), which came of it: of a sentence floor(ratio * words) spans, at least one,
are kept for relations, a pair of a span with itself among them; of a document those for coreference, none of which
crosses a better one, each with the nearest before it as candidates. Predicted entities do not overlap: they are the
set with the greatest sum of scores.

What differs from the released code:
- A word is the mean of its pieces from the common encoder, which is trained along; released are GloVe vectors, a
  character CNN and ELMo, and for the sum over a span GloVe vectors of their own.
- The embeddings of widths and distances are not dropped; weights begin with the released variance from a normal
  distribution (released: uniform), biases as torch has them (the LSTM's at zero).
- A document of less than four words keeps a span for coreference (released: none, and fails). Its types of relations
  read backwards are filtered out in its configuration; here there are none.
- A relation of a span with itself, or of spans that are no predicted entities, is not predicted.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from baselines import dygiepp
from baselines._coreference import Coreference
from baselines._coupled_lstm import CoupledLSTM
from baselines.settings import SciIE
from sinet.contract import Batch, Labels
from sinet.encoders.encoder import Encoder
from sinet.model.concat import WindowMeans


class System(dygiepp.System):
    """SciIE."""

    Settings = SciIE
    settings: SciIE
    links_by: ClassVar[type[Coreference]] = Coreference
    citation = (
        "Luan et al., EMNLP 2018: Multi-Task Identification of Entities, Relations, and Coreference for Scientific "
        "Knowledge Graph Construction"
    )
    test_settings: ClassVar[dict] = dygiepp.System.test_settings | {"context_size": 16}

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        s = self.settings
        self.word_dropout, self.context_dropout = nn.Dropout(s.word_dropout), nn.Dropout(s.context_dropout)
        self.context = CoupledLSTM(encoder.hidden_size, s.context_size, s.context_dropout)
        self.head = nn.Linear(2 * s.context_size, 1)
        nn.init.xavier_normal_(self.head.weight)

    def part_sizes(self) -> tuple[int, ...]:
        both = 2 * self.settings.context_size
        return both, both, self.settings.width_size, self.encoder.hidden_size

    def words(self, batch: Batch) -> tuple[Tensor, WindowMeans]:
        """States of the BiLSTM (words, 2 context_size), and the sums of words over every span by attention."""
        words, _ = super().words(batch)
        states = self.context_dropout(self.context(self.word_dropout(words), batch))
        widest = self.settings.max_span_width
        scores = F.pad(self.head(states).squeeze(1).float(), (0, widest - 1)).unfold(0, widest, 1)
        inside = torch.ones(widest, widest, dtype=torch.bool, device=words.device).tril()  # width less one, word
        shares = scores.unsqueeze(1).masked_fill(~inside, -torch.inf).softmax(2)
        return states, WindowMeans(self.word_dropout(words), shares)

    def kept_counts(self, lengths: Tensor) -> Tensor:
        return (lengths * self.settings.spans_per_word).floor().long().clamp(min=1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Those of DyGIE++, that of relations with its weight."""
        losses = super().losses(batch)
        return losses | {"relation": self.settings.relation_weight * losses["relation"]}

    def types(self, entity: Tensor, fits: Tensor, batch: Batch) -> Tensor:
        """The class of every span, None = 0, like `fits`: of the spans that are scored above None those that do not
        overlap and have the greatest sum of scores."""
        best, kind = entity.max(2)
        flat = flat_set(best.masked_fill(~fits, 0.0), batch["lengths"])
        return kind.masked_fill(~flat, 0)


def flat_set(scores: Tensor, lengths: Tensor) -> Tensor:
    """The spans that do not overlap and have the greatest sum of scores, by dynamic programming over words: boolean,
    like `scores` (words, max_width), which are of sentences of `lengths` (batch) and not negative."""
    padded, widest = pad_sequence(scores.split(lengths.tolist())), scores.shape[1]  # (longest, batch, max_width)
    longest, width = len(padded), torch.arange(widest, device=scores.device)
    # (longest, max_width, batch): of the spans that end with a word, the narrowest first
    ends = torch.arange(widest - 1, longest + widest - 1, device=scores.device).unsqueeze(1) - width
    ending = F.pad(padded, (0, 0, 0, 0, widest - 1, 0), value=-torch.inf)[ends, :, width]
    sums = [scores.new_zeros(len(lengths))] * widest  # the best of the first words of each sentence
    chosen = []  # by last word the number of words of the span that ends there, 0 for none
    for here in ending:
        best, narrowest = (here + torch.stack(sums[: -widest - 1 : -1])).max(0)
        chosen.append((narrowest + 1).masked_fill(best <= sums[-1], 0))
        sums.append(best)
    words, sentence = torch.stack(chosen), torch.arange(len(lengths), device=scores.device)
    taken = torch.zeros(longest, len(lengths), 1 + widest, dtype=torch.bool, device=scores.device)
    end = lengths
    for _ in range(longest):
        count = words[end - 1, sentence].masked_fill(end < 1, 0)
        start = end - count.clamp(min=1)
        taken[start, sentence, count] = True
        end = start.clamp(min=0)
    real = torch.arange(longest, device=scores.device) < lengths.unsqueeze(1)
    return taken[:, :, 1:].transpose(0, 1)[real]
