"""Fetch a release from npm packages, with the user's own npm, its registry and settings.

npm checks what it fetches, and we check it again, since what it has in its cache is not ours. That proves the
download, not who built the binary: the packages are repackagings by others than Node.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

from nodekiln.core.errors import SourceError
from nodekiln.core.process import Captured, capture
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter, escape_unprintable
from nodekiln.grafting.download import Download, UnreachableError
from nodekiln.grafting.platforms import Platform

_TABLE = Path(__file__).with_name("npm.toml")
_INTEGRITY = re.compile(r"\bsha512-([A-Za-z0-9+/]{86}==)", re.ASCII)
_RELEASE = re.compile(r"(0|[1-9]\d{0,3})(\.(0|[1-9]\d{0,3})){2}", re.ASCII)
_OPTIONS = ("--workspaces=false", "--dry-run=false", "--ignore-scripts", "--json=false", "--color=false")
"""They override settings in the user's .npmrc with which npm would print or write something else."""
_TIMEOUT = 60 * 60
"""Seconds for 50 MB, as npm itself gives up on a stalled connection."""


def fetch(
    tag: Tag, platform: Platform, *, folder: Path, env: Mapping[str, str], reporter: Reporter
) -> Download:
    """Fetch the release's package into the empty `folder`.

    Raises UnreachableError if npm has none, SourceError where the package is not what the registry says:
    it is removed.
    """
    npm = shutil.which("npm", path=env.get("PATH", ""))
    if npm is None:
        raise UnreachableError("npm not found.")
    registry = _run(npm, "config", "get", "registry", folder=folder, env=env).stdout.decode(errors="replace")
    reporter.say(f"npm registry: {_without_secrets(registry.strip()) or 'unknown'}")
    failures = []
    for package in tomllib.loads(_TABLE.read_text())[str(platform)]:
        wanted = f"{package}@{tag.major}.{tag.minor}.{tag.patch}"
        answer = _run(npm, "view", wanted, "dist.integrity", folder=folder, env=env)
        integrity = _INTEGRITY.search(answer.stdout.decode(errors="replace"))
        if answer.returncode == 0 and integrity is not None:
            return _pack(
                npm, wanted, base64.b64decode(integrity[1]), folder=folder, env=env, reporter=reporter
            )
        failures.append(f"npm has no {wanted}" + _error(answer.text))
    raise UnreachableError(f"{'; '.join(failures)}.")


def versions(platform: Platform, *, folder: Path, env: Mapping[str, str]) -> tuple[Tag, ...]:
    """Return the releases that npm has for a platform; () if npm does not answer. npm runs in `folder`."""
    npm = shutil.which("npm", path=env.get("PATH", ""))
    if npm is None:
        return ()
    package = tomllib.loads(_TABLE.read_text())[str(platform)][0]
    answer = _run(npm, "view", package, "versions", "--json", folder=folder, env=env)
    try:
        listed = json.loads(answer.stdout)
    except ValueError:
        return ()
    words = listed if isinstance(listed, list) else [listed]
    return tuple(Tag.parse(word) for word in words if isinstance(word, str) and _RELEASE.fullmatch(word))


def _run(npm: str, *words: str, folder: Path, env: Mapping[str, str]) -> Captured:
    """Run npm with `folder` as its project: otherwise it obeys the .npmrc of any folder above.

    Not by --prefix, which also moves the global npmrc, where certificates and the registry may be set.
    """
    (folder / "package.json").write_text("{}")
    argv = [npm, *_OPTIONS, *words]
    return capture(argv, env=env, cwd=folder, timeout=_TIMEOUT)


def _pack(
    npm: str, wanted: str, digest: bytes, *, folder: Path, env: Mapping[str, str], reporter: Reporter
) -> Download:
    with reporter.progress(f"npm pack {wanted}"):
        answer = _run(npm, "pack", "--silent", wanted, folder=folder, env=env)
    packed = list(folder.glob("*.tgz"))
    if answer.returncode != 0 or len(packed) != 1:
        raise UnreachableError(f"npm pack {wanted} failed" + _error(answer.text) + ".")
    with packed[0].open("rb") as file:
        found = hashlib.file_digest(file, "sha512").digest()
    if found != digest:
        packed[0].unlink()
        raise SourceError(
            f"{wanted} is damaged: its SHA-512 differs from the registry's. It was removed.",
            remedy="Run npm cache verify, then the same command again.",
        )
    return Download(
        packed[0], f"npm {wanted}", ("sha512 integrity of the registry, a repackaging by others",)
    )


def _without_secrets(url: str) -> str:
    """Return a registry's URL without user and password."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return escape_unprintable(f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}")


def _error(text: str) -> str:
    """npm's first line that says something, in parentheses."""
    lines = (line.partition("npm ERR!")[2] or line.partition("npm error")[2] for line in text.splitlines())
    said = next((line.strip() for line in lines if line.strip() and not line.strip().startswith("code ")), "")
    return f" ({said})" if said else ""
