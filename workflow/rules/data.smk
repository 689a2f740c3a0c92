# Raw files -> one sentence format, with a card.


def declaration(wildcards):
    return json.dumps(config["datasets"][wildcards.dataset], sort_keys=True)


rule prepare:
    output:
        train=f"{DATA}/train.jsonl",
        dev=f"{DATA}/dev.jsonl",
        test=f"{DATA}/test.jsonl",
        labels=f"{DATA}/labels.json",
        card=report(f"{DATA}/card.md", caption="../report/card.rst", category="Datasets"),
    log:
        f"{LOGS}/prepare/{{dataset}}.log",
    benchmark:
        f"{LOGS}/prepare/{{dataset}}.benchmark.tsv"
    params:
        declared=declaration,
        mirrors=config["mirrors"],
        out=DATA,
        code=code("sinet.data.prepare"),
    shell:
        "python -m sinet prepare {wildcards.dataset} --declared {params.declared:q} --mirrors {params.mirrors:q}"
        " --out {params.out:q} --log {log:q} > /dev/null"
