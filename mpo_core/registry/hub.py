"""Pushes a version to the Hugging Face hub, with a card that says where it comes from."""

import os

from mpo_core.contract.artifacts import ArtifactStore
from mpo_core.contract.errors import BadInputError
from mpo_core.contract.redact import redact
from mpo_core.registry.events import read
from mpo_core.registry.registry import require_known
from mpo_core.registry.state import Version, replay


def push(store: ArtifactStore, name: str, repo: str, *, private: bool) -> str:
    """Uploads the model folder of a version, then its card; returns the address of the repository.

    The endpoint and the token are the environment's (`HF_ENDPOINT`, `HF_TOKEN`) or the login of `hf auth`. The
    repository, `user/name`, is made if it is not there.

    Raises:
        BadInputError: the version is not known, or the hub refuses the upload.
    """
    from httpx2 import HTTPError  # what huggingface_hub 2 speaks with
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    state = replay(read(store))
    require_known(store, state, name)
    version = state.version(name)
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        with store.open_folder(version.entry.model) as folder:
            url = str(api.create_repo(repo, private=private, exist_ok=True))
            # The card goes last: a repository with a card is whole.
            api.upload_folder(
                repo_id=repo, folder_path=folder, ignore_patterns=["manifest.json"], commit_message=f"mpo {name}"
            )
            own = folder / "README.md"  # the one with the figures of the run's report
            card_text = own.read_bytes() if own.is_file() else card(version).encode()
            api.upload_file(repo_id=repo, path_in_repo="README.md", path_or_fileobj=card_text, commit_message="Card")
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise BadInputError(
            f"the hub answered {status}", where=repo, fix="Log in with a token that may write there: hf auth login."
        ) from None
    except (HTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        raise BadInputError(
            f"nothing was pushed ({type(error).__name__})",
            where=repo,
            fix="Write the repository as user/name; check that the hub answers and that HF_HUB_OFFLINE is not set.",
        ) from None
    return redact(url)


def card(version: Version) -> str:
    """Returns the model card: languages, lineage, figures and the gate's decision."""
    from huggingface_hub import ModelCardData

    entry = version.entry
    data = ModelCardData(library_name="transformers", tags=["mpo", "safety-alignment"], language=entry.targets)
    figures = "\n".join(f"| {name.replace('_', ' ')} | {value:.4g} |" for name, value in sorted(entry.figures.items()))
    gate = "The gate has not checked it." if version.gate is None else f"The gate: {version.gate.reason}."
    return f"""---
{data.to_yaml()}
---

# {entry.run} {version.version}

Trained by multilingual reward-gap optimisation (MPO, arXiv 2505.16869) so that it is as safe in these languages as the
model it was made from is in its dominant one. {gate}

| | |
|---|---|
| registered | {version.when:%Y-%m-%d %H:%M} UTC by {version.who} |
| sha256 of the model folder | `{entry.model.sha256}` |
| sha256 of the model it was made from | `{entry.base}` |
| digest of the settings | `{entry.settings}` |
{figures}
"""
