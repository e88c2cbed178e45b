"""What a worker process imports decides how long it takes to start, and how much memory each one needs."""

from __future__ import annotations

import subprocess
import sys


def test_worker_process_imports_neither_database_nor_web_server():
    code = (
        "import sys, sonant.assembly.worker_process;"
        "print({'sqlalchemy', 'alembic', 'psycopg', 'starlette', 'uvicorn', 'botocore'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
