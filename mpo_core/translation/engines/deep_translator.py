"""The engine `deep_translator`: online translation services, such as Google or DeepL."""

from collections.abc import Callable
from typing import Literal

from mpo_core.contract.translation import Backend, Engine, RemoteSource

Service = Literal["google", "deepl", "microsoft", "mymemory", "libre", "baidu", "papago", "qcri", "yandex"]


class DeepTranslatorSource(RemoteSource):
    """An online translation service, such as Google or DeepL, through the library deep-translator."""

    engine: Literal["deep_translator"]
    """Name of the engine: `deep_translator`."""
    service: Service = "google"
    """Name of the service. Its key is read from an environment variable, such as DEEPL_API_KEY. Default: `google`."""

    def open(self, machine: Callable[[Backend], Engine]) -> Engine:
        """Returns the engine, without a connection to the service yet."""
        from mpo_core.translation.deep import deep_translator_backend

        return machine(deep_translator_backend(self))

    def require_key(self) -> None:
        """Checks that the service's keys are in the environment."""
        from mpo_core.translation.deep import require_keys

        require_keys(self.service)

    def identity(self) -> str:
        """Returns the service's name and version."""
        return f"{self.service}@{self.version}" if self.version else self.service
