# When runs fail: which, why, and the tables of the others. When none does, nothing of that is left.


def incomplete_tables():
    """After a failure: which runs have no result and why; with allow_missing also the tables of those that have one."""
    unfinished = {file for job in workflow.dag.needrun_jobs() for file in job.output}

    def made(files):
        return [file for file in files if file not in unfinished and Path(file).is_file()]

    records = {path: f"{RESULTS}/runs/{path}/record.json" for path in RUNS}
    lost = {path: missing.reason(Path(LOGS), path) for path, record in records.items() if not made([record])}
    if not lost:
        return
    lines = [f"{len(lost)} of {len(RUNS)} runs have no result:", *(f"  {path}: {why}" for path, why in lost.items())]
    if not config["allow_missing"]:
        lines.append("tables of the others all the same: --config allow_missing=True")
    logger.error("\n".join(lines))
    if config["allow_missing"] and len(lost) < len(RUNS):
        tables = f"{RESULTS}/incomplete"
        measured = [f"{RESULTS}/efficiency/{dataset}/{encoder}" for dataset, encoder in MEASURED]
        measured = [folder for folder in measured if len(made([f"{folder}/flops.json", f"{folder}/timing.json"])) == 2]
        declared = DECLARED | {"missing": [RUNS[path].details | {"reason": why} for path, why in lost.items()]}
        shell(
            "python -m sinet tables --records {records:q} --efficiency {measured:q} --declared {declared:q} --out {tables}",
            records=made(records.values()),
            measured=measured,
            declared=json.dumps(declared, sort_keys=True),
            tables=tables,
        )
        print(Path(f"{tables}/main.md").read_text(encoding="utf-8"), f"tables: {tables}/", sep="\n")


onerror:
    incomplete_tables()


onsuccess:
    shutil.rmtree(f"{RESULTS}/incomplete", ignore_errors=True)
