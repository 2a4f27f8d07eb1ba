"""What lies in a folder that is in no known layout, in a few words."""

import json
import os
import re
from collections import Counter
from pathlib import Path

from condetr.data.files import known_kind, read_bytes
from condetr.data.index import Index, folder_of, is_image
from condetr.errors import InputError

_SHOWN = 3
_HEAD = 65536  # bytes that tell what a file holds
_ROOT = re.compile(r"<(?![?!])([\w.-]+)")


def what_is_there(index: Index) -> str:
    """Count the commonest kinds of files, and say what the first of those that may be annotations hold."""
    counts = Counter(os.path.splitext(file)[1].lower() for file in index.files)  # noqa: PTH122 - a string for each file
    kinds = [each for each in counts.most_common() if each[0] in _CONTENTS or is_image(f"1{each[0]}")]
    told = []
    for suffix, count in sorted((kinds or counts.most_common())[:_SHOWN], key=lambda each: each[0] not in _CONTENTS):
        first = _first_where_most_are(index, suffix)
        told.append(f"{count:,} {suffix or 'nameless'}{_content(suffix, index.path(first))}")
    return " beside ".join(told) or "no files"


def _first_where_most_are(index: Index, suffix: str) -> str:
    """Return the first file of a kind in the folder that has most of them, as others may be lists or notes."""
    files = [file for file in index.files if file.lower().endswith(suffix)]
    counts = Counter(map(folder_of, files))
    return next(file for file in files if folder_of(file) == counts.most_common(1)[0][0])


def _content(suffix: str, file: Path) -> str:
    tell = _CONTENTS.get(suffix)
    if tell is None:
        return ""
    try:
        head = read_bytes(file, most=_HEAD)
    except InputError:
        return ""
    kind = known_kind(head)
    return f" ({file.name}: {kind})" if kind else tell(head.decode("utf-8", errors="replace"))


def _of_text(text: str) -> str:
    words = text.strip().partition("\n")[0].split()
    if not words:
        return ""
    number_words = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
    count = number_words.get(len(words), str(len(words)))
    if all(re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", word) for word in words):
        return f" of lines with {count} {'number' if len(words) == 1 else 'numbers'} such as {' '.join(words)[:60]!r}"
    return f" of lines with {count} {'word' if len(words) == 1 else 'words'}"


def _of_json(text: str) -> str:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        keys = (
            re.findall(r'^\s*"([^"]{1,30})"\s*:', text, flags=re.MULTILINE)[:4]
            or re.findall(r'"([^"]{1,30})"\s*:', text)[:4]
        )
        return f" with {', '.join(dict.fromkeys(keys))}" if keys else ""
    if isinstance(content, dict):
        return f" with {', '.join(map(str, list(content)[:4]))}"
    return " with a list" if isinstance(content, list) else ""


def _of_xml(text: str) -> str:
    match = _ROOT.search(text)
    return f" of <{match.group(1)}>" if match else ""


def _of_table(text: str) -> str:
    first = text.strip().partition("\n")[0].strip()
    return f" that begin with {first[:80]!r}" if first else ""


_CONTENTS = {".txt": _of_text, ".json": _of_json, ".xml": _of_xml, ".csv": _of_table}
