"""SpERT: span-based joint entity and relation extraction with transformer pre-training.

Eberts and Ulges, ECAI 2020, section 3; details follow the released code (lavis-nlp/spert, commit a53f468). Spans are
max-pooled from the encoder's output, the [CLS] vector enters the entity classifier only, the relation classifier sees
[context ; head ; tail ; head width ; tail width].

What differs from the released code: nothing that changes a figure. Its span machinery is SINET's, without (spans x word
pieces) masks: see `sinet.model.spanbased`. A sentence longer than the encoder is cut; the released code fails there.
"""

from typing import Any, ClassVar

from torch import Tensor

from baselines.settings import SpERT
from sinet.contract import Batch, Labels
from sinet.encoders.encoder import Encoder
from sinet.model import spans as S
from sinet.model.spanbased import SpanBased
from sinet.model.weights import initialise_normal


class System(SpanBased):
    """SpERT."""

    Settings = SpERT
    settings: SpERT
    citation = (
        "Eberts and Ulges, ECAI 2020: Span-based Joint Entity and Relation Extraction with Transformer Pre-training"
    )
    test_settings: ClassVar[dict] = {"max_span_width": 4, "width_size": 8, "negative_spans": 20}
    released_form = "classifiers over the concatenation of every span and pair"

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        initialise_normal(self, "encoder.")

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        hidden = self.encoder(batch["input_ids"], batch["attention_mask"])
        (words,) = S.word_maxima(batch, hidden)
        return {"entity": words, "relation": words, "context": words, "entity_cls": hidden[:, 0]}
