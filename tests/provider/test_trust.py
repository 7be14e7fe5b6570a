import ssl
from pathlib import Path

import pytest
import trustme

from sweeper import errors
from sweeper.provider import trust


def paths(cafile: Path, capath: Path) -> ssl.DefaultVerifyPaths:
    return ssl.DefaultVerifyPaths("", "", "SSL_CERT_FILE", str(cafile), "SSL_CERT_DIR", str(capath))


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    file = tmp_path / "cert.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    return file


@pytest.mark.parametrize("where", ["file", "folder"])
def test_the_systems_authorities_are_trusted_and_old_versions_are_not(
    where: str, ca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = tmp_path / "nowhere"
    found = paths(ca_file, nowhere) if where == "file" else paths(nowhere, ca_file.parent)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: found)
    context = trust.system()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == (1 if where == "file" else 0)  # folders are read late


def test_the_environment_neither_adds_authorities_nor_takes_the_session_keys(
    ca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA(organization_name="Other").cert_pem.write_to_path(str(other))
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    built_in = ssl.get_default_verify_paths()
    assert built_in.cafile == str(other)
    found = built_in._replace(openssl_cafile=str(ca_file), openssl_capath=str(tmp_path / "no"))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: found)
    context = trust.system()
    assert "Other" not in str(context.get_ca_certs())
    assert len(context.get_ca_certs()) == 1
    assert context.keylog_filename is None


def test_a_system_without_authorities_is_told_so_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    found = paths(tmp_path / "none.pem", tmp_path / "empty")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: found)
    with pytest.raises(errors.ConfigurationError, match="no certificate authorities"):
        trust.system()


@pytest.mark.parametrize(
    "text", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_authorities_that_nobody_can_read_are_told_as_such(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cert.pem"
    file.write_text(text)
    found = paths(file, tmp_path / "nowhere")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: found)
    with pytest.raises(errors.ConfigurationError, match="cannot be read") as caught:
        trust.system()
    assert str(file) in str(caught.value.hint)
