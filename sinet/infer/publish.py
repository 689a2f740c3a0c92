"""`sinet publish`: a finished run as a folder for a model hub, with a model card made from its record."""

from os.path import realpath  # pathlib's `resolve` raises for a loop of links
from pathlib import Path

import yaml

from sinet.captions import dataset_title, machine, short_commit
from sinet.data.sentence import Labels
from sinet.errors import UserError
from sinet.evaluate.metrics import FIGURES, METRICS, TITLES
from sinet.files import link_or_copy, read_sealed, write_text
from sinet.grid import recipes
from sinet.grid.plan import Plan
from sinet.infer.finished import check_as_trained, check_new, described
from sinet.schema import Record

CARD = """\
---
{front}---

# {title}

{system} trained on {dataset} with {encoder}: typed entities and relations between them from a sentence.

Entity types: {entity_types}. Relation types: {relation_types}{symmetric}.

## Use

```python
import sinet

for sentence in sinet.load("THIS_FOLDER").predict(["A sentence, or a whole text."]):
    print(sentence.readable())
```

`sinet predict --run THIS_FOLDER --text "..."` does the same at a terminal.

## Data

{dataset} ({licence}); {train_sentences:,} sentences trained on ({trained_on}), {dev_sentences:,} of dev,
{test_sentences:,} of {split}.

## Protocol

Recipe {recipe}: {length}, selection {selection}; selected after epoch {selected_epoch:g}. Seed {seed}; {machine},
{precision}; trained at commit {commit} with {versions}. System: {citation}.
Encoder's weights: {source}.

## Scores

Micro x 100 on {split} ({test_sentences:,} sentences), seed {seed}, {device}, {precision}. Rel: relation type and both
boundaries; Rel+ also both entity types. Symmetric: relations that have no direction are matched in either.

{scores}
"""


def publish(run: Path, licence: str, language: str, out: Path) -> None:
    """Write weights, tokenizer, `model.json`, `record.json` and a model card of the run in the folder `run`, which lies
    in the results of its grid, into the new folder `out`; `sinet.load(out)` reads it.

    Raises:
        UserError: no finished run of a grid, one that is not as it was trained, or `out` is not empty.
    """
    made = described(run)
    check_new("--out", out)
    check_as_trained(run, made)
    folder = Path(realpath(run))
    results, path = next(iter(folder.parents[4:5]), folder), "/".join(folder.parts[-4:])
    if not (results / "plan.json").is_file() or not (run / "record.json").is_file():
        raise UserError(f"{run}: has no record.json, or lies in no grid's results; publish a run of a finished grid")
    plan, record = Plan.read(results / "plan.json"), Record.model_validate(read_sealed(run / "record.json"))
    if path not in plan.runs:
        raise UserError(f"{run}: not a run of {results / 'plan.json'}")
    out.mkdir(parents=True, exist_ok=True)
    for name in (*made["files"], "model.json", "record.json"):
        (out / name).parent.mkdir(exist_ok=True)
        link_or_copy(run / name, out / name)
    write_text(out / "README.md", _card(plan, record, Labels.from_json(made["labels"]), licence, language))


def _card(plan: Plan, record: Record, labels: Labels, licence: str, language: str) -> str:
    dataset, encoder = plan.config.datasets[record.dataset], plan.config.encoders[record.encoder]
    model = plan.config.models[record.model]
    front = {
        "language": [language],
        "license": licence,
        "tags": ["information-extraction", "named-entity-recognition", "relation-extraction", record.system],
        "datasets": [dataset.fold_of or record.dataset],
        "metrics": [*FIGURES],
    } | ({"base_model": encoder.hub} if encoder.hub else {})
    rows = [
        (metric, matching, getattr(getattr(record.scores, matching), metric))
        for metric in METRICS
        for matching in ("symmetric", "directed")
    ]
    lines = ["| | matching | precision | recall | F1 |", "|---|---|---:|---:|---:|"]
    lines += [
        f"| {TITLES[metric]} | {matching} | {of.precision:.2f} | {of.recall:.2f} | {of.f1:.2f} |"
        for metric, matching, of in rows
        if matching == "symmetric" or metric != "ent"
    ]
    said = record.model_dump() | {
        "front": yaml.safe_dump(front, sort_keys=False, allow_unicode=True),
        "system": model.title,
        "dataset": dataset_title(record.dataset, plan.declared["datasets"][record.dataset]),
        "encoder": encoder.title,
        "title": f"{model.title}, {dataset.title}, {encoder.title}",
        "entity_types": ", ".join(labels.entity_types),
        "relation_types": ", ".join(labels.relation_types) or "none",
        "symmetric": f" (without direction: {', '.join(sorted(labels.symmetric))})" if labels.symmetric else "",
        "licence": f"licensed corpus {dataset.licence}" if dataset.licence else "see its source for its licence",
        "recipe": record.recipe.name,
        "length": recipes.length(record.recipe),
        "machine": machine(record.model_dump()),
        "commit": short_commit(record.git_commit),
        "versions": ", ".join(f"{package} {version}" for package, version in record.versions.items()),
        "source": ", ".join(f"{key} {value}" for key, value in record.encoder_source.items() if isinstance(value, str)),
        "scores": "\n".join(lines),
    }
    return CARD.format_map(said)
