"""A signed-in user sees the new page, also in the navigation; who is not signed in does so first."""

import configparser
from pathlib import Path
from tempfile import TemporaryDirectory

from operations_testbed import operations_on
from starlette.testclient import TestClient

from sonant.assembly.installation import administrator_file
from sonant.assembly.service import build_app

with TemporaryDirectory() as folder:
    operations = operations_on(Path(folder))
    domain_id = operations.new_domain()
    base = f"/console/us-east-1/{domain_id}"
    page = f"{base}/about"
    credentials = configparser.ConfigParser()
    credentials.read(administrator_file(operations.settings))
    form = {
        "access-key-id": credentials["administrator"]["aws_access_key_id"],
        "secret-access-key": credentials["administrator"]["aws_secret_access_key"],
    }
    app = build_app(operations.store)
    client = TestClient(app.asgi, base_url="http://127.0.0.1", follow_redirects=False)

    assert client.get(page).headers["location"].startswith("/sign-in?next=")
    signed_in = client.post("/sign-in", params={"next": page}, data=form)
    assert signed_in.headers["location"] == page, signed_in.headers
    cookies = {"sonant-ticket": signed_in.cookies["sonant-ticket"]}
    shown = client.get(page, cookies=cookies).text
    assert "<h1>tests</h1>" in shown, shown
    assert "alias/sonant" in shown or ":key/" in shown
    assert f'<a href="{page}">About</a>' in client.get(f"{base}/jobs", cookies=cookies).text
    app.close()
