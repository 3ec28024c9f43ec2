"""What ``adjobs status`` prints."""

from __future__ import annotations

from types import SimpleNamespace

from adjobs.cli.status import describe
from adjobs.stack.state import StackStatus


def test_describe_running_stack_leads_to_mlflows_pages_for_model_training(tmp_path):
    service = SimpleNamespace(
        url="http://127.0.0.1:18210", memory=2**20, uptime=3.0, pid=7, running=True, answers=True, log="x.log", port=18210
    )
    lines = describe(StackStatus(True, 18200, {"mlflow": service}), tmp_path).splitlines()
    assert lines[-1] == "to see experiments there: http://127.0.0.1:18210/#/experiments?workflowType=machine_learning"
    assert lines[-2].startswith("to log in to MLflow: user adjobs, password in ")
