# SINET and its rivals on equal terms: raw data -> trained runs -> scores, FLOPs and times -> tables and figures.
#   snakemake --cores all                                     the grid of config.yaml
#   snakemake --cores all --configfile config/shown.yaml      another grid, laid over it
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")

# of this file: the workflow may be called from another folder, or be a module of another workflow
BASE = Path(str(workflow.current_basedir))


configfile: str(BASE / "config" / "datasets.yaml")
configfile: str(BASE / "config" / "encoders.yaml")
configfile: str(BASE / "config" / "models.yaml")
configfile: str(BASE / "config" / "recipes.yaml")
configfile: str(BASE / "config" / "chosen.yaml")
configfile: str(BASE / "config.yaml")


# used with --software-deployment-method apptainer; envs/sinet.def says how to build it
container: str(BASE / "envs" / "sinet.sif")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/paper.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/failures.smk"


if PLAN.config.efficiency:

    include: "workflow/rules/efficiency.smk"


if PLAN.case_study:

    include: "workflow/rules/casestudy.smk"


include: "workflow/rules/archive.smk"
include: "workflow/rules/external.smk"


rule all:
    default_target: True
    input:
        tables=expand(f"{RESULTS}/tables/{{table}}.{{ending}}", table=PLAN.tables, ending=["csv", "md", "tex"]),
        figures=expand(f"{RESULTS}/figures/{{figure}}.{{ending}}", figure=PLAN.figures, ending=["pdf", "png", "md"]),


rule trained:
    input:
        expand(f"{RESULTS}/runs/{{run}}/training.json", run=PLAN.trained),
