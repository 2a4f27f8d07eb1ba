"""Feed one reader with hostile bytes, guided by coverage: see README.md beside this file."""

import sys
import tempfile
import traceback
from hashlib import sha1
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent))
with atheris.instrument_imports(include=["condetr", "ruamel"]):
    from condetr.errors import InputError
    from tests.property.hostile_targets import TARGETS, seeds

FOUND = Path("found")


def main() -> None:
    """Run the target that is named first; the other arguments are libFuzzer's, its corpus folder the last."""
    name, corpus = sys.argv[1], Path(sys.argv[-1])
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(name)):
        (corpus / f"seed-{number}").write_bytes(seed)

    def read(hostile: bytes) -> None:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            try:
                TARGETS[name](hostile, Path(folder))
            except InputError:
                pass
            except Exception as error:  # any other exception is what we look for
                note(name, hostile, error)

    atheris.Setup([sys.argv[0], *sys.argv[2:]], read)
    atheris.Fuzz()


def note(name: str, hostile: bytes, error: Exception) -> None:
    """Keep one example of each place at which readers fail, and go on."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = next((frame for frame in reversed(frames) if "/condetr/" in frame.filename), frames[-1])
    key = sha1(f"{type(error)} {ours.filename} {ours.lineno}".encode()).hexdigest()[:8]
    path = FOUND / f"{name}-{type(error).__name__}-{key}"
    if not path.exists():
        FOUND.mkdir(exist_ok=True)
        path.write_bytes(hostile)
        path.with_suffix(".txt").write_text("".join(traceback.format_exception(error)))
        sys.stderr.write(f"FOUND {path}\n")


if __name__ == "__main__":
    main()
