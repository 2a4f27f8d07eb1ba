import pytest

from condetr.data.findings import Fault, Note, Reading, findings_of, leniently, places_of, refused, strictly
from condetr.errors import InputError


def _numbers(read: list[int]) -> Reading[int]:
    """Read four numbers, of which two are refused."""
    for number in range(4):
        read.append(number)
        yield refused(Fault.BROKEN_IMAGE, f"odd: {number}") if number % 2 else Note(Fault.EMPTY, f"{number}", count=2)
    return sum(read)


def test_a_strict_reading_ends_at_the_first_refusal() -> None:
    read: list[int] = []

    with pytest.raises(InputError, match=r"^odd: 1$"):
        strictly(_numbers(read))

    assert read == [0, 1]


def test_a_lenient_reading_goes_on_and_keeps_every_note_in_order() -> None:
    result, notes = leniently(_numbers([]))

    assert result == 6
    assert [note.place for note in notes] == ["0", "odd: 1", "2", "odd: 3"]
    assert places_of(notes, Fault.BROKEN_IMAGE) == ("odd: 1", "odd: 3")


def test_findings_sum_up_counts_errors_first() -> None:
    notes = [Note(Fault.EMPTY, str(number), count=2) for number in range(6)] + [refused(Fault.LEAVING, "../a")]

    assert [(each.severity, each.count) for each in findings_of(notes)] == [("error", 1), ("info", 12)]
    assert [len(each.examples) for each in findings_of(notes)] == [1, 5]
    assert len(findings_of(notes, most_examples=None)[1].examples) == 6
