"""Install Chromium, in which the tests open reports, unless there is one: Playwright's own, else Debian's.

`Q2_CHROMIUM` names a browser in another place.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """Return the path of a Chromium or Chrome: `Q2_CHROMIUM`, the system's, Playwright's own; None without any."""
    named = [os.environ.get("Q2_CHROMIUM", ""), *(shutil.which(name) or "" for name in NAMES)]
    return next((path for path in named if path and Path(path).exists()), None) or _own()


def main() -> None:
    """Install a browser unless one is found; say so where that fails, and what then to do."""
    ways = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and os.geteuid() == 0:
        ways += [["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "--no-install-recommends", "chromium"]]
    for command in ways:
        if find_chromium():
            return
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    if not find_chromium():
        sys.exit("the tests open reports in Chromium: install it, or set Q2_CHROMIUM to its path")


def _own() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


if __name__ == "__main__":
    main()
