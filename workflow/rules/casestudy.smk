# Cross-task attention of the studied model -> chosen sentences, attention mass and in-triple NER -> figures and tables.


localrules:
    draw_attention,
    measure_attention_mass,
    score_in_triple_ner,
    draw_attention_mass,


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
    threads: GRID.cores_each
    resources:
        **GRID.resources(cpus=8, mem_mb=8000, runtime=30, gpu=True),
    params:
        run=subpath(input.weights, parent=True),
        code=GRID.system_code("attend"),
    shell:
        "python -m sinet step attend --run {params.run:q} --input {input.test:q} --out {output.attention:q} 2> {log:q}"


CASE = PLAN.case_study
CASE_STUDIED = PLAN.at(CASE.dataset, CASE.encoder, CASE.model)
CASE_BESIDE = PLAN.at(CASE.dataset, CASE.encoder)
ATTENDED = PLAN.attended_studies()
ATTENDED_RUNS = [run for study in ATTENDED for run in study.systems.values()]
CASE_DATA = f"{RESULTS}/data/{CASE.dataset}"


rule find_cases:
    input:
        data=GRID.of_datasets(
            *("train.jsonl", "dev.jsonl", "test.jsonl", "labels.json"),
            datasets=[study.dataset for study in ATTENDED],
        ),
        weights=GRID.of_runs("model.safetensors", runs=ATTENDED_RUNS),
    output:
        cases=f"{RESULTS}/case_study/cases.json",
    log:
        f"{LOGS}/find_cases.log",
    benchmark:
        f"{LOGS}/find_cases.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: GRID.cores_each
    resources:
        **GRID.resources(cpus=8, mem_mb=8000, runtime=30, gpu=True),
    params:
        plan=PLAN_FILE,
        planned=GRID.cases(),
        code=GRID.code_of_runs("find_cases", runs=ATTENDED_RUNS),
    shell:
        "python -m sinet step case-study --plan {params.plan:q} --out {output.cases:q} 2> {log:q}"


rule draw_attention:
    input:
        cases=f"{RESULTS}/case_study/cases.json",
    output:
        pdf=expand(f"{RESULTS}/figures/{{figure}}.pdf", figure=PLAN.case_figures),
        png=report(
            expand(f"{RESULTS}/figures/{{figure}}.png", figure=PLAN.case_figures),
            caption="../report/attention.rst",
            category="Case study",
        ),
        caption=expand(f"{RESULTS}/figures/{{figure}}.md", figure=PLAN.case_figures),
    log:
        f"{LOGS}/draw_attention.log",
    benchmark:
        f"{LOGS}/draw_attention.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        planned=GRID.planned("models"),
        out=lambda wildcards, output: str(Path(output[0]).parent),
        code=GRID.code("draw_attention"),
    shell:
        "python -m sinet step plot-attention --cases {input.cases:q} --plan {params.plan:q}"
        " --out {params.out:q} 2> {log:q}"


rule measure_attention_mass:
    input:
        gold=f"{CASE_DATA}/test.jsonl",
        attention=GRID.of_runs("attention.json", runs=CASE_STUDIED),
    output:
        mass=f"{RESULTS}/case_study/attention_mass.json",
    log:
        f"{LOGS}/measure_attention_mass.log",
    benchmark:
        f"{LOGS}/measure_attention_mass.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        planned=GRID.planned("datasets", "case_study"),
        code=GRID.code("measure_attention_mass"),
    shell:
        "python -m sinet step attention-mass --plan {params.plan:q} --out {output.mass:q} 2> {log:q}"


rule score_in_triple_ner:
    input:
        gold=f"{CASE_DATA}/test.jsonl",
        predictions=GRID.of_runs("predictions.jsonl", runs=CASE_BESIDE),
    output:
        in_triple=f"{RESULTS}/case_study/in_triple_ner.json",
    log:
        f"{LOGS}/score_in_triple_ner.log",
    benchmark:
        f"{LOGS}/score_in_triple_ner.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        planned=GRID.planned("datasets", "case_study"),
        code=GRID.code("score_in_triple_ner"),
    shell:
        "python -m sinet step in-triple-ner --plan {params.plan:q} --out {output.in_triple:q} 2> {log:q}"


rule draw_attention_mass:
    input:
        mass=f"{RESULTS}/case_study/attention_mass.json",
        in_triple=f"{RESULTS}/case_study/in_triple_ner.json",
        records=GRID.of_runs("record.json", runs=CASE_BESIDE),
    output:
        mass=report(
            multiext(f"{RESULTS}/tables/attention_mass", ".csv", ".md", ".tex", ".json"),
            caption="../report/attention_mass.rst",
            category="Case study",
        ),
        in_triple=report(
            multiext(f"{RESULTS}/tables/in_triple_ner", ".csv", ".md", ".tex", ".json"),
            caption="../report/in_triple_ner.rst",
            category="Case study",
        ),
        pdf=f"{RESULTS}/figures/attention_mass.pdf",
        png=report(
            f"{RESULTS}/figures/attention_mass.png",
            caption="../report/attention_mass.rst",
            category="Case study",
        ),
        caption=f"{RESULTS}/figures/attention_mass.md",
    log:
        f"{LOGS}/draw_attention_mass.log",
    benchmark:
        f"{LOGS}/draw_attention_mass.benchmark.tsv"
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        planned=GRID.planned("datasets", "encoders", "models", "remark", "case_study"),
        tables=lambda wildcards, output: str(Path(output.mass[0]).parent),
        figures=subpath(output.pdf, parent=True),
        code=GRID.code("draw_attention_mass"),
    shell:
        "python -m sinet step plot-attention-mass --plan {params.plan:q} --tables {params.tables:q} --figures {params.figures:q}"
        " 2> {log:q}"
