# Everything that a grid made -> one page; not part of `all`: snakemake ... report_page, make report.


rule report_page:
    input:
        tables=expand(f"{RESULTS}/tables/{{table}}.{{ending}}", table=PLAN.tables, ending=["csv", "json", "tex"]),
        figures=expand(f"{RESULTS}/figures/{{figure}}.{{ending}}", figure=PLAN.figures, ending=["pdf", "png", "md"]),
        runs=GRID.of_runs("record.json", "predictions.jsonl"),
        data=GRID.of_datasets("card.md", "labels.json", "test.jsonl"),
        # made by hand: `sinet thresholds`
        thresholds=[path for path in GRID.of_runs("thresholds.json") if Path(path).exists()],
    output:
        page=f"{RESULTS}/report.html",
    log:
        f"{LOGS}/report_page.log",
    benchmark:
        f"{LOGS}/report_page.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        planned=GRID.planned(*PLAN.declared),
        code=GRID.code("report_page"),
        page=digest_of([file_sha256(path) for path in sorted((BASE / "sinet" / "report" / "page").iterdir())]),
    shell:
        "python -m sinet report --plan {params.plan:q} --out {output.page:q} 2> {log:q}"
