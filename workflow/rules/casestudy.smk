# Cross-task attention of the studied model -> chosen sentences, the paper's claim in numbers -> figures and tables.


localrules:
    choose_cases,
    draw_attention,
    share_attention,
    score_groups,
    draw_claim,


rule attend:
    input:
        weights=f"{RUN}/model.safetensors",
        model=f"{RUN}/model.json",
        test=f"{DATA}/test.jsonl",
    output:
        attention=f"{RUN}/attention.json",
    log:
        f"{LOGS}/attend/{{dataset}}/{{encoder}}/{{model}}/{{seed}}.log",
    benchmark:
        f"{LOGS}/attend/{{dataset}}/{{encoder}}/{{model}}/{{seed}}.benchmark.tsv"
    priority: FINISHED
    conda:
        ENVIRONMENT
    threads: CORES_EACH
    resources:
        **site.resources(SITE, cpus=8, mem_mb=8000, runtime=30, gpu=True),
    params:
        run=subpath(input.weights, parent=True),
        code=system_code("sinet.run.attend"),
    shell:
        "python -m sinet attend --run {params.run:q} --test {input.test:q} --out {output.attention:q} --log {log:q}"


CASE_DATA = f"{RESULTS}/data/{CASE.dataset}"


rule choose_cases:
    input:
        gold=f"{CASE_DATA}/test.jsonl",
        labels=f"{CASE_DATA}/labels.json",
        attention=f"{RESULTS}/runs/{CASE.path}/attention.json",
        predictions=[f"{RESULTS}/runs/{run.path}/predictions.jsonl" for run in CASE_SYSTEMS.values()],
    output:
        cases=f"{RESULTS}/case_study/cases.json",
    log:
        f"{LOGS}/choose_cases.log",
    benchmark:
        f"{LOGS}/choose_cases.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        planned=planned("case_study"),
        sentences=CASE_SENTENCES,
        caption=f"{studied_at(CASE_SYSTEMS)}, test split",
        code=code("sinet.score.cases"),
    shell:
        "python -m sinet case-study --plan {params.plan:q} --sentences {params.sentences:q} --caption {params.caption:q}"
        " --out {output.cases:q} --log {log:q}"


rule find_triples:
    input:
        data=[
            f"{RESULTS}/data/{dataset}/{name}"
            for dataset in TRIPLE_PLACES
            for name in ("train.jsonl", "dev.jsonl", "test.jsonl", "labels.json")
        ],
        weights=[f"{RESULTS}/runs/{run.path}/model.safetensors" for run in TRIPLE_RUNS],
    output:
        cases=f"{RESULTS}/case_study/triples.json",
    log:
        f"{LOGS}/find_triples.log",
    benchmark:
        f"{LOGS}/find_triples.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: CORES_EACH
    resources:
        **site.resources(SITE, cpus=8, mem_mb=8000, runtime=30, gpu=True),
    params:
        triples=json.dumps(TRIPLES),
        places=json.dumps(
            [
                {
                    "title": dataset_title(dataset, config["datasets"][dataset]),
                    "what": studied_at(compared),
                    "data": f"{RESULTS}/data/{dataset}",
                    "runs": {model: f"{RESULTS}/runs/{run.path}" for model, run in compared.items()},
                }
                for dataset, compared in TRIPLE_PLACES.items()
            ]
        ),
        model=CASE.model,
        code=code("sinet.run.triples", *(systems.module_name(run.details["system"]) for run in TRIPLE_RUNS)),
    shell:
        "python -m sinet find-triples --triples {params.triples:q} --places {params.places:q}"
        " --model {params.model:q} --out {output.cases:q} --log {log:q}"


rule draw_attention:
    input:
        cases=[f"{RESULTS}/case_study/{name}.json" for name in ["cases"] + ["triples"] * bool(TRIPLES)],
    output:
        pdf=expand(f"{RESULTS}/figures/{{figure}}.pdf", figure=CASE_FIGURES),
        png=report(
            expand(f"{RESULTS}/figures/{{figure}}.png", figure=CASE_FIGURES),
            caption="../report/attention.rst",
            category="Case study",
        ),
        caption=expand(f"{RESULTS}/figures/{{figure}}.md", figure=CASE_FIGURES),
    log:
        f"{LOGS}/draw_attention.log",
    benchmark:
        f"{LOGS}/draw_attention.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        planned=planned("models"),
        out=lambda wildcards, output: str(Path(output[0]).parent),
        code=code("sinet.paper.attention"),
    shell:
        "python -m sinet plot-attention --cases {input.cases:q} --plan {params.plan:q}"
        " --out {params.out:q} --log {log:q}"


rule share_attention:
    input:
        gold=f"{CASE_DATA}/test.jsonl",
        attention=[f"{RESULTS}/runs/{run.path}/attention.json" for run in CASE_SEEDS],
    output:
        shares=f"{RESULTS}/case_study/shares.json",
    log:
        f"{LOGS}/share_attention.log",
    benchmark:
        f"{LOGS}/share_attention.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        planned=planned("case_study"),
        code=code("sinet.score.shares"),
    shell:
        "python -m sinet attention-shares --plan {params.plan:q} --out {output.shares:q} --log {log:q}"


rule score_groups:
    input:
        gold=f"{CASE_DATA}/test.jsonl",
        predictions=[f"{RESULTS}/runs/{run.path}/predictions.jsonl" for run in BESIDE_CASE],
    output:
        groups=f"{RESULTS}/case_study/groups.json",
    log:
        f"{LOGS}/score_groups.log",
    benchmark:
        f"{LOGS}/score_groups.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        planned=planned("case_study"),
        code=code("sinet.score.groups"),
    shell:
        "python -m sinet group-scores --plan {params.plan:q} --out {output.groups:q} --log {log:q}"


rule draw_claim:
    input:
        shares=f"{RESULTS}/case_study/shares.json",
        groups=f"{RESULTS}/case_study/groups.json",
        records=[f"{RESULTS}/runs/{run.path}/record.json" for run in BESIDE_CASE],
    output:
        shares=report(
            multiext(f"{RESULTS}/tables/attention_shares", ".csv", ".md", ".tex", ".json"),
            caption="../report/attention_shares.rst",
            category="Case study",
        ),
        groups=report(
            multiext(f"{RESULTS}/tables/triple_groups", ".csv", ".md", ".tex", ".json"),
            caption="../report/triple_groups.rst",
            category="Case study",
        ),
        pdf=f"{RESULTS}/figures/attention_shares.pdf",
        png=report(
            f"{RESULTS}/figures/attention_shares.png",
            caption="../report/attention_shares.rst",
            category="Case study",
        ),
        caption=f"{RESULTS}/figures/attention_shares.md",
    log:
        f"{LOGS}/draw_claim.log",
    benchmark:
        f"{LOGS}/draw_claim.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        planned=planned("datasets", "encoders", "models", "remark", "case_study"),
        tables=lambda wildcards, output: str(Path(output.shares[0]).parent),
        figures=subpath(output.pdf, parent=True),
        code=code("sinet.paper.claim"),
    shell:
        "python -m sinet plot-claim --plan {params.plan:q} --shares {input.shares:q} --groups {input.groups:q}"
        " --tables {params.tables:q} --figures {params.figures:q} --log {log:q}"
