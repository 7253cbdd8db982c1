from pathlib import Path

import pytest

from app.settings import Settings
from app.supervisor import CannotServe, serve


def test_a_data_directory_that_cannot_be_written_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    settings = Settings(data_dir=tmp_path / "file" / "data", port=0)
    with pytest.raises(CannotServe, match=r"cannot write to .*/file/data: .*DATA_DIR") as refused:
        serve(settings, print)
    assert "Not a directory" in str(refused.value)
