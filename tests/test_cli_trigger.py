"""``dynaflow trigger``: writes that a stream has records of."""

from __future__ import annotations

import re
import signal
import subprocess

import pytest

from tests.support.command_line import Project, start
from tests.support.tables import REGION, Table


@pytest.fixture
def project(aws_project: Project) -> Project:
    return aws_project


@pytest.fixture
def table(table: Table, aws_environment: pytest.MonkeyPatch) -> Table:
    aws_environment.setenv("AWS_ENDPOINT_URL_DYNAMODB", table.url)
    return table


def test_insert_modify_and_remove_write_what_is_said(project: Project, table: Table) -> None:
    result = project.run("trigger", "insert", table.name, "id=A-1", "status=open", "total=20")
    assert result.exit_code == 0
    assert result.stdout == f'inserted id="A-1" in {table.name}\n'
    assert result.stderr.splitlines() == [
        f"writing to table {table.name} at {table.url} ({REGION})",
        """as numbers: total. What is meant as text needs quotes: 'zip="10115"'""",
    ]
    item = {"id": {"S": "A-1"}, "status": {"S": "open"}, "total": {"N": "20"}}
    assert table.items == [item]

    result = project.run("trigger", "modify", table.name, "id=A-1", "status=paid", "note=")
    assert (result.exit_code, result.stdout) == (0, f'modified id="A-1" in {table.name}\n')
    assert table.items == [{**item, "status": {"S": "paid"}, "note": {"S": ""}}]

    result = project.run("trigger", "remove", table.name, "id=A-1")
    assert (result.exit_code, result.stdout) == (0, f'removed id="A-1" in {table.name}\n')
    assert table.items == []

    shown = project.run(
        "tail", table.name, "--once", "--from", "trim-horizon", "--limit", "3", "--json"
    )
    assert [line.split('"')[3] for line in shown.stdout.splitlines()] == [
        "INSERT",
        "MODIFY",
        "REMOVE",
    ]


WRITTEN = [
    ("=20", {"N": "20"}),
    ("=-1.50", {"N": "-1.50"}),
    ("=1e3", {"N": "1E+3"}),
    ("=007", {"S": "007"}),
    ("=+1", {"S": "+1"}),
    ("=1_000", {"S": "1_000"}),
    ("=true", {"S": "true"}),
    ('="20"', {"S": "20"}),
    (r'="\u0041\n"', {"S": "A\n"}),
    ("='20'", {"S": "20"}),
    ("=x=y", {"S": "x=y"}),
    ("=", {"S": ""}),
    (".b=1", {"N": "1"}),
    (":=1.0", {"N": "1.0"}),
    (":=true", {"BOOL": True}),
    (":=null", {"NULL": True}),
    (':=[1, {"b": "x"}]', {"L": [{"N": "1"}, {"M": {"b": {"S": "x"}}}]}),
    (':="1"', {"S": "1"}),
]


def test_a_value_is_of_the_type_that_it_looks_like(project: Project, table: Table) -> None:
    attributes = [f"a{at}{text}" for at, (text, _) in enumerate(WRITTEN)]
    result = project.run("trigger", "insert", table.name, "id=1", *attributes)
    assert result.exit_code == 0, result.stderr
    (item,) = table.items
    assert item.pop("id") == {"S": "1"}
    names = [re.split(":?=", text)[0] for text in attributes]
    assert item == dict(zip(names, [written for _, written in WRITTEN], strict=True))


def test_a_key_has_the_type_that_the_table_says(
    project: Project, table: Table, moto_url: str
) -> None:
    for kind, written in (("N", {"N": "7"}), ("S", {"S": "7"})):
        other = Table(moto_url, f"{table.name}-{kind}", range_kind=kind)
        result = project.run("trigger", "insert", other.name, "id=007", "at=7")
        assert result.exit_code == 0, result.stderr
        assert other.items == [{"id": {"S": "007"}, "at": written}]
        other.client.close()


def test_a_binary_key_is_written_as_base64(project: Project, table: Table, moto_url: str) -> None:
    other = Table(moto_url, f"{table.name}-B", range_kind="B")
    assert project.run("trigger", "insert", other.name, "id=1", "at=/wA=").exit_code == 0
    assert other.items == [{"id": {"S": "1"}, "at": {"B": b"\xff\x00"}}]
    for text in ("at=no base64!", "at=1", "at:=[1]"):
        result = project.run("trigger", "insert", other.name, "id=2", text)
        assert result.exit_code == 2
        assert "base64" in result.stderr
    other.client.close()


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (("insert", "id=A-1", "status=new"), "there is such an item already"),
        (("modify", "id=A-2", "status=new"), "there is no such item"),
        (("remove", "id=A-2"), "there is no such item"),
    ],
)
def test_a_write_that_no_record_would_come_of_is_refused_and_changes_nothing(
    project: Project, table: Table, arguments: tuple[str, ...], fact: str
) -> None:
    table.put("A-1")
    change, *attributes = arguments
    result = project.run("trigger", change, table.name, *attributes)
    assert result.exit_code == 4
    assert fact in result.stderr.splitlines()[-1]
    assert result.stdout == ""
    assert table.items == [{"id": {"S": "A-1"}}]


def test_a_change_that_changes_nothing_is_told(project: Project, table: Table) -> None:
    project.run("trigger", "insert", table.name, "id=A-1", "total=20")
    result = project.run("trigger", "modify", table.name, "id=A-1", "total=20.0")
    assert result.exit_code == 0
    assert "no record will come of it" in result.stderr
    result = project.run("trigger", "modify", table.name, "id=A-1", "total=20.0", "note=x")
    assert "no record" not in result.stderr


def test_a_table_without_a_stream_is_told(project: Project, table: Table, moto_url: str) -> None:
    other = Table(moto_url, f"{table.name}-dry", stream=False)
    result = project.run("trigger", "insert", other.name, "id=A-1")
    assert result.exit_code == 0
    assert f"table {other.name} has no stream" in result.stderr
    other.client.close()


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (("insert", "status=open"), "and id is missing: add id=VALUE"),
        (("modify", "id=A-1"), "modify wants an attribute to set"),
        (("remove", "id=A-1", "status=x"), "remove takes the key alone: leave out status"),
        (("insert", "id=A-1", "id=A-2"), "'id' is given twice"),
        (("insert", "id=A-1", "status"), "write name=value"),
        (("insert", "id=A-1", "=x"), "write name=value"),
        (("insert", "id=A-1", "a:={"), "it is not JSON"),
        (("insert", "id=A-1", "a:=NaN"), "NaN is no number that DynamoDB has"),
        (("insert", "id=A-1", "a:=1e400"), "outside of DynamoDB's range"),
        (("insert", "id=A-1", 'a="x'), "is not closed"),
        (("insert", "id:=1"), "id is of type S in this table, and this is N. Write text, as in"),
        (("insert", "id="), "a key is never empty. Write text, as in id=A-1"),
        (("replace", "id=A-1"), "replace"),
    ],
)
def test_what_cannot_be_written_is_a_usage_error_with_the_remedy(
    project: Project, table: Table, arguments: tuple[str, ...], fact: str
) -> None:
    change, *attributes = arguments
    result = project.run("trigger", change, table.name, *attributes)
    assert result.exit_code == 2
    assert fact in result.stderr
    assert table.items == []


def test_what_aws_refuses_exits_with_4_and_one_line(project: Project, table: Table) -> None:
    result = project.run("trigger", "insert", "nowhere", "id=1")
    assert result.exit_code == 4
    assert "ResourceNotFoundException" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_endpoint_that_nobody_listens_at_exits_with_4(project: Project) -> None:
    arguments = ("trigger", "insert", "orders", "id=1", "--endpoint-url", "http://127.0.0.1:1")
    result = project.run(*arguments)
    assert result.exit_code == 4
    assert "127.0.0.1:1" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("written", ["zip=01234", 'zip="10115"', "zip:=10115", "zip=N-1"])
def test_only_what_is_a_number_by_its_looks_is_told(
    project: Project, table: Table, written: str
) -> None:
    result = project.run("trigger", "insert", table.name, "id=1", written)
    assert result.exit_code == 0
    assert "as numbers" not in result.stderr


AWS = "http://dynamodb.us-east-1.amazonaws.com"  # http, so that a proxy can answer in its place


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_aws_itself_is_written_to_only_after_a_yes(
    project: Project, table: Table, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", table.url)
    arguments = ("trigger", "insert", table.name, "id=A-1", "--endpoint-url", AWS)
    result = project.run(*arguments, stdin=answer)
    assert result.exit_code == 2
    assert f'insert id="A-1" in table {table.name} at {AWS} ({REGION})? [y/N]' in result.stderr
    assert result.stderr.splitlines()[-1].endswith("nothing was written. Without a question: --yes")
    assert (result.stdout, table.items) == ("", [])


@pytest.mark.parametrize(("options", "answer"), [((), "y\n"), (("--yes",), "")])
def test_with_a_yes_aws_itself_is_written_to(
    project: Project,
    table: Table,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    answer: str,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", table.url)
    arguments = ("trigger", "insert", table.name, "id=A-1", "--endpoint-url", AWS)
    result = project.run(*arguments, *options, stdin=answer)
    assert result.exit_code == 0, result.stderr
    assert ("[y/N]" in result.stderr) == (not options)
    assert table.items == [{"id": {"S": "A-1"}}]


def test_ctrl_c_ends_the_question_and_writes_nothing(
    project: Project, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", table.url)
    arguments = ("trigger", "insert", table.name, "id=A-1", "--endpoint-url", AWS)
    with start(*arguments, stdin=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("writing to")
        assert process.stderr.read(len("insert")) == "insert"
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(30) == 130
        finally:
            process.kill()
    assert table.items == []
