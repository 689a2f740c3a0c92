# Predictions made elsewhere (models: predictions) -> what the tables need of a run. Nothing is trained.
if PLAN.external:

    localrules:
        external,

    ruleorder: external > predict
    ruleorder: external > evaluate

    rule external:
        input:
            predictions=lambda wildcards: PLAN.predictions(wildcards.run),
            data=lambda wildcards: GRID.of_datasets(
                "train.jsonl", "test.jsonl", "labels.json", datasets=[wildcards.run.split("/")[0]]
            ),
        output:
            predictions=f"{RESULTS}/runs/{{run}}/predictions.jsonl",
            record=f"{RESULTS}/runs/{{run}}/record.json",
            analysis=f"{RESULTS}/runs/{{run}}/analysis.json",
        log:
            f"{LOGS}/external/{{run}}.log",
        benchmark:
            f"{LOGS}/external/{{run}}.benchmark.tsv"
        wildcard_constraints:
            run="|".join(run.replace(".", "[.]") for run in PLAN.external),
        # ahead of any training: what is wrong with a file is said first
        priority: FIRST
        conda:
            ENVIRONMENT
        params:
            plan=PLAN_FILE,
            declared=GRID.external,
            code=GRID.code("external"),
        shell:
            "python -m sinet step external {wildcards.run} --plan {params.plan:q} 2> {log:q}"
