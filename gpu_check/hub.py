"""Models of the Hugging Face Hub: found in the local hub cache, else downloaded file by file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from gpu_check.cache import Progress, no_progress
from gpu_check.model_directory import one_line, quiet_transformers
from tappa_theory.errors import InputError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
WANTED = (".json", ".safetensors", ".model", ".txt", ".jinja", ".tiktoken")
TIMEOUT = 10.0
REMEDY = "give a local Hugging Face directory or a GGUF file instead"


def hub_directory(
    model_id: str, *, progress: Progress = no_progress
) -> tuple[Path, dict[str, Any]]:
    """Folder of a Hub model's snapshot, and {"revision": commit}.

    A complete snapshot in the hub cache is used as it is, without a network; refresh it with
    `hf download`. Only configuration, tokenizer and safetensors files of the repository's top
    folder are fetched. Raises InputError if the Hub cannot be reached within 10 seconds, does not
    have the model, asks for a licence to be accepted, or has pickle weights only.
    """
    folder = cached_snapshot(model_id)
    if folder is None:
        with quiet_transformers():
            folder = download(model_id, progress)
    return folder, {"revision": folder.name}


def cached_snapshot(model_id: str) -> Path | None:
    """The snapshot of "main" in the hub cache, if all the weights are there."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(model_id, local_files_only=True))
    # Not in the cache, under whichever exception class the installed hub client raises.
    except Exception:
        return None
    if not (folder / "config.json").is_file():
        return None
    index = folder / "model.safetensors.index.json"
    try:
        names = (
            set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            if index.is_file()
            else {"model.safetensors"}
        )
    except (OSError, ValueError, KeyError):
        return None
    return folder if all((folder / name).is_file() for name in names) else None


def download(model_id: str, progress: Progress) -> Path:
    """Fetch one revision's files into the hub cache; the folder of the snapshot."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    progress(f"Looking for {model_id} on the Hugging Face Hub", None, None)
    try:
        info = HfApi().model_info(model_id, files_metadata=True, timeout=TIMEOUT)
    except GatedRepoError as error:
        raise InputError(
            f"{model_id}: access is restricted; accept its terms on the Hub and run `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{model_id}: no local path and no (public) model on the Hugging Face Hub; "
            f"check the name, or {REMEDY}"
        ) from error
    except Exception as error:
        raise InputError(
            f"{model_id}: no local path, and the Hugging Face Hub cannot be reached "
            f"({one_line(error)}); {REMEDY}"
        ) from error

    top = {
        file.rfilename: file.size or 0 for file in info.siblings or [] if "/" not in file.rfilename
    }
    if not any(name.endswith(".safetensors") for name in top):
        raise InputError(f"{model_id}: has no safetensors weights (pickle is never read); {REMEDY}")
    wanted = {name: size for name, size in top.items() if name.endswith(WANTED)}
    if "model.safetensors" in wanted or "model.safetensors.index.json" in wanted:
        # Other files are variants of the same weights: half precision, the maker's own layout.
        wanted = {
            name: size
            for name, size in wanted.items()
            if not name.endswith(".safetensors") or re.match(r"model(-\d.*)?\.safetensors$", name)
        }
    total, done = sum(wanted.values()), 0
    folder = None
    for name, size in sorted(wanted.items()):
        progress(f"Downloading {model_id} ({name})", done, total)
        try:
            folder = Path(hf_hub_download(model_id, name, revision=info.sha)).parent
        except Exception as error:
            raise InputError(
                f"{model_id}: the download of {name} failed ({one_line(error)}); "
                f"try again (what has arrived is kept), or {REMEDY}"
            ) from error
        done += size
    progress(f"Downloading {model_id}", total, total)
    assert folder is not None
    return folder
