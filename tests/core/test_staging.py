"""Files that appear together or not at all."""

import pytest

from dlkit.core.staging import staged


def test_staged_files_appear_together(tmp_path):
    (tmp_path / "m.pt").write_text("old")
    with pytest.raises(ZeroDivisionError), staged(tmp_path / "m.pt") as staging:
        staging.path(tmp_path / "m.pt").write_text("new")
        _ = 1 / 0
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"] and (tmp_path / "m.pt").read_text() == "old"
    with staged(tmp_path / "m.pt") as staging:
        staging.path(tmp_path / "m.pt").write_text("new")
        staging.path(tmp_path / "m.png").write_text("picture")
        assert (tmp_path / "m.pt").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.png", "m.pt"]
    assert (tmp_path / "m.pt").read_text() == "new"
