"""A signed-in user sees the new page, filled by operations that the user may call; others sign in first."""

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
    page = f"/domains/{domain_id}"
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
    assert "DescribeDomain.Domain.Name" in client.get(page, cookies=cookies).text
    state = client.get(f"{page}/state", cookies=cookies).json()
    assert state["DescribeDomain"]["Domain"]["Name"] == "tests", state
    assert client.get("/console/page.js").status_code == 200
    app.close()
