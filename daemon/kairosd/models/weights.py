"""The file of a local model: where it lies, where it comes from, how it is known to be the right one."""

from __future__ import annotations

from pathlib import Path

from kairosd.config import ModelSection
from kairosd.config.choice import LOCAL_BYTES, LOCAL_FILE, LOCAL_SHA256, LOCAL_URLS
from kairosd.errors import ConfigError
from kairosd.frozen import frozen


@frozen
class Weights:
    """`size` in bytes, None where it is not known beforehand."""

    path: Path
    sources: tuple[str, ...]
    sha256: str
    size: int | None

    @property
    def present(self) -> bool:
        """Whether a whole file lies there: it gets its name only after its hash was checked."""
        return self.path.is_file() and (self.size is None or self.path.stat().st_size == self.size)


def weights_of(name: str, section: ModelSection, *, data_folder: Path) -> Weights:
    """The file of `[models.NAME]`; keys left empty mean the default model. Raises `ConfigError`."""
    file = section.file or LOCAL_FILE
    path = Path(file).expanduser()
    path = path if path.is_absolute() else data_folder / "models" / path
    sha256 = (section.sha256 or (LOCAL_SHA256 if path.name == LOCAL_FILE else "")).lower()
    default = sha256 == LOCAL_SHA256
    sources = section.url or (LOCAL_URLS if default else ())
    if sources and len(sha256) != 64:
        raise ConfigError(f"[models.{name}]: a file that is fetched needs its hash", fix="set sha256 to 64 hex digits")
    return Weights(path, tuple(sources), sha256, LOCAL_BYTES if default else None)
