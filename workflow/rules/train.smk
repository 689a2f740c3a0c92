# One training a run, with as many threads as it is given CPUs: by SLURM, and on one machine by OMP_NUM_THREADS, which
# Snakemake sets to `threads`. Snakemake deletes outputs before a job and when it fails: the last good ones stay in state/
# (and not by `update`, which marks restored outputs as those of the new settings).


rule train:
    input:
        train=f"{DATA}/train.jsonl",
        dev=f"{DATA}/dev.jsonl",
        labels=f"{DATA}/labels.json",
        encoder=lambda wildcards: GRID.fetched(wildcards.encoder),
    output:
        weights=f"{RUN}/model.safetensors",
        model=f"{RUN}/model.json",
        log=f"{RUN}/log.csv",
        training=f"{RUN}/training.json",
        tokenizer=directory(f"{RUN}/tokenizer"),
    log:
        f"{LOGS}/train/{{dataset}}/{{encoder}}/{{model}}/{{seed}}.log",
    benchmark:
        f"{LOGS}/train/{{dataset}}/{{encoder}}/{{model}}/{{seed}}.benchmark.tsv"
    # the longest first: side by side with shorter ones, none is left over at the end
    priority: GRID.duration
    conda:
        ENVIRONMENT
    threads: GRID.cores_each
    resources:
        **GRID.resources(cpus=8, mem_mb=16000, runtime=720, gpu=True),
    params:
        plan=PLAN_FILE,
        run=GRID.run,
        code=GRID.system_code("train"),
    # exec: a shell between Snakemake and the training would die of the signals that tell the training to save
    shell:
        "exec python -m sinet train {wildcards.dataset}/{wildcards.encoder}/{wildcards.model}/{wildcards.seed}"
        " --plan {params.plan:q} 2> {log:q}"
