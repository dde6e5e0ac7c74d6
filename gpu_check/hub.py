"""Models of the Hugging Face Hub: found in the local hub cache, else downloaded file by file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gpu_check.cache import Progress, no_progress
from gpu_check.model_directory import (
    PICKLE,
    SAFETENSORS,
    one_line,
    quiet_transformers,
    read_config,
    require_tokenizer,
    weight_files,
)
from tappa_theory.errors import InputError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
WANTED = (".json", ".model", ".txt", ".jinja", ".tiktoken")
MAIN_FILES = {
    # Other files are variants of the same weights: half precision, the maker's own layout.
    SAFETENSORS: re.compile(r"model(-\d.*)?\.safetensors"),
    PICKLE: re.compile(r"pytorch_model(-\d.*)?\.bin"),
}
TIMEOUT = 10.0
REMEDY = "give a local Hugging Face directory or a GGUF file instead"


def hub_directory(
    model_id: str,
    *,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    progress: Progress = no_progress,
) -> tuple[Path, dict[str, Any]]:
    """Folder of a Hub model's snapshot, and {"revision": commit}.

    A complete snapshot in the hub cache is used as it is, without a network; refresh it with
    `hf download`. Only configuration, tokenizer and safetensors files of the repository's top
    folder are fetched; with `trust_remote_code` also *.py, with `allow_pickle` pytorch_model*.bin
    where there is no safetensors file. Raises InputError if the Hub cannot be reached within 10
    seconds, does not have the model, asks for a licence to be accepted, or has no weights that may
    be read.
    """
    folder = cached_snapshot(model_id, trust_remote_code, allow_pickle)
    if folder is None:
        with quiet_transformers():
            folder = download(model_id, trust_remote_code, allow_pickle, progress)
    return folder, {"revision": folder.name}


def cached_snapshot(model_id: str, trust_remote_code: bool, allow_pickle: bool) -> Path | None:
    """The snapshot of "main" in the hub cache, if all that may be read is there."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(model_id, local_files_only=True))
    # Not in the cache, under whichever exception class the installed hub client raises.
    except Exception:
        return None
    try:
        config = read_config(folder, model_id)
        weight_files(folder, model_id, allow_pickle=allow_pickle)
        require_tokenizer(folder, model_id)
    except InputError:
        return None
    if trust_remote_code and not code_is_there(folder, config):
        return None
    return folder


def code_is_there(folder: Path, config: dict[str, Any]) -> bool:
    """Are the files in a folder that its configuration names as code of its own?"""
    entries = config.get("auto_map")
    named = entries.values() if isinstance(entries, dict) else ()
    # "repository--module.Class" is code of another repository.
    modules = {str(name).partition(".")[0] for name in named if "--" not in str(name)}
    return all((folder / f"{module}.py").is_file() for module in modules)


def download(
    model_id: str, trust_remote_code: bool, allow_pickle: bool, progress: Progress
) -> Path:
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
            f"{model_id}: no local path, not (completely) in the hub cache, and the Hugging Face "
            f"Hub cannot be reached ({one_line(error)}); run `hf download {model_id}` where there "
            "is a network, copy the cache folder it fills here and set HF_HOME to it; or "
            f"{REMEDY}"
        ) from error

    wanted = wanted_files(
        model_id,
        {file.rfilename: file.size or 0 for file in info.siblings or []},
        trust_remote_code,
        allow_pickle,
    )
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


def wanted_files(
    model_id: str, files: dict[str, int], trust_remote_code: bool, allow_pickle: bool
) -> dict[str, int]:
    """Of a repository's {file: bytes} those to fetch; InputError if no weights may be read."""
    top = {name: size for name, size in files.items() if "/" not in name}
    weights = [name for name in top if name.endswith(".safetensors")]
    pickles = [name for name in top if MAIN_FILES[PICKLE].fullmatch(name)]
    if not weights and pickles and allow_pickle:
        weights = pickles
    if not weights:
        ggufs = sorted(name for name in files if name.endswith(".gguf"))
        if pickles:
            remedy = f"pass --allow-pickle to read tensors from {min(pickles)}, or {REMEDY}"
        elif ggufs:
            remedy = (
                f"fetch one of its GGUF files, `hf download {model_id} {ggufs[0]}`, and give it"
            )
        else:
            remedy = REMEDY
        raise InputError(f"{model_id}: has no safetensors weights; {remedy}")
    for name, pattern in MAIN_FILES.items():
        if name in weights or f"{name}.index.json" in top:
            weights = [each for each in weights if pattern.fullmatch(each)] or weights
    suffixes = (*WANTED, ".py") if trust_remote_code else WANTED
    return {name: size for name, size in top.items() if name.endswith(suffixes) or name in weights}
