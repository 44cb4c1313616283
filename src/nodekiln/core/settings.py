"""This checkout's defaults, from the environment and from invoke.yaml, read once at the edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodekiln.core.errors import UsageError
from nodekiln.core.process import child_environment
from nodekiln.core.recipe import check_arguments, parse_argument_lines
from nodekiln.core.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What holds for every task of one run."""

    workspace: Workspace
    repository: str | None
    """From NODEKILN_REPOSITORY, else from invoke.yaml, else None: the official one."""
    configure_args: tuple[str, ...]
    """From invoke.yaml, then from the file that NODEKILN_CONFIGURE_FILE names."""
    patches: Path
    """The folder of the patch series."""
    environment: Mapping[str, str]
    """For the programs that we start."""
    here: Path
    """The folder that relative paths of the user's are meant from."""

    @classmethod
    def read(
        cls, *, environ: Mapping[str, str], config: object, root: Path, here: Path, venv: Path | None
    ) -> Settings:
        """`config` is the section `nodekiln` of invoke.yaml. Raises UsageError for what can't be taken."""
        section = _section(config)
        args = check_arguments(section.get("configure_args", []), "invoke.yaml, configure_args")
        if named := environ.get("NODEKILN_CONFIGURE_FILE"):
            args += read_configure_file(here / named, "NODEKILN_CONFIGURE_FILE")
        repository = environ.get("NODEKILN_REPOSITORY") or section.get("repository")
        if repository is not None and not isinstance(repository, str):
            raise UsageError(f"invoke.yaml: repository is {repository!r}, and should be a text.")
        build = environ.get("NODEKILN_BUILD")
        return cls(
            workspace=Workspace(here / build if build else root / "build"),
            repository=repository,
            configure_args=args,
            patches=root / "patches",
            environment=child_environment(environ, venv=venv),
            here=here,
        )


def read_configure_file(path: Path, origin: str) -> tuple[str, ...]:
    """The configure arguments in a file, one a line; raises UsageError where it can't be read."""
    try:
        return parse_argument_lines(path.read_text(), f"{origin} ({path})")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"{origin}: {path} can't be read: {why}.") from None


def _section(config: object) -> Mapping[str, Any]:
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise UsageError("invoke.yaml: `nodekiln` should hold names with values.")
    unknown = set(config) - {"repository", "configure_args"}
    if unknown:
        raise UsageError(
            f"invoke.yaml: nodekiln knows no {', '.join(sorted(map(str, unknown)))}.",
            remedy="It takes `repository` and `configure_args`.",
        )
    return config
