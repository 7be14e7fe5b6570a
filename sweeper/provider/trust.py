"""Whom TLS connections trust: the system's authorities, whatever the environment says."""

import ssl
from pathlib import Path

from sweeper.errors import ConfigurationError


def system() -> ssl.SSLContext:
    """Trust what the system trusts, at TLS 1.2 or later.

    `ssl.create_default_context` would let SSL_CERT_FILE choose the authorities and SSLKEYLOGFILE
    write the session keys to disk, so neither it nor the default paths it reads are used.

    Raises:
        ConfigurationError: no certificate authorities are installed.

    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    paths = ssl.get_default_verify_paths()
    cafile, capath = Path(paths.openssl_cafile), Path(paths.openssl_capath)
    has_file, has_folder = cafile.is_file(), capath.is_dir() and any(capath.iterdir())
    if not (has_file or has_folder):
        raise ConfigurationError(
            "no certificate authorities are installed, so no provider can be trusted",
            hint=f"install the system's CA certificates (looked for {cafile} and {capath})",
        )
    context.load_verify_locations(
        cafile=cafile if has_file else None, capath=capath if has_folder else None
    )
    return context
