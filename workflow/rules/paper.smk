# Records -> tables; chosen sentences -> attention figures.

DECLARED = {
    "datasets": {
        name: {k: d[k] for k in ("title", "published", "fold_of") if k in d} for name, d in config["datasets"].items()
    },
    "encoders": {name: {"title": e["title"]} for name, e in config["encoders"].items()},
    "models": {
        name: {k: m[k] for k in ("title", "published", "setting") if k in m} for name, m in config["models"].items()
    },
    "remark": config.get("remark"),
    "left_out": [[run.path, reason] for run, reason in PLAN.left_out],
    "missing": [],
}


rule tabulate:
    input:
        records=[f"{RESULTS}/runs/{path}/record.json" for path in RUNS],
        flops=[f"{RESULTS}/efficiency/{dataset}/{encoder}/flops.json" for dataset, encoder in MEASURED],
        timing=[f"{RESULTS}/efficiency/{dataset}/{encoder}/timing.json" for dataset, encoder in MEASURED],
    output:
        main=report(
            multiext(f"{RESULTS}/tables/main", ".csv", ".md", ".tex"), caption="../report/main.rst", category="Tables"
        ),
        ablation=report(
            multiext(f"{RESULTS}/tables/ablation", ".csv", ".md", ".tex"),
            caption="../report/ablation.rst",
            category="Tables",
        ),
        efficiency=report(
            multiext(f"{RESULTS}/tables/efficiency", ".csv", ".md", ".tex"),
            caption="../report/efficiency.rst",
            category="Tables",
        ),
    log:
        f"{LOGS}/tabulate.log",
    benchmark:
        f"{LOGS}/tabulate.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        declared=json.dumps(DECLARED, sort_keys=True),
        efficiency=[f"{RESULTS}/efficiency/{dataset}/{encoder}" for dataset, encoder in MEASURED],
        out=lambda wildcards, output: str(Path(output[0]).parent),
        code=code("sinet.paper.tables"),
        published=provenance.file_sha256(Path(workflow.basedir) / "sinet" / "paper" / "published.yaml"),
    shell:
        "python -m sinet tables --records {input.records:q} --efficiency {params.efficiency:q}"
        " --declared {params.declared:q} --out {params.out:q} --log {log:q}"


rule draw_flops:
    input:
        flops=f"{EFFICIENCY}/flops.json",
    output:
        pdf=f"{RESULTS}/figures/flops_{{dataset}}_{{encoder}}.pdf",
        png=report(
            f"{RESULTS}/figures/flops_{{dataset}}_{{encoder}}.png",
            caption="../report/flops.rst",
            category="Efficiency",
        ),
        caption=f"{RESULTS}/figures/flops_{{dataset}}_{{encoder}}.md",
    log:
        f"{LOGS}/draw_flops/{{dataset}}/{{encoder}}.log",
    benchmark:
        f"{LOGS}/draw_flops/{{dataset}}/{{encoder}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        titles=json.dumps({name: m["title"] for name, m in DECLARED["models"].items()}, sort_keys=True),
        what=lambda wildcards: f"{config['datasets'][wildcards.dataset]['title']} (test split), {config['encoders'][wildcards.encoder]['title']}",
        stem=subpath(output.pdf, strip_suffix=".pdf"),
        code=code("sinet.paper.efficiency"),
    shell:
        "python -m sinet plot-flops --flops {input.flops:q} --titles {params.titles:q} --what {params.what:q}"
        " --out {params.stem:q} --log {log:q}"


if CASE:
    CASE_TITLES = [config["models"][CASE.model], config["datasets"][CASE.dataset], config["encoders"][CASE.encoder]]

    rule attend:
        input:
            weights=f"{RESULTS}/runs/{CASE.path}/model.safetensors",
            predictions=f"{RESULTS}/runs/{CASE.path}/predictions.jsonl",
            test=f"{RESULTS}/data/{CASE.dataset}/test.jsonl",
        output:
            attention=f"{RESULTS}/figures/attention.json",
        log:
            f"{LOGS}/attend.log",
        benchmark:
            f"{LOGS}/attend.benchmark.tsv"
        conda:
            ENVIRONMENT
        threads: workflow.cores
        resources:
            **site.resources(SITE, cpus=8, mem_mb=8000, runtime=30, gpu=True),
        params:
            run=subpath(input.weights, parent=True),
            sentences=json.dumps(CASE_SENTENCES),
            code=code("sinet.run.attend", systems.module_name(CASE.details["system"])),
        shell:
            "python -m sinet attend --run {params.run:q} --test {input.test:q} --predictions {input.predictions:q}"
            " --sentences {params.sentences:q} --out {output.attention:q} --log {log:q}"

    rule draw_attention:
        input:
            attention=f"{RESULTS}/figures/attention.json",
        output:
            pdf=f"{RESULTS}/figures/attention_{{number}}.pdf",
            png=report(
                f"{RESULTS}/figures/attention_{{number}}.png",
                caption="../report/attention.rst",
                category="Case study",
            ),
            caption=f"{RESULTS}/figures/attention_{{number}}.md",
        log:
            f"{LOGS}/draw_attention/{{number}}.log",
        benchmark:
            f"{LOGS}/draw_attention/{{number}}.benchmark.tsv"
        conda:
            ENVIRONMENT
        params:
            what=f"{', '.join(t['title'] for t in CASE_TITLES)} (test split), seed {CASE.seed}, recipe {CASE.details['recipe']['name']}",
            stem=subpath(output.pdf, strip_suffix=".pdf"),
            code=code("sinet.paper.attention"),
        shell:
            "python -m sinet figures --attention {input.attention:q} --number {wildcards.number} --what {params.what:q}"
            " --out {params.stem:q} --log {log:q}"
