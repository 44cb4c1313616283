"""Checks the signature of a SHASUMS256.txt with the user's gpg, against the keys of Node's releasers."""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from nodekiln.errors import SourceError
from nodekiln.process import capture

_TABLE = Path(__file__).with_name("signers.toml")
_STATUS = "[GNUPG:] "


def signers() -> frozenset[str]:
    """Fingerprints (40 hex digits) of the keys that Node's releases are signed with."""
    return frozenset(tomllib.loads(_TABLE.read_text())["fingerprints"])


def check(text: bytes, signature: bytes, *, known: Iterable[str], env: Mapping[str, str]) -> str:
    """What the signature proves, in a few words; "not checked" and why, without gpg or the key.

    Raises SourceError for a signature that is wrong, or by a key that is none of `known`.
    """
    gpg = shutil.which("gpg", path=env.get("PATH", ""))
    if gpg is None:
        return "signature not checked (no gpg here)"
    with tempfile.TemporaryDirectory(prefix="nodekiln-") as folder:
        signed = Path(folder) / "SHASUMS256.txt"
        signed.write_bytes(text)
        detached = Path(folder) / "SHASUMS256.txt.sig"
        detached.write_bytes(signature)
        words = ["--batch", "--no-tty", "--status-fd", "1", "--verify", str(detached), str(signed)]
        answer = capture([gpg, *words], env=env)
    lines = answer.stdout.decode(errors="backslashreplace").splitlines()
    status = [line.removeprefix(_STATUS).split() for line in lines if line.startswith(_STATUS)]
    told = {words[0]: words for words in status if words}
    if "VALIDSIG" in told and answer.returncode == 0:
        primary = told["VALIDSIG"][-1]
        if primary not in known:
            raise SourceError(f"SHASUMS256.txt is signed by {primary}, which is no key of Node's releasers.")
        return f"signed by {primary}"
    if "NO_PUBKEY" in told:
        return f"signature not checked (gpg has no key {told['NO_PUBKEY'][1]})"
    raise SourceError(
        "The signature of SHASUMS256.txt is wrong, so what it says about the release proves nothing.",
        remedy="gpg --verify tells more; take another mirror, or --release FILE.",
    )
