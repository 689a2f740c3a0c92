# A trained run -> predictions of the test split -> its record with the scores, and an analysis of its errors.


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
    priority: FINISHED
    conda:
        ENVIRONMENT
    threads: GRID.cores_each
    resources:
        **GRID.resources(cpus=8, mem_mb=8000, runtime=30, gpu=True),
    params:
        run=subpath(input.weights, parent=True),
        code=GRID.system_code("predict"),
    shell:
        "python -m sinet predict --run {params.run:q} --input {input.test:q} --out {output.predictions:q}"
        " --also-gold-entities --checksum 2> {log:q}"


rule evaluate:
    input:
        training=f"{RUN}/training.json",
        gold=f"{DATA}/test.jsonl",
        train=f"{DATA}/train.jsonl",
        labels=f"{DATA}/labels.json",
        predictions=f"{RUN}/predictions.jsonl",
    output:
        record=f"{RUN}/record.json",
        analysis=f"{RUN}/analysis.json",
    log:
        f"{LOGS}/evaluate/{{dataset}}/{{encoder}}/{{model}}/{{seed}}.log",
    benchmark:
        f"{LOGS}/evaluate/{{dataset}}/{{encoder}}/{{model}}/{{seed}}.benchmark.tsv"
    priority: FINISHED
    conda:
        ENVIRONMENT
    params:
        run=subpath(input.training, parent=True),
        data=subpath(input.gold, parent=True),
        code=GRID.code("evaluate"),
    shell:
        "python -m sinet step evaluate --run {params.run:q} --data {params.data:q} 2> {log:q}"
