"""Whom TLS connections trust: the system's authorities, whatever the environment says."""

import ssl
from pathlib import Path

from sweeper.errors import ConfigurationError


def system() -> ssl.SSLContext:
    """Trust what the system trusts, at TLS 1.2 or later.

    `ssl.create_default_context` would let SSL_CERT_FILE choose the authorities and SSLKEYLOGFILE
    write the session keys to disk, so neither it nor the default paths it reads are used.

    Raises:
        ConfigurationError: no certificate authorities are installed, or they cannot be read.

    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    paths = ssl.get_default_verify_paths()
    cafile, capath = Path(paths.openssl_cafile), Path(paths.openssl_capath)
    try:
        is_found = _load(context, cafile, capath)
    except OSError as fault:  # what the library cannot parse is one of these as well
        raise ConfigurationError(
            "the certificate authorities cannot be read, so no provider can be trusted:"
            f" {fault.strerror or type(fault).__name__}",
            hint=f"mend the system's CA certificates ({cafile} and {capath})",
        ) from None
    if not is_found:
        raise ConfigurationError(
            "no certificate authorities are installed, so no provider can be trusted",
            hint=f"install the system's CA certificates (looked for {cafile} and {capath})",
        )
    return context


def _load(context: ssl.SSLContext, cafile: Path, capath: Path) -> bool:
    """Load what there is, and say whether there was anything."""
    has_file, has_folder = cafile.is_file(), capath.is_dir() and any(capath.iterdir())
    if has_file or has_folder:
        context.load_verify_locations(
            cafile=cafile if has_file else None, capath=capath if has_folder else None
        )
    return has_file or has_folder
