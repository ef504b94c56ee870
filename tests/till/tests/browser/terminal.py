"""Two cashiers at two browsers, in one shop. The server's worker sweeps every second."""

import atexit
import base64
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from django.contrib.staticfiles.testing import StaticLiveServerTestCase
from django.db import connection
from django.test import override_settings
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from till import softlock
from till.models import ShowcaseKit, Stem

from ..base import Shop, await_that

SCREENSHOTS = os.environ.get("TILL_SCREENSHOTS")


def chromium(language: str, directory: str) -> Chrome:
    options = ChromeOptions()
    options.binary_location = os.environ.get("TILL_CHROMIUM") or shutil.which("chromium")
    for argument in (
        "--headless=new",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        # The shop needs nothing from the Internet, and neither does its browser.
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={directory}",
        f"--lang={language}",
        "--window-size=900,760",
    ):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.add_experimental_option("prefs", {"intl.accept_languages": language})
    driver = os.environ.get("TILL_CHROMEDRIVER") or shutil.which("chromedriver")
    return Chrome(options=options, service=ChromeService(driver))


class Terminal:
    """A browser that shows the terminal's page."""

    def __init__(self, language: str = "en"):
        self.directory = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.browser = chromium(language, self.directory.name)

    def quit(self) -> None:
        self.browser.quit()
        self.directory.cleanup()

    def open(self, url: str, cookie: str | None = None) -> None:
        """Without a cookie, as a guest."""
        self.browser.get(url + "/static/till/flower.svg")
        self.browser.delete_all_cookies()
        if cookie:
            self.browser.add_cookie({"name": "sessionid", "value": cookie})
        self.browser.get(url)
        self.awaits("the showcase is there", lambda: self.find("#showcase .card"))
        self.awaits("the page follows", lambda: self.follows() == "events")
        # So that a test notices whether a page has been loaded anew.
        self.browser.execute_script("window.notReloaded = true")

    def follows(self) -> str | None:
        """By events, or asking every second."""
        return self.browser.execute_script("return page.dataset.follows")

    def stem(self, stem: Stem) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, f"#stems [data-stem='{stem.pk}']")

    def left(self, stem: Stem) -> str:
        return self.stem(stem).find_element(By.CSS_SELECTOR, ".left").text

    def step(self, stem: Stem, by: int) -> WebElement:
        """The button for one more or one less."""
        return self.stem(stem).find_element(By.CSS_SELECTOR, f"[data-step='{by}']")

    def sell(self) -> None:
        self.browser.find_element(By.ID, "checkout").click()

    def find(self, css: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, css)

    def card(self, kit: ShowcaseKit) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, f"#showcase [data-kit='{kit.pk}']")

    def line(self, goods: ShowcaseKit | Stem) -> WebElement | None:
        return next(iter(self.find(f"#cart [data-{goods.kind}='{goods.pk}']")), None)

    def state(self, kit: ShowcaseKit) -> str | None:
        return self.browser.execute_script(
            "return document.querySelector(arguments[0])?.dataset.state", f"#showcase [data-kit='{kit.pk}']"
        )

    def add(self, kit: ShowcaseKit) -> None:
        self.card(kit).find_element(By.TAG_NAME, "button").click()

    def remove(self, kit: ShowcaseKit) -> None:
        self.line(kit).find_element(By.TAG_NAME, "button").click()

    def message(self) -> str:
        return self.browser.find_element(By.ID, "message").text

    def awaits(self, what: str, holds, seconds: float = 30):
        wait = WebDriverWait(self.browser, seconds, 0.05, ignored_exceptions=[StaleElementReferenceException])
        try:
            return wait.until(lambda _: holds())
        except TimeoutException:
            raise AssertionError(f"in vain: {what}; the page says: {self.message()}") from None

    def awaits_state(self, kit: ShowcaseKit, state: str | None) -> None:
        self.awaits(f"kit {kit.pk} is {state}", lambda: self.state(kit) == state)

    def screenshot(self, name: str) -> None:
        """Of the whole page."""
        if SCREENSHOTS:
            size = self.browser.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
            whole = {"captureBeyondViewport": True, "clip": {**size, "scale": 1}}
            picture = self.browser.execute_cdp_cmd("Page.captureScreenshot", whole)["data"]
            (Path(SCREENSHOTS) / f"{name}.png").write_bytes(base64.b64decode(picture))


@cache
def terminals() -> tuple[Terminal, Terminal]:
    """Two for the whole run, since a browser takes seconds to start."""
    started = Terminal("en"), Terminal("ru")
    for terminal in started:
        atexit.register(terminal.quit)
    return started


# Of the pages that the tests have left, the server does not know at once.
@override_settings(TILL_STREAMS=1000)
class TwoTills(Shop, StaticLiveServerTestCase):
    def setUp(self):
        self.addCleanup(softlock.release_everything)
        self.open_shop(kits=6)
        # Boris reads Russian.
        self.tills = self.annas, self.boriss = terminals()
        self.addCleanup(self.leave)
        self.log_in()

    def leave(self):
        """Leaves the pages, and waits for what they have asked: the tables are emptied next."""
        for till in self.tills:
            till.browser.get("about:blank")
        with connection.cursor() as cursor:

            def is_quiet() -> bool:
                cursor.execute(
                    """SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
                       AND datname = current_database() AND backend_type = 'client backend'
                       AND application_name = ''"""
                )
                return cursor.fetchone() == (0,)

            await_that("all requests are answered", is_quiet)

    def log_in(self):
        for till, user in zip(self.tills, (self.anna, self.boris), strict=True):
            cookie = self.till_of(user).client.cookies["sessionid"].value
            till.open(self.live_server_url, cookie)

    def colour(self, element: WebElement) -> tuple[int, ...]:
        value = element.value_of_css_property("background-color")
        return tuple(int(float(part)) for part in value[value.index("(") + 1 : -1].split(",")[:3])
