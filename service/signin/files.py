"""Shell: the files that credentials stand in. Others renew them (cert-manager, the kubelet), so they are read each time
they are used, never remembered.
"""

import asyncio
import os
from pathlib import Path

from service.settings import Tenant
from service.signin.credentials import NoToken

FILES = ("certificate_file", "certificate_key_file", "client_secret_file", "federated_token_file")


def stamp(tenant: Tenant) -> object:
    """Equal while no file of the tenant's credential has changed. Asks the file system; no file is read."""
    return tuple(_stamp(path) for name in FILES if (path := getattr(tenant, name)))


def _stamp(path: str) -> object:
    try:
        # A mounted secret is renewed by turning a symbolic link round: the inode tells, even where the time does not.
        found = os.stat(path)  # noqa: PTH116 - the path is text all the way
    except OSError as exc:
        return exc.errno
    return found.st_mtime_ns, found.st_size, found.st_ino


async def read_secret(tenant: Tenant) -> str:
    """The client secret that is valid now: its file's, or the settings'. Raises NoToken."""
    if tenant.client_secret_file:
        content = await asyncio.to_thread(_read, "client_secret_file", tenant.client_secret_file)
        secret = content.decode("utf-8", "replace").strip()
    else:
        secret = tenant.client_secret.reveal()
    if not secret:
        raise _unusable("this tenant has no client_secret in the settings.")
    return secret


def read_certificate(tenant: Tenant) -> bytes:
    """The certificate with its private key: PEM of both, or PFX. Blocks. Raises NoToken."""
    certificate = _read("certificate_file", tenant.certificate_file)
    if not tenant.certificate_key_file:
        return certificate
    return _read("certificate_key_file", tenant.certificate_key_file) + b"\n" + certificate


def read_token(tenant: Tenant) -> str:
    """The outside token, one line. Blocks. Raises NoToken."""
    text = _read("federated_token_file", tenant.federated_token_file).decode("ascii", "replace").strip()
    if not text or not text.isascii() or any(letter.isspace() for letter in text):
        raise _unusable(f"federated_token_file {tenant.federated_token_file} holds no token.")
    return text


def _read(setting: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise _unusable(f"{setting} {path} cannot be read ({exc.strerror}).") from None


def _unusable(sentence: str) -> NoToken:
    return NoToken(f"There is no token: {sentence}", is_refusal=True, outcome=None)
