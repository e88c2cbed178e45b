"""Signing in to a served console with a real OpenID Connect provider (oidc-provider of npm), in Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aws_servers import free_port
from browser import Browser
from npm_packages import npm_folder
from service_process import ACCOUNT, ServiceProcess, running

from sonant.iam import ALLOW_ALL

HERE = Path(__file__).parent / "openid"

pytestmark = pytest.mark.slow


@contextmanager
def provider_at(port: int, return_url: str) -> Iterator[None]:
    """Run the provider until the block ends."""
    folder = npm_folder("openid", HERE / "package.json")
    node = shutil.which("node")
    assert node is not None, "npm_folder has skipped the test without it"
    process = subprocess.Popen(
        [node, HERE / "provider.js", str(port), return_url],
        env={"PATH": os.environ["PATH"], "NODE_MODULES_OF": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any("listening" in line for line in process.stdout), "the provider has not started"
        yield
    finally:
        process.terminate()
        process.wait()


def authenticate(browser: Browser, name: str) -> None:
    """Fill in the provider's form, and its second one that asks for consent where it comes."""
    browser.until("document.querySelector('input[name=login]')")
    browser.run("document.querySelector('input[name=login]').focus()")
    browser.write(name)
    browser.run("document.querySelector('input[name=password]').focus()")
    browser.write("any")
    browser.press("Enter")
    browser.until(
        "location.pathname.startsWith('/console') || location.search.includes('failed')"
        " || document.querySelector('input[name=prompt][value=consent]')"
    )
    if browser.run("Boolean(document.querySelector('input[name=prompt][value=consent]'))"):
        browser.run("document.querySelector('form').submit()")
        browser.until("location.pathname.startsWith('/console') || location.search.includes('failed')")


@contextmanager
def console_of_provider(folder: Path) -> Iterator[tuple[ServiceProcess, Browser]]:
    """A service whose users sign in with a provider, and a browser on its sign-in page."""
    port = free_port()
    role = f"arn:aws:iam::{ACCOUNT}:role/operators"
    settings = {
        "CONSOLE_OIDC_ISSUER": f"http://127.0.0.1:{port}",
        "CONSOLE_OIDC_CLIENT_ID": "console",
        "CONSOLE_OIDC_CLIENT_SECRET": "secret-of-the-client",
        "CONSOLE_OIDC_ROLES": f"operators={role}",
    }
    with (
        running(folder / "data", **settings) as service,
        provider_at(port, f"{service.url}/sign-in/return"),
        Browser(folder / "browser") as browser,
    ):
        policy = folder / "all.json"
        policy.write_text(ALLOW_ALL)
        service.sonant("access", "role", "put", "operators", "--policy", str(policy))
        browser.go(f"{service.url}/sign-in")
        browser.run("document.querySelector('a[href*=provider]').click()")
        yield service, browser


def test_people_sign_in_and_confirm_what_destroys(tmp_path: Path) -> None:
    with console_of_provider(tmp_path) as (service, browser):
        domain_id = service.domain()
        service.voice_id.opt_out_speaker(DomainId=domain_id, SpeakerId="someone")
        authenticate(browser, "operators.ada")
        assert "operators.ada" in browser.text()
        browser.go(f"{service.url}/console/us-east-1/{domain_id}/speakers")
        browser.run("document.querySelector('main a[href*=\"/speakers/\"]').click()")
        browser.until("document.querySelector('a[href*=confirm]')")
        assert not browser.violations()
        browser.run("document.querySelector('a[href*=confirm]').click()")
        authenticate(browser, "operators.ada")
        browser.until("location.pathname.includes('/speakers/')")
        assert not browser.run("Boolean(document.querySelector('a[href*=confirm]'))"), "it is confirmed"


def test_people_of_other_groups_are_refused(tmp_path: Path) -> None:
    with console_of_provider(tmp_path) as (_, browser):
        authenticate(browser, "guests.mallory")
        assert "None of your groups has a role" in browser.text()
        assert not browser.violations()
