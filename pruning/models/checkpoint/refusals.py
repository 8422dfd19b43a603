"""What the hub's client raises, in plain words: the cause, and what helps."""

from __future__ import annotations

import errno

from pruning.models.checkpoint import reach
from pruning.models.checkpoint.transfer import BrokenOffError
from pruning.models.values import ModelError


class AbsentError(ModelError):
    """A repository is there and has no such file."""


def explained(model_id: str, what: str, error: Exception) -> ModelError:
    """What went wrong on the hub, and what helps: no such repository, gated, no connection, no space, anything else."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, errors.HfHubHTTPError):
        error = error.__cause__  # the hub did answer
    answered = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(error, errors.GatedRepoError):
        return ModelError(
            f"{model_id} is gated: accept its terms on {reach.endpoint()}/{model_id}, then run `hf auth login` or set "
            "HF_TOKEN"
        )
    if isinstance(error, errors.DisabledRepoError):
        return ModelError(f"{model_id} was disabled on the hub: choose another model")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelError(
            f"the hub has no model {model_id}, or it is private: check the spelling; for a private one run "
            "`hf auth login` or set HF_TOKEN"
        )
    if answered in (401, 403):
        return ModelError(
            f"the hub does not take the token that is stored here, for {model_id}: run `hf auth login` with one that "
            "may read it, or correct HF_TOKEN"
        )
    if isinstance(error, BrokenOffError):
        return ModelError(
            f"{model_id}: the download broke off ({error}). What has come is kept: choose the model again to go on"
        )
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled | ConnectionError):
        return ModelError(
            f"{model_id} is not in the hub's cache here, or not all of it, and the hub cannot be reached "
            f"({reach.endpoint()}): connect to the network (and unset HF_HUB_OFFLINE), or download the checkpoint "
            "elsewhere and name its folder"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return AbsentError(
            f"{model_id} is on the hub but has no {what}: it is no checkpoint of the model library. Choose one that is."
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return ModelError(
            f"the disk is full while {model_id} is downloaded: free space, or set HF_HOME to a folder on a larger disk"
        )
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ModelError(f"{model_id}: {what} cannot be fetched from the hub ({reason}). Check the network, try again.")
