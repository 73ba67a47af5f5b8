from past_runs import past_run

from maxlite.report.runs import figures
from maxlite.report.spread import spread, spread_table


def test_runs_of_one_name_are_one(tmp_path):
    for name, bits in (("l2-0", 2.0), ("l2-1", 2.4), ("random-0", 3.0), ("alone", 1.0)):
        past_run(tmp_path / name, bits=bits)
    runs = figures([str(path) for path in sorted(tmp_path.iterdir())])
    alone, l2, random = spread(runs)
    assert [row["name"] for row in (alone, l2, random)] == ["alone", "l2", "random"]
    assert (l2["runs"], l2["set"], l2["first_step"], l2["last_step"]) == (2, "korean", 10, 20)
    assert abs(l2["last"] - 2.2) < 1e-9 and abs(l2["last_spread"] - 0.2) < 1e-9
    assert abs(l2["first"] - 3.2) < 1e-9 and random["last_spread"] == 0
    lines = spread_table(runs).splitlines()
    assert lines[0] == "bits per byte of korean" and "2.2000 ± 0.2000 at step 20" in lines[2]
