from factory_assets.contracts.impact import ImpactReport, LineImpact, ModelChange
from factory_assets.core.transformations.impact_text import render_markdown


def test_a_renamed_column_says_which_name_went_and_which_came_and_what_its_champion_needs() -> None:
    columns = {"plane_seats": "removed", "seats_of_plane": "added"}
    change = ModelChange("features.feat_flight", "changed", False, columns)
    lines = (
        LineImpact("delay", "feat_flight", ("plane_seats", "seats_of_plane"), (), (), False),
        LineImpact("volume", "feat_flight", ("seats_of_plane",), (), (), False),
    )
    text = render_markdown(ImpactReport("main", (change,), lines=lines))
    assert "| `plane_seats`, `seats_of_plane` | `seats_of_plane` added; `plane_seats` removed |" in text
    delay, volume = (row for row in text.splitlines() if row.startswith(("| `delay`", "| `volume`")))
    assert "its champion cannot score without `plane_seats`: keep it until the next one" in delay
    assert "cannot score" not in volume
