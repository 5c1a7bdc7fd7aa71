"""CloudTrail records of our own making, in the form of AWS's documentation."""

from __future__ import annotations

import json
from pathlib import Path

ACCOUNT = "123456789012"
ANNA = {
    "type": "IAMUser",
    "principalId": "AIDAEXAMPLE",
    "arn": f"arn:aws:iam::{ACCOUNT}:user/anna",
    "accountId": ACCOUNT,
    "accessKeyId": "AKIAEXAMPLE",
    "userName": "anna",
}


def record(source, name, **more):
    """Return a record of that call by Anna."""
    return {
        "eventVersion": "1.09",
        "userIdentity": ANNA,
        "eventTime": "2026-03-01T10:00:00Z",
        "eventSource": source,
        "eventName": name,
        "awsRegion": "eu-west-1",
        "sourceIPAddress": "203.0.113.7",
        "userAgent": "aws-cli/2.15",
        "requestParameters": None,
        "responseElements": None,
        "requestID": "request-1",
        "eventID": f"event-{name}",
        "readOnly": False,
        "eventType": "AwsApiCall",
        "recipientAccountId": ACCOUNT,
        "eventCategory": "Management",
        **more,
    }


def console_login(result, **more):
    """Return the record of a log-in to the console."""
    elements = {"ConsoleLogin": result}
    return record(
        "signin.amazonaws.com", "ConsoleLogin", eventType="AwsConsoleSignIn", responseElements=elements, **more
    )


def numbered(count, **more):
    """Return *count* records with the ids ``event-0``, ``event-1`` …"""
    return [record("ec2.amazonaws.com", "RunInstances", eventID=f"event-{number}", **more) for number in range(count)]


def write_lines(path: Path, records) -> Path:
    """Write one record a line; text is written as it is."""
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in records))
    return path
