"""The measurement of how long planning takes; how long it may take is the bench's."""

from sinet.run.planning import plan_grid, report


def test_every_run_of_a_generated_grid_is_planned():
    planned = plan_grid(20)
    # by run: train, predict, evaluate
    assert planned["runs"] >= 20 and planned["jobs"] > 3 * planned["runs"]
    assert planned["seconds"] > 0 and planned["cpu_seconds"] > 0
    assert report(planned).startswith(f"Plan of {planned['runs']:,} runs ({planned['jobs']:,} jobs)")
