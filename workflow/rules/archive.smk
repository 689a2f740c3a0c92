# Runs archived without weights (config: archive) -> what their training and prediction had made, and what was counted and
# timed of them then. Nothing of them is trained, counted or timed.
if PLAN.archived:

    localrules:
        unarchive,
        unarchive_attention,

    ruleorder: unarchive > train
    ruleorder: unarchive > predict

    rule unarchive:
        input:
            training=f"{PLAN.config.archive}/{{run}}/training.json",
            log=f"{PLAN.config.archive}/{{run}}/log.csv",
            predictions=f"{PLAN.config.archive}/{{run}}/predictions.jsonl.gz",
        output:
            training=f"{RESULTS}/runs/{{run}}/training.json",
            log=f"{RESULTS}/runs/{{run}}/log.csv",
            predictions=f"{RESULTS}/runs/{{run}}/predictions.jsonl",
        log:
            f"{LOGS}/unarchive/{{run}}.log",
        benchmark:
            f"{LOGS}/unarchive/{{run}}.benchmark.tsv"
        wildcard_constraints:
            run="|".join(run.replace(".", "[.]") for run in PLAN.archived),
        conda:
            ENVIRONMENT
        params:
            archived=subpath(input.training, parent=True),
            out=subpath(output.training, parent=True),
            code=GRID.code("unarchive"),
        shell:
            "python -m sinet step unarchive --archived {params.archived:q} --out {params.out:q}"
            " --files training.json log.csv predictions.jsonl 2> {log:q}"

    ruleorder: unarchive_attention > attend

    rule unarchive_attention:
        input:
            attention=f"{PLAN.config.archive}/{{run}}/attention.json.gz",
        output:
            attention=f"{RESULTS}/runs/{{run}}/attention.json",
        log:
            f"{LOGS}/unarchive_attention/{{run}}.log",
        benchmark:
            f"{LOGS}/unarchive_attention/{{run}}.benchmark.tsv"
        wildcard_constraints:
            run="|".join(run.replace(".", "[.]") for run in PLAN.archived),
        conda:
            ENVIRONMENT
        params:
            archived=subpath(input.attention, parent=True),
            out=subpath(output.attention, parent=True),
            code=GRID.code("unarchive_attention"),
        shell:
            "python -m sinet step unarchive --archived {params.archived:q} --out {params.out:q} --files attention.json 2> {log:q}"


if PLAN.archived_places:

    localrules:
        unarchive_efficiency,

    ruleorder: unarchive_efficiency > count_flops
    ruleorder: unarchive_efficiency > time_inference

    rule unarchive_efficiency:
        input:
            flops=f"{PLAN.config.archive}/efficiency/{{place}}/flops.json",
            timing=f"{PLAN.config.archive}/efficiency/{{place}}/timing.json",
        output:
            flops=f"{RESULTS}/efficiency/{{place}}/flops.json",
            timing=f"{RESULTS}/efficiency/{{place}}/timing.json",
        log:
            f"{LOGS}/unarchive_efficiency/{{place}}.log",
        benchmark:
            f"{LOGS}/unarchive_efficiency/{{place}}.benchmark.tsv"
        wildcard_constraints:
            place="|".join(f"{dataset}/{encoder}" for dataset, encoder in PLAN.archived_places).replace(".", "[.]"),
        conda:
            ENVIRONMENT
        params:
            archived=subpath(input.flops, parent=True),
            out=subpath(output.flops, parent=True),
            code=GRID.code("unarchive_efficiency"),
        shell:
            "python -m sinet step unarchive --archived {params.archived:q} --out {params.out:q}"
            " --files flops.json timing.json 2> {log:q}"
