"""What Terraform's AWS provider documents of the resources that deploy/terraform.py writes.

Facts of the provider's documentation (registry.terraform.io, hashicorp/aws 6, "Argument Reference"
of each resource), and for ``archive_file`` of hashicorp/archive 2. A type has the names that are of
it; an argument that is required ends with "!". Blocks have arguments of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

__all__ = ["ARGUMENTS", "problems"]

Body: TypeAlias = "Mapping[str, str | Body]"

_TYPES = {"string", "number", "bool", "list(string)", "map(string)"}

# Meta-arguments that every resource has, and comments.
_EVERYWHERE = {"//", "depends_on"}

ARGUMENTS: dict[str, Body] = {
    "aws_cloudwatch_log_group": {
        "bool": "deletion_protection_enabled skip_destroy",
        "map(string)": "tags",
        "number": "retention_in_days",
        "string": "kms_key_id log_group_class name name_prefix region",
    },
    "aws_cloudwatch_log_metric_filter": {
        "bool": "apply_on_transformed_logs",
        "string": "log_group_name! name! pattern! region",
        "metric_transformation!": {
            "map(string)": "dimensions",
            "string": "default_value name! namespace! unit value!",
        },
    },
    "aws_cloudwatch_metric_alarm": {
        "bool": "actions_enabled",
        "list(string)": "alarm_actions insufficient_data_actions ok_actions",
        "map(string)": "dimensions tags",
        "number": "datapoints_to_alarm evaluation_periods! period threshold",
        "string": (
            "alarm_description alarm_name! comparison_operator! "
            "evaluate_low_sample_count_percentiles extended_statistic metric_name namespace "
            "region statistic threshold_metric_id treat_missing_data unit"
        ),
        "metric_query": {
            "bool": "return_data",
            "number": "period",
            "string": "account_id expression id! label",
            "metric": {
                "map(string)": "dimensions",
                "number": "period!",
                "string": "metric_name! namespace stat! unit",
            },
        },
    },
    "aws_iam_role": {
        "bool": "force_detach_policies",
        "list(string)": "managed_policy_arns",
        "map(string)": "tags",
        "number": "max_session_duration",
        "string": "assume_role_policy! description name name_prefix path permissions_boundary",
        "inline_policy": {
            "string": "name policy",
        },
    },
    "aws_iam_role_policy": {
        "string": "name name_prefix policy! role!",
    },
    "aws_lambda_event_source_mapping": {
        "bool": "bisect_batch_on_function_error enabled",
        "list(string)": "function_response_types queues topics",
        "map(string)": "tags",
        "number": (
            "batch_size maximum_batching_window_in_seconds maximum_record_age_in_seconds "
            "maximum_retry_attempts parallelization_factor tumbling_window_in_seconds"
        ),
        "string": (
            "event_source_arn function_name! kms_key_arn region starting_position "
            "starting_position_timestamp"
        ),
        "amazon_managed_kafka_event_source_config": {
            "string": "consumer_group_id",
            "schema_registry_config": {
                "string": "event_record_format schema_registry_uri",
                "access_config": {
                    "string": "type uri",
                },
                "schema_validation_config": {
                    "string": "attribute",
                },
            },
        },
        "destination_config": {
            "on_failure": {
                "string": "destination_arn!",
            },
        },
        "document_db_event_source_config": {
            "string": "collection_name database_name! full_document",
        },
        "filter_criteria": {
            "filter": {
                "string": "pattern",
            },
        },
        "metrics_config": {
            "list(string)": "metrics!",
        },
        "provisioned_poller_config": {
            "number": "maximum_pollers minimum_pollers",
        },
        "scaling_config": {
            "number": "maximum_concurrency",
        },
        "self_managed_event_source": {
            "map(string)": "endpoints!",
        },
        "self_managed_kafka_event_source_config": {
            "string": "consumer_group_id",
            "schema_registry_config": {
                "string": "event_record_format schema_registry_uri",
                "access_config": {
                    "string": "type uri",
                },
                "schema_validation_config": {
                    "string": "attribute",
                },
            },
        },
        "source_access_configuration": {
            "string": "type! uri!",
        },
    },
    "aws_lambda_function": {
        "bool": "publish replace_security_groups_on_destroy skip_destroy",
        "list(string)": "architectures layers replacement_security_group_ids",
        "map(string)": "tags",
        "number": "memory_size reserved_concurrent_executions timeout",
        "string": (
            "code_signing_config_arn description filename function_name! handler image_uri "
            "kms_key_arn package_type publish_to region role! runtime s3_bucket s3_key "
            "s3_object_version source_code_hash source_kms_key_arn"
        ),
        "capacity_provider_config": {
            "lambda_managed_instances_capacity_provider_config!": {
                "number": (
                    "execution_environment_memory_gib_per_vcpu "
                    "per_execution_environment_max_concurrency"
                ),
                "string": "capacity_provider_arn!",
            },
        },
        "dead_letter_config": {
            "string": "target_arn!",
        },
        "durable_config": {
            "number": "execution_timeout! retention_period",
        },
        "environment": {
            "map(string)": "variables",
        },
        "ephemeral_storage": {
            "number": "size",
        },
        "file_system_config": {
            "string": "arn! local_mount_path!",
        },
        "image_config": {
            "list(string)": "command entry_point",
            "string": "working_directory",
        },
        "logging_config": {
            "string": "application_log_level log_format! log_group system_log_level",
        },
        "snap_start": {
            "string": "apply_on!",
        },
        "tenancy_config": {
            "string": "tenant_isolation_mode!",
        },
        "tracing_config": {
            "string": "mode!",
        },
        "vpc_config": {
            "bool": "ipv6_allowed_for_dual_stack",
            "list(string)": "security_group_ids! subnet_ids!",
        },
    },
    "aws_sqs_queue": {
        "bool": "content_based_deduplication fifo_queue sqs_managed_sse_enabled",
        "map(string)": "tags",
        "number": (
            "delay_seconds kms_data_key_reuse_period_seconds max_message_size "
            "message_retention_seconds receive_wait_time_seconds visibility_timeout_seconds"
        ),
        "string": (
            "deduplication_scope fifo_throughput_limit kms_master_key_id name name_prefix "
            "policy redrive_allow_policy redrive_policy region"
        ),
    },
    "data.aws_iam_policy_document": {
        "list(string)": "override_policy_documents source_policy_documents",
        "string": "override_json policy_id source_json version",
        "statement": {
            "list(string)": "actions not_actions not_resources resources",
            "string": "effect sid",
            "condition": {
                "list(string)": "values!",
                "string": "test! variable!",
            },
            "not_principals": {
                "list(string)": "identifiers!",
                "string": "type!",
            },
            "principals": {
                "list(string)": "identifiers!",
                "string": "type!",
            },
        },
    },
    "data.aws_partition": {},
    "data.aws_region": {
        "string": "endpoint name region",
    },
    "data.aws_caller_identity": {},
    "data.archive_file": {
        "list(string)": "excludes",
        "string": (
            "type! output_path! output_file_mode source_dir source_file source_content "
            "source_content_filename"
        ),
        "bool": "exclude_symlink_directories",
    },
}


def problems(document: Mapping[str, Any]) -> list[str]:
    """Return what the provider's documentation has against the resources of a document."""
    found: list[str] = []
    for kind, named in document["resource"].items():
        for body in named.values():
            found += _of_body(kind, body, ARGUMENTS[kind])
    for kind, named in document["data"].items():
        for body in named.values():
            found += _of_body(f"data.{kind}", body, ARGUMENTS[f"data.{kind}"])
    return found


def _of_body(path: str, body: Any, known: Body) -> Iterator[str]:
    if isinstance(body, list):  # several blocks
        for each in body:
            yield from _of_body(path, each, known)
        return
    if not isinstance(body, dict):
        yield f"{path}: {body!r} is no block"
        return
    types = dict(_by_name(known))
    for name in types:
        if name.endswith("!") and name[:-1] not in body:
            yield f"{path}.{name[:-1]} is required"
    types = {name.removesuffix("!"): each for name, each in types.items()}
    for name in body.keys() - _EVERYWHERE:
        if name not in types:
            yield f"{path}.{name} is not documented"
        else:
            yield from _of_value(f"{path}.{name}", body[name], types[name])


def _of_value(path: str, value: Any, expected: str | Body) -> Iterator[str]:
    if not isinstance(expected, str):
        yield from _of_body(path, value, expected)
    elif not _fits(value, expected):
        yield f"{path}: {value!r} is no {expected}"


def _by_name(known: Body) -> Iterator[tuple[str, str | Body]]:
    """Turn the lists around: each argument with its type, or its block."""
    for name, listed in known.items():
        if name in _TYPES and isinstance(listed, str):
            yield from ((argument, name) for argument in listed.split())
        else:
            yield name, listed


def _fits(value: Any, expected: str) -> bool:
    if isinstance(value, str) and value.startswith("${") and value.endswith("}"):
        return True  # an expression: what it gives is known when it is evaluated
    match expected:
        case "string":
            return isinstance(value, str)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "bool":
            return isinstance(value, bool)
        case "list(string)":
            return isinstance(value, list) and all(isinstance(each, str) for each in value)
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())
