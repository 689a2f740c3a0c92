"""What a result depends on: the code that a step reaches, and no more."""

import shutil

import pytest

from sinet import provenance, systems
from sinet.provenance import ROOT, digest, reached
from sinet.workflow import STEPS

TOY = {
    "sinet/a.py": '''
        """A step."""
        from sinet import b
        from sinet.b import helper as used

        LIMIT = 3

        def step():
            """Documented."""
            return used() + b.other() + LIMIT  # a comment

        def unused():
            return 1
    ''',
    "sinet/b.py": """
        from sinet.c import far

        COLOUR = "red"

        def helper():
            try:
                pass
            except ValueError:
                if far:
                    pass
                else:
                    try:
                        pass
                    finally:
                        match far:
                            case 2:
                                "A reason."
                                from sinet.c import Late
            return Late().value

        def other():
            return far()

        def drawing():
            return COLOUR
    """,
    "sinet/c.py": """
        def far():
            return 2

        class Late:
            value = 4

        if True:
            print("on import")
    """,
}


def forget() -> None:
    for cached in (provenance._source, provenance._module, provenance._names, provenance._code, provenance.digest):
        cached.cache_clear()


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Writes a package with one change and gives the digest of its step."""
    monkeypatch.setattr(provenance, "ROOT", tmp_path)

    def write(old: str = "", new: str = "") -> str:
        forget()
        for name, text in TOY.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            lines = [line.removeprefix("        ") for line in text.splitlines()]
            path.write_text("\n".join(lines).replace(old, new) if old else "\n".join(lines))
        return digest("sinet.a.step")

    yield write
    forget()


@pytest.mark.parametrize(
    "old, new, changes",
    [
        ("return 2", "return 3", True),
        ("value = 4", "value = 5", True),
        ("LIMIT = 3", "LIMIT = 4", True),
        ('print("on import")', 'print("otherwise")', True),
        ("return Late().value", "return Late().value + 1", True),
        ("# a comment", "# another", False),
        ('"""Documented."""', '"""Otherwise."""', False),
        ('"A reason."', '"Another."', False),
        ("return far()", "return (\n        far()\n    )", False),
        ('COLOUR = "red"', 'COLOUR = "blue"', False),
        ("return 1", "return 0", False),
    ],
)
def test_a_digest_follows_what_the_step_reaches(old, new, changes, toy):
    before = toy()
    assert (toy(old, new) != before) == changes


@pytest.mark.parametrize(
    "definition, rules",
    [
        ("sinet.report.attention.draw_cases", {"draw_attention"}),
        ("sinet.evaluate.stats.holm", {"compare", "score_in_triple_ner"}),
        ("sinet.train.steps.Training", {"train"}),
        ("sinet.train.checkpoints.StateFolder", {"train"}),
        ("sinet.efficiency.timing.time_runs", {"time_inference"}),
        ("sinet.efficiency.flops.count_runs", {"count_flops"}),
        ("sinet.data.formats.read", {"prepare", "external"}),
        ("sinet.encoders.pretrained.load_encoder", {"train", "fetch_encoder", "count_flops", "time_inference"}),
        ("sinet.archive.unarchive", {"unarchive", "unarchive_attention", "unarchive_efficiency"}),
    ],
)
def test_edit_this_and_these_rules_are_repeated(definition, rules):
    module, _, name = definition.rpartition(".")
    found = {rule for rule, steps in STEPS.items() if (module, name) in reached(*steps)}
    assert found == rules


def test_what_all_systems_share_reaches_training_and_what_draws_does_not():
    every = reached(*STEPS["train"], *map(systems.entry, systems.sources()))
    assert {("sinet.contract", "Extractor"), ("sinet.evaluate.metrics", "score"), ("baselines.pfn", "System")} <= {
        *every
    }
    assert not [module for module, _ in every if module.startswith(("sinet.report", "sinet.cli", "sinet.infer.draw"))]
    alone = reached(*STEPS["train"], systems.entry("spert"))
    of_baselines = {(module, name) for module, name in alone if module.startswith("baselines.")}
    assert of_baselines == {("baselines.spert", "System"), ("baselines.settings", "SpERT")}
    assert ("sinet.model.settings", "SINET") not in alone
    with pytest.raises(ValueError, match="no function or class of ours"):
        reached("sinet.train.trainer.trian_run")


@pytest.mark.parametrize(
    "file, old, new, trained_again",
    [
        ("sinet/model/settings.py", "Threshold = 0.5", "Threshold = 0.6", ["sinet"]),
        ("sinet/model/settings.py", "reverses: bool = True", "reverses: bool = False", ["sinet", "scinet", "spert"]),
        ("sinet/model/settings.py", '= {"": ("",)}', "= {}", [*systems.sources()]),
        ("baselines/settings.py", "Threshold = 0.4", "Threshold = 0.5", ["spert"]),
        ("baselines/settings.py", "dropconnect: Dropout = 0.1", "dropconnect: Dropout = 0.2", ["pfn"]),
    ],
)
def test_a_changed_default_trains_its_systems_again(file, old, new, trained_again, tmp_path, monkeypatch):
    for path in (path for package in provenance.OURS for path in (ROOT / package).rglob("*.py")):
        (copied := tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copied)
    digests = [{name: digest(*STEPS["train"], systems.entry(name)) for name in systems.sources()}]
    text = (ROOT / file).read_text(encoding="utf-8")
    assert text.count(old) == 1
    (tmp_path / file).write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    forget()
    try:
        digests.append({name: digest(*STEPS["train"], systems.entry(name)) for name in systems.sources()})
    finally:
        forget()
    assert [name for name in digests[0] if digests[0][name] != digests[1][name]] == trained_again
