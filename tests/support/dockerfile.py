"""A Dockerfile, carried out in a folder: what its image would hold, without a Docker engine.

It knows the few instructions that examples/deploy uses, and refuses every other one. Programs are
run here, with absolute paths led into the folder; what installs packages of the system is not run.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import takewhile
from pathlib import Path
from typing import Final

__all__ = ["Image", "build"]

# What AWS's base images set ("Deploy Python Lambda functions with container images").
_OF_AWS: Final = {"LAMBDA_TASK_ROOT": "/var/task", "LAMBDA_RUNTIME_DIR": "/var/runtime"}
_LIMIT = 50  # seconds for one program
_QUICK: Final = {"PIP_NO_COMPILE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


class Image:
    """What a Dockerfile makes.

    Args:
        files: the folder that stands for the image's root.
    """

    def __init__(self, files: Path) -> None:
        self.files = files
        self.base = ""
        self.env = dict(_OF_AWS)
        self.command: list[str] = []

    @property
    def task_root(self) -> Path:
        """Where the function is."""
        return self.inside(self.env["LAMBDA_TASK_ROOT"])

    def inside(self, path: str) -> Path:
        """Return where an absolute path of the image is here."""
        return self.files / path.removeprefix("/")


def build(dockerfile: Path, *, context: Path, directory: Path, python: str) -> Image:
    """Carry a Dockerfile out.

    Args:
        dockerfile: the file; what it may copy is said by the .dockerignore named after it.
        context: the folder that it copies from.
        directory: an empty folder for the image and its stages.
        python: the interpreter that stands for the image's.

    Returns:
        The image of the last stage.
    """
    ignore = dockerfile.with_name(f"{dockerfile.name}.dockerignore").read_text(encoding="utf-8")
    visible = directory / "context"
    for path in _visible(context, ignore.splitlines()):
        (visible / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(context / path, visible / path)
    stages: dict[str, Image] = {}
    image = Image(directory)
    for number, (word, rest) in enumerate(_instructions(dockerfile.read_text(encoding="utf-8"))):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            image = stages[name] = Image(directory / f"stage-{number}")
            image.base = base
        elif word == "ENV":
            name, _, value = rest.partition("=")
            image.env[name] = value
        elif word == "CMD":
            image.command = json.loads(rest)
        elif word == "COPY":
            source, target, stage = _copy_words(rest)
            origin = stages[stage].inside(source) if stage else visible / source
            _copy(origin, image, _filled(target, image))
        else:
            assert word == "RUN", word
            for line in rest.split("&&"):
                _run(shlex.split(line), image, python)
    return image


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            yield word, rest


def _visible(context: Path, patterns: list[str]) -> Iterator[Path]:
    """Return the files that a .dockerignore leaves: the last pattern that fits decides."""
    rules = [line for line in patterns if line and not line.startswith("#")]
    for folder, folders, names in os.walk(context):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name).relative_to(context)
            ignored = False
            for rule in rules:
                if any(_fits(part, rule.removeprefix("!")) for part in (path, *path.parents)):
                    ignored = not rule.startswith("!")
            if not ignored:
                yield path


def _fits(path: Path, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch(path.name, pattern[3:])
    parts, wanted = path.parts, pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch, parts, wanted))


def _copy_words(rest: str) -> tuple[str, str, str]:
    stage = re.match(r"--from=(\S+) ", rest)
    source, target = rest[stage.end() if stage else 0 :].split(" ")
    return source, target, stage[1] if stage else ""


def _copy(origin: Path, image: Image, target: str) -> None:
    if origin.is_dir():
        shutil.copytree(origin, image.inside(target), dirs_exist_ok=True)
    else:
        assert target.endswith("/"), "a file is copied into a folder"
        image.inside(target).mkdir(parents=True, exist_ok=True)
        shutil.copy2(origin, image.inside(target))


def _filled(text: str, image: Image) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda match: image.env[match[1]], text)


def _run(words: list[str], image: Image, python: str) -> None:
    env = dict(word.split("=") for word in takewhile(lambda word: "=" in word, words))
    program, *arguments = words[len(env) :]
    if program == "dnf":
        return  # the system's packages are not to be had here
    if "PYTHON" in env:
        env["PYTHON"] = python
    if not program.startswith("/"):
        assert re.fullmatch(r"python3(\.\d+)?", program), program
        program = python
    inside = [str(image.inside(word)) if word[0] == "/" else word for word in (program, *arguments)]
    done = subprocess.run(
        [program if program == python else inside[0], *inside[1:]],
        env={**os.environ, **env, **_QUICK},
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
