"""nginx as the provider: it answers yes to every DELETE, faster than anybody can ask."""

import http.client
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BASE: Final = "/inference"
_PATIENCE: Final = 10.0

_CONFIGURATION: Final = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    server_tokens off;
    tcp_nodelay on;
    default_type application/json;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location = /verifyApiKey {{
            add_header x-fireworks-account-id bench;
            return 200 '{{}}';
        }}
        location = /requests {{ stub_status; }}
        location /inference/v1/responses/ {{
            return 200 '{{"message":"Response deleted successfully"}}';
        }}
    }}
}}
"""


class Missing(Exception):
    """There is no nginx on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A running nginx; `base_url` is what a configuration names."""

    port: int

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}{BASE}"

    def requests(self) -> int:
        """How many requests it has been sent so far, this one included."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE)
        try:
            connection.request("GET", "/requests")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        return int(text.splitlines()[2].split()[2])


@contextmanager
def serving(folder: Path) -> Iterator[Peer]:
    """Run nginx on a free port of the loopback, with all that it writes under `folder`.

    Raises:
        Missing: there is none.

    """
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        raise Missing("the peer of this measurement is nginx; run: apt-get install nginx")
    peer = Peer(port=free_port())
    configuration = folder / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, port=peer.port))
    server = subprocess.Popen(
        [program, "-p", str(folder), "-e", str(folder / "nginx-error.log"), "-c", configuration]
    )
    try:
        _wait_for(peer, server, folder)
        yield peer
    finally:
        server.terminate()
        server.wait()


def _wait_for(peer: Peer, server: subprocess.Popen[bytes], folder: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while server.poll() is None and time.monotonic() < end:
        try:
            peer.requests()
        except OSError:
            time.sleep(0.02)
        else:
            return
    said = folder / "nginx-error.log"
    raise RuntimeError(f"nginx does not serve: {said.read_text() if said.exists() else ''}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port
