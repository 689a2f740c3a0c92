"""What the workflow's rules ask of a grid: inputs, params that tell when a job is to be repeated, and resources.

`workflow/rules/common.smk` makes one `Workflow` of the configuration; a rule names its methods, and Snakemake calls
them with the wildcards of a job.
"""

import functools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sinet import provenance, systems
from sinet.archive import with_archived
from sinet.data.parse import parser
from sinet.data.sources import annotations, find_file, release_folders, source_of
from sinet.encoders.located import changed_files
from sinet.errors import UserError
from sinet.grid import site
from sinet.grid.bounded_yaml import read_yaml
from sinet.grid.config import BASE_FILES, expand_folds, lay_over, merged
from sinet.grid.plan import resolve
from sinet.mirrors import HUB_OFFLINE, MIRRORS_VARIABLE, mirror_folders

STEPS = {
    "prepare": ("sinet.data.prepare.prepare",),
    "fetch_encoder": ("sinet.encoders.fetch.fetch_encoder",),
    "train": ("sinet.train.trainer.train_run",),
    "predict": ("sinet.infer.predict.predict_file",),
    "evaluate": ("sinet.evaluate.record.evaluate",),
    "external": ("sinet.evaluate.record.evaluate_external",),
    "attend": ("sinet.infer.attend.attend",),
    "compare": ("sinet.evaluate.compare.read_runs", "sinet.evaluate.compare.compare"),
    "tabulate": ("sinet.report.tables.write_tables",),
    "draw_results": ("sinet.report.figures.draw_results",),
    "count_flops": ("sinet.efficiency.flops.count_grid",),
    "time_inference": ("sinet.efficiency.timing.time_grid",),
    "draw_flops": ("sinet.report.figures.draw_flops",),
    "draw_speed": ("sinet.report.figures.draw_speed",),
    "find_cases": ("sinet.infer.case_study.find_cases",),
    "draw_attention": ("sinet.report.attention.draw_cases",),
    "measure_attention_mass": ("sinet.evaluate.attention_mass.write_attention_mass",),
    "score_in_triple_ner": ("sinet.evaluate.in_triple.score_in_triple_ner",),
    "draw_attention_mass": ("sinet.report.attention_mass.draw_attention_mass",),
    "report_page": ("sinet.report.report.write_report",),
    "unarchive": ("sinet.archive.unarchive",),
    "unarchive_attention": ("sinet.archive.unarchive",),
    "unarchive_efficiency": ("sinet.archive.unarchive",),
}
"""The functions that each rule calls: a job is repeated when a definition that they reach has changed."""
FIRST = 20_000
"""Priority of datasets and downloads, ahead of any training: their faults are reported first."""
FINISHED = 10_000
"""Priority above every training's: what is trained is predicted and scored before the next begins."""
LONGEST = FINISHED / 2
"""More than any training takes, by `Workflow.duration`."""
SENTENCES = 1861
"""Of SciERC's training split: a training whose length is in steps has as many epochs as they are there."""


class Workflow:
    """A grid as the rules see it.

    Args:
        config: as Snakemake has merged it. overlays: files laid over the configuration's own.
        remote: whether this is a job on a node. cores: of the machine, or of the job.

    Raises:
        UserError: the mistakes of the configuration, or of site.yaml.
    """

    def __init__(self, basedir: Path, config: dict, overlays: Sequence[Path], remote: bool, cores: int | None) -> None:
        # only the rules that fetch go online, and they run where snakemake was called
        self.offline = os.environ.get(HUB_OFFLINE, "0")
        os.environ[HUB_OFFLINE] = "1"
        for path in overlays:
            read_yaml(path)  # Snakemake takes the last of two equal keys without a word
        whole = merged(*(basedir / name for name in BASE_FILES))
        lay_over(whole, config)  # the files are in it already, unless the workflow is a module of another
        expand_folds(whole)
        # a job on a node sees what the call saw: what was still to be fetched then is no reason to skip a run
        plan = resolve(whole, offline=self.offline == "1" and not remote)
        self.plan, refused = with_archived(plan)
        self.remote = remote
        self.site = site.load_site(basedir / "site.yaml")
        # steps inherit the mirrors from the environment: where files are looked for is no reason to make anything again
        os.environ[MIRRORS_VARIABLE] = os.pathsep.join(map(str, mirror_folders(plan.config.mirrors)))
        # they find the package wherever the workflow is called from
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(basedir), os.environ.get("PYTHONPATH"))))
        if remote:  # the whole grant counts, not the share of the machine that Snakemake was called on
            os.environ[site.WHOLE_GRANT] = "1"
        self.warnings = [*(f"skipped: {run}: {why}" for run, why in plan.skipped.items()), *refused]
        if not plan.runs:
            raise UserError("every run of the grid is skipped; see the reasons:\n" + "\n".join(self.warnings))
        self.cores_each = site.cores_each(cores or 1, len(plan.trained), site.gpu_here())

    def resources(self, **needs: Any) -> dict[str, Any]:
        """What a rule asks of a cluster (`sinet.grid.site.resources`)."""
        return site.resources(self.site, **needs)

    # -- files ---------------------------------------------------------------------------------------------------------

    def at_place(self, name: str) -> Callable[[Any], list[str]]:
        """A file of all runs on one dataset with one encoder."""
        there = self.plan.trained if name == "log.csv" else self.plan.runs
        return lambda w: [str(self.plan.file(run, name)) for run in self.plan.at(w.dataset, w.encoder) if run in there]

    def of_systems(self, name: str) -> Callable[[Any], list[str]]:
        """A file of the runs that are counted and timed at one place."""
        return lambda w: [str(self.plan.file(r, name)) for r in self.plan.systems_at(w.dataset, w.encoder).values()]

    def of_runs(self, *names: str, runs: Sequence[str] | None = None) -> list[str]:
        """Files of runs, by default of all."""
        return [str(self.plan.file(run, name)) for name in names for run in (self.plan.runs if runs is None else runs)]

    def of_datasets(self, *names: str, datasets: Sequence[str] | None = None) -> list[str]:
        """Files of prepared datasets, by default of all with a run."""
        of = self.plan.datasets if datasets is None else datasets
        return [f"{self.plan.results}/data/{dataset}/{name}" for name in names for dataset in of]

    def measurements(self, name: str) -> list[str]:
        """`flops.json` or `timing.json` of every place that is measured."""
        return [f"{folder}/{name}" for folder in self.plan.efficiency() or ()]

    def fetched(self, *encoders: str) -> list[str]:
        """What has to be fetched from a hub, or found sound, before these encoders (or their tokenizers) can be
        used."""
        declared = [self.plan.config.encoder_spec(name) for name in encoders]
        of_files = (spec.tokenizer or spec for spec in declared)
        names = {spec.name for spec in of_files if spec.hub or spec.path}
        return [f"{self.plan.results}/encoders/{name}.json" for name in sorted(names)]

    def counted_encoders(self) -> list[str]:
        """The same of the architectures that are counted with random weights."""
        asked = self.plan.config.efficiency
        return self.fetched(*(name for name in asked.architectures if name in self.plan.sizes_alone)) if asked else []

    # -- params: a job is repeated when one of them has changed --------------------------------------------------------

    def run(self, w: Any) -> str:
        """All that training depends on, of the run that a job's wildcards name."""
        return self.plan.spec(f"{w.dataset}/{w.encoder}/{w.model}/{w.seed}").model_dump_json()

    def external(self, w: Any) -> str:
        """What the configuration says of a run that is given by predictions."""
        declared = self.plan.config.models[w.run.split("/")[2]]
        return json.dumps([declared.maker, declared.date, self.plan.predictions(w.run), self.plan.runs[w.run]])

    def declaration(self, w: Any) -> str:
        """A dataset's declaration, checksums of the files whose checksum it does not declare, and what parses it."""
        declared, mirrors = self.plan.config.datasets[w.dataset], self.plan.config.mirrors
        unwatched = [file.path for file in declared.files.all() if file.sha256 is None]
        found = [find_file(declared.folder or w.dataset, path, mirrors) for path in unwatched]
        # a release holds thousands of files: their names and sizes tell whether it was replaced
        folders = release_folders(declared.release or "", mirrors) if declared.format == "ace" else []
        release = sorted(
            (path.name, path.stat().st_size)
            for folder in folders
            for annotation in annotations(folder)
            for path in (annotation, source_of(annotation))
            if path.exists()
        )
        watched = [provenance.file_sha256(path) for path in found if path]
        prepared = declared.model_dump(exclude_unset=True, exclude={"documents"})  # which are of the statistics
        parses = [parser()] if w.dataset in self.plan.parsed else []
        return json.dumps([prepared, watched, provenance.digest_of(release), *parses], sort_keys=True)

    def encoder(self, w: Any) -> str:
        """An encoder's declaration, and checksums of its files that were changed or replaced: they are checked again,
        and what was trained with them is trained anew."""
        declared = self.plan.config.encoder_spec(w.encoder)
        return json.dumps([declared.model_dump(), changed_files(declared, self.plan.config.mirrors)], sort_keys=True)

    def efficiency(self, *keys: str) -> str:
        """What is counted or timed: these keys of the configuration, with the declarations of the architectures."""
        if (asked := self.plan.config.efficiency) is None:
            return ""
        named = {name for key in keys if "architectures" in key for name in getattr(asked, key)}
        chosen = sorted(name for name in named if name in self.plan.sizes_alone)
        declared = [self.plan.config.encoder_spec(name).model_dump() for name in chosen]
        return json.dumps([[getattr(asked, key) for key in keys], declared], sort_keys=True)

    def planned(self, *keys: str) -> str:
        """These parts of the plan, their order included."""
        return provenance.digest_of(json.dumps([self.plan.declared[key] for key in keys]))

    def cases(self) -> str:
        """What the case study shows, where, and beside which runs."""
        asked = self.plan.config.case_study
        places = [self.plan.study_title(case) for case in self.plan.attended_studies()]
        return provenance.digest_of([asked.model_dump_json() if asked else "", places])

    def planned_at(self, w: Any) -> str:
        """What figures show of one dataset and encoder."""
        titles = [self.plan.declared["datasets"][w.dataset], self.plan.declared["encoders"][w.encoder]]
        return provenance.digest_of(
            json.dumps([self.plan.declared["models"], titles, self.plan.at(w.dataset, w.encoder)])
        )

    def code(self, rule: str, *used: str) -> str:
        """The code that a rule reaches, with that of some systems. A job on a node has no use for it and starts sooner:
        the call that sent the job compares and notes its params."""
        return "" if self.remote else provenance.digest(*STEPS[rule], *map(systems.entry, used))

    def system_code(self, rule: str) -> Callable[[Any], str]:
        """The same, with that of the run's own system: editing one baseline leaves the others alone."""
        return lambda w: self.code(rule, self.plan.config.models[w.model].system)

    def code_of_runs(self, rule: str, runs: Sequence[str]) -> str:
        """The same, with that of the systems of some runs."""
        return self.code(rule, *sorted({self.plan.config.models[run.split("/")[2]].system for run in runs}))

    def measured_code(self, rule: str) -> Callable[[Any], str]:
        """The same, with that of all systems at a place."""
        return lambda w: self.code_of_runs(rule, [*self.plan.systems_at(w.dataset, w.encoder).values()])

    # -- order ---------------------------------------------------------------------------------------------------------

    def duration(self, w: Any) -> float:
        """How long a training takes beside others of its dataset and encoder: its epochs, each times its model's share;
        of equal ones a little more for those that FLOPs are counted of, which can go on beside the others. The model
        that others are compared with comes first all the same, as its row soon shows whether all is well."""
        run = self.plan.spec(f"{w.dataset}/{w.encoder}/{w.model}/{w.seed}")
        counted = (w.dataset, w.encoder) in self.plan.measured and run.path in self._counted(w.dataset, w.encoder)
        epochs = 0.0
        for _, training in run.recipe.trainings:
            size = training.batch_size if isinstance(training.batch_size, int) else 1
            epochs += training.epochs or (training.steps or 0) * size / SENTENCES
        first = LONGEST if run.model == self.plan.config.reference else 0
        return first + epochs * self.plan.config.models[run.model].relative_cost + 0.1 * counted

    @functools.cache  # noqa: B019 - lives as long as the process
    def _counted(self, dataset: str, encoder: str) -> set[str]:
        return {*self.plan.systems_at(dataset, encoder).values()}
