# A trained run -> predictions of the test split -> scores and errors -> its record.


rule predict:
    input:
        weights=f"{RUN}/model.safetensors",
        model=f"{RUN}/model.json",
        test=f"{DATA}/test.jsonl",
    output:
        predictions=f"{RUN}/predictions.jsonl",
    log:
        f"{LOGS}/predict/{{dataset}}/{{encoder}}/{{model}}/{{seed}}.log",
    benchmark:
        f"{LOGS}/predict/{{dataset}}/{{encoder}}/{{model}}/{{seed}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: CORES_EACH
    resources:
        **site.resources(SITE, cpus=8, mem_mb=8000, runtime=30, gpu=True),
    params:
        run=subpath(input.weights, parent=True),
        code=system_code("sinet.run.predict"),
    shell:
        "python -m sinet predict --run {params.run:q} --input {input.test:q} --output {output.predictions:q}"
        " --log {log:q}"


rule score:
    input:
        gold=f"{DATA}/test.jsonl",
        labels=f"{DATA}/labels.json",
        predictions=f"{RUN}/predictions.jsonl",
    output:
        scores=f"{RUN}/scores.json",
    log:
        f"{LOGS}/score/{{dataset}}/{{encoder}}/{{model}}/{{seed}}.log",
    benchmark:
        f"{LOGS}/score/{{dataset}}/{{encoder}}/{{model}}/{{seed}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        code=code("sinet.run.record", "sinet.score.metrics"),
    shell:
        "python -m sinet score --gold {input.gold:q} --predictions {input.predictions:q} --labels {input.labels:q}"
        " --out {output.scores:q} --log {log:q}"


rule analyse:
    input:
        gold=f"{DATA}/test.jsonl",
        labels=f"{DATA}/labels.json",
        predictions=f"{RUN}/predictions.jsonl",
    output:
        analysis=f"{RUN}/analysis.json",
    log:
        f"{LOGS}/analyse/{{dataset}}/{{encoder}}/{{model}}/{{seed}}.log",
    benchmark:
        f"{LOGS}/analyse/{{dataset}}/{{encoder}}/{{model}}/{{seed}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        code=code("sinet.run.record", "sinet.score.analyse"),
    shell:
        "python -m sinet analyse --gold {input.gold:q} --predictions {input.predictions:q} --labels {input.labels:q}"
        " --out {output.analysis:q} --log {log:q}"


rule collect:
    input:
        training=f"{RUN}/training.json",
        scores=f"{RUN}/scores.json",
        test=f"{DATA}/test.jsonl",
    output:
        record=f"{RUN}/record.json",
    log:
        f"{LOGS}/collect/{{dataset}}/{{encoder}}/{{model}}/{{seed}}.log",
    benchmark:
        f"{LOGS}/collect/{{dataset}}/{{encoder}}/{{model}}/{{seed}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        code=code("sinet.run.record"),
        schema=provenance.file_sha256(Path(workflow.basedir) / "workflow" / "schemas" / "record.schema.yaml"),
    shell:
        "python -m sinet collect --training {input.training:q} --scores {input.scores:q} --test {input.test:q}"
        " --out {output.record:q} --log {log:q}"
