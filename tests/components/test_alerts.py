"""Alerts against receivers on loopback: a webhook and a mail server, with Dagster's real record and a user's own check."""

import json
import logging
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import pytest

from factory_assets.components.alerts import NO_TARGETS, build_alerts_sensor
from factory_assets.contracts.alerts import AlertsSpec
from factory_assets.resources import LakeResource
from factory_assets.settings import FactorySettings
from factory_assets.storage.delta.lake import Lake
from factory_assets.storage.tables.alerts import Alerts, BadTargetError, Outbox
from factory_assets.storage.tables.incidents import Incidents
from tests.components.test_broken_feeds import DAY, an_incident

CANARY = "canary-5d1f"


class Webhook(BaseHTTPRequestHandler):
    received: ClassVar[list[dict[str, Any]]] = []
    status: ClassVar[int] = 200

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.status == 200:
            self.received.append(body)
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Mailbox(socketserver.StreamRequestHandler):
    """As much of SMTP as one mail takes."""

    received: ClassVar[list[str]] = []

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline().decode().strip():
            if line.upper() == "DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = iter(lambda: self.rfile.readline().decode(), ".\r\n")
                self.received.append("".join(lines))
            self.wfile.write(b"221 bye\r\n" if line.upper() == "QUIT" else b"250 ok\r\n")


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def webhook() -> Iterator[str]:
    Webhook.received.clear()
    Webhook.status = 200
    with serving(HTTPServer(("127.0.0.1", 0), Webhook)) as port:
        yield f"json://user:{CANARY}@127.0.0.1:{port}/{CANARY}?:key={CANARY}"


class Factory:
    """One plain asset with a check that its user wrote, and the alerts sensor."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance, spec: AlertsSpec) -> None:
        @dg.asset
        def gates() -> None: ...

        @dg.asset_check(asset=gates, name="no_gate_is_empty")
        def own_check() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=self.passes, description="gate C7 is empty", severity=self.severity)

        self.passes = True
        self.severity = dg.AssetCheckSeverity.ERROR
        self.instance = instance
        self.lake = Lake(str(folder / "lake"))
        self.resource = LakeResource(root=self.lake.root, landing=str(folder), models=str(folder))
        self.definitions = dg.Definitions(
            assets=[gates], asset_checks=[own_check], sensors=[build_alerts_sensor(spec)], resources={"lake": self.resource}
        )

    def judge(self, passes: bool) -> None:
        self.passes = passes
        job = self.definitions.resolve_implicit_global_asset_job_def()
        job.execute_in_process(instance=self.instance, raise_on_error=False)

    def tick(self) -> str:
        repository = self.definitions.get_repository_def()
        context = dg.build_sensor_context(
            instance=self.instance, repository_def=repository, resources={"lake": self.resource}
        )
        answer = repository.get_sensor_def("alerts").evaluate_tick(context)
        return str(answer.skip_message)


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[Factory]:
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        yield Factory(tmp_path, instance, AlertsSpec())


@pytest.fixture
def told(webhook: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.setenv("FACTORY_ALERT_TARGETS", webhook)
    return Webhook.received


def test_without_a_target_the_sensor_says_so_and_keeps_nothing(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACTORY_ALERT_TARGETS", raising=False)
    factory.judge(False)
    assert factory.tick() == NO_TARGETS
    assert Alerts(factory.lake).read() == []


def test_a_users_own_check_is_told_when_it_fails_and_when_it_is_over(factory: Factory, told: list[dict[str, Any]]) -> None:
    factory.judge(True)
    assert factory.tick() == "Nothing new to tell."
    factory.judge(False)
    factory.tick()
    factory.tick()
    (message,) = told
    assert message["title"] == "Factory: 1 new (gates:no_gate_is_empty)"
    assert "gate C7 is empty" in message["message"]
    factory.judge(True)
    factory.tick()
    assert [m["title"] for m in told[1:]] == ["Factory: 1 over (gates:no_gate_is_empty)"]


def test_failed_checks_and_broken_feeds_of_one_tick_are_one_message(factory: Factory, told: list[dict[str, Any]]) -> None:
    factory.judge(False)
    Incidents(factory.lake).write([an_incident(), an_incident(source="weather")])
    factory.tick()
    (message,) = told
    assert message["title"].startswith("Factory: 3 new")
    assert f"feed weather {DAY}: half" in message["message"]
    ended = replace(Incidents(factory.lake).read_open(["weather"])[0], state="repaired")
    Incidents(factory.lake).write([ended])
    factory.tick()
    assert told[1]["title"] == f"Factory: 1 over (weather {DAY})"


def test_killed_between_deciding_and_sending_the_message_goes_out_once(factory: Factory, told: list[dict[str, Any]]) -> None:
    factory.judge(False)
    original = Outbox.send
    try:
        Outbox.send = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
        with pytest.raises(BaseException):  # noqa: B017, PT011 (Dagster may wrap it)
            factory.tick()
    finally:
        Outbox.send = original  # type: ignore[method-assign]
    assert told == []
    factory.tick()
    factory.tick()
    assert len(told) == 1
    (kept,) = Alerts(factory.lake).read()
    assert kept.done
    assert kept.key in told[0]["message"]


def test_a_target_that_is_down_gets_it_later_and_the_other_not_twice(
    factory: Factory, told: list[dict[str, Any]], webhook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(HTTPServer(("127.0.0.1", 0), type("Other", (Webhook,), {"status": 503, "received": []}))) as port:
        monkeypatch.setenv("FACTORY_ALERT_TARGETS", f"{webhook} json://127.0.0.1:{port}")
        factory.judge(False)
        assert "not taken by every target" in factory.tick()
        assert len(told) == 1
        factory.tick()
        assert len(told) == 1
        (kept,) = Alerts(factory.lake).read()
        assert (kept.delivered, kept.attempts, kept.done) == ((0,), 2, False)


def test_the_secret_of_a_target_is_written_nowhere(
    factory: Factory, told: list[dict[str, Any]], caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    factory.judge(False)
    said = factory.tick()
    Webhook.status = 500
    factory.judge(True)
    said += factory.tick()
    monkeypatch.setenv("FACTORY_ALERT_TARGETS", f"nonsense://{CANARY}")
    with pytest.raises(BadTargetError) as raised:
        Outbox(FactorySettings().alert_addresses).check()
    assert "target 1 of FACTORY_ALERT_TARGETS" in str(raised.value)
    shown = [said, caplog.text, str(raised.value), repr(FactorySettings()), repr(Outbox([CANARY]))]
    written = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert told
    assert not any(CANARY in text for text in shown)
    assert not any(CANARY.encode() in content for content in written)


def test_a_mail_comes_through(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    Mailbox.received.clear()
    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox)) as port:
        target = f"mailto://127.0.0.1:{port}?from=factory@example.org&to=people@example.org&mode=insecure"
        monkeypatch.setenv("FACTORY_ALERT_TARGETS", target)
        factory.judge(False)
        factory.tick()
    (mail,) = Mailbox.received
    assert "no_gate_is_empty" in mail


def test_the_link_leads_to_the_check(factory: Factory, told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACTORY_UI_URL", "http://127.0.0.1:3000/")
    factory.judge(False)
    factory.tick()
    assert "http://127.0.0.1:3000/assets/gates?view=checks&checkDetail=no_gate_is_empty" in told[0]["message"]


def test_a_warning_is_left_out_where_only_errors_are_told(tmp_path: Path, told: list[dict[str, Any]]) -> None:
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        factory = Factory(tmp_path, instance, AlertsSpec(severity="error"))
        factory.severity = dg.AssetCheckSeverity.WARN
        factory.judge(False)
        factory.tick()
        assert told == []


def fail_segments(factory: Factory, names: list[str]) -> None:
    """What the check of a fleet reports: one evaluation, with the segments that failed in its metadata."""
    evaluation = dg.AssetCheckEvaluation(
        dg.AssetKey("gates"), "no_gate_is_empty", not names, metadata={"failing_segments": names}, description="drifted"
    )
    factory.instance.report_runless_asset_event(evaluation)


def test_an_incident_of_a_thousand_segments_is_one_message_until_it_is_over(
    factory: Factory, told: list[dict[str, Any]]
) -> None:
    fail_segments(factory, [f"AA~{number}" for number in range(1000)])
    factory.tick()
    (message,) = told
    assert message["title"] == "Factory: 1 new (gates:no_gate_is_empty)"
    assert "[1,000 segments]: drifted" in message["message"]
    assert len(message["message"]) < 500
    fail_segments(factory, [f"UA~{number}" for number in range(900)])
    factory.tick()
    assert len(told) == 1
    fail_segments(factory, [])
    factory.tick()
    factory.tick()
    assert [m["title"] for m in told] == [message["title"], "Factory: 1 over (gates:no_gate_is_empty)"]


def test_a_check_that_flaps_is_told_again_after_the_cooldown_only(factory: Factory, told: list[dict[str, Any]]) -> None:
    for passes in (False, True, False):
        factory.judge(passes)
        factory.tick()
    assert ["new" in m["title"] for m in told] == [True, False]
    table = Alerts(factory.lake)
    for message in table.read():  # as if it had been said so much earlier
        table.write(replace(message, at_utc=message.at_utc - AlertsSpec().cooldown))
    factory.tick()
    assert ["new" in m["title"] for m in told] == [True, False, True]


@pytest.mark.parametrize(
    "target",
    [
        "json://user:{0}@127.0.0.1:{1}/{0}?key={0}",
        "mailto://u:{0}@example.org:{1}?smtp=127.0.0.1&to=people@example.org&mode=insecure",
    ],
)
def test_a_target_that_nobody_answers_at_is_no_secret_in_the_log(
    target: str, factory: Factory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(HTTPServer(("127.0.0.1", 0), Webhook)) as port:
        pass  # nobody listens there any more
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("FACTORY_ALERT_TARGETS", target.format(CANARY, port))
    factory.judge(False)
    said = factory.tick()
    assert "not taken by every target" in said
    assert CANARY not in said + caplog.text
    assert CANARY not in "".join(f"{message}" for message in Alerts(factory.lake).read())
