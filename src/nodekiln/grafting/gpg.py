"""Check the signature of a SHASUMS256.txt with the user's gpg and the keys of Node's releasers."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from nodekiln.core.errors import SourceError
from nodekiln.core.files import temporary_directory
from nodekiln.core.process import capture

_TABLE = Path(__file__).with_name("signers.toml")
_STATUS = "[GNUPG:] "
_OPTIONS = ("--no-options", "--batch", "--no-tty", "--no-auto-key-retrieve", "--disable-dirmngr")
_WRONG = {"BADSIG", "EXPSIG"}
"""gpg's status words for a wrong and for an expired signature (gnupg's doc/DETAILS)."""


def signers() -> frozenset[str]:
    """Fingerprints (40 hex digits) of the keys that Node's releases are signed with."""
    return frozenset(tomllib.loads(_TABLE.read_text())["fingerprints"])


class UncheckedError(SourceError):
    """The signature can't be checked, for want of gpg, the signature or the key."""


def has_key(known: Iterable[str], *, env: Mapping[str, str]) -> bool:
    """Return True if the user's gpg has one of the `known` keys."""
    gpg = shutil.which("gpg", path=env.get("PATH", ""))
    if gpg is None:
        return False
    answer = capture([gpg, *_OPTIONS, "--with-colons", "--list-keys"], env=env)
    lines = (line.split(":") for line in answer.stdout.decode(errors="replace").splitlines())
    return not set(known).isdisjoint(words[9] for words in lines if words[0] == "fpr" and len(words) > 9)


def check(text: bytes, signature: bytes, *, known: Iterable[str], env: Mapping[str, str]) -> str:
    """Return who signed, in a few words.

    gpg runs without the user's options, and fetches no keys. Raises UncheckedError without gpg or the key,
    and SourceError for a signature that is wrong, or by a key that is none of `known`.
    """
    gpg = shutil.which("gpg", path=env.get("PATH", ""))
    if gpg is None:
        raise UncheckedError("gpg not found", remedy="Install gnupg.")
    with temporary_directory() as folder:
        signed = folder / "SHASUMS256.txt"
        signed.write_bytes(text)
        detached = folder / "SHASUMS256.txt.sig"
        detached.write_bytes(signature)
        words = [*_OPTIONS, "--status-fd", "1", "--verify", str(detached), str(signed)]
        answer = capture([gpg, *words], env=env)
    lines = answer.stdout.decode(errors="backslashreplace").splitlines()
    return _judge([line[len(_STATUS) :].split() for line in lines if line.startswith(_STATUS)], set(known))


def _judge(status: list[list[str]], known: set[str]) -> str:
    """Summarize gpg's status lines; one wrong signature outweighs all others."""
    keywords = {words[0] for words in status if words}
    if keywords & _WRONG:
        raise _wrong()
    if "REVKEYSIG" in keywords:
        raise SourceError(
            "SHASUMS256.txt is signed with a key that was revoked.",
            remedy="Run gpg --verify to see whose; use another mirror, or --release FILE.",
        )
    signers = [words[-1] for words in status if len(words) > 1 and words[0] == "VALIDSIG"]
    for primary in signers:
        if primary in known:
            return f"signed by {primary}" + (", whose key has expired since" * ("EXPKEYSIG" in keywords))
    if signers:
        raise SourceError(f"SHASUMS256.txt is signed by {signers[0]}, which is no key of Node's releasers.")
    for words in status:
        if words[:1] == ["NO_PUBKEY"]:
            key = words[1] if len(words) > 1 else "for it"
            raise UncheckedError(
                f"gpg has no key {key}",
                remedy="Import the keys of Node's releasers (github.com/nodejs/release-keys).",
            )
    raise _wrong()


def _wrong() -> SourceError:
    return SourceError(
        "The signature of SHASUMS256.txt is wrong, so what it says about the release proves nothing.",
        remedy="Run gpg --verify for details; use another mirror, or --release FILE.",
    )
