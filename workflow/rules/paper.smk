# Predictions -> comparisons; records -> tables and figures.
DECLARED = grid.declarations(config, PLAN, KEPT)

FIGURE_MODELS = json.dumps(DECLARED["models"])


rule compare:
    input:
        records=[f"{RESULTS}/runs/{path}/record.json" for path in RUNS],
        predictions=[f"{RESULTS}/runs/{path}/predictions.jsonl" for path in RUNS],
        gold=[f"{RESULTS}/data/{run.dataset}/test.jsonl" for run in PLAN.runs],
        labels=[f"{RESULTS}/data/{run.dataset}/labels.json" for run in PLAN.runs],
    output:
        comparisons=f"{RESULTS}/comparisons.json",
    log:
        f"{LOGS}/compare.log",
    benchmark:
        f"{LOGS}/compare.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        declared=json.dumps(DECLARED),
        data=lambda wildcards, input: str(Path(input.gold[0]).parent.parent),
        code=code("sinet.score.compare"),
    shell:
        "python -m sinet compare --records {input.records:q} --data {params.data:q} --declared {params.declared:q}"
        " --out {output.comparisons:q} --log {log:q}"


rule tabulate:
    input:
        records=[f"{RESULTS}/runs/{path}/record.json" for path in RUNS],
        analyses=[f"{RESULTS}/runs/{path}/analysis.json" for path in RUNS],
        comparisons=f"{RESULTS}/comparisons.json",
        flops=[f"{RESULTS}/efficiency/{dataset}/{encoder}/flops.json" for dataset, encoder in MEASURED],
        timing=[f"{RESULTS}/efficiency/{dataset}/{encoder}/timing.json" for dataset, encoder in MEASURED],
    output:
        main=report(
            multiext(f"{RESULTS}/tables/main", ".csv", ".md", ".tex"),
            caption="../report/main.rst",
            category="Tables",
        ),
        ablation=report(
            multiext(f"{RESULTS}/tables/ablation", ".csv", ".md", ".tex"),
            caption="../report/ablation.rst",
            category="Tables",
        ),
        published_vs_measured=report(
            multiext(f"{RESULTS}/tables/published_vs_measured", ".csv", ".md", ".tex"),
            caption="../report/published_vs_measured.rst",
            category="Tables",
        ),
        significance=report(
            multiext(f"{RESULTS}/tables/significance", ".csv", ".md", ".tex"),
            caption="../report/significance.rst",
            category="Tables",
        ),
        efficiency=report(
            multiext(f"{RESULTS}/tables/efficiency", ".csv", ".md", ".tex"),
            caption="../report/efficiency.rst",
            category="Tables",
        ),
        types=report(
            multiext(f"{RESULTS}/tables/types", ".csv", ".md", ".tex"),
            caption="../report/types.rst",
            category="Tables",
        ),
        slices=report(
            multiext(f"{RESULTS}/tables/slices", ".csv", ".md", ".tex"),
            caption="../report/slices.rst",
            category="Tables",
        ),
        errors=report(
            multiext(f"{RESULTS}/tables/errors", ".csv", ".md", ".tex"),
            caption="../report/errors.rst",
            category="Tables",
        ),
        error_examples=report(
            multiext(f"{RESULTS}/tables/error_examples", ".csv", ".md", ".tex"),
            caption="../report/error_examples.rst",
            category="Tables",
        ),
    log:
        f"{LOGS}/tabulate.log",
    benchmark:
        f"{LOGS}/tabulate.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        declared=json.dumps(DECLARED),
        efficiency=[f"{RESULTS}/efficiency/{dataset}/{encoder}" for dataset, encoder in MEASURED],
        out=lambda wildcards, output: str(Path(output[0]).parent),
        code=code("sinet.paper.tables"),
        published=provenance.file_sha256(Path(workflow.basedir) / "sinet" / "paper" / "published.yaml"),
    shell:
        "python -m sinet tables --records {input.records:q} --comparisons {input.comparisons:q}"
        " --efficiency {params.efficiency:q} --declared {params.declared:q} --out {params.out:q} --log {log:q}"


rule draw_flops:
    input:
        flops=f"{EFFICIENCY}/flops.json",
        records=measured_inputs("record.json"),
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
        models=FIGURE_MODELS,
        what=lambda wildcards: f"{place_title(wildcards.dataset, wildcards.encoder)}, test split",
        stem=subpath(output.pdf, strip_suffix=".pdf"),
        code=code("sinet.paper.efficiency"),
    shell:
        "python -m sinet plot-flops --flops {input.flops:q} --records {input.records:q} --models {params.models:q}"
        " --what {params.what:q} --out {params.stem:q} --log {log:q}"


rule draw_results:
    input:
        records=lambda wildcards: [f"{RESULTS}/runs/{run.path}/record.json" for run in runs_at(wildcards)],
        logs=lambda wildcards: [f"{RESULTS}/runs/{run.path}/log.csv" for run in runs_at(wildcards)],
        analyses=lambda wildcards: [f"{RESULTS}/runs/{run.path}/analysis.json" for run in runs_at(wildcards)],
        comparisons=f"{RESULTS}/comparisons.json",
    output:
        pdf=expand(f"{RESULTS}/figures/{{figure}}_{{{{dataset}}}}_{{{{encoder}}}}.pdf", figure=RESULT_FIGURES),
        png=report(
            expand(f"{RESULTS}/figures/{{figure}}_{{{{dataset}}}}_{{{{encoder}}}}.png", figure=RESULT_FIGURES),
            caption="../report/results.rst",
            category="Figures",
        ),
        caption=expand(f"{RESULTS}/figures/{{figure}}_{{{{dataset}}}}_{{{{encoder}}}}.md", figure=RESULT_FIGURES),
    log:
        f"{LOGS}/draw_results/{{dataset}}/{{encoder}}.log",
    benchmark:
        f"{LOGS}/draw_results/{{dataset}}/{{encoder}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        models=FIGURE_MODELS,
        place=lambda wildcards: f"{config['datasets'][wildcards.dataset].get('fold_of', wildcards.dataset)}/{wildcards.encoder}",
        what=lambda wildcards: place_title(wildcards.dataset, wildcards.encoder),
        stem=lambda wildcards, output: str(Path(output[0]).parent / f"{wildcards.dataset}_{wildcards.encoder}"),
        code=code("sinet.paper.figures"),
    shell:
        "python -m sinet plot-results --records {input.records:q} --comparisons {input.comparisons:q}"
        " --models {params.models:q} --place {params.place:q} --what {params.what:q} --out {params.stem:q} --log {log:q}"


rule draw_speed:
    input:
        records=lambda wildcards: [f"{RESULTS}/runs/{run.path}/record.json" for run in runs_at(wildcards)],
        timing=f"{EFFICIENCY}/timing.json",
    output:
        pdf=f"{RESULTS}/figures/speed_{{dataset}}_{{encoder}}.pdf",
        png=report(
            f"{RESULTS}/figures/speed_{{dataset}}_{{encoder}}.png",
            caption="../report/speed.rst",
            category="Efficiency",
        ),
        caption=f"{RESULTS}/figures/speed_{{dataset}}_{{encoder}}.md",
    log:
        f"{LOGS}/draw_speed/{{dataset}}/{{encoder}}.log",
    benchmark:
        f"{LOGS}/draw_speed/{{dataset}}/{{encoder}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        models=FIGURE_MODELS,
        what=lambda wildcards: place_title(wildcards.dataset, wildcards.encoder),
        stem=subpath(output.pdf, strip_suffix=".pdf"),
        code=code("sinet.paper.figures"),
    shell:
        "python -m sinet plot-speed --records {input.records:q} --timing {input.timing:q} --models {params.models:q}"
        " --what {params.what:q} --out {params.stem:q} --log {log:q}"
