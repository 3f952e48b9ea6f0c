from export.latency.charts import Shipped, pareto_front


def test_the_front_is_what_no_other_beats_in_both() -> None:
    known = {
        "slow": (9.0, 0.9),
        "quick": (1.0, 0.7),
        "beaten": (5.0, 0.7),
        "twin": (3.0, 0.8),
        "best": (3.0, 0.85),
    }
    points = [Shipped(name, "float32", *values) for name, values in known.items()]
    assert [point.name for point in pareto_front(points)] == ["quick", "best", "slow"]
