# Runs kept without weights (config: kept) -> what their training and prediction had made. Nothing of them is trained,
# counted or timed.
if KEPT:

    localrules:
        restore,
        restore_attention,

    ruleorder: restore > train
    ruleorder: restore > predict

    rule restore:
        input:
            training=f"{config['kept']}/{{kept}}/training.json",
            log=f"{config['kept']}/{{kept}}/log.csv",
            predictions=f"{config['kept']}/{{kept}}/predictions.jsonl.gz",
        output:
            training=f"{RESULTS}/runs/{{kept}}/training.json",
            log=f"{RESULTS}/runs/{{kept}}/log.csv",
            predictions=f"{RESULTS}/runs/{{kept}}/predictions.jsonl",
        log:
            f"{LOGS}/restore/{{kept}}.log",
        benchmark:
            f"{LOGS}/restore/{{kept}}.benchmark.tsv"
        wildcard_constraints:
            kept="|".join(map(re.escape, KEPT)),
        conda:
            ENVIRONMENT
        params:
            kept=subpath(input.training, parent=True),
            out=subpath(output.training, parent=True),
            code=code("sinet.kept"),
        shell:
            "python -m sinet restore --kept {params.kept:q} --out {params.out:q} --log {log:q}"
            " --files training.json log.csv predictions.jsonl"

    ruleorder: restore_attention > attend

    rule restore_attention:
        input:
            attention=f"{config['kept']}/{{kept}}/attention.json.gz",
        output:
            attention=f"{RESULTS}/runs/{{kept}}/attention.json",
        log:
            f"{LOGS}/restore_attention/{{kept}}.log",
        benchmark:
            f"{LOGS}/restore_attention/{{kept}}.benchmark.tsv"
        wildcard_constraints:
            kept="|".join(map(re.escape, KEPT)),
        conda:
            ENVIRONMENT
        params:
            kept=subpath(input.attention, parent=True),
            out=subpath(output.attention, parent=True),
            code=code("sinet.kept"),
        shell:
            "python -m sinet restore --kept {params.kept:q} --out {params.out:q} --log {log:q} --files attention.json"
