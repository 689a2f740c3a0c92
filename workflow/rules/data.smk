# Raw files -> one sentence format, with a card; encoders of a hub -> files that training finds without a network.


rule prepare:
    output:
        train=f"{DATA}/train.jsonl",
        dev=f"{DATA}/dev.jsonl",
        test=f"{DATA}/test.jsonl",
        labels=f"{DATA}/labels.json",
        counts=f"{DATA}/card.json",
        card=report(f"{DATA}/card.md", caption="../report/card.rst", category="Datasets"),
    log:
        f"{LOGS}/prepare/{{dataset}}.log",
    benchmark:
        f"{LOGS}/prepare/{{dataset}}.benchmark.tsv"
    priority: FIRST
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        declared=GRID.declaration,
        out=subpath(output.train, parent=True),
        code=GRID.code("prepare"),
    shell:
        "python -m sinet step prepare {wildcards.dataset} --plan {params.plan:q} --out {params.out:q}"
        " > /dev/null 2> {log:q}"


rule fetch_encoder:
    output:
        fetched=f"{RESULTS}/encoders/{{encoder}}.json",
    log:
        f"{LOGS}/fetch_encoder/{{encoder}}.log",
    benchmark:
        f"{LOGS}/fetch_encoder/{{encoder}}.benchmark.tsv"
    priority: FIRST
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        declared=GRID.encoder,
        offline=GRID.offline,
        code=GRID.code("fetch_encoder"),
    shell:
        "HF_HUB_OFFLINE={params.offline} python -m sinet step fetch {wildcards.encoder} --plan {params.plan:q}"
        " --out {output.fetched:q} 2> {log:q}"
