"""The registry's alias and the release: always the same in the end."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from tests.unit.control.releases.plane import PLAN, Plane
from tidegate import settings
from tidegate.control.registry.base import RegistryAway

pytestmark = pytest.mark.slow

Make = Callable[..., Plane]


def test_a_registry_that_is_away_is_tried_again_and_shown(plane: Plane) -> None:
    release = plane.start()
    plane.until(release.id, "baking")
    plane.registry.away = True
    plane.until(release.id, "promoted")
    plane.seconds(5)
    release = plane.service.get(release.id)
    assert release.alias_pending
    assert release.waiting == "the alias champion is not moved yet: the registry does not answer"
    written = len(plane.service.events(release.id))
    plane.seconds(30)
    assert len(plane.service.events(release.id)) == written, "the same error is told once"
    plane.registry.away = False
    plane.seconds(61)
    assert plane.service.get(release.id).waiting == ""
    plane.check()
    assert plane.service.replay(release.id).agrees


def test_a_rollback_while_the_alias_is_still_to_be_moved(plane: Plane) -> None:
    release = plane.start()
    plane.until(release.id, "baking")
    plane.registry.away = True
    plane.until(release.id, "promoted")
    plane.service.rollback(release.id, who="ann")
    plane.registry.away = False
    plane.seconds(61)
    plane.check()
    assert plane.registry.aliases["iris", "champion"] == "1"


def test_an_alias_that_was_moved_outside_starts_a_release(plane: Plane) -> None:
    """MLflow's webhooks do not reach a server: here they begin a release."""
    plane.registry.aliases["iris", "champion"] = "4"
    [release] = plane.service.alias_moved("iris", "4", "registry")
    assert (release.requested_by, release.candidate.version, release.author) == ("alias", "4", "registry")
    assert plane.service.alias_moved("iris", "4", "webhook 7") == (), "it is being released"
    assert plane.service.alias_moved("iris", "5", "webhook 7") == (), "one at a time"
    plane.until(release.id, "promoted")
    plane.seconds(2)
    plane.check()
    assert plane.service.alias_moved("iris", "4", "registry") == (), "our own move is no news"


def test_an_alias_that_was_moved_outside_goes_back_when_its_release_is_rolled_back(plane: Plane) -> None:
    plane.registry.aliases["iris", "champion"] = "4"
    [release] = plane.service.alias_moved("iris", "4", "webhook 7")
    assert release.requested_by == "webhook"
    plane.until(release.id, "rolled_back", candidate=0.5, requests=400)
    plane.seconds(2)
    plane.check()
    assert plane.registry.aliases["iris", "champion"] == "1"


def test_a_rolled_back_promotion_leaves_the_alias_to_who_moved_it_elsewhere(plane: Plane) -> None:
    release = plane.start()
    plane.until(release.id, "promoted")
    plane.seconds(2)
    assert plane.registry.aliases["iris", "champion"] == "2"
    plane.registry.aliases["iris", "champion"] = "7"
    plane.service.rollback(release.id, who="ann")
    plane.seconds(5)
    assert plane.registry.aliases["iris", "champion"] == "7"
    assert plane.plan().baseline.model.version == "1"
    assert not plane.service.get(release.id).alias_pending
    [line] = [line for line in plane.service.events(release.id) if line.kind == "alias_left"]
    assert line.text == "iris@champion stays at version 7, where somebody else moved it; it is not moved back"
    assert plane.service.replay(release.id).agrees
    [begun] = plane.service.alias_moved("iris", "7", "registry")
    assert begun.candidate.version == "7"


def test_a_release_that_an_alias_asked_for_leaves_it_to_who_moved_it_on(plane: Plane) -> None:
    plane.registry.aliases["iris", "champion"] = "4"
    [release] = plane.service.alias_moved("iris", "4", "registry")
    plane.registry.aliases["iris", "champion"] = "7"
    plane.until(release.id, "rolled_back", candidate=0.5, requests=400)
    plane.seconds(2)
    assert plane.registry.aliases["iris", "champion"] == "7"


def test_an_alias_that_went_with_its_version_names_what_serves_again(plane: Plane) -> None:
    release = plane.start()
    plane.until(release.id, "promoted")
    plane.seconds(2)
    plane.registry.deleted = {"2"}
    plane.service.rollback(release.id, who="ann")
    plane.seconds(2)
    plane.check()


@pytest.mark.parametrize(("policy", "alias"), [("ignore", "4"), ("revert", "1")])
def test_the_settings_say_what_an_outside_move_means(make: Make, policy: str, alias: str) -> None:
    plane = make(registry=settings.Registry(on_alias_moved=policy))  # type: ignore[arg-type]
    plane.registry.aliases["iris", "champion"] = "4"
    assert plane.service.alias_moved("iris", "4", "registry") == ()
    assert plane.service.list() == []
    assert plane.registry.aliases["iris", "champion"] == alias
    with plane.store.read() as unit:
        reverts = [row for row in unit.audit.list(target="model:iris") if row.action == "alias.revert"]
    assert len(reverts) == (policy == "revert")


def test_an_alias_concerns_only_the_endpoints_that_follow_it(plane: Plane) -> None:
    plane.registry.aliases["iris", "live"] = "1"
    shop = settings.EndpointSettings(model="models:/iris@live", release=PLAN)
    plane.settings = msgspec.structs.replace(plane.settings, endpoints={**plane.settings.endpoints, "shop": shop})
    service = plane.another("two")
    service.bootstrap()
    begun = service.alias_moved("iris", "4", "registry", "live")
    assert [(release.endpoint, release.alias) for release in begun] == [("shop", "live")]
    assert [release.endpoint for release in service.alias_moved("iris", "5", "registry")] == ["iris"]


def test_a_version_that_cannot_be_released_is_told_and_holds_up_no_other_endpoint(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as one from where no serving process would load it."""
    plane = make(trust=settings.Trust(schemes=("file",)))
    plane.registry.aliases["iris", "champion"] = "4"
    assert plane.service.alias_moved("iris", "4", "registry") == ()
    assert "no release of iris version 4 on iris: models:/iris/4: models come from" in caplog.text
    assert plane.service.alias_moved("iris", "4", "registry") == ()
    assert caplog.text.count("no release of iris") == 1, "asked again and again, told once"
    assert plane.service.alias_moved("iris", "5", "registry") == ()
    assert "no release of iris version 5" in caplog.text


def test_a_challenger_that_cannot_be_released_is_told_once(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever looks asks for it every few seconds, since it is still untried."""
    registry = settings.Registry(on_challenger="release")
    plane = make(trust=settings.Trust(schemes=("file",)), registry=registry)
    for _ in range(3):
        assert plane.service.challenger_named("iris", "4", "registry") == ()
    assert caplog.text.count("no release of iris version 4 on iris") == 1


def test_an_alias_that_cannot_go_back_is_told(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody deleted the version that is served."""
    plane = make(registry=settings.Registry(on_alias_moved="revert"))
    plane.registry.deleted = {"1"}
    assert plane.service.alias_moved("iris", "4", "registry") == ()
    assert "no moving iris@champion back on iris: iris has no version 1" in caplog.text


def test_models_that_nobody_serves_are_no_news(plane: Plane) -> None:
    assert plane.service.alias_moved("wine", "2", "registry") == ()


def test_a_registry_that_is_away_starts_nothing(plane: Plane) -> None:
    plane.registry.away = True
    with pytest.raises(RegistryAway):
        plane.start()
    assert plane.service.list() == []


def test_models_outside_of_the_registry_move_no_alias(plane: Plane) -> None:
    release = plane.service.start("iris", "./model.onnx", who="ann")
    plane.until(release.id, "promoted")
    plane.seconds(3)
    assert plane.registry.moves == []
    assert not plane.service.get(release.id).alias_pending
