from tune.rules import ordinal


def test_ordinals() -> None:
    expected = {
        1: "1st",
        2: "2nd",
        3: "3rd",
        4: "4th",
        11: "11th",
        12: "12th",
        13: "13th",
        21: "21st",
        102: "102nd",
        111: "111th",
    }
    assert {number: ordinal(number) for number in expected} == expected
