"""One deployment says the same in every format: settings, patterns, statements, alarms.

What CDK makes of its app is compared with the model in test_deploy_cdk.py, because it starts node.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from samtranslator.translator.transform import transform

from dynaflow.deploy import neutral, sam, terraform
from dynaflow.deploy.deployment import Deployment
from tests.support import deployments, renderings
from tests.support.renderings import Told, of_json, of_model, of_template, of_terraform
from tests.support.templates import NoManagedPolicies

MADE = {name: make() for name, make in deployments.DEPLOYMENTS.items()} | renderings.DEPLOYMENTS


def of_sam(deployment: Deployment) -> Told:
    template = sam.template(deployment)
    template["Resources"]["Function"]["Properties"]["CodeUri"] = "s3://bucket/key"  # as sam does
    return of_template(transform(template, {}, NoManagedPolicies())["Resources"])


FORMATS: dict[str, Callable[[Deployment], Told]] = {
    "sam": of_sam,
    "terraform": lambda deployment: of_terraform(terraform.render(deployment)),
    "json": lambda deployment: of_json(neutral.render(deployment)),
}


@pytest.fixture(autouse=True)
def region(aws_environment: pytest.MonkeyPatch) -> None:
    aws_environment.setenv("AWS_DEFAULT_REGION", "eu-north-1")  # SAM wants one


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", MADE)
def test_every_format_says_what_the_model_says(name: str, format_: str) -> None:
    assert FORMATS[format_](MADE[name]) == of_model(MADE[name])
