# When runs fail: which, why, and the tables of the others. When none does, nothing of that is left.


import os
import shutil
import signal
import time
from dataclasses import replace

from sinet.report import missing

INCOMPLETE = "plan.incomplete.json"
BEGAN = time.time() - 60  # a shared disk's clock may be behind
INTERRUPTED = []


def interrupt(number, frame):
    """Ctrl-C, as Python does it, and noted: Snakemake tells its handlers of a failure like any other."""
    INTERRUPTED.append(number)
    signal.default_int_handler(number, frame)


signal.signal(signal.SIGINT, interrupt)


def asked_for():
    """The runs whose records this call was to make, or to make something of."""
    outputs = {file for job in workflow.dag.jobs for file in job.output}
    return [path for path in PLAN.runs if f"{RESULTS}/runs/{path}/record.json" in outputs]


def incomplete_tables():
    """After a failure: which runs have no result and why; with allow_missing also the tables of those that have one."""
    unfinished = {file for job in workflow.dag.needrun_jobs() for file in job.output}
    wanted = asked_for()

    def made(files):
        return [file for file in files if file not in unfinished and Path(file).is_file()]

    whole = [
        path for path in wanted if len(made([f"{RESULTS}/runs/{path}/{n}.json" for n in ("record", "analysis")])) == 2
    ]
    lost = {path: missing.reason(Path(LOGS), path, BEGAN) for path in wanted if path not in whole}
    if not lost:
        return
    lines = [f"{len(lost)} of {len(wanted)} runs have no result:", *(f"  {path}: {why}" for path, why in lost.items())]
    if not PLAN.config.allow_missing:
        files = " ".join(map(os.path.relpath, workflow.overwrite_configfiles))
        call = f"snakemake --cores all{' --configfile ' * bool(files)}{files} --config allow_missing=True"
        lines.append(f"tables of the others all the same: {call}")
    logger.error("\n".join(lines))
    if PLAN.config.allow_missing and whole and len(wanted) == len(PLAN.runs):
        tables = f"{RESULTS}/incomplete"
        Path(tables).mkdir(parents=True, exist_ok=True)
        unmeasured = [
            [dataset, encoder]
            for dataset, encoder in PLAN.measured
            if len(made([f"{RESULTS}/efficiency/{dataset}/{encoder}/{n}.json" for n in ("flops", "timing")])) < 2
        ]
        plan = replace(PLAN, failed=lost, unmeasured=unmeasured).write(INCOMPLETE)
        compared = f"{tables}/comparisons.json"
        shell("python -m sinet compare --plan {plan:q} --out {compared:q}")
        shell("python -m sinet step tables --plan {plan:q} --comparisons {compared:q} --out {tables:q}")
        print(Path(f"{tables}/main.md").read_text(encoding="utf-8"), f"tables: {tables}/", sep="\n")


onstart:
    if workflow.executor_plugin.name == "slurm" and not shutil.which("sbatch"):
        logger.error("--profile slurm: there is no sbatch on this machine; call it on a login node of the cluster")
        sys.exit(1)
    # here the folder is locked: neither a dry run, nor a job on a node, nor a second call changes the plan of this one
    PLAN.write()


# of a module no handler is called
if Path(str(workflow.main_snakefile)).resolve() != (BASE / "Snakefile").resolve():
    PLAN.write()


onerror:
    logger.error(missing.interrupted(PLAN, BEGAN)) if INTERRUPTED else incomplete_tables()


onsuccess:
    if len(asked_for()) == len(PLAN.runs):
        shutil.rmtree(f"{RESULTS}/incomplete", ignore_errors=True)
        Path(RESULTS, INCOMPLETE).unlink(missing_ok=True)
