"""The signature of a SHASUMS256.txt, with the real gpg and keys made for the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from nodekiln.core.errors import SourceError
from nodekiln.grafting import gpg

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="there is no gpg")
TEXT = b"0123  node-v22.20.0-linux-x64.tar.xz\n"


@dataclass(frozen=True)
class Keyring:
    """A gpg with one secret key."""

    home: Path
    fingerprint: str

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "GNUPGHOME": str(self.home)}

    def run(self, *words: str, stdin: bytes = b"") -> bytes:
        argv = ["gpg", "--batch", "--no-tty", "--quiet", *words]
        return subprocess.run(argv, env=self.env, input=stdin, check=True, capture_output=True).stdout

    def sign(self, text: bytes) -> bytes:
        return self.run("--detach-sign", stdin=text)


def make(home: Path, *words: str, lasts: str = "never") -> Keyring:
    ring = Keyring(home, "")
    generate = ("--passphrase", "", "--quick-generate-key", "a releaser <a@localhost>", "ed25519", "sign")
    ring.run("--pinentry-mode", "loopback", *words, *generate, lasts)
    listed = ring.run("--with-colons", "--fingerprint").decode()
    return Keyring(home, next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr")))


@contextmanager
def fresh(*words: str, lasts: str = "never") -> Iterator[Keyring]:
    # A short path: gpg's agent listens on a socket in there, whose path may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ring") as folder:
        made = make(Path(folder), *words, lasts=lasts)
        yield made
        subprocess.run(["gpgconf", "--kill", "all"], env=made.env, check=True)


@pytest.fixture(scope="module")
def ring() -> Iterator[Keyring]:
    with fresh() as made:
        yield made


@pytest.fixture(scope="module")
def stranger() -> Iterator[Keyring]:
    with fresh() as made:
        yield made


def test_signature_of_a_releaser_is_reported_with_the_key(ring: Keyring) -> None:
    told = gpg.check(TEXT, ring.sign(TEXT), known={ring.fingerprint}, env=ring.env)
    assert told == f"signed by {ring.fingerprint}"


def test_signature_of_another_file_is_refused(ring: Keyring) -> None:
    with pytest.raises(SourceError, match=f"signed by {ring.fingerprint}, which is no key of Node's"):
        gpg.check(TEXT, ring.sign(TEXT), known=gpg.signers(), env=ring.env)


@pytest.mark.parametrize("text", [TEXT + b"more\n", b""])
def test_signature_of_another_text_is_refused(ring: Keyring, text: bytes) -> None:
    with pytest.raises(SourceError, match="is wrong"):
        gpg.check(text, ring.sign(TEXT), known={ring.fingerprint}, env=ring.env)


@pytest.mark.parametrize("signature", [b"", b"<html>not found</html>"])
def test_file_that_is_not_a_signature_is_refused(ring: Keyring, signature: bytes) -> None:
    with pytest.raises(SourceError, match="is wrong"):
        gpg.check(TEXT, signature, known={ring.fingerprint}, env=ring.env)


def test_signature_without_the_key_raises_unchecked_error(ring: Keyring) -> None:
    with tempfile.TemporaryDirectory(prefix="ring") as folder:
        env = {**ring.env, "GNUPGHOME": folder}
        with pytest.raises(gpg.UncheckedError, match=f"gpg has no key {ring.fingerprint[-16:]}"):
            gpg.check(TEXT, ring.sign(TEXT), known={ring.fingerprint}, env=env)
        assert not gpg.has_key({ring.fingerprint}, env=env)
    assert gpg.has_key({ring.fingerprint, "F" * 40}, env=ring.env)


@pytest.mark.parametrize("wrong_first", [True, False])
def test_wrong_signature_outweighs_one_that_cannot_be_checked(
    ring: Keyring, stranger: Keyring, wrong_first: bool
) -> None:
    both = [ring.sign(b"another text"), stranger.sign(TEXT)]
    with pytest.raises(SourceError, match="is wrong"):
        gpg.check(TEXT, b"".join(both if wrong_first else both[::-1]), known={ring.fingerprint}, env=ring.env)


def test_wrong_signature_outweighs_a_right_one(ring: Keyring) -> None:
    both = ring.sign(TEXT) + ring.sign(b"another text")
    with pytest.raises(SourceError, match="is wrong"):
        gpg.check(TEXT, both, known={ring.fingerprint}, env=ring.env)


def test_signature_of_a_releaser_holds_beside_one_that_cannot_be_checked(
    ring: Keyring, stranger: Keyring
) -> None:
    both = stranger.sign(TEXT) + ring.sign(TEXT)
    told = gpg.check(TEXT, both, known={ring.fingerprint}, env=ring.env)
    assert told == f"signed by {ring.fingerprint}"


THEN = ("--faked-system-time", "20200101T000000")
LATER = ("--faked-system-time", "20200102T000000")
"""For what needs the key: every process begins at its time anew, and a key may not be from the future."""


def test_key_that_has_expired_since_is_reported() -> None:
    with fresh(*THEN, lasts="1y") as old:
        signature = old.run(*LATER, "--detach-sign", stdin=TEXT)
        told = gpg.check(TEXT, signature, known={old.fingerprint}, env=old.env)
    assert told == f"signed by {old.fingerprint}, whose key has expired since"


def test_signature_that_has_expired_is_refused() -> None:
    with fresh(*THEN) as old:
        signature = old.run(*LATER, "--default-sig-expire", "1y", "--detach-sign", stdin=TEXT)
        with pytest.raises(SourceError, match="is wrong"):
            gpg.check(TEXT, signature, known={old.fingerprint}, env=old.env)


def test_key_that_was_revoked_is_refused() -> None:
    with fresh() as revoked:
        signature = revoked.sign(TEXT)
        certificate = revoked.home / "openpgp-revocs.d" / f"{revoked.fingerprint}.rev"
        # gpg puts a colon before it, so that nobody uses it by mistake.
        revoked.run("--import", stdin=certificate.read_bytes().replace(b":-----BEGIN", b"-----BEGIN"))
        with pytest.raises(SourceError, match="a key that was revoked"):
            gpg.check(TEXT, signature, known={revoked.fingerprint}, env=revoked.env)


def test_signature_without_gpg_raises_unchecked_error(tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path)}
    with pytest.raises(gpg.UncheckedError, match="gpg not found"):
        gpg.check(TEXT, b"", known=(), env=env)
    assert not gpg.has_key(gpg.signers(), env=env)


def test_releasers_keys_are_whole_fingerprints() -> None:
    assert len(gpg.signers()) > 20
    assert all(len(key) == 40 and set(key) <= set("0123456789ABCDEF") for key in gpg.signers())
