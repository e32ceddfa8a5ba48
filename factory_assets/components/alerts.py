"""The Alerts component: one sensor that tells people of failed checks and broken feeds, grouped and not too often."""

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote

import dagster as dg

from factory_assets.components.check_verdicts import read_newest_verdicts
from factory_assets.components.declared import DeclaredComponent
from factory_assets.components.naming import ALERTS_SENSOR
from factory_assets.components.source_checks import BATCHES_ARE_SOUND
from factory_assets.contracts.alerts import AlertMessage, AlertsSpec, Trouble
from factory_assets.contracts.incidents import Incident
from factory_assets.core.monitoring.alerting import decide_alert
from factory_assets.resources import LakeResource
from factory_assets.settings import FactorySettings
from factory_assets.storage.tables.alerts import Alerts as AlertsTable
from factory_assets.storage.tables.alerts import Outbox
from factory_assets.storage.tables.incidents import Incidents

NO_TARGETS = "Nobody is told: FACTORY_ALERT_TARGETS names no target."


class Alerts(DeclaredComponent[AlertsSpec]):
    """Tells people of failed asset checks, whoever wrote them, and of broken feeds."""

    spec_model = AlertsSpec

    def build_sound_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """One sensor, without a job: telling is all it does."""
        return dg.Definitions(sensors=[build_alerts_sensor(self.spec)])


def build_alerts_sensor(spec: AlertsSpec) -> dg.SensorDefinition:
    """At most one message a tick. It is kept in the lake before it is sent, and marked when it was taken."""

    @dg.sensor(
        name=ALERTS_SENSOR,
        minimum_interval_seconds=FactorySettings().sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells people of failed checks and broken feeds, and when they are over. It starts no run.",
    )
    def alerts(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SkipReason:
        settings = FactorySettings()
        if not settings.alert_addresses:
            return dg.SkipReason(NO_TARGETS)
        outbox = Outbox(settings.alert_addresses)
        outbox.check()
        table = AlertsTable(lake.open())
        messages = table.read()
        keys = context.repository_def.asset_graph.asset_check_keys if context.repository_def else ()
        troubles = [*read_troubles(context.instance, sorted(keys), settings.ui_url), *_broken_feeds(table)]
        news = decide_alert(troubles, messages, spec, datetime.now(UTC))
        if news is not None:
            table.write(news)
        return dg.SkipReason(_send(outbox, table, [*(m for m in messages if not m.done), *([news] if news else [])]))

    return alerts


def read_troubles(instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey], ui_url: str | None) -> list[Trouble]:
    """How each check stands by its newest completed evaluation; held days are told one by one, not by their check."""
    return [
        Trouble(
            subject=f"check {verdict.key.asset_key.to_user_string()}:{verdict.key.name}",
            wrong=not verdict.passed,
            summary=verdict.summary,
            severity="warn" if verdict.is_warning else "error",
            failing_segments=verdict.failing_segments,
            link=_link(ui_url, verdict.key),
        )
        for verdict in read_newest_verdicts(instance, keys)
        if verdict.key.name != BATCHES_ARE_SOUND
    ]


def _link(ui_url: str | None, key: dg.AssetCheckKey) -> str:
    if ui_url is None:
        return ""
    path = "/".join(quote(part, safe="") for part in key.asset_key.path)
    return f"{ui_url.rstrip('/')}/assets/{path}?view=checks&checkDetail={quote(key.name, safe='')}"


def _broken_feeds(table: AlertsTable) -> list[Trouble]:
    return [
        Trouble(f"feed {incident.source} {incident.day}", incident.is_open, _describe(incident))
        for incident in Incidents(table.lake).read()
    ]


def _describe(incident: Incident) -> str:
    if incident.is_open:
        return incident.summary
    return f"{incident.state}: {incident.note or incident.summary}"


def _send(outbox: Outbox, table: AlertsTable, waiting: Sequence[AlertMessage]) -> str:
    if not waiting:
        return "Nothing new to tell."
    sent = []
    for message in waiting:
        sent.append(outbox.send(message))
        table.write(sent[-1])
    undelivered = sum(len(message.delivered) < len(outbox.targets) for message in sent)
    told = f"Told {sent[-1].title!r}" if undelivered == 0 else f"{undelivered} message(s) were not taken by every target"
    return f"{told}; ops/alerts has what was said and when."
