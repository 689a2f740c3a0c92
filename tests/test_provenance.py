"""What a result depends on: the code that a step reaches, and no more."""

import pytest

from sinet import provenance, systems
from sinet.provenance import digest, reached
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


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Writes a package with one change and gives the digest of its step."""
    monkeypatch.setattr(provenance, "ROOT", tmp_path)

    def write(old: str = "", new: str = "") -> str:
        for cached in (provenance._module, provenance._names, provenance._code, provenance.digest):
            cached.cache_clear()
        for name, text in TOY.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            lines = [line.removeprefix("        ") for line in text.splitlines()]
            path.write_text("\n".join(lines).replace(old, new) if old else "\n".join(lines))
        return digest("sinet.a.step")

    yield write
    for cached in (provenance._module, provenance._names, provenance._code, provenance.digest):
        cached.cache_clear()


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
        ("sinet.evaluate.stats.holm", {"compare"}),
        ("sinet.train.steps.Training", {"train"}),
        ("sinet.train.checkpoints.StateFolder", {"train"}),
        ("sinet.efficiency.timing.time_runs", {"time_inference"}),
        ("sinet.efficiency.flops.count_runs", {"count_flops"}),
        ("sinet.data.formats.read", {"prepare"}),
        ("sinet.encoders.pretrained.load_encoder", {"train", "fetch_encoder", "count_flops", "time_inference"}),
        ("sinet.archive.unarchive", {"unarchive", "unarchive_attention"}),
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
    assert not [module for module, _ in alone if module.startswith("baselines.") and module != "baselines.spert"]
    with pytest.raises(ValueError, match="no function or class of ours"):
        reached("sinet.train.trainer.trian_run")
