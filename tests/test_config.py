"""Every mistake in a configuration is refused before any job, naming the key and what would be right."""

import subprocess
import sys

import pytest
import yaml

from sinet import published, systems
from sinet.cli import main
from sinet.errors import UserError
from sinet.grid.config import lay_over, load_config
from sinet.grid.plan import resolve
from sinet.provenance import ROOT
from sinet.schema import Config, Record, Search, Site


def changed(text: str) -> dict:
    config = load_config()
    lay_over(config, yaml.safe_load(text))
    return config


MISTAKES = {
    "gird: []": r"gird: unknown key, did you mean 'grid'\?",
    "grid: []": r"grid: the list is empty",
    "efficiency: {timed_sentences: 0}": r"efficiency.timed_sentences: 0 should be at least 1",
    "efficiency: {architectures: [minilm]}": r"architectures: 'minilm' is not an architecture without weights",
    "efficiency: {timed_architectures: {minilm: 3}}": r"timed_architectures: 'minilm' is not an architecture without",
    "grid: [{datasets: [scierc], encoders: [minilm], models: [sinet], seeds: [], recipe: equal}]": r"seeds: the list",
    "grid: [{datasets: [scierc], encoders: [minilm], models: [sinet], seeds: [0, 0], recipe: equal}]": r"0 is listed",
    "grid: [{datasets: [scierc], encoders: [minilm], models: [sinet], seeds: [-1], recipe: short}]": r"-1 should be at",
    "grid: [{datasets: [scirec], encoders: [minilm], models: [sinet], seeds: [0], recipe: short}]": r"mean 'scierc'\?",
    "grid: [{datasets: [scierc], encoders: [minlm], models: [sinet], seeds: [0], recipe: short}]": r"mean 'minilm'\?",
    "grid: [{datasets: [scierc], encoders: [minilm], models: [sinett], seeds: [0], recipe: short}]": r"mean 'sinet'\?",
    "grid: [{datasets: [scierc], encoders: [minilm], models: [sinet], seeds: [0], recipe: shrt}]": r"mean 'short'\?",
    "grid: [{datasets: [scierc], encoders: [minilm], models: [sinet], seeds: [0]}]": r"key 'recipe' is missing",
    "recipes: {short: {sinet: {encoder_lr: 1e-5}}}": r"'1e-5' is text, .*finite number or null; .* write 1.0e-5",
    "recipes: {short: {spert: {encoder_lr: null}}}": r"spert trains its encoder; give a rate, not nu",
    "recipes: {short: {spert: {beta2: 1.0}}}": r"beta2: 1\.0 should be at most 0\.9999",
    "recipes: {short: {spert: {layer_decay: 0.0}}}": r"layer_decay: 0\.0 should be above 0",
    "recipes: {short: {table_sequence: {encoder_lr: null, layer_decay: 0.9}}}": r"layer_decay: .* no rate that could f",
    "recipes: {short: {spert: {warmup_steps: 5}}}": r"warmup_steps: belongs to inverse_time, not to linear",
    "recipes: {own: {pfn: {decay_rate: 0.9}}}": r"decay_rate: belongs to inverse_time and exponential, not to constant",
    "recipes: {own: {table_sequence: {decay_steps: 9}}}": r"decay_steps: belongs to exponential, not to inverse_time",
    "recipes: {own: {dygie: {decay_rate: 0.0}}}": r"own\.dygie\.decay_rate: 0\.0 should be above 0 and below 1",
    "recipes: {own: {sciie: {decay_rate: 1}}}": r"own\.sciie\.decay_rate: 1\.0 should be above 0 and below 1",
    "recipes: {own: {dygie: {decay_steps: 0}}}": r"own\.dygie\.decay_steps: 0 should be .* steps .* at least 1",
    "recipes: {own: {sciie: {decay_steps: -5}}}": r"decay_steps: -5 should be at least 0",
    "recipes: {own: {dygie: {epochs: null, steps: 100}}}": r"decay_steps: 100 should be less than the 100 steps in all",
    "recipes: {own: {unire: {datasets: {scierc-documents: {epochs: 300}}}}}": (
        r"recipes.own.unire.datasets: 'scierc-documents' has the values of scierc; write scierc$"
    ),
    "recipes: {own: {unire: {select_after: 200}}}": r"select_after: 200 should be less than 200 epochs",
    "recipes: {own: {spert: {patience: 3}}}": r"last selects nothing on dev; select_after should be 0 and",
    "recipes: {own: {table_sequence: {warmup_steps: 20000}}}": r"should be less than the 20000 steps",
    "recipes: {own: {dygiepp: {order: bucketed}}}": r"order: bucketed is by length, not for documents",
    "recipes: {own: {pure: {stages: {entity: {selection: dev_rel}}}}}": r"dev_rel does not measure the entity model",
    "recipes: {own: {pure: {stages: {relation: {selection: last, train_on: train+dev}}}}}": r"stages: train_on sh",
    "recipes: {own: {pure: {datasets: {scierc: {stages: {entiti: {epochs: 3}}}}}}}": r"'entiti' is not a stage",
    "grid: [{datasets: [scierc], encoders: [minilm], models: [dygiepp], recipe: own}]": r"documents \(batch_size: doc",
    "grid: [{datasets: [scierc], encoders: [minilm], models: [plmarker], recipe: own}]": r"documents \(entity_window:",
    "grid: [{datasets: [conll04], encoders: [minilm], models: [dygiepp-coref], recipe: own}]": (
        r"conll04/minilm/dygiepp-coref: it needs documents \(batch_size: document\), and the files of conll04 do not"
    ),
    "grid: [{datasets: [scierc-documents], encoders: [minilm], models: [dygiepp-coref], recipe: short}]": (
        r"dygiepp-coref reads whole documents; recipe short should say batch_size: document"
    ),
    "grid: [{datasets: [scierc], encoders: [minilm], models: [scinet], recipe: short}]": (
        r"scierc/minilm/scinet: scinet cannot read scierc: heads .*; here are the entity types Generic, Material"
    ),
    "{grid: [{datasets: [14lap], encoders: [minilm], models: [scinet], recipe: short}], "
    "datasets: {14lap: {symmetric: [NEU]}}}": r"scinet cannot read 14lap: .*; here relations are without a direction",
    "{grid: [{datasets: [14lap], encoders: [minilm], models: [scinet], recipe: short}], "
    "datasets: {14lap: {entity_types: [Opinion, Aspect]}}}": (
        r"scinet cannot read 14lap: heads .*; here sentence 'train_triplets-0' relates 'Aspect' to 'Opinion'"
    ),
    "recipes: {short: {sinet: {epochs: -3}}}": r"recipes.short.sinet.epochs: -3 should be at least 1",
    "recipes: {short: {sinet: {epochs: 2.5}}}": r"epochs: 2.5 is a number, should be a whole number",
    "recipes: {short: {sinet: {clip: 0}}}": r"clip: 0 should be above 0",
    "recipes: {short: {sinet: {selection: best}}}": r"selection: 'best' is unknown, known: dev_ent",
    "recipes: {short: {sinet: {settings: {max_span_with: 8}}}}": r"unknown key, did you mean 'max_span_width'\?",
    "recipes: {short: {sinet: {settings: {dropout: -0.1}}}}": r"settings.dropout: -0.1 should be at least 0",
    "recipes: {short: {spurt: {}}}": r"unknown system 'spurt', did you mean 'spert'",
    "models: {sinet: {system: sine}}": r"models.sinet.system: unknown system 'sine', did you mean 'sinet'\?",
    "models: {sinet: {settings: {interaction: 1}}}": r"settings.interaction: 1 is unknown, known: base, ",
    "models: {sinet: {settings: {interaction: ctam_all}}}": r"'ctam_all' is unknown, (known: base|did you mean)",
    "models: {multi-turn-qa: {datasets: {scierk: {settings: {}}}}}": r"qa.datasets: 'scierk' is not declared, did",
    "models: {multi-turn-qa: {datasets: {ade-0: {settings: {}}}}}": r"qa.datasets: 'ade-0' has the values of ade; w",
    "models: {multi-turn-qa: {datasets: {scierc: {settings: {name: {}}}}}}": (
        r"models.multi-turn-qa.datasets.scierc.settings.name: unknown key, did you mean 'names'\?"
    ),
    "models: {multi-turn-qa: {settings: {entity_question: 5}}}": (
        r"settings.entity_question: 5 should be a template, or a mapping from each type to one"
    ),
    "{grid: [{datasets: [ade-0], encoders: [minilm], models: [multi-turn-qa], recipe: short}], "
    "models: {multi-turn-qa: {datasets: {ade: {settings: {entity_question: {Drug: which drugs}}}}}}}": (
        r"grid\[0\]: ade-0/minilm/multi-turn-qa: settings: entity_question: there is no question for 'Adverse-Effect'; "
        r"write one, or one template for all types"
    ),
    "{grid: [{datasets: [scierc-documents], encoders: [minilm], models: [multi-turn-qa], recipe: short}], "
    "models: {multi-turn-qa: {datasets: {scierc: {settings: {relation_question: {Part-of: part of what}}}}}}}": (
        r"qa: settings: relation_question.Part-of should hold \{tail\} once, and may hold \{relation\}, \{article"
    ),
    "models: {sinet: {settings: {heads: 0}}}": r"models.sinet.settings.heads: 0 should be at least 1",
    "models: {sinet: {settings: {dropout: 1.5}}}": r"dropout: 1.5 should be at most 0.99",
    "recipes: {short: {sinet: {epochs: 3.0}}}": r"epochs: 3.0 is a number, should be a whole number",
    "recipes: {short: {sinet: {clip: .inf}}}": r"clip: inf is not a finite number",
    "encoders: {scibert-sizes: {architecture: {model_type: brt}}}": r"'brt' is unknown, did you mean 'bert'",
    "encoders: {scibert-sizes: {architecture: {hiden_size: 3}}}": r"hiden_size: unknown key, did you mean 'hidden",
    "datasets: {scierc: {counts: {test: {entities: {Taks: 1}}}}}": r"'Taks' is not a declared type, did you mean 'Task",
    "datasets: {scierc: {titel: 3}}": r"datasets.scierc.titel: unknown key, did you mean 'title'\?",
    "datasets: {scierc: {1: 2}}": r"datasets.scierc: the key 1 should be text of one line; write it in quotes",
    "datasets: {scierc: {symmetric: [Compair]}}": r"'Compair' is not a relation type, did you mean 'Compare'\?",
    "datasets: {scierc: {dev: next_fold}}": r"datasets.scierc.dev: is for a dataset in folds",
    "datasets: {scierc: {format: spret}}": r"format: 'spret' is unknown, did you mean 'spert'\?",
    "datasets: {scierc: {counts: {train: {setences: 1}}}}": r"setences: unknown key, did you mean 'sentences'\?",
    "encoders: {mine: {title: Mine}}": r"encoders.mine: needs one of package",
    "encoders: {scibert-sizes: {tokenizer: nowhere}}": r"encoders.scibert-sizes.tokenizer: 'nowhere' is not a declared",
    "case_study: {model: sinnet}": r"case_study.model: 'sinnet' is not declared, did you mean 'sinet'\?",
    "reference: sinnet": r"reference: 'sinnet' is not declared, did you mean 'sinet'\?",
    "published: confg.yaml": r"published: confg.yaml: No such file or directory, did you mean 'config.yaml'\?",
    "case_study: {sentences: 3}": r"case_study.sentences: 3 is a number, should be a list",
    "case_study: {triples: [[his, buddies]]}": r"triples\[0\]: \['his', 'buddies'\] should be a head's words, a ",
    "case_study: {triples: [[a, Usedfor, b]]}": r"'Usedfor' is not a relation type of any dataset, did you",
    "case_study: {triples: [[no, Used-for, b]]}": r"triples\[0\]\[0\]: False is true/false, should be text",
}


@pytest.mark.parametrize("text", MISTAKES, ids=list(MISTAKES.values()))
def test_mistakes_are_named(text):
    with pytest.raises(UserError, match=MISTAKES[text]):
        resolve(changed(text))


def test_dev_of_a_dataset_in_folds_can_be_the_next_fold(tmp_path):
    def folds(declared: str) -> dict:
        overlay = tmp_path / "c.yaml"
        overlay.write_text(f"datasets: {{ade: {declared}}}")
        return load_config(overlay)

    def paths(files: list[dict] | dict) -> list[str]:
        return [file["path"][-6] for file in (files if isinstance(files, list) else [files])]

    config = folds("{dev: next_fold}")
    resolve(config)
    for i in range(10):
        files = config["datasets"][f"ade-{i}"]["files"]
        test, dev, train = (paths(files[split]) for split in ("test", "dev", "train"))
        assert (test, dev) == ([str(i)], [str((i + 1) % 10)]) and len(train) == 8
        assert sorted([*test, *dev, *train]) == list("0123456789")
    last = folds("{dev: last}")["datasets"]["ade-0"]
    assert "dev" not in last["files"] and len(last["files"]["train"]) == 9
    with pytest.raises(UserError, match=r"datasets.ade-0.dev: 'next' is unknown, did you mean 'next_fold'\?"):
        resolve(folds("{dev: next}"))
    with pytest.raises(UserError, match=r"datasets.ade-0.files.train: should be a file .* or a list of at least one"):
        resolve(folds("{dev: next_fold, folds: [{path: a}]}"))


def test_one_missing_key_is_one_line():
    config = load_config()
    del config["recipe_defaults"]["epochs"], config["recipe_defaults"]["clip"]
    with pytest.raises(UserError) as caught:
        resolve(config)
    assert len(str(caught.value).splitlines()) == 2 and "recipe_defaults: key 'epochs' is missing" in str(caught.value)


def test_a_run_has_one_recipe():
    config = load_config()
    config["grid"].append(dict(config["grid"][0], recipe="equal"))
    with pytest.raises(UserError, match=r"grid\[1\]: scierc/minilm/sinet/0 is in grid\[0\] already"):
        resolve(config)


@pytest.mark.parametrize(
    "overlay, message",
    [
        (
            "models: {sinet-base: {setting: Base without width}}",
            "setting: 'Base without width' is in no published table",
        ),
        ("models: {sinet: {setting: Base}}", "setting: 'Base' is already that of sinet; only one model may have it"),
        ("models: {sinet: {published: SINETT}}", "'SINETT' is in no published table, did you mean 'SINET'?"),
        (
            "datasets: {scierc: {published: null, title: SciERC}}",
            "'SciERC' is already the title of the published column scierc",
        ),
        (
            "models: {spert: {title: SINET}}",
            "models.spert.title: 'SINET' is already the title of sinet; tables would mix them up",
        ),
        ("datasets: [scierc]", "datasets: ['scierc'] is a list, should be a mapping"),
        ("datasets: {d: {folds: []}}", "datasets.d.folds: the list is empty; name at least two"),
        ("datasets: {scierc: {files: {dev: {path: x}, test: {path: x}}}}", "x is listed twice; a sentence belongs"),
        ("grid:\n- {seeds: [1]}\ngrid:\n- {seeds: [2]}", ":3: 'grid' is given twice; only the last would count"),
        ("remark: caf\xe9", "not Unicode; save it as UTF-8"),
    ],
)
def test_what_would_be_lost_or_mixed_up_is_refused(overlay, message, tmp_path, capsys):
    (tmp_path / "c.yaml").write_bytes(overlay.encode("latin-1"))
    assert main(["plan", "--config", str(tmp_path / "c.yaml")]) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


def test_titles_of_a_grid_tell_its_datasets_and_encoders_apart():
    config = load_config()
    config["grid"][0]["datasets"] = ["scierc", "conll04"]
    config["datasets"]["scierc"]["published"] = None
    config["datasets"]["scierc"]["title"] = config["datasets"]["conll04"]["title"]
    with pytest.raises(
        UserError, match=r"datasets\.scierc\.title: .* is already the title of conll04; tables would mix them up"
    ):
        resolve(config)
    config = load_config()
    config["grid"][0]["encoders"] = ["minilm", "all-mpnet-base-v2"]
    config["encoders"]["minilm"]["title"] = config["encoders"]["all-mpnet-base-v2"]["title"]
    with pytest.raises(UserError, match=r"encoders\.minilm\.title: .* is already the title of all-mpnet-base-v2"):
        resolve(config)


def test_seeds_are_what_a_generator_takes():
    config = load_config()
    config["grid"][0]["seeds"] = [2**32]
    with pytest.raises(UserError, match=r"grid\[0\].seeds\[0\]: 4294967296 should be at most 4294967295"):
        resolve(config)


def test_models_of_a_block_have_encoders_and_seeds_of_their_own():
    config = changed(
        "grid: [{datasets: [scierc], encoders: [minilm], recipe: short, models: "
        "{sinet: null, spert: {seeds: [4, 5]}, pfn: {encoders: [all-mpnet-base-v2]}}}]\nseeds: [1, 2, 3]"
    )
    assert [run.removeprefix("scierc/") for run in resolve(config).runs] == [
        *(f"minilm/sinet/{seed}" for seed in (1, 2, 3)),
        *(f"minilm/spert/{seed}" for seed in (4, 5)),
        *(f"all-mpnet-base-v2/pfn/{seed}" for seed in (1, 2, 3)),
    ]
    config["grid"] = [{"datasets": ["scierc"], "recipe": "short", "models": {"sinet": {"encoders": ["minlm"]}}}]
    with pytest.raises(UserError, match=r"grid\[0\].encoders: 'minlm' is not declared, did you mean 'minilm'\?"):
        resolve(config)
    config["grid"][0]["models"] = ["sinet"]
    with pytest.raises(UserError, match=r"grid\[0\]: sinet has no encoder; give the block or the model `encoders`"):
        resolve(config)


def test_what_a_recipe_says_of_a_dataset_comes_last():
    block = "{datasets: [scierc-documents], encoders: [minilm], models: [sinet, pure], recipe: own}"
    sinet, pure = resolve(
        changed(f"grid: [{block}]\nrecipes: {{own: {{pure: {{datasets: {{scierc: {{epochs: 7}}}}}}}}}}")
    ).specs()
    assert sinet.recipe.batch_size == 4, "of SciERC, of which the documents are another form"
    assert [t.epochs for _, t in pure.recipe.trainings] == [7, 7]


def test_a_model_stands_once_in_a_published_column():
    block = "datasets: [{}], encoders: [minilm], models: [{}], recipe: short"
    grid = "grid: [{{" + block + "}}, {{" + block + "}}]"
    assert resolve(changed(grid.format("scierc", "sinet", "scierc-documents", "dygiepp"))).runs
    with pytest.raises(UserError, match="sinet with minilm already has a row under scierc, on scierc; run it on one"):
        resolve(changed(grid.format("scierc", "sinet", "scierc-documents", "sinet")))


def test_weights_that_cannot_be_had_are_skipped_and_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    grid = (
        "grid: [{datasets: [scierc], encoders: [minilm, bert-base-cased], models: [sinet], recipe: short}]\nmirrors: "
    )
    plan = resolve(changed(grid + f"['{tmp_path}']"))
    assert list(plan.runs) == ["scierc/minilm/sinet/0"]
    [(run, reason)] = plan.skipped.items()
    assert run == "scierc/bert-base-cased/sinet/0" and "encoders/bert-base-cased/ is in none of the mirrors" in reason
    assert resolve(changed(grid + f"['{tmp_path}']"), offline=False).skipped == {}, "the hub may still be asked"
    (tmp_path / "encoders" / "bert-base-cased").mkdir(parents=True)
    assert not resolve(changed(grid + f"['{tmp_path}']")).skipped


@pytest.fixture
def word_vectors(monkeypatch):
    """As where `sinet vectors` has been called."""
    monkeypatch.setattr("sinet.data.vectors.absent_vectors", lambda mirrors: None)


@pytest.mark.parametrize("overlay", sorted((ROOT / "config").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_configuration_resolves(overlay, word_vectors):
    plan = resolve(load_config(overlay), offline=False)
    assert plan.runs
    for run, reason in plan.skipped.items():
        assert "none of the mirrors" in reason and run.split("/")[0] in (
            *(f"ace04-{fold}" for fold in range(5)),
            "ace05",
        )


def test_adding_a_system_to_a_grid_is_one_word(word_vectors):
    for overlay in (
        "config.yaml",
        "config/quick.yaml",
        "config/open.yaml",
        "config/speed.yaml",
    ):
        config = load_config(ROOT / overlay)
        # what reads a document, or triplets of two roles, is refused on the sentences of these grids
        known = {
            name
            for name, made in config["models"].items()
            if not (of := systems.settings(made["system"])(**made.get("settings", {}))).whole_documents
            and not any(getattr(of, window) for window in of.windows)
            and not of.two_roles
        }
        config["grid"] = [config["grid"][0] | {"models": sorted(known)}]
        assert {run.split("/")[2] for run in resolve(config).runs} == known, overlay


def test_paper_grid_uses_licensed_data_where_it_is(tmp_path, monkeypatch, word_vectors):
    (tmp_path / "ace05" / "English" / "nw").mkdir(parents=True)
    (tmp_path / "ace05" / "English" / "nw" / "DOC.apf.xml").write_text("<source_file/>")
    monkeypatch.setenv("SINET_MIRRORS", str(tmp_path))
    plan = resolve(load_config(ROOT / "config" / "paper.yaml"), offline=False)
    assert "ace05" in plan.datasets
    assert {run.split("/")[0] for run in plan.skipped} == {f"ace04-{fold}" for fold in range(5)}


def test_settings_are_read_without_importing_torch():
    code = "import sys; from sinet.grid.plan import resolve; from sinet.grid.config import load_config; "
    code += "resolve(load_config()); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"


def test_every_baseline_has_settings_and_declares_them_as_its_own():
    modules = {path.stem for path in (ROOT / "baselines").glob("[!_]*.py")} - {"settings"}
    assert {*systems.sources()} == modules | {"sinet"}
    assert all(systems.load(name).Settings is systems.settings(name) for name in systems.sources())


@pytest.mark.parametrize(
    "rows, said",
    [
        (
            "main: [{system: A, cite: B, encoder: C, scirec: {ent: 1.0}}]",
            r"main\[0\]: 'scirec' is not declared, did you",
        ),
        ("main: [{system: A, cite: B, encoder: C}]", r"main\[0\].figures: the list is empty; name at least one"),
        ("main: [{system: A, encoder: C, scierc: {ent: 1.0}}]", r"main\[0\]: key 'cite' is missing"),
        ("main: [{system: A, cite: B, encoder: C, scierc: {f1: 1.0}}]", r"main\[0\].figures.scierc.f1: unknown key"),
        ("[]", r"rows.yaml: top level: .* is a list, should be a mapping"),
    ],
)
def test_published_rows_of_ones_own_are_checked(tmp_path, rows, said):
    (tmp_path / "rows.yaml").write_text(rows)
    with pytest.raises(UserError, match=rf"published: .*{said}"):
        resolve(load_config() | {"published": str(tmp_path / "rows.yaml")})


def test_settings_have_to_go_together_in_a_run():
    """A recipe and a model may each name some of them."""
    block = "grid: [{datasets: [scierc], encoders: [minilm], models: [table-sequence], recipe: short}]\n"
    recipe = "recipes: {short: {table_sequence: {settings: {hidden_size: 90}}}}\n"
    with pytest.raises(UserError, match=r"grid.0.: scierc/minilm/table-sequence: settings: hidden_size 90 should be"):
        resolve(changed(block + recipe))
    assert resolve(changed(block + recipe + "models: {table-sequence: {settings: {heads: 9}}}")).runs


@pytest.mark.parametrize(
    "model", [Config, Site, Search, Record, *map(systems.settings, systems.sources())], ids=lambda model: model.__name__
)
def test_every_key_is_described_and_no_other_is_taken(model):
    schema = model.model_json_schema()
    for name, of in ((model.__name__, schema), *schema.get("$defs", {}).items()):
        if "properties" in of:
            assert of.get("additionalProperties") is False, f"{name} takes every typo"
            undescribed = [key for key, child in of["properties"].items() if not {"description", "$ref"} & child.keys()]
            assert "description" in of, name
            assert not undescribed, f"{name}: {undescribed}"


def rows_of_the_paper() -> set[tuple[str, str, str]]:
    """System, encoder and dataset of each figure of the paper's tables."""
    tables = published.tables()
    main = {(r["system"], r["encoder"], d) for r in tables["main"] for d in published.DATASETS if d in r}
    steps = {
        (e["setting"], {"scierc": "SciB", "ace05": "Bb"}[d], d) for d, es in tables["ablation"].items() for e in es
    }
    timed = {
        (e["system"], {"scierc": "SciB", "ace05": "ALB"}[d], d) for d, es in tables["efficiency"].items() for e in es
    }
    return main | steps | timed


def test_paper_grid_is_what_the_paper_has_of_the_systems_here():
    config = load_config(ROOT / "config" / "paper.yaml")
    plan = resolve(config, offline=False)
    planned = {}
    for run in map(plan.spec, (*plan.runs, *plan.skipped)):
        model, dataset = config["models"][run.model], config["datasets"][run.dataset]
        for name in filter(None, (model.get("published"), model.get("setting"))):
            row = name, config["encoders"][run.encoder_name]["published"], dataset["published"]
            planned.setdefault(row, set()).add((run.dataset, run.seed))
        assert run.recipe.name == "own"
        assert "published" not in run.encoder, "what a table calls an encoder is no reason to train again"
    here = {n for m in config["models"].values() for n in (m.get("published"), m.get("setting"))}
    of_ablation = {("Base+TAP+CTAM", e, d) for e, d in (("ALB", "ace04"), ("ALB", "ace05"), ("Bb", "ace04"))}
    assert planned.keys() - of_ablation == {row for row in rows_of_the_paper() if row[0] in here}
    for (_, _, dataset), runs in planned.items():
        folds = 5 if dataset == "ace04" else 1
        assert len(runs) == 3 * folds


def test_what_a_recipe_says_of_a_dataset_holds_for_its_other_form():
    plan = resolve(load_config(ROOT / "config" / "yardsticks.yaml"), offline=False)
    recipe = plan.spec("scierc-documents/scibert-uncased/unire/0").recipe
    assert (recipe.epochs, recipe.select_after, recipe.patience) == (300, 100, 50)


@pytest.mark.parametrize(
    ("length", "says"), [({"epochs": 3}, "3 epochs"), ({"epochs": None, "steps": 10**6}, "1,000,000 steps")]
)
def test_a_recipe_goes_beyond_the_epochs_in_which_a_part_is_trained_alone(length, says):
    config = load_config(ROOT / "config" / "quick.yaml")
    config["grid"] = [config["grid"][0] | {"models": ["sptree"]}]
    config["recipes"]["quick"]["sptree"] = {"epochs": 4, "settings": {"entity_epochs": 3}}
    resolve(config)
    config["recipes"]["quick"]["sptree"] |= length
    with pytest.raises(UserError, match=rf"sptree: its settings train a part .* recipe quick should .*, not {says}$"):
        resolve(config)
