"""Model folders that hold next to nothing: the registry looks at bytes and not at weights."""

import tempfile
from pathlib import Path


def tiny_model(store, name):
    """The reference of a folder of one file, stored."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(name)
        return store.write_folder("training", Path(folder))
