"""What doctests cannot import where an optional library is missing; and a tuning store of the tests' own."""

from importlib.util import find_spec

import pytest

from gpuconv import settings, store

collect_ignore_glob = [] if find_spec("torch") else ["gpuconv/compat/torch*.py"]


@pytest.fixture(autouse=True, scope="session")
def _own_store(tmp_path_factory):
    """What the user has tuned decides no test, and no test decides what the user runs."""
    users, own = store.folder, tmp_path_factory.mktemp("store") / "tuning"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "folder", lambda: users() if settings.read("GPUCONV_CACHE_DIR") else own)
        yield
