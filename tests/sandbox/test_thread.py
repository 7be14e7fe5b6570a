import io

import httpx
import pytest

from sweeper.sandbox.thread import SandboxThread


def test_a_synchronous_program_has_its_sandbox() -> None:
    with SandboxThread(keys={"fw_a": "alpha"}) as sandbox:
        (response_id,) = sandbox.call(lambda running: running.seed(1))
        headers = {"Authorization": f"Bearer {sandbox.key}"}
        with httpx.Client(base_url=sandbox.base_url, headers=headers) as client:
            assert client.delete(f"/v1/responses/{response_id}").status_code == 200
        sandbox.wait_until(lambda running: not running.open_connections)
        assert (sandbox.account, sandbox.accounts) == ("alpha", ("alpha",))
        assert sandbox.origin.endswith(f":{sandbox.port}")
        assert not sandbox.sandbox.kept()


def test_what_an_action_raises_reaches_the_caller() -> None:
    with SandboxThread() as sandbox, pytest.raises(ZeroDivisionError):
        sandbox.call(lambda _: 1 // 0)


def test_waiting_in_vain_ends() -> None:
    with SandboxThread() as sandbox, pytest.raises(TimeoutError):
        sandbox.wait_until(lambda _: False, within=0.01)


def test_what_keeps_it_from_serving_reaches_the_caller() -> None:
    with (
        SandboxThread() as sandbox,
        pytest.raises(OSError, match="address already in use"),
        SandboxThread(port=sandbox.port),
    ):
        pass


def test_what_goes_wrong_inside_it_is_raised_by_stopping() -> None:
    file = io.StringIO()
    sandbox = SandboxThread(journal_file=file).start()
    file.close()
    httpx.get(f"{sandbox.origin}/verifyApiKey")
    sandbox.wait_until(lambda sandbox: sandbox.open_connections == 0)
    with pytest.RaisesGroup(ValueError):
        sandbox.stop()


def test_stopping_twice_does_no_harm() -> None:
    sandbox = SandboxThread().start()
    sandbox.stop()
    sandbox.stop()
