"""SpERT: span-based joint entity and relation extraction with transformer pre-training.

Eberts and Ulges, ECAI 2020, section 3; details follow the released code (lavis-nlp/spert, commit a53f468). Spans are
max-pooled from the encoder's output, the [CLS] vector enters the entity classifier only, the relation classifier sees
[context ; head ; tail ; head width ; tail width].

What differs from the released code: nothing that changes a figure. Its span machinery is SINET's, without (spans x word
pieces) masks: see `sinet.model.spanbased`. A sentence longer than the encoder is cut; the released code fails there.
"""

from typing import ClassVar

from torch import Tensor, nn

from sinet.contract import Batch, Labels
from sinet.model import spans as S
from sinet.model.spanbased import SpanBased
from sinet.model.weights import initialise_normal


class System(SpanBased):
    """SpERT; the defaults are the released ones.

    Settings:
        max_span_width: widest candidate, in words. width_size: size of the width embedding.
        dropout: on classifier inputs. negative_spans, negative_pairs: sampled per sentence in training.
        negative_reverses: whether the reverse of a symmetric gold pair may be one of them (so at this commit).
        threshold: of a relation's sigmoid.
    """

    citation = (
        "Eberts and Ulges, ECAI 2020: Span-based Joint Entity and Relation Extraction with Transformer Pre-training"
    )
    test_settings: ClassVar[dict] = {"max_span_width": 4, "width_size": 8, "negative_spans": 20}
    released_form = "classifiers over the concatenation of every span and pair"
    valid_settings: ClassVar[dict] = {
        "max_span_width": (1, 100),
        "width_size": (1, 10_000),
        "dropout": (0.0, 0.99),
        "negative_spans": (1, 1_000_000),
        "threshold": (0.0, 1.0),
    }

    def __init__(
        self,
        labels: Labels,
        encoder: nn.Module,
        *,
        max_span_width: int = 10,
        width_size: int = 25,
        dropout: float = 0.1,
        negative_spans: int = 100,
        negative_pairs: int = 100,
        negative_reverses: bool = True,
        threshold: float = 0.4,
    ) -> None:
        super().__init__(
            labels,
            encoder,
            relation_cls=False,
            max_span_width=max_span_width,
            width_size=width_size,
            dropout=dropout,
            negative_spans=negative_spans,
            negative_pairs=negative_pairs,
            negative_reverses=negative_reverses,
            threshold=threshold,
        )
        initialise_normal(self, "encoder.")

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        hidden = self.encoder(batch["input_ids"], batch["attention_mask"])
        (words,) = S.word_maxima(batch, hidden)
        return {"entity": words, "relation": words, "context": words, "entity_cls": hidden[:, 0]}
