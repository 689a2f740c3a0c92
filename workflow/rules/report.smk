# Everything that a grid made -> one page; not part of `all`: snakemake ... report_page, make report.


rule report_page:
    input:
        tables=expand(f"{RESULTS}/tables/{{table}}.{{ending}}", table=DECLARED["tables"], ending=["csv", "json", "tex"]),
        figures=expand(f"{RESULTS}/figures/{{figure}}.{{ending}}", figure=FIGURES, ending=["pdf", "png", "md"]),
        records=[f"{RESULTS}/runs/{path}/record.json" for path in RUNS],
        predictions=[f"{RESULTS}/runs/{path}/predictions.jsonl" for path in RUNS],
        data=[
            f"{RESULTS}/data/{dataset}/{file}"
            for dataset in DATASETS
            for file in ("card.md", "labels.json", "test.jsonl")
        ],
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
        planned=planned(*DECLARED),
        code=code("sinet.paper.report"),
        page=provenance.digest_of(
            [
                provenance.file_sha256(path)
                for path in sorted(Path(workflow.basedir, "sinet", "paper", "page").iterdir())
            ]
        ),
    shell:
        "python -m sinet report --plan {params.plan:q} --out {output.page:q} --log {log:q}"
