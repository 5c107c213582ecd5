"""``dynaflow tail``: a table's changes as they come, and the conditions that choose among them."""

from __future__ import annotations

import asyncio
import json
import select
import signal
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from dynaflow.batch import Batch
from dynaflow.cli._grammar import (
    parse_changed,
    parse_condition,
    parse_event_name,
    parse_key,
    parse_value,
)
from dynaflow.cli.tail import Viewer, show_lines
from dynaflow.codec import decode_event
from dynaflow.record import Record
from dynaflow.testing import RecordBuilder
from tests.support.command_line import Project, start
from tests.support.tables import REGION, Table

BUILD = RecordBuilder(table="orders")
ITEM = {
    "id": "A-1",
    "status": "open",
    "total": 20,
    "zip": "0150",
    "gift": True,
    "a.b": 1,
    "address": {"city": "Oslo", "zip.code": "1"},
    "lines": [{"sku": "x"}],
}


@pytest.fixture
def project(aws_project: Project) -> Project:
    return aws_project


@pytest.fixture
def table(table: Table, aws_environment: pytest.MonkeyPatch) -> Table:
    aws_environment.setenv("AWS_ENDPOINT_URL_DYNAMODB", table.url)
    return table


def write(table: Table) -> None:
    """Insert, change and remove an item, and insert another one."""
    item = {"id": {"S": "A-1"}, "status": {"S": "open"}, "total": {"N": "20"}}
    table.client.put_item(TableName=table.name, Item=item)
    changed = {**item, "status": {"S": "paid"}, "note": {"S": "\x1b[31mé"}}
    table.client.put_item(TableName=table.name, Item=changed)
    table.client.delete_item(TableName=table.name, Key={"id": {"S": "A-1"}})
    table.put("A-2")


def record_of(raw: dict[str, Any]) -> Record:
    (record,), _ = decode_event({"Records": [raw]})
    assert isinstance(record, Record)
    return record


def inserted(**attributes: Any) -> Record:
    return record_of(BUILD.insert({**ITEM, **attributes}))


def test_each_record_is_shown_with_what_it_changed(project: Project, table: Table) -> None:
    write(table)
    result = project.run("tail", table.name, "--from", "trim-horizon", "--limit", "4")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    heads = [line.split()[:2] for line in lines if not line.startswith(" ")]
    assert heads == [
        ["INSERT", 'id="A-1"'],
        ["MODIFY", 'id="A-1"'],
        ["REMOVE", 'id="A-1"'],
        ["INSERT", 'id="A-2"'],
    ]
    assert [line for line in lines if line.startswith(" ")] == [
        '  + status: "open"',
        "  + total: 20",
        '    status: "open" -> "paid"',
        r'  + note: "\u001b[31mé"',
        '  - status: "paid"',
        "  - total: 20",
        r'  - note: "\u001b[31mé"',
    ]
    assert result.stderr.splitlines() == [
        f"tailing {table.name} from trim-horizon",
        "4 of 4 records shown",
    ]


def test_as_json_each_record_is_one_line(project: Project, table: Table) -> None:
    write(table)
    result = project.run(
        "tail", table.name, "--from", "trim-horizon", "--limit", "4", "--json", "--region", REGION
    )
    first, second, third, _ = map(json.loads, result.stdout.splitlines())
    assert first["event"] == "INSERT"
    assert first["keys"] == {"id": "A-1"}
    assert first["old"] is None
    assert first["new"] == {"id": "A-1", "status": "open", "total": 20}
    assert first["diff"]["added"] == first["new"]
    assert second["diff"] == {
        "added": {"note": "\x1b[31mé"},
        "removed": {},
        "changed": {"status": {"old": "open", "new": "paid"}},
    }
    assert third["event"] == "REMOVE"
    assert third["new"] is None
    assert int(first["sequenceNumber"]) < int(second["sequenceNumber"])
    assert first["table"] == table.name


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (("--event", "modify"), ["MODIFY"]),
        (("--event", "INSERT", "--event", "remove"), ["INSERT", "REMOVE", "INSERT"]),
        (("--where", "status=paid"), ["MODIFY", "REMOVE"]),
        (("--where", "total>10", "--where", "status=open"), ["INSERT"]),
        (("--key", "id=A-2"), ["INSERT"]),
        (("--changed", "note"), ["MODIFY", "REMOVE"]),
        (("--changed", "status", "--event", "modify", "--key", "id=A-1"), ["MODIFY"]),
    ],
)
def test_records_are_chosen_by_event_key_condition_and_change(
    project: Project, table: Table, options: tuple[str, ...], shown: list[str]
) -> None:
    write(table)
    arguments = ("--from", "trim-horizon", "--json", "--limit", str(len(shown)))
    result = project.run("tail", table.name, *arguments, *options)
    assert [json.loads(line)["event"] for line in result.stdout.splitlines()] == shown


def test_once_ends_when_the_stream_is_read_up_and_begins_at_its_beginning(
    project: Project, table: Table
) -> None:
    write(table)
    result = project.run("tail", table.name, "--no-follow", "--event", "remove")
    assert result.exit_code == 0
    assert len([line for line in result.stdout.splitlines() if line[0] != " "]) == 1
    assert result.stderr.splitlines() == [
        f"tailing {table.name} from trim-horizon",
        "1 of 4 records shown",
    ]


def test_what_was_written_before_is_not_shown_and_ctrl_c_ends_it(
    project: Project, table: Table
) -> None:
    table.put("old")
    with start("tail", table.name, "--json") as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stderr.readline() == f"tailing {table.name} from latest\n"
            line = ""
            for attempt in range(100):  # it says nothing when it has begun to read
                table.put(f"new-{attempt}")
                if process.poll() is None and _has_output(process.stdout, 0.2):
                    line = process.stdout.readline()
                    break
            assert json.loads(line)["keys"]["id"].startswith("new-")
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=30)
            assert process.returncode == 0
            assert '"old"}' not in rest
        finally:
            process.kill()


def _has_output(stream: Any, seconds: float) -> bool:
    return bool(select.select([stream], [], [], seconds)[0])


def test_a_reader_that_goes_away_ends_it_quietly(project: Project, table: Table) -> None:
    table.put(*(f"{n}" for n in range(50)))
    process = start("tail", table.name, "--from", "trim-horizon")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    table.put("late")
    assert process.wait(30) == 141
    assert process.stderr is not None
    assert process.stderr.read() == f"tailing {table.name} from trim-horizon\n"
    process.stderr.close()


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (("--where", "status"), "--where 'status': write a path, one of"),
        (("--where", "=x"), "write a path, one of"),
        (("--where", "a..b=1"), "write a path, one of"),
        (("--where", "a b=1"), "write a path, one of"),
        (("--where", "a[x]=1"), "write a path, one of"),
        (("--where", "[0]=1"), "takes the name of an attribute"),
        (("--where", "a:={"), "it is not JSON"),
        (("--where", 'a="x'), "is not closed"),
        (("--where", "a:=true", "--where", "a<'x"), "is not closed"),
        (("--key", "id"), "--key 'id': write name=value"),
        (("--changed", "a=1"), "--changed 'a=1': write a path"),
        (("--changed", "F.keys.id"), "write a path"),
        (("--event", "update"), "--event 'update': write insert, modify or remove"),
        (("--limit", "0"), "--limit"),
        (("--from", "yesterday"), "yesterday"),
    ],
)
def test_an_option_that_cannot_work_is_a_usage_error_with_the_remedy(
    project: Project, options: tuple[str, ...], fact: str
) -> None:
    result = project.run("tail", "orders", *options)
    assert result.exit_code == 2
    assert fact in result.stderr
    assert result.stdout == ""


def test_what_aws_refuses_exits_with_4_and_one_line(project: Project, table: Table) -> None:
    result = project.run("tail", "nowhere")
    assert result.exit_code == 4
    assert "ResourceNotFoundException" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_a_stream_without_old_images_shows_what_it_has(
    project: Project, table: Table, moto_url: str
) -> None:
    other = Table(moto_url, f"{table.name}-new", view_type="NEW_IMAGE")
    write(other)
    result = project.run("tail", other.name, "--from", "trim-horizon", "--limit", "4")
    assert [line for line in result.stdout.splitlines() if line.startswith(" ")] == [
        '  + status: "open"',
        "  + total: 20",
        '    id is "A-1"',
        '    status is "paid"',
        "    total is 20",
        r'    note is "\u001b[31mé"',
    ]
    result = project.run(
        "tail", other.name, "--from", "trim-horizon", "--limit", "1", "--json", "--event", "modify"
    )
    report = json.loads(result.stdout)
    assert (report["old"], report["diff"]) == (None, None)
    assert report["new"]["status"] == "paid"
    other.client.close()


def test_what_a_condition_cannot_tell_is_left_out_with_the_reason(
    project: Project, table: Table, moto_url: str
) -> None:
    other = Table(moto_url, f"{table.name}-new", view_type="NEW_IMAGE")
    write(other)
    other.put("A-3")
    arguments = ("--from", "trim-horizon", "--json", "--limit", "1", "--where", "id=A-3")
    result = project.run("tail", other.name, *arguments)
    assert json.loads(result.stdout)["keys"] == {"id": "A-3"}
    (left_out,) = [line for line in result.stderr.splitlines() if "left out" in line]
    assert "NEW_AND_OLD_IMAGES" in left_out
    other.client.close()


def viewed(*raws: dict[str, Any]) -> None:
    """Show raw records as they come from a stream."""
    viewer = Viewer(lambda record: True, show_lines, None)
    asyncio.run(viewer.process(Batch(*decode_event({"Records": list(raws)}))))


def test_a_record_that_cannot_be_read_keeps_nothing_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken, odd, malformed = BUILD.insert(ITEM), BUILD.insert(ITEM), BUILD.insert(ITEM)
    del broken["dynamodb"]["Keys"]
    odd["dynamodb"]["ApproximateCreationDateTime"] = "yesterday"
    odd["dynamodb"]["Keys"] = {"id": {"N": "many"}}
    malformed["dynamodb"]["NewImage"] = {"total": {"N": "many"}}
    viewed(broken, odd, malformed, BUILD.expire({"id": "A-9"}))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("unreadable  ")
    assert lines[0].endswith("  dynamodb.Keys is missing or empty")
    assert "(malformed attribute value at ['id']: N is not a decimal number)  ?  " in lines[1]
    assert "  malformed attribute value at ['new']['total']: N is not a decimal number" in lines
    assert lines[-1].endswith("  by Time to Live")


def test_names_and_values_cannot_command_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    viewed(BUILD.insert({"id": "\x9b2J\x07", "\x9b31m": "\u202e\ud800\n"}))
    shown = capsys.readouterr().out
    assert shown.replace("\n", "").isprintable()
    assert r"\u009b2J\u0007" in shown


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20", Decimal(20)),
        ("-0.5", Decimal("-0.5")),
        ("1E3", Decimal(1000)),
        ("01", "01"),
        ("1.", "1."),
        (".5", ".5"),
        ("٣", "٣"),
        ("nan", "nan"),
        ("9" * 201, "9" * 201),
        ("", ""),
        ("true", "true"),
        ('"20"', "20"),
        ("'20'", "20"),
        ("'it\"s'", 'it"s'),
        (r'"a\"b"', 'a"b'),
        ("a b", "a b"),
    ],
)
def test_a_value_is_a_number_if_it_looks_like_one_and_else_text(text: str, value: object) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "is_true"),
    [
        ("status=open", True),
        ("status==open", True),
        (" status = open ", True),
        ("status!=open", False),
        ("status=Open", False),
        ("total=20", True),
        ("total=20.0", True),
        ('total="20"', False),
        ("total:=20", True),
        ("total>19", True),
        ("total>20", False),
        ("total>=20", True),
        ("total<=20", True),
        ("total<20", False),
        ("zip=0150", True),
        ("status>a", True),
        ("gift=true", False),
        ("gift:=true", True),
        ("nothing=1", False),
        ("nothing!=1", True),
        ("address.city=Oslo", True),
        ('address["city"]=Oslo', True),
        ('address["zip.code"]="1"', True),
        ('["a.b"]=1', True),
        ("a.b=1", False),
        ("lines[0].sku=x", True),
        ("lines[1].sku=x", False),
        ('lines:=[{"sku": "x"}]', True),
        ("F.new.status=open", True),
        ("F.old.status=open", False),
        ("F.keys.id=A-1", True),
        ("F=1", False),
        ("Found=1", False),
    ],
)
def test_a_condition_is_the_filter_that_is_written_so(text: str, is_true: bool) -> None:
    assert parse_condition(text)(inserted()) is is_true


def test_of_an_item_that_was_removed_a_condition_tests_what_it_was() -> None:
    removed = record_of(BUILD.remove(ITEM))
    assert parse_condition("status=open")(removed)
    assert not parse_condition("F.new.status=open")(removed)
    only_new = RecordBuilder(view_type="NEW_IMAGE")
    assert parse_condition("status=open")(record_of(only_new.insert(ITEM)))


@pytest.mark.parametrize(
    ("key", "text", "is_true"),
    [
        ("7", "id=7", True),
        (7, "id=7", True),
        (7, 'id="7"', False),
        ("7", 'id="7"', True),
        ("A-1", "id=A-1", True),
        ("A-1", "id=A", False),
        ("A-1", "other=A-1", False),
    ],
)
def test_a_key_is_found_whether_it_is_a_number_or_a_text(
    key: object, text: str, is_true: bool
) -> None:
    assert parse_key(text)(inserted(id=key)) is is_true


@pytest.mark.parametrize(
    ("text", "new", "is_true"),
    [
        ("status", {"status": "paid"}, True),
        ("status", {"total": 1}, False),
        ("address", {"address": {"city": "Bergen"}}, True),
        ("address.city", {"address": {"city": "Bergen"}}, True),
        ("F.new.address.city", {"address": {"city": "Oslo"}}, False),
        ('["a.b"]', {"a.b": 2}, True),
    ],
)
def test_a_path_has_changed_if_its_value_is_another(
    text: str, new: Mapping[str, Any], is_true: bool
) -> None:
    assert parse_changed(text)(record_of(BUILD.modify(ITEM, {**ITEM, **new}))) is is_true


def test_an_event_has_its_name_in_any_case() -> None:
    assert parse_event_name("Insert") == "INSERT"
