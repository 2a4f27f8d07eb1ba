"""Published models by their id on the Hugging Face hub."""

import os
import re
from pathlib import Path

from condetr.errors import InputError, first_line
from condetr.inference.model_folder import CONFIG, WEIGHTS
from condetr.interop.transformers_folder import PREPROCESSOR

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_id(weights: str) -> bool:
    """Whether this may be an id such as `facebook/detr-resnet-50`: not if a folder of the owner's name is here."""
    return HUB_ID.fullmatch(weights) is not None and not Path(weights).parent.exists()


def fetch(hub_id: str) -> Path:
    """Return the local folder of a model on the hub; its three files are downloaded once.

    The environment variables of huggingface_hub count: HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE. Raises
    InputError if there is no such model, or if it is not in the cache and the hub cannot be reached.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    endpoint = os.environ.get("HF_ENDPOINT", constants.ENDPOINT)  # the client looks but once
    try:
        folder = snapshot_download(hub_id, endpoint=endpoint, allow_patterns=[CONFIG, PREPROCESSOR, WEIGHTS])
    except RepositoryNotFoundError:
        raise InputError(
            f"{hub_id} is neither a file or folder here nor a model on the hub {endpoint} that may be read; look at "
            "the spelling, or set HF_TOKEN if the model is private"
        ) from None
    except Exception as error:  # several libraries stand behind the client, each with exceptions of its own
        raise InputError(
            f"{hub_id} is not a file or folder here and could not be downloaded from the hub {endpoint} "
            f"({first_line(error).rstrip('.')}); download it where there is a connection (hf download {hub_id} "
            "--local-dir DIR) and give the folder"
        ) from error
    if not (Path(folder) / WEIGHTS).is_file():
        raise InputError(f"{hub_id} has no {WEIGHTS} on the hub; only weights in this format are read")
    return Path(folder)
