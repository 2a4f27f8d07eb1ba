"""Download published models by their id on the Hugging Face hub."""

import os
import re
from pathlib import Path

from condetr.errors import InputError, first_line
from condetr.inference.model_folder import CONFIG, WEIGHTS
from condetr.interop.transformers_folder import INDEX, PICKLE, PREPROCESSOR, WEIGHT_FILES, has_weights

SAFETENSORS = (WEIGHTS, WEIGHTS + INDEX, "model-*-of-*.safetensors")
PICKLES = (PICKLE, PICKLE + INDEX, "pytorch_model-*-of-*.bin")

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_id(weights: str) -> bool:
    """Tell whether this may be an id such as `facebook/detr-resnet-50`: not if a local folder has the owner's name."""
    return HUB_ID.fullmatch(weights) is not None and not Path(weights).parent.exists()


def fetch(hub_id: str) -> Path:
    """Return the local folder of a model on the hub; its files are downloaded once, pickles only if necessary.

    The environment variables of huggingface_hub apply: HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE. Raises
    InputError if there is no such model, or if it is not in the cache and the hub cannot be reached.
    """
    for weights in (SAFETENSORS, PICKLES):
        folder = _download(hub_id, weights)
        if has_weights(folder):
            return folder
    raise InputError(f"{hub_id} has no weights on the hub (looked for {', '.join(WEIGHT_FILES)}); name another model")


def _download(hub_id: str, weights: tuple[str, ...]) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    endpoint = os.environ.get("HF_ENDPOINT", constants.ENDPOINT)  # the client reads it only once
    try:
        return Path(snapshot_download(hub_id, endpoint=endpoint, allow_patterns=[CONFIG, PREPROCESSOR, *weights]))
    except RepositoryNotFoundError:
        raise InputError(
            f"{hub_id} is neither a file or folder here nor a readable model on the hub {endpoint}; check "
            "the spelling, or set HF_TOKEN if the model is private"
        ) from None
    except Exception as error:  # the client uses several libraries, each with exceptions of its own
        raise InputError(
            f"{hub_id} is not a file or folder here and could not be downloaded from the hub {endpoint} "
            f"({first_line(error).rstrip('.')}); download it on a machine with a connection (hf download {hub_id} "
            "--local-dir DIR) and give the folder"
        ) from error
