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
        declared=declaration,
        sums=undeclared_sums,
        out=subpath(output.train, parent=True),
        code=code("sinet.data.prepare"),
    shell:
        "python -m sinet prepare {wildcards.dataset} --declared {params.declared:q}"
        " --out {params.out:q} --log {log:q} > /dev/null"


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
        declared=lambda wildcards: json.dumps(grid.encoder_declaration(config, wildcards.encoder), sort_keys=True),
        # files that were changed or replaced are checked again, and what was trained with them is trained anew
        changed=lambda wildcards: changed_files(grid.encoder_declaration(config, wildcards.encoder), config["mirrors"]),
        offline=OFFLINE,
        code=code("sinet.model.fetch"),
    shell:
        "HF_HUB_OFFLINE={params.offline} python -m sinet fetch {wildcards.encoder} --declared {params.declared:q}"
        " --out {output.fetched:q} --log {log:q}"
