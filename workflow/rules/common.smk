# The plan: the configuration is checked and spelled out before any rule is read.
import functools
import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

sys.path.insert(0, str(Path(workflow.basedir)))

from sinet import config as grid
from sinet import provenance, site, systems
from sinet.captions import dataset_title
from sinet.copied import put_in_order
from sinet.data.sources import annotations, find_file, release_folders, source_of
from sinet.errors import UserError, printable
from sinet.kept import kept_runs
from sinet.mirrors import HUB_OFFLINE, MIRRORS_VARIABLE, mirror_folders
from sinet.model.located import changed_files
from sinet.paper import missing
from sinet.plan import GridPlan
from sinet.published import EFFICIENCY_ENCODERS
from sinet.recipes import trainings

# only the rules that fetch go online, and they run where snakemake was called
OFFLINE = os.environ.get(HUB_OFFLINE, "0")
os.environ[HUB_OFFLINE] = "1"

# ahead of a time limit SLURM signals a whole step: the training in it saves, this process has to outlive it
signal.signal(signal.SIGUSR1, signal.SIG_IGN)

try:
    for path in (*(Path(workflow.basedir) / name for name in grid.BASE_FILES), *workflow.overwrite_configfiles):
        grid.read_yaml(Path(path))  # Snakemake takes the last of two equal keys without a word
    grid.expand_folds(config)
    # a job on a node sees what the call saw: what was still to be fetched then is no reason to leave a run out
    PLAN = grid.resolve(config, offline=OFFLINE == "1" and not workflow.remote_exec)
    SITE = site.load_site(Path(workflow.basedir) / "site.yaml")
    BESIDE_CASE = next(iter(grid.case_study(config, PLAN.runs)), [])
    CASE_SEEDS = [run for run in BESIDE_CASE if run.model == config["case_study"]["model"]]
    KEPT, refused = (
        kept_runs(Path(config["kept"]), PLAN.runs, {run.path for run in CASE_SEEDS}, Path(config["results"]))
        if config["kept"]
        else ([], [])
    )
except UserError as error:
    raise WorkflowError(printable(f"the configuration has mistakes:\n{error}")) from None

# steps inherit the mirrors from the environment: where files are looked for is no reason to make anything again
os.environ[MIRRORS_VARIABLE] = os.pathsep.join(map(str, mirror_folders(config["mirrors"])))

for left_out, reason in PLAN.left_out:
    logger.warning(f"left out: {left_out.path}: {reason}")
for reason in refused:
    logger.warning(reason)
if config["kept"]:
    logger.info(f"kept in {config['kept']}, and not trained: {len(KEPT)} of {len(PLAN.runs)} runs")
if not PLAN.runs:
    raise WorkflowError("every run of the grid is left out; see the reasons above")

RESULTS = config["results"]
if not workflow.remote_exec and put_in_order(Path(RESULTS)):
    logger.info(f"{RESULTS}: copied without Snakemake's notes; what is there is taken as finished")
RUN = f"{RESULTS}/runs/{{dataset}}/{{encoder}}/{{model}}/{{seed}}"
DATA = f"{RESULTS}/data/{{dataset}}"
EFFICIENCY = f"{RESULTS}/efficiency/{{dataset}}/{{encoder}}"
FIGURE = f"{RESULTS}/figures/{{dataset}}/{{encoder}}"
LOGS = f"{RESULTS}/logs"

RUNS = {run.path: run for run in PLAN.runs}
DATASETS = list(dict.fromkeys(run.dataset for run in PLAN.runs))
# in a job of a cluster the whole grant counts, not the share of the machine that Snakemake was called on
if workflow.remote_exec:
    os.environ[site.WHOLE_GRANT] = "1"
FIRST = 20_000  # datasets and downloads start before any training: their faults are told first
FINISHED = 10_000  # a priority above every training's: what is trained is predicted and scored before the next begins
CORES_EACH = site.cores_each(workflow.cores, len(RUNS), site.gpu_here())
# used with --software-deployment-method conda; otherwise every step runs in the environment of the call
ENVIRONMENT = str(Path(workflow.basedir) / "envs" / "environment.yaml")
TABLES = ["main", "ablation", "published_vs_measured", "significance"] + ["efficiency"] * bool(config["efficiency"])
TABLES += ["types", "slices", "errors", "error_examples"]
DECLARED = grid.declarations(config, PLAN, KEPT)
PLANNED = GridPlan(Path(RESULTS), DECLARED)
PLAN_FILE = f"{RESULTS}/plan.json"


# short steps, and those that need a network, run where snakemake was called
localrules:
    prepare,
    fetch_encoder,
    evaluate,
    compare,
    tabulate,
    draw_results,
    report_page,


wildcard_constraints:
    dataset="[A-Za-z0-9._-]+",
    encoder="[A-Za-z0-9._-]+",
    model="[A-Za-z0-9._-]+",
    seed="[0-9]+",
    number="[0-9]+",


def run_of(wildcards):
    """The run of the grid that a rule's wildcards name."""
    path = f"{wildcards.dataset}/{wildcards.encoder}/{wildcards.model}/{wildcards.seed}"
    if path not in RUNS:
        raise WorkflowError(f"{path} is not in the grid; runs: {', '.join(RUNS)}")
    return RUNS[path]


def details(wildcards):
    """All that `train` needs of a run, as JSON; a change of any of it re-runs that training."""
    return json.dumps(run_of(wildcards).details, sort_keys=True)


def duration(wildcards):
    """How long a training takes beside others of its dataset and encoder: its epochs, each times its model's share; of
    equal ones a little more for those that FLOPs are counted of, which can go on beside the others."""
    run = run_of(wildcards)
    place = run.dataset, run.encoder
    counted = place in MEASURED and run in measured_models(*place).values()
    # of a length in steps, as many epochs as they are on SciERC's 1,861 sentences
    epochs = sum(t["epochs"] or t["steps"] * t["batch_size"] / 1861 for _, t in trainings(run.details["recipe"]))
    return epochs * config["models"][run.model].get("epoch", 1) + 0.1 * counted


def declaration(wildcards):
    """A dataset's declaration as JSON."""
    return json.dumps(config["datasets"][wildcards.dataset], sort_keys=True)


def fetched(*encoders):
    """What has to be fetched from a hub, or found sound, before these encoders (or their tokenizers) can be used."""
    declared = (grid.encoder_declaration(config, name) for name in encoders)
    of_files = (d.get("tokenizer", d) for d in declared)
    return sorted({f"{RESULTS}/encoders/{d['name']}.json" for d in of_files if "hub" in d or "path" in d})


def undeclared_sums(wildcards):
    """SHA-256 of the files whose checksum is not declared: they are watched instead."""
    declared = config["datasets"][wildcards.dataset]
    unwatched = [file["path"] for file in grid.dataset_files(declared) if "sha256" not in file]
    found = [find_file(declared.get("folder", wildcards.dataset), path, config["mirrors"]) for path in unwatched]
    # a release holds thousands of files: their names and sizes tell whether it was replaced
    folders = release_folders(declared["release"], config["mirrors"]) if declared["format"] == "ace" else []
    release = sorted(
        (path.name, path.stat().st_size)
        for folder in folders
        for annotation in annotations(folder)
        for path in (annotation, source_of(annotation))
        if path.exists()
    )
    return [provenance.file_sha256(path) for path in found if path] + [provenance.digest_of(release)] * bool(release)


def code(*modules):
    """A rule's param that changes when a source it uses is edited (touching a file changes nothing)."""
    return provenance.digest(*modules)


def system_code(*modules):
    """The same, with the source of the run's own system: editing one baseline leaves the others alone."""

    def digest(wildcards):
        system = config["models"][wildcards.model]["system"]
        return provenance.digest(*modules, systems.module_name(system))

    return digest


@functools.cache
def measured_models(dataset, encoder):
    """Models to count and time, each with its run."""
    return {model: RUNS[path] for model, path in PLANNED.of_systems(dataset, encoder).items()}


def measured_runs(wildcards):
    """Folders of those runs, as NAME=DIR."""
    chosen = measured_models(wildcards.dataset, wildcards.encoder)
    return [f"{name}={RESULTS}/runs/{run.path}" for name, run in chosen.items()]


def measured_inputs(name):
    def inputs(wildcards):
        chosen = measured_models(wildcards.dataset, wildcards.encoder)
        return [f"{RESULTS}/runs/{run.path}/{name}" for run in chosen.values()]

    return inputs


def measured_code(*modules):
    def digest(wildcards):
        chosen = measured_models(wildcards.dataset, wildcards.encoder)
        used = sorted({systems.module_name(config["models"][name]["system"]) for name in chosen})
        return provenance.digest(*modules, *used)

    return digest


def place_title(dataset, encoder):
    """Dataset (of one in folds which fold) and encoder, for captions."""
    return f"{dataset_title(dataset, config['datasets'][dataset])}, {config['encoders'][encoder]['title']}"


def at_place(name):
    """A file of all runs on one dataset with one encoder."""
    return lambda wildcards: [
        f"{RESULTS}/runs/{path}/{name}" for path in PLANNED.runs(wildcards.dataset, wildcards.encoder)
    ]


def planned(*keys):
    """A rule's param that changes with these parts of the plan, their order included."""
    return provenance.digest_of(json.dumps([DECLARED[key] for key in keys]))


def planned_at(wildcards):
    """The same of what figures show of one dataset and encoder."""
    place = wildcards.dataset, wildcards.encoder
    titles = [DECLARED[kind][name] for kind, name in zip(("datasets", "encoders"), place)]
    return provenance.digest_of(json.dumps([DECLARED["models"], titles, PLANNED.runs(*place)]))


def sentences_option(key):
    """How many sentences are counted or timed, as an option; none for all of them."""
    count = config["efficiency"][key]
    return "" if count is None else f"--sentences {count}"


def unmeasured_sizes(architectures):
    """Those of which the encoder that has these sizes is not measured with weights, on the dataset on which the
    published efficiency table has it."""
    named = lambda kind, name: config[kind][name].get("published")
    there = {(named("datasets", dataset), named("encoders", encoder)) for dataset, encoder in MEASURED}
    measured = {encoder for dataset, encoder in EFFICIENCY_ENCODERS.items() if (dataset, encoder) in there}
    return [name for name in architectures if named("encoders", name) not in measured]


def untrained(counts):
    """The declarations of those among architectures that map to numbers of sentences, with these, as JSON."""
    return json.dumps([[grid.encoder_declaration(config, name), counts[name]] for name in unmeasured_sizes(counts)])


def case_systems(beside):
    """Of runs beside each other the studied model's first, and one of each other model, of its seed where there is."""
    seed = next(run.seed for run in beside if run.model == config["case_study"]["model"])
    systems = {}
    for run in sorted(beside, key=lambda run: run.seed != seed):
        systems.setdefault(run.model, run)
    return systems


CASE = next(iter(CASE_SEEDS), None)
CASE_SENTENCES, TRIPLES = (config["case_study"]["sentences"], config["case_study"]["triples"]) if CASE else ([], [])
# sentences that a triple names are predicted anew, for which a kept run lacks the weights
TRIPLE_PLACES = {
    beside[0].dataset: case_systems(beside)
    for beside in grid.case_study(config, [run for run in PLAN.runs if run.path not in KEPT])
    if TRIPLES
}
TRIPLE_RUNS = [run for compared in TRIPLE_PLACES.values() for run in compared.values()]
FIRST_FOLDS = grid.first_folds(config, PLAN.runs)
PLACES = sorted(
    {
        (run.dataset, run.encoder)
        for run in PLAN.runs
        if run.dataset in FIRST_FOLDS and measured_models(run.dataset, run.encoder)
    }
)
# all systems of a place are counted and timed together, or none where one of them was kept without its weights
MEASURED = [
    place
    for place in PLACES
    if config["efficiency"] and not any(run.path in KEPT for run in measured_models(*place).values())
]
CASE_SYSTEMS = case_systems(BESIDE_CASE) if CASE else {}
CASE_FIGURES = [f"attention_{number}" for number, _ in enumerate(CASE_SENTENCES + TRIPLES, 1)]
CASE_TABLES = ["attention_shares", "triple_groups"] if CASE else []
RESULT_FIGURES = ["curves", "lengths", "significance"]
FIGURES = CASE_FIGURES + CASE_TABLES[:1]
FIGURES += [f"{d}/{e}/{name}" for d, e in PLACES for name in RESULT_FIGURES]
FIGURES += [f"{d}/{e}/{name}" for d, e in MEASURED for name in ("flops", "speed")]
DECLARED |= {
    "tables": TABLES + CASE_TABLES,
    "figures": FIGURES,
    "measured": list(map(list, MEASURED)) if config["efficiency"] else None,
    "case_study": CASE
    and {
        **{"model": CASE.model, "dataset": CASE.dataset, "encoder": CASE.encoder},
        "systems": {model: run.path for model, run in CASE_SYSTEMS.items()},
    },
}


def recipes_of(runs):
    """Their recipes, for captions."""
    return "recipe " + ", ".join(dict.fromkeys(run.details["recipe"]["name"] for run in runs))


def studied_at(compared):
    """Whose attention is shown, for captions."""
    run = compared[CASE.model]
    where = f"{config['models'][run.model]['title']} on {place_title(run.dataset, run.encoder)}"
    return f"{where}, seed {run.seed}, {recipes_of(compared.values())}"
