from __future__ import annotations

import pytest

from adjobs.errors import StorageError
from adjobs.queue.changes import _delete_folders


def test_delete_folders_that_fail_keep_no_others_and_are_one_line():
    deleted = []

    def delete(job: str) -> None:
        if job in "bd":
            raise OSError(f"no space\nfor {job}")
        deleted.append(job)

    problem = "5 jobs are pruned, but 2 of their folders remain in the artifact store"
    message = rf"^{problem} \(queue/b: no space.*for b\); delete them there$"
    with pytest.raises(StorageError, match=message) as error:
        _delete_folders("abcde", delete)
    assert "\n" not in str(error.value)
    assert sorted(deleted) == ["a", "c", "e"]
