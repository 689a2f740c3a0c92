# All systems of one dataset and encoder in one process: the same sentences, the same clock. Then their figures.


localrules:
    draw_flops,
    draw_speed,


rule count_flops:
    input:
        weights=measured_inputs("model.safetensors"),
        test=f"{DATA}/test.jsonl",
        encoders=fetched(*unmeasured_sizes(config["efficiency"]["architectures"])),
    output:
        flops=f"{EFFICIENCY}/flops.json",
    log:
        f"{LOGS}/count_flops/{{dataset}}/{{encoder}}.log",
    benchmark:
        f"{LOGS}/count_flops/{{dataset}}/{{encoder}}.benchmark.tsv"
    # counts are the same whatever goes on beside
    priority: FINISHED
    conda:
        ENVIRONMENT
    threads: CORES_EACH
    resources:
        **site.resources(SITE, cpus=8, mem_mb=32000, runtime=240),
    params:
        runs=measured_runs,
        sentences=sentences_option("counted_sentences"),
        words=config["efficiency"]["counted_words"],
        untrained=untrained(
            dict.fromkeys(config["efficiency"]["architectures"], config["efficiency"]["architecture_sentences"])
        ),
        code=measured_code("sinet.run.flops"),
    shell:
        "python -m sinet flops --runs {params.runs:q} --test {input.test:q} --out {output.flops:q} --log {log:q}"
        " {params.sentences} --words {params.words} --untrained {params.untrained:q}"


# alone: it asks for every core of the machine, or for a node of a cluster, so nothing else is started beside it
rule time_inference:
    input:
        weights=measured_inputs("model.safetensors"),
        test=f"{DATA}/test.jsonl",
    output:
        timing=f"{EFFICIENCY}/timing.json",
    log:
        f"{LOGS}/time_inference/{{dataset}}/{{encoder}}.log",
    benchmark:
        f"{LOGS}/time_inference/{{dataset}}/{{encoder}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: workflow.cores
    resources:
        **site.resources(SITE, cpus=8, mem_mb=16000, runtime=120, gpu=True, exclusive=True),
    params:
        runs=measured_runs,
        sentences=sentences_option("timed_sentences"),
        seconds=config["efficiency"]["timed_seconds"],
        untrained=untrained(config["efficiency"]["timed_architectures"]),
        code=measured_code("sinet.run.timing"),
    shell:
        "python -m sinet time --runs {params.runs:q} --test {input.test:q} --out {output.timing:q} --log {log:q}"
        " {params.sentences} --seconds {params.seconds} --untrained {params.untrained:q}"


rule draw_flops:
    input:
        flops=f"{EFFICIENCY}/flops.json",
        records=measured_inputs("record.json"),
    output:
        pdf=f"{FIGURE}/flops.pdf",
        png=report(
            f"{FIGURE}/flops.png",
            caption="../report/flops.rst",
            category="Efficiency",
        ),
        caption=f"{FIGURE}/flops.md",
    log:
        f"{LOGS}/draw_flops/{{dataset}}/{{encoder}}.log",
    benchmark:
        f"{LOGS}/draw_flops/{{dataset}}/{{encoder}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        planned=planned_at,
        stem=subpath(output.pdf, strip_suffix=".pdf"),
        code=code("sinet.paper.figures"),
    shell:
        "python -m sinet plot-flops --plan {params.plan:q} --dataset {wildcards.dataset} --encoder {wildcards.encoder}"
        " --flops {input.flops:q} --out {params.stem:q} --log {log:q}"


rule draw_speed:
    input:
        records=at_place("record.json"),
        timing=f"{EFFICIENCY}/timing.json",
    output:
        pdf=f"{FIGURE}/speed.pdf",
        png=report(
            f"{FIGURE}/speed.png",
            caption="../report/speed.rst",
            category="Efficiency",
        ),
        caption=f"{FIGURE}/speed.md",
    log:
        f"{LOGS}/draw_speed/{{dataset}}/{{encoder}}.log",
    benchmark:
        f"{LOGS}/draw_speed/{{dataset}}/{{encoder}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        planned=planned_at,
        stem=subpath(output.pdf, strip_suffix=".pdf"),
        code=code("sinet.paper.figures"),
    shell:
        "python -m sinet plot-speed --plan {params.plan:q} --dataset {wildcards.dataset} --encoder {wildcards.encoder}"
        " --timing {input.timing:q} --out {params.stem:q} --log {log:q}"
