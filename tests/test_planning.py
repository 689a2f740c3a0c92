"""How long planning takes."""

from sinet.run.planning import plan_grid, report


def test_a_thousand_runs_are_planned_in_twenty_seconds_of_work():
    planned = plan_grid(1000)
    # by run: train, predict, score, collect
    assert planned["runs"] >= 1000 and planned["jobs"] > 4 * planned["runs"]
    # on the CPU, as other work on the machine takes the clock's time and not this
    assert planned["cpu_seconds"] < 20
    assert report(planned).startswith(f"Plan of {planned['runs']:,} runs ({planned['jobs']:,} jobs)")
