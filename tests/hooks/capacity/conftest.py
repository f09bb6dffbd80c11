# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tests.hooks.capacity.standin import Certificates, make_certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))
