"""``dynaflow filters``: the patterns, in words and as JSON, and what they say of each route."""

import json
from pathlib import Path

import pytest

from tests.support.command_line import Project

SHOP = """
    from dynaflow import App, F, Router, changed

    router = Router(table="orders")


    @router.on_modify(changed("status", to="paid"))
    def ship(new: dict): ...


    @router.on_insert(F.new.total > 100)
    def thank(new: dict): ...


    app = App(router)
    """


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    project.write("shop.py", SHOP)
    return project


def test_each_pattern_is_told_in_words_and_as_json(project: Project) -> None:
    result = project.run("filters", "shop:app", "--view-type", "NEW_AND_OLD_IMAGES")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[2] == "2. INSERT, F.new.total is of type N"
    assert json.loads(lines[3]) == {
        "eventName": ["INSERT"],
        "dynamodb": {"NewImage": {"total": {"N": [{"exists": True}]}}},
    }
    assert lines[5] == "shop.ship   exactly"
    assert lines[6].startswith("shop.thank  widened  F.new.total > 100 orders numbers")
    assert len(lines) == 7


def test_the_pattern_for_streams_without_images_is_explained(project: Project) -> None:
    told = project.run("filters", "shop:app").stdout
    assert "StreamViewType" in told
    assert "a stream without the images that filters read is noticed" in told


def test_json_has_what_the_api_takes_and_what_cdk_takes(project: Project) -> None:
    result = project.run("filters", "shop:app", "--json")
    report = json.loads(result.stdout)
    texts = [entry["Pattern"] for entry in report["FilterCriteria"]["Filters"]]
    assert [json.loads(text) for text in texts] == report["patterns"]
    assert [route["pushed"] for route in report["routes"]] == ["exactly", "widened"]
    assert report["widenings"] == []


def test_patterns_that_do_not_fit_are_joined_and_it_is_said_what_became_wider(
    project: Project,
) -> None:
    result = project.run("filters", "shop:app", "--max-patterns", "1")
    assert result.stdout.startswith("1. any INSERT or MODIFY\n")
    assert "wider: a mapping takes 1 pattern" in result.stdout


def test_a_catch_all_route_means_no_filter(project: Project) -> None:
    project.write(
        "all.py",
        """
        from dynaflow import App, F, Router

        router = Router()


        @router.on_any()
        def everything(keys: dict): ...


        @router.on_insert(F.new.a == 1)
        def one(new: dict): ...


        app = App(router)
        """,
    )
    result = project.run("filters", "all:app")
    assert result.stdout.splitlines()[0] == "No filter: Lambda is to send every record."
    assert "all.one         not      all.everything has to see every record" in result.stdout
    report = json.loads(project.run("filters", "all:app", "--json").stdout)
    assert (report["FilterCriteria"], report["patterns"]) == ({}, [])


def test_several_tables_need_a_choice(project: Project) -> None:
    project.write(
        "two.py",
        """
        from dynaflow import App, Router

        orders, customers = Router(table="orders"), Router(table="customers")


        @orders.on_insert()
        def one(new: dict): ...


        @customers.on_remove()
        def other(old: dict): ...


        app = App(orders, customers)
        """,
    )
    refused = project.run("filters", "two:app")
    assert refused.exit_code == 2
    assert "say which, as in --table customers" in refused.stderr
    chosen = json.loads(project.run("filters", "two:app", "--table", "orders", "--json").stdout)
    assert chosen["patterns"] == [{"eventName": ["INSERT"]}]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--table", "ordres"), "no route takes records of table 'ordres': those of the App take"),
        (("--view-type", "NEW"), "write NEW_AND_OLD_IMAGES, NEW_IMAGE, OLD_IMAGE, KEYS_ONLY"),
        (("--max-patterns", "11"), "a mapping takes 5 patterns, or up to 10"),
    ],
)
def test_a_mistake_is_answered_with_what_to_write(
    project: Project, arguments: tuple[str, ...], said: str
) -> None:
    result = project.run("filters", "shop:app", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""
