import pytest
import torture


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos") / "noise"
    torture.draw_photos(folder)
    return folder
