import pytest

from condetr.engine.display import batch_text


@pytest.mark.parametrize(
    ("images", "processes", "accumulated", "text"),
    [
        (16, 1, 1, "16 images a step"),
        (1, 1, 1, "1 image a step"),
        (16, 1, 4, "16 images a step (4 batches x 4 images)"),
        (16, 2, 8, "16 images a step (2 processes x 8 batches x 1 image)"),
    ],
)
def test_a_step_is_described_in_words(images: int, processes: int, accumulated: int, text: str) -> None:
    assert batch_text(images=images, processes=processes, accumulated=accumulated) == text
