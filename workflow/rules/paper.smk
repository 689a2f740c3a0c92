# Predictions -> comparisons; records -> tables and figures.


rule compare:
    input:
        records=[f"{RESULTS}/runs/{path}/record.json" for path in RUNS],
        predictions=[f"{RESULTS}/runs/{path}/predictions.jsonl" for path in RUNS],
        gold=[f"{RESULTS}/data/{dataset}/test.jsonl" for dataset in DATASETS],
        labels=[f"{RESULTS}/data/{dataset}/labels.json" for dataset in DATASETS],
    output:
        comparisons=f"{RESULTS}/comparisons.json",
    log:
        f"{LOGS}/compare.log",
    benchmark:
        f"{LOGS}/compare.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        planned=planned("runs", "datasets", "models", "reference", "left_out"),
        code=code("sinet.score.compare"),
    shell:
        "python -m sinet compare --plan {params.plan:q} --out {output.comparisons:q} --log {log:q}"


# One process for all tables: reading the records and importing pandas take longer than any table does.
rule tabulate:
    input:
        records=[f"{RESULTS}/runs/{path}/record.json" for path in RUNS],
        analyses=[f"{RESULTS}/runs/{path}/analysis.json" for path in RUNS],
        comparisons=f"{RESULTS}/comparisons.json",
        flops=[f"{RESULTS}/efficiency/{dataset}/{encoder}/flops.json" for dataset, encoder in MEASURED],
        timing=[f"{RESULTS}/efficiency/{dataset}/{encoder}/timing.json" for dataset, encoder in MEASURED],
    output:
        **{
            name: report(
                multiext(f"{RESULTS}/tables/{name}", ".csv", ".md", ".tex", ".json"),
                caption=f"../report/{name}.rst",
                category="Tables",
            )
            for name in TABLES
        },
    log:
        f"{LOGS}/tabulate.log",
    benchmark:
        f"{LOGS}/tabulate.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        planned=planned("runs", "datasets", "encoders", "models", "reference", "remark", "left_out", "kept", "measured"),
        out=lambda wildcards, output: str(Path(output[0]).parent),
        code=code("sinet.paper.tables"),
        published=provenance.file_sha256(Path(workflow.basedir) / "sinet" / "paper" / "published.yaml"),
    shell:
        "python -m sinet tables --plan {params.plan:q} --comparisons {input.comparisons:q} --out {params.out:q}"
        " --log {log:q}"


rule draw_results:
    input:
        records=at_place("record.json"),
        logs=at_place("log.csv"),
        analyses=at_place("analysis.json"),
        comparisons=f"{RESULTS}/comparisons.json",
    output:
        pdf=[f"{FIGURE}/{name}.pdf" for name in RESULT_FIGURES],
        png=report(
            [f"{FIGURE}/{name}.png" for name in RESULT_FIGURES],
            caption="../report/results.rst",
            category="Figures",
        ),
        caption=[f"{FIGURE}/{name}.md" for name in RESULT_FIGURES],
    log:
        f"{LOGS}/draw_results/{{dataset}}/{{encoder}}.log",
    benchmark:
        f"{LOGS}/draw_results/{{dataset}}/{{encoder}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        planned=planned_at,
        out=lambda wildcards, output: str(Path(output[0]).parent),
        code=code("sinet.paper.figures"),
    shell:
        "python -m sinet plot-results --plan {params.plan:q} --dataset {wildcards.dataset} --encoder {wildcards.encoder}"
        " --comparisons {input.comparisons:q} --out {params.out:q} --log {log:q}"
