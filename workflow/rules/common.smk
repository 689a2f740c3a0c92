# The plan: the configuration is checked and spelled out before any rule is read. What rules ask of it is a tested class.
import signal
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

sys.path.insert(0, str(BASE))

from sinet.copied import put_in_order
from sinet.errors import UserError, printable
from sinet.grid.plan import RESULT_FIGURES
from sinet.workflow import FINISHED, FIRST, Workflow
from sinet.provenance import digest_of, file_sha256

# ahead of a time limit SLURM signals a whole step: the training in it saves, this process has to outlive it
signal.signal(signal.SIGUSR1, signal.SIG_IGN)

try:
    GRID = Workflow(
        BASE,
        config,
        list(map(Path, workflow.overwrite_configfiles)),
        workflow.remote_exec,
        workflow.cores,
    )
except UserError as error:
    raise WorkflowError(printable(f"the configuration has mistakes:\n{error}")) from None

PLAN = GRID.plan
for warning in GRID.warnings:
    logger.warning(warning)
if PLAN.config.archive:
    logger.info(f"archived in {PLAN.config.archive}, and not trained: {len(PLAN.archived)} of {len(PLAN.runs)} runs")

RESULTS = PLAN.config.results
if not workflow.remote_exec and put_in_order(Path(RESULTS)):
    logger.info(f"{RESULTS}: copied without Snakemake's notes; what is there is taken as finished")
RUN = f"{RESULTS}/runs/{{dataset}}/{{encoder}}/{{model}}/{{seed}}"
DATA = f"{RESULTS}/data/{{dataset}}"
EFFICIENCY = f"{RESULTS}/efficiency/{{dataset}}/{{encoder}}"
FIGURE = f"{RESULTS}/figures/{{dataset}}/{{encoder}}"
LOGS = f"{RESULTS}/logs"
PLAN_FILE = f"{RESULTS}/plan.json"
# used with --software-deployment-method conda; otherwise every step runs in the environment of the call
ENVIRONMENT = str(BASE / "envs" / "environment.yaml")


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
