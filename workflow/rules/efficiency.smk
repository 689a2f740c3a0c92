# All systems of one dataset and encoder in one process: the same sentences, the same clock. Then their figures.
from sinet.grid.plan import COUNTED, TIMED


localrules:
    draw_flops,
    draw_speed,


rule count_flops:
    input:
        weights=GRID.of_systems("model.safetensors"),
        test=f"{DATA}/test.jsonl",
        encoders=GRID.counted_encoders(),
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
    threads: GRID.cores_each
    resources:
        **GRID.resources(cpus=8, mem_mb=32000, runtime=240),
    params:
        plan=PLAN_FILE,
        asked=GRID.efficiency(*COUNTED),
        code=GRID.measured_code("count_flops"),
    shell:
        "python -m sinet step flops --plan {params.plan:q} --dataset {wildcards.dataset} --encoder {wildcards.encoder}"
        " --out {output.flops:q} 2> {log:q}"


# alone: it asks for every core of the machine, or for a node of a cluster, so nothing else is started beside it
rule time_inference:
    input:
        weights=GRID.of_systems("model.safetensors"),
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
        **GRID.resources(cpus=8, mem_mb=16000, runtime=120, gpu=True, exclusive=True),
    params:
        plan=PLAN_FILE,
        asked=GRID.efficiency(*TIMED),
        code=GRID.measured_code("time_inference"),
    shell:
        "python -m sinet step time --plan {params.plan:q} --dataset {wildcards.dataset} --encoder {wildcards.encoder}"
        " --out {output.timing:q} 2> {log:q}"


rule draw_flops:
    input:
        flops=f"{EFFICIENCY}/flops.json",
        records=GRID.of_systems("record.json"),
    output:
        pdf=f"{FIGURE}/flops.pdf",
        png=report(f"{FIGURE}/flops.png", caption="../report/flops.rst", category="Efficiency"),
        caption=f"{FIGURE}/flops.md",
    log:
        f"{LOGS}/draw_flops/{{dataset}}/{{encoder}}.log",
    benchmark:
        f"{LOGS}/draw_flops/{{dataset}}/{{encoder}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        planned=GRID.planned_at,
        stem=subpath(output.pdf, strip_suffix=".pdf"),
        code=GRID.code("draw_flops"),
    shell:
        "python -m sinet step plot-flops --plan {params.plan:q} --dataset {wildcards.dataset} --encoder {wildcards.encoder}"
        " --out {params.stem:q} 2> {log:q}"


rule draw_speed:
    input:
        records=GRID.at_place("record.json"),
        timing=f"{EFFICIENCY}/timing.json",
    output:
        pdf=f"{FIGURE}/speed.pdf",
        png=report(f"{FIGURE}/speed.png", caption="../report/speed.rst", category="Efficiency"),
        caption=f"{FIGURE}/speed.md",
    log:
        f"{LOGS}/draw_speed/{{dataset}}/{{encoder}}.log",
    benchmark:
        f"{LOGS}/draw_speed/{{dataset}}/{{encoder}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        planned=GRID.planned_at,
        stem=subpath(output.pdf, strip_suffix=".pdf"),
        code=GRID.code("draw_speed"),
    shell:
        "python -m sinet step plot-speed --plan {params.plan:q} --dataset {wildcards.dataset} --encoder {wildcards.encoder}"
        " --out {params.stem:q} 2> {log:q}"
