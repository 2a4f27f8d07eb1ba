"""Images from the web: bounded in size, time and redirects, and refused in one sentence."""

import time
import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import unquote, urlsplit

import condetr
from condetr.errors import InputError

MOST_BYTES = 100 * 2**20
MOST_REDIRECTS = 5
SECONDS_OF_SILENCE, SECONDS_IN_ALL = 20, 120
_CHUNK = 2**18


def file_name_of(url: str) -> str:
    """Return the last part of an address's path, `image` where there is none."""
    return unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2] or "image"


def download(url: str) -> bytes:
    """Return what is at an address; raises InputError if it does not come, takes too long or is too large."""
    deadline = time.monotonic() + SECONDS_IN_ALL
    parts: list[bytes] = []
    try:
        request = urllib.request.Request(url, headers={"User-Agent": f"condetr/{condetr.__version__}"})
        with _opener().open(request, timeout=SECONDS_OF_SILENCE) as answer:
            while part := answer.read(_CHUNK):
                parts.append(part)
                if sum(map(len, parts)) > MOST_BYTES:
                    raise InputError(f"{url} is larger than {MOST_BYTES // 2**20} MiB: download it, and give the file")
                if time.monotonic() > deadline:
                    raise InputError(f"{url} took longer than {SECONDS_IN_ALL} s: download it, and give the file")
    except urllib.error.HTTPError as error:
        raise InputError(
            f"{url} cannot be downloaded: {error.code} {_one_line(error.reason)}; check the address"
        ) from None
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = _one_line(getattr(error, "reason", None) or error) or type(error).__name__
        raise InputError(f"{url} cannot be downloaded: {reason}; check the address and the connection") from None
    return b"".join(parts)


class _FewRedirects(urllib.request.HTTPRedirectHandler):
    max_redirections = MOST_REDIRECTS


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for the web alone: the usual one also opens files, and follows ten redirects."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        *(urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler()),
        *(_FewRedirects(), urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor()),
    ):
        opener.add_handler(handler)
    return opener
