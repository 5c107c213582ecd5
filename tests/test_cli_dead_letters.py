"""``dynaflow dead-letters``: what was parked is listed, shown, and run again."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from dynaflow import App, Router
from dynaflow.cli._letters import read_letters
from dynaflow.cli._redrive import Redrive
from dynaflow.codec import decode_records
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.dead_letters import S3, SQS, JsonLines
from dynaflow.errors import DeadLetterError
from dynaflow.retry import without_waits
from dynaflow.testing import RecordBuilder
from tests.support.command_line import Project, start
from tests.support.tables import REGION, Table

SHOP = """
    import os
    from dynaflow import App, Router

    router = Router()

    def say(what):
        print(what, flush=True)

    @router.on_any(lambda record: False, name="ship")  # its filter is not asked any more
    async def ship(new: dict | None, keys):
        if keys["id"] in os.environ.get("FAILING", "").split():
            raise ValueError("secret")
        say(f"shipped {keys['id']} {(new or {}).get('n')}")

    @router.on_any(name="note")
    def note(keys):
        say(f"noted {keys['id']}")

    app = App(router)
"""
MARK = "hush"  # what no output may show by default
FILE = "letters.jsonl"


@pytest.fixture
def project(aws_project: Project) -> Project:
    aws_project.write("shop.py", SHOP)
    return aws_project


class Parking:
    """Makes letters of a table's stream.

    Args:
        directory: where they are kept, in a file.
        table: the table's name.
    """

    def __init__(self, directory: Path, table: str = "orders") -> None:
        self.build = RecordBuilder(table=table)
        self.path = directory / FILE
        self.count = 0

    def letter(self, name: str, route: str | None = "ship", **options: Any) -> DeadLetterRecord:
        """Return the letter of a new change of an item."""
        self.count += 1
        item = {"id": name, "note": MARK}
        raw = self.build.modify({**item, "n": self.count - 1}, {**item, "n": self.count})
        (record,) = decode_records([raw], self.build.stream_arn)
        given = {"reason": "deliveries", "attempts": 3, "deliveries": 5, **options}
        return DeadLetterRecord.of(
            record,
            route=route,
            error=failed(ValueError(f"{MARK} is bad")),
            parked_at=1_767_225_600.0 - self.count,
            **given,
        )

    def park(self, *letters: DeadLetterRecord) -> None:
        """Put letters into the file."""
        sink = JsonLines(self.path)
        for letter in letters:
            sink(letter)

    def parked(self, *names: str, route: str | None = "ship") -> list[DeadLetterRecord]:
        """Park a letter of each item, in this order, and return them."""
        letters = [self.letter(name, route) for name in names]
        self.park(*letters)
        return letters


def failed(error: Exception) -> Exception:
    """Return the error as if it had been raised."""
    try:
        raise error
    except ValueError as raised:
        return raised


@pytest.fixture
def parking(project: Project) -> Parking:
    return Parking(project.directory)


def left(project: Project, address: str = FILE) -> list[str]:
    """Return the ids of the letters that are there."""
    result = project.run("dead-letters", "list", address, "--json")
    return [letter["id"] for letter in json.loads(result.stdout)]


def ids(letters: Iterable[DeadLetterRecord]) -> list[str]:
    return [letter.id for letter in letters]


def redrive(project: Project, *arguments: str) -> Any:
    return project.run("dead-letters", "redrive", "shop:app", FILE, *arguments)


# list


def test_letters_are_listed_by_the_time_they_were_parked_and_without_data(
    project: Project, parking: Parking
) -> None:
    first, second = parking.letter(f"{MARK}-1"), parking.letter(f"{MARK}-2", "note")
    parking.park(first, second)
    result = project.run("dead-letters", "list", FILE)
    assert result.exit_code == 0, result.stderr
    head, *rows = result.stdout.splitlines()
    assert " ".join(head.split()) == (
        "id parked at route table event sequence number reason error attempts deliveries"
    )
    assert [row.split() for row in rows] == [
        [
            letter.id[:12],
            when,
            str(letter.route),
            "orders",
            "MODIFY",
            letter.sequence_number,
            "deliveries",
            "ValueError",
            "3",
            "5",
        ]
        for letter, when in ((second, "2025-12-31T23:59:58Z"), (first, "2025-12-31T23:59:59Z"))
    ]
    assert result.stderr == "2 letters\n"
    assert MARK not in result.output


def test_as_json_the_list_has_whole_ids(project: Project, parking: Parking) -> None:
    (letter,) = parking.parked("a")
    result = project.run("dead-letters", "list", FILE, "--json")
    assert json.loads(result.stdout) == [
        {
            "id": letter.id,
            "parkedAt": "2025-12-31T23:59:59Z",
            "route": "ship",
            "table": "orders",
            "eventName": "MODIFY",
            "sequenceNumber": letter.sequence_number,
            "reason": "deliveries",
            "errorType": "ValueError",
            "attempts": 3,
            "deliveries": 5,
            "hasImages": True,
        }
    ]


def test_where_nothing_was_parked_there_is_nothing(project: Project) -> None:
    result = project.run("dead-letters", "list", FILE)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "0 letters\n")


def test_a_damaged_letter_is_said_and_the_others_are_listed(
    project: Project, parking: Parking
) -> None:
    (first,) = parking.parked("a")
    with parking.path.open("a", encoding="utf-8") as file:
        file.write('{"version": 1, "x": "hush"\n')
    (second,) = parking.parked("b")
    result = project.run("dead-letters", "list", FILE, "--json")
    assert result.exit_code == 1
    assert {letter["id"] for letter in json.loads(result.stdout)} == {first.id, second.id}
    (line,) = [line for line in result.stderr.splitlines() if "left out" in line]
    assert "line 2" in line
    assert MARK not in line


def test_names_in_a_letter_cannot_command_a_terminal(project: Project, parking: Parking) -> None:
    parking.park(parking.letter("a", route="\x1b[31mship\n"))
    for command in (("list", FILE), ("show", FILE, left(project)[0])):
        result = project.run("dead-letters", *command)
        assert "\x1b" not in result.stdout
        assert r"\u001b[31mship\n" in result.stdout


@pytest.mark.parametrize(
    ("address", "code", "fact"),
    [
        ("somewhere", 2, "'somewhere' names no place of dead letters"),
        ("arn:aws:sns:us-east-1:1:topic", 2, "a topic keeps nothing"),
        ("sns:arn:aws:sns:us-east-1:1:topic", 2, "a topic keeps nothing"),
        ("nowhere/letters.jsonl", 1, "does not exist"),
    ],
)
@pytest.mark.parametrize("command", ["list", "show", "redrive"])
def test_an_address_that_cannot_be_read_is_one_line(
    project: Project, command: str, address: str, code: int, fact: str
) -> None:
    arguments = {
        "list": (address,),
        "show": (address, "abcd"),
        "redrive": ("shop:app", address, "--all"),
    }
    result = project.run("dead-letters", command, *arguments[command])
    assert result.exit_code == code
    assert fact in result.stderr
    assert "Traceback" not in result.stderr


# show


def test_show_has_all_but_what_the_item_holds(project: Project, parking: Parking) -> None:
    (letter,) = parking.parked(MARK)
    result = project.run("dead-letters", "show", FILE, letter.id[:8])
    assert result.exit_code == 0
    told = dict(line.split(None, 1) for line in result.stdout.splitlines() if line[0] != " ")
    assert told["id"] == letter.id
    assert told["stream"] == letter.source_arn
    assert told["images"] == "yes"
    assert "test_cli_dead_letters.py" in result.stdout.splitlines()[-1]
    assert "in failed" in result.stdout.splitlines()[-1]
    assert MARK not in result.output


def test_show_has_the_record_and_the_error_where_that_is_asked_for(
    project: Project, parking: Parking
) -> None:
    (letter,) = parking.parked("a")
    result = project.run("dead-letters", "show", FILE, letter.id, "--data")
    assert f"ValueError: {MARK} is bad" in result.stdout
    assert '"NewImage"' in result.stdout
    result = project.run("dead-letters", "show", FILE, letter.id, "--data", "--json")
    told = json.loads(result.stdout)
    assert told["record"] == letter.raw
    assert told["error"] == letter.error
    assert told["traceback"] == letter.traceback
    result = project.run("dead-letters", "show", FILE, letter.id, "--json")
    assert MARK not in result.stdout
    assert json.loads(result.stdout)["eventID"] == letter.event_id


def test_show_tells_what_was_too_large(project: Project, parking: Parking) -> None:
    letter = parking.letter("a").without_images()
    parking.park(letter)
    result = project.run("dead-letters", "show", FILE, letter.id)
    assert "no, it was too large: NewImage (" in result.stdout


@pytest.mark.parametrize("text", ["", "abc", "xyz12", "0" * 33, "--"])
def test_what_is_no_beginning_of_an_id_is_a_usage_error(
    project: Project, parking: Parking, text: str
) -> None:
    parking.parked("a")
    for arguments in (("show", FILE), ("redrive", "shop:app", FILE)):
        result = project.run("dead-letters", *arguments, text)
        assert result.exit_code == 2


def test_an_id_that_is_not_there_or_not_the_only_one_is_said(
    project: Project, parking: Parking
) -> None:
    letters = alike(parking)
    result = project.run("dead-letters", "show", FILE, letters[0].id[:4])
    assert result.exit_code == 1
    assert f"begins the ids of {len(letters)} letters" in result.stderr
    assert all(letter.id in result.stderr for letter in letters)
    result = project.run("dead-letters", "show", FILE, "f" * 32)
    assert result.exit_code == 1
    assert "there is no letter whose id begins with" in result.stderr


def alike(parking: Parking) -> list[DeadLetterRecord]:
    """Park two letters whose ids begin with the same four digits, and return them."""
    seen: dict[str, DeadLetterRecord] = {}
    while True:
        letter = parking.letter("a")
        other = seen.setdefault(letter.id[:4], letter)
        if other is not letter:
            parking.park(other, letter)
            return [other, letter]


# redrive


def test_a_letter_runs_for_its_route_alone_and_is_then_removed(
    project: Project, parking: Parking
) -> None:
    parking.parked("a")
    parking.parked("b", route="note")
    result = redrive(project, "--all")
    assert result.exit_code == 0, result.stderr
    said = result.stderr.splitlines()
    assert said == ["shipped a 1", "noted b", "2 letters: 2 done"]
    head, first, second = result.stdout.splitlines()
    assert head.split() == ["id", "route", "event", "sequence", "number", "outcome"]
    assert first.split()[1:3] == ["ship", "MODIFY"]
    assert first.split()[-1] == second.split()[-1] == "done"
    assert left(project) == []


def test_what_fails_stays_and_is_shown_and_the_others_go_on(
    project: Project, parking: Parking, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.setenv("FAILING", "b")
    _, bad, _ = parking.parked("a", "b", "c")
    result = redrive(project, "--all")
    assert result.exit_code == 1
    assert "failed: ValueError" in result.stdout
    assert result.stderr.splitlines()[-1] == "3 letters: 2 done, 1 failed"
    assert left(project) == [bad.id]
    aws_environment.delenv("FAILING")
    assert redrive(project, "--all").exit_code == 0
    assert left(project) == []


def test_an_items_letters_run_in_the_order_of_the_stream(
    project: Project, parking: Parking
) -> None:
    first, second, third = (parking.letter("a") for _ in range(3))
    parking.park(third, first, second)
    result = redrive(project, third.id[:12], first.id[:12], second.id)
    assert result.stderr.splitlines()[:3] == ["shipped a 1", "shipped a 2", "shipped a 3"]


def test_letters_behind_one_of_their_item_and_route_that_failed_stay_and_do_not_run(
    project: Project, parking: Parking, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.setenv("FAILING", "a")
    first, second = parking.parked("a", "a")
    parking.parked("a", route="note")
    parking.parked("b")
    result = redrive(project, "--all")
    assert result.exit_code == 1
    assert f"letter {first.id[:12]} of the same item comes before it" in result.stderr
    assert result.stderr.splitlines()[-1] == "4 letters: 1 failed, 1 not run, 2 done"
    assert set(left(project)) == {first.id, second.id}


def test_a_letter_without_a_route_is_for_all_that_take_it(
    project: Project, parking: Parking, aws_environment: pytest.MonkeyPatch
) -> None:
    parking.parked("a", route=None)
    result = redrive(project, "--all")
    assert result.stderr.splitlines() == ["noted a", "1 letters: 1 done"]
    assert left(project) == []


def test_of_a_letter_without_a_route_it_is_said_that_no_route_takes_it(
    project: Project, parking: Parking
) -> None:
    project.write(
        "narrow.py",
        """
        from dynaflow import Router
        router = Router()
        @router.on_insert(name="other")
        def other(keys): ...
        """,
    )
    parking.parked("a", route=None)
    result = project.run("dead-letters", "redrive", "narrow:router", FILE, "--all")
    assert result.exit_code == 0
    assert result.stdout.rstrip().endswith("done: no route takes it")
    assert result.stderr == "1 letters: 1 done\n"


def test_a_letter_without_a_route_stays_where_no_route_is_for_its_table(
    project: Project,
) -> None:
    project.write(
        "customers.py",
        """
        from dynaflow import Router
        router = Router(table="customers")
        @router.on_any(name="other")
        def other(keys): ...
        """,
    )
    parking = Parking(project.directory)
    (letter,) = parking.parked("a", route=None)
    result = project.run("dead-letters", "redrive", "customers:router", FILE, "--all")
    assert result.exit_code == 1
    assert "no route for table orders" in result.stderr
    assert left(project) == [letter.id]


def test_a_letter_of_a_route_that_is_no_more_stays_and_the_others_run(
    project: Project, parking: Parking
) -> None:
    (gone,) = parking.parked("a", route="sihp")
    parking.parked("a", "b")
    result = redrive(project, "--all")
    assert result.exit_code == 1
    assert "the App has no route 'sihp'. It has: ship, note" in result.stderr
    assert left(project) == [gone.id]


def test_a_letter_whose_route_takes_no_such_event_any_more_stays_and_the_others_run(
    project: Project, parking: Parking
) -> None:
    project.write(
        "narrow.py",
        """
        from dynaflow import Router
        router = Router()
        @router.on_insert(name="ship")
        def ship(keys): ...
        @router.on_any(name="note")
        def note(keys): ...
        """,
    )
    (letter,) = parking.parked("a")
    parking.parked("a", route="note")
    result = project.run("dead-letters", "redrive", "narrow:router", FILE, "--all")
    assert result.exit_code == 1
    assert "takes MODIFY records" in result.stderr
    assert left(project) == [letter.id]


def test_the_letters_of_one_route_can_be_chosen(project: Project, parking: Parking) -> None:
    parking.parked("a", "b")
    (other,) = parking.parked("c", route="note")
    result = redrive(project, "--route", "ship")
    assert result.exit_code == 0
    assert left(project) == [other.id]
    assert redrive(project, "--route", "ship").stderr == "0 letters\n"


def test_one_letter_can_be_chosen_and_an_unclear_id_keeps_no_other_back(
    project: Project, parking: Parking
) -> None:
    two = alike(parking)
    (letter,) = parking.parked("z")
    result = redrive(project, two[0].id[:4], letter.id[:12].upper())
    assert result.exit_code == 1
    assert "begins the ids of 2 letters" in result.stderr
    assert sorted(left(project)) == sorted(ids(two))


def test_a_dry_run_tells_what_would_be_run_and_runs_nothing(
    project: Project, parking: Parking
) -> None:
    letters = parking.parked("a", "a")
    parking.park(large := parking.letter("b").without_images())
    result = redrive(project, "--all", "--dry-run")
    assert result.exit_code == 0
    assert [re.split("  +", line.strip())[-1] for line in result.stdout.splitlines()[1:]] == [
        "would run",
        "would run",
        "would run: read from the stream",
    ]
    assert result.stderr == "3 letters: 3 would run\n"
    assert set(left(project)) == {*ids(letters), large.id}

    parking.parked("a", route="sihp")
    result = redrive(project, "--all", "--dry-run")
    assert result.exit_code == 1
    assert "'sihp'" in result.stderr


def test_a_damaged_letter_is_said_and_keeps_no_other_back(
    project: Project, parking: Parking
) -> None:
    parking.path.write_text("hush\n", encoding="utf-8")
    parking.parked("a")
    result = redrive(project, "--all")
    assert result.exit_code == 1
    assert "line 1" in result.stderr
    assert result.stderr.splitlines()[-1] == "1 letters: 1 done"
    (letter,) = parking.parked("b")
    assert redrive(project, letter.id).exit_code == 0  # the damaged one was not asked for


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ((), "say what to run"),
        (("--all", "abcd"), "say what to run"),
        (("--all", "--route", "ship"), "say what to run"),
        (("abcd", "--route", "ship"), "say what to run"),
        (("--route", "sihp"), "--route: the App has no route 'sihp'. It has: ship, note"),
    ],
)
def test_a_choice_that_cannot_be_is_a_usage_error(
    project: Project, parking: Parking, options: tuple[str, ...], fact: str
) -> None:
    parking.parked("a")
    result = redrive(project, *options)
    assert result.exit_code == 2
    assert fact in result.stderr
    assert len(left(project)) == 1


def test_the_lifespan_is_open_while_letters_run(project: Project, parking: Parking) -> None:
    project.write(
        "opened.py",
        """
        from contextlib import asynccontextmanager
        from dynaflow import App, Router
        router = Router()
        @router.on_any(name="ship")
        def ship(keys):
            print("shipped")
        @asynccontextmanager
        async def lifespan(app):
            print("opened")
            yield
            print("closed")
        app = App(router, lifespan=lifespan)
        """,
    )
    parking.parked("a")
    result = project.run("dead-letters", "redrive", "opened:app", FILE, "--all")
    assert result.stderr.splitlines()[:3] == ["opened", "shipped", "closed"]
    result = project.run("dead-letters", "redrive", "opened:app", FILE, "--all")
    assert result.stderr == "0 letters\n"


def test_ctrl_c_leaves_what_is_not_done_and_removes_what_is(
    project: Project, parking: Parking
) -> None:
    project.write(
        "slow.py",
        """
        import asyncio
        from dynaflow import Router
        router = Router()
        @router.on_any(name="ship")
        async def ship(keys):
            if keys["id"] == "slow":
                print("waiting", flush=True)
                await asyncio.sleep(60)
        """,
    )
    _, *rest = parking.parked("a", "slow", "b")
    with start("dead-letters", "redrive", "slow:router", FILE, "--all") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["done"]
    assert set(left(project)) == set(ids(rest))


# Records that were too large for their letters


def test_a_record_without_images_is_read_from_the_stream(project: Project, table: Table) -> None:
    write(table, "a", "b")
    _, letter = letters_of(table)
    JsonLines(project.directory / FILE)(letter.without_images())
    result = redrive(project, "--all", "--endpoint-url", table.url)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines() == ["shipped b 1", "1 letters: 1 done"]
    assert left(project) == []


def write(table: Table, *names: str) -> None:
    """Write items with an ``n``."""
    for name in names:
        table.client.put_item(TableName=table.name, Item={"id": {"S": name}, "n": {"N": "1"}})


def letters_of(table: Table) -> list[DeadLetterRecord]:
    """Return letters of what a table's stream has."""
    options = {"region_name": REGION, "endpoint_url": table.url}
    client: Any = boto3.client("dynamodbstreams", **options)
    (stream,) = client.list_streams(TableName=table.name)["Streams"]
    arn = stream["StreamArn"]
    (shard,) = client.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = client.get_shard_iterator(
        StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    raws = client.get_records(ShardIterator=iterator)["Records"]
    client.close()
    return [
        DeadLetterRecord.of(
            record,
            route="ship",
            error=ValueError(),
            reason="deliveries",
            attempts=1,
            deliveries=1,
            parked_at=1_767_225_600.0,
        )
        for record in decode_records(raws, arn)
    ]


def test_a_record_that_the_stream_has_no_longer_stays_and_keeps_no_other_back(
    project: Project, table: Table
) -> None:
    write(table, "a", "b")
    first, second = letters_of(table)
    large = first.without_images()
    assert large.pointer is not None
    trimmed = replace(large, pointer=replace(large.pointer, event_id="of-another-change"))
    sink = JsonLines(project.directory / FILE)
    sink(trimmed)
    sink(second)
    result = redrive(project, "--all", "--endpoint-url", table.url)
    assert result.exit_code == 1
    assert "24 hours" in result.stderr
    assert "shipped b" in result.stderr
    assert left(project) == [trimmed.id]


def test_a_stream_that_cannot_be_read_is_said_and_letters_with_images_run(
    project: Project, moto_url: str
) -> None:
    parking = Parking(project.directory, "no-table-of-this-name")
    parking.park(large := parking.letter("a").without_images(), parking.letter("b"))
    result = redrive(project, "--all", "--endpoint-url", moto_url)
    assert result.exit_code == 1
    assert "the stream is not read" in result.stderr
    assert "shipped b" in result.stderr
    assert left(project) == [large.id]


# Sinks at AWS


@pytest.fixture
def aws(moto_url: str, aws_environment: pytest.MonkeyPatch) -> str:
    """moto, where everything of AWS's is."""
    aws_environment.setenv("AWS_ENDPOINT_URL", moto_url)
    return moto_url


@pytest.mark.parametrize("suffix", ["", ".fifo"])
def test_letters_of_a_queue_run_in_order_and_stay_unless_they_are_done(
    project: Project, parking: Parking, aws: str, aws_environment: pytest.MonkeyPatch, suffix: str
) -> None:
    aws_environment.setenv("FAILING", "bad")
    client: Any = boto3.client("sqs", region_name=REGION, endpoint_url=aws)
    options = {"Attributes": {"FifoQueue": "true"}} if suffix else {}
    name = f"dead-letters-{suffix.strip('.')}{suffix}"
    url = client.create_queue(QueueName=name, **options)["QueueUrl"]
    letters = [parking.letter("a") for _ in range(12)]
    bad = parking.letter("bad")
    twice = [] if suffix else [bad]
    sink = SQS(url, client)
    for letter in (bad, *reversed(letters), letters[3], *twice):
        sink(letter)
    address = f"sqs:{url}"
    with without_waits():
        assert len(left(project, address)) == 13
        result = project.run("dead-letters", "redrive", "shop:app", address, "--all")
        assert result.exit_code == 1, result.stderr
        shipped = [line for line in result.stderr.splitlines() if line.startswith("shipped")]
        assert shipped == [f"shipped a {n}" for n in range(1, 13)]
        assert left(project, address) == [bad.id]
    client.delete_queue(QueueUrl=url)
    client.close()


def test_letters_of_a_bucket_are_objects_that_go_when_they_are_done(
    project: Project, parking: Parking, aws: str
) -> None:
    client: Any = boto3.client("s3", region_name=REGION, endpoint_url=aws)
    client.create_bucket(Bucket="dead-letters-cli")
    sink = S3("dead-letters-cli", "here", client)
    first, second = parking.letter("a"), parking.letter("b")
    sink(first)
    sink(second)
    address = "s3://dead-letters-cli/here"
    assert set(left(project, address)) == {first.id, second.id}
    result = project.run("dead-letters", "redrive", "shop:app", address, second.id[:12])
    assert result.exit_code == 0, result.stderr
    assert left(project, address) == [first.id]
    client.close()


class Queue:
    """An async client of a queue that has letters; a deletion takes until it is let through."""

    def __init__(self, *letters: DeadLetterRecord) -> None:
        self.letters = {f"receipt-{at}": letter for at, letter in enumerate(letters)}
        self.is_read = self.is_given_back = False
        self.deleting = asyncio.Event()
        self.let_through = asyncio.Event()
        self.refuses = False

    async def receive_message(self, **_: Any) -> dict[str, Any]:
        """Return all letters, the first time."""
        found = [] if self.is_read else list(self.letters.items())
        self.is_read = True
        return {
            "Messages": [
                {"MessageId": receipt, "ReceiptHandle": receipt, "Body": letter.to_json()}
                for receipt, letter in found
            ]
        }

    async def delete_message(self, *, ReceiptHandle: str, **_: Any) -> None:  # noqa: N803 - AWS's
        """Delete one."""
        self.deleting.set()
        await self.let_through.wait()
        if self.refuses or self.is_given_back:
            raise ConnectionError
        del self.letters[ReceiptHandle]

    async def change_message_visibility_batch(self, **_: Any) -> None:
        """Let others have what was not deleted; a FIFO queue then has no more deleted."""
        self.is_given_back = True


def shop() -> tuple[App, list[str]]:
    """Return an App, and the items that it has shipped so far."""
    router, shipped = Router(), list[str]()

    @router.on_any(name="ship")
    async def ship(keys: dict[str, str]) -> None:
        shipped.append(keys["id"])

    return App(router), shipped


async def run_all(app: App, client: Queue) -> None:
    sink = SQS("https://queue", client)

    def no_stream(arn: str) -> Any:
        raise AssertionError(arn)

    async with read_letters(sink) as (found, _):
        await Redrive(app, sink, no_stream).run(found)


def test_a_letter_that_is_done_is_removed_even_if_all_ends_in_that_moment(
    parking: Parking,
) -> None:
    async def interrupt() -> None:
        running = asyncio.create_task(run_all(app, client))
        await client.deleting.wait()
        running.cancel()
        asyncio.get_running_loop().call_soon(client.let_through.set)
        with pytest.raises(asyncio.CancelledError):
            await running

    first, second = parking.letter("a"), parking.letter("b")
    client, (app, shipped) = Queue(first, second), shop()
    with without_waits():
        asyncio.run(interrupt())
    assert shipped == ["a"]
    assert ids(client.letters.values()) == [second.id]


def test_where_a_letter_cannot_be_removed_no_other_is_run(parking: Parking) -> None:
    letter = parking.letter("a")
    client, (app, shipped) = Queue(letter, parking.letter("b")), shop()
    client.let_through.set()
    client.refuses = True
    with (
        without_waits(),
        pytest.raises(DeadLetterError, match=r"is still there: .* room\. Remove it"),
    ):
        asyncio.run(run_all(app, client))
    assert shipped == ["a"]
