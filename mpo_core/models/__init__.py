"""The user's models: finds their folders, checks them before anything is computed, loads them once, frees memory."""

from mpo_core.models.cache import forget_models, forgetting, shared_model
from mpo_core.models.context import context_length, refuse_longer
from mpo_core.models.find import local_folder, model_digest, resolve
from mpo_core.models.folder import check_folder
from mpo_core.models.layers import described, require_layers
from mpo_core.models.load import LOADING, load_model, load_tokenizer, pick_device
