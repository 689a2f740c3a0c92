# Raw files -> one sentence format, with a card.


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
    conda:
        ENVIRONMENT
    params:
        declared=declaration,
        sums=undeclared_sums,
        out=subpath(output.train, parent=True),
        code=code("sinet.data.prepare"),
    shell:
        "python -m sinet prepare {wildcards.dataset} --declared {params.declared:q}"
        " --out {params.out:q} --log {log:q} > /dev/null"
