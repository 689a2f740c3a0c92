# Predictions -> comparisons; records -> tables and figures.


rule compare:
    input:
        runs=GRID.of_runs("record.json", "predictions.jsonl"),
        data=GRID.of_datasets("test.jsonl", "labels.json"),
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
        planned=GRID.planned("runs", "datasets", "models", "skipped"),
        code=GRID.code("compare"),
    shell:
        "python -m sinet compare --plan {params.plan:q} --out {output.comparisons:q} 2> {log:q}"


# One process for all tables: reading the records and importing pandas take longer than any table does.
rule tabulate:
    input:
        runs=GRID.of_runs("record.json", "analysis.json"),
        comparisons=f"{RESULTS}/comparisons.json",
        measured=GRID.measurements("flops.json") + GRID.measurements("timing.json"),
    output:
        **{
            name: report(
                multiext(f"{RESULTS}/tables/{name}", ".csv", ".md", ".tex", ".json"),
                caption=f"../report/{name}.rst",
                category="Tables",
            )
            for name in PLAN.common_tables
        },
    log:
        f"{LOGS}/tabulate.log",
    benchmark:
        f"{LOGS}/tabulate.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        planned=GRID.planned(
            *("runs", "datasets", "encoders", "models", "reference", "remark", "skipped", "archived", "measured"),
            "published",
        ),
        out=lambda wildcards, output: str(Path(output[0]).parent),
        code=GRID.code("tabulate"),
        published=file_sha256(BASE / "sinet" / "report" / "published.yaml"),
    shell:
        "python -m sinet step tables --plan {params.plan:q} --out {params.out:q} 2> {log:q}"


rule draw_results:
    input:
        records=GRID.at_place("record.json"),
        logs=GRID.at_place("log.csv"),
        analyses=GRID.at_place("analysis.json"),
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
        planned=GRID.planned_at,
        out=lambda wildcards, output: str(Path(output[0]).parent),
        code=GRID.code("draw_results"),
    shell:
        "python -m sinet step plot-results --plan {params.plan:q} --dataset {wildcards.dataset} --encoder {wildcards.encoder}"
        " --out {params.out:q} 2> {log:q}"
