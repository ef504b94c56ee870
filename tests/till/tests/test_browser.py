"""Two cashiers at two browsers, in one shop. The server's worker sweeps every second."""

import os
import shutil
import subprocess
import tempfile
import threading
from datetime import timedelta
from pathlib import Path

from django.contrib.staticfiles.testing import StaticLiveServerTestCase
from django.db import connection, connections
from django.test import override_settings
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from till.models import Reservation, Sale, ShowcaseKit

from .base import Shop, await_lapse, await_that, lock_on

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

    def open(self, url: str, cookie: str) -> None:
        self.browser.get(url + "/static/till/flower.svg")
        self.browser.delete_all_cookies()
        self.browser.add_cookie({"name": "sessionid", "value": cookie})
        self.browser.get(url)
        # So that a test notices whether a page has been loaded anew.
        self.browser.execute_script("window.notReloaded = true")

    def find(self, css: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, css)

    def card(self, kit: ShowcaseKit) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, f"#showcase [data-kit='{kit.pk}']")

    def line(self, kit: ShowcaseKit) -> WebElement | None:
        return next(iter(self.find(f"#cart [data-kit='{kit.pk}']")), None)

    def state(self, kit: ShowcaseKit) -> str | None:
        found = self.find(f"#showcase [data-kit='{kit.pk}']")
        return found[0].get_attribute("data-state") if found else None

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
        if SCREENSHOTS:
            self.browser.save_screenshot(str(Path(SCREENSHOTS) / f"{name}.png"))


class TwoTills(Shop, StaticLiveServerTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tills = []
        cls.addClassCleanup(lambda: [till.quit() for till in cls.tills])
        for language in ("en", "ru"):
            cls.tills.append(Terminal(language))

    def setUp(self):
        self.open_shop(kits=6)
        # Boris reads Russian.
        self.annas, self.boriss = self.tills
        self.log_in()

    def log_in(self):
        for till, user in zip(self.tills, (self.anna, self.boris), strict=True):
            cookie = self.till_of(user).client.cookies["sessionid"].value
            till.open(self.live_server_url, cookie)
            till.awaits("the showcase is there", lambda till=till: till.find("#showcase .card"))

    def colour(self, element: WebElement) -> tuple[int, ...]:
        value = element.value_of_css_property("background-color")
        return tuple(int(float(part)) for part in value[value.index("(") + 1 : -1].split(",")[:3])

    def test_a_cashier_logs_in_with_name_and_password_and_chooses_the_language(self):
        browser = self.annas.browser
        browser.delete_all_cookies()
        browser.get(self.live_server_url)
        browser.find_element(By.NAME, "username").send_keys("anna")
        browser.find_element(By.NAME, "password").send_keys("anna" + Keys.ENTER)
        self.annas.awaits("Anna is in", lambda: self.annas.find("#cashier"))
        browser.find_element(By.CSS_SELECTOR, "[name=language][value=ru]").click()
        self.annas.awaits("Russian", lambda: "Витрина" in browser.page_source)
        self.annas.awaits("the cards", lambda: self.annas.find("#showcase .card"))
        self.assertEqual(self.annas.card(self.kit).find_element(By.TAG_NAME, "button").text, "Добавить")

    def test_anna_adds_a_kit_and_boris_sees_it_busy_and_is_refused(self):
        self.annas.add(self.kit)
        self.annas.awaits_state(self.kit, "mine")
        mine = self.annas.card(self.kit).find_element(By.CSS_SELECTOR, ".mine")
        self.assertTrue(mine.is_displayed())
        red, green, blue = self.colour(mine)
        self.assertTrue(green > red and green > blue)
        self.assertIn("in cart", mine.text)

        line = self.annas.line(self.kit)
        red, green, blue = self.colour(line)
        self.assertTrue(red > 200 and green > 200 and blue < 200, "yellow")
        self.assertEqual(line.find_element(By.CSS_SELECTOR, ".pieces").text, "1 pc (showcase)")
        self.assertEqual([b.text for b in line.find_elements(By.TAG_NAME, "button")], ["Remove"])

        # Boris's page follows within two seconds, give or take a slow machine.
        self.boriss.awaits_state(self.kit, "busy")
        busy = self.boriss.card(self.kit).find_element(By.CSS_SELECTOR, ".busy")
        self.assertTrue(busy.is_displayed())
        red, green, blue = self.colour(busy)
        self.assertTrue(red > green and red > blue)
        self.assertRegex(busy.text, r"занято: Anna (30:00|29:\d\d)")
        left = busy.text
        self.boriss.awaits("the countdown runs", lambda: busy.text != left)
        self.assertFalse(self.boriss.card(self.kit).find_element(By.TAG_NAME, "button").is_enabled())

        # A page that has not followed yet asks all the same, and is refused.
        self.boriss.browser.execute_script(
            "act(document.createElement('button'), arguments[0], '')",
            f"/api/showcase-kits/{self.kit.pk}/add-to-cart/",
        )
        self.boriss.awaits("the refusal", lambda: "Anna держит «Bouquet 1»" in self.boriss.message())
        self.assertEqual(lock_on(self.kit).owner, "anna")

    def test_the_page_follows_within_two_seconds(self):
        # The interval is the page's own; how fast this machine is does not matter.
        script = "return REFRESH_MS"
        self.assertLessEqual(self.boriss.browser.execute_script(script), 1000)
        for state, act in (("busy", self.annas.add), ("free", self.annas.remove)):
            act(self.kit)
            self.boriss.awaits_state(self.kit, state)

    def test_anna_removes_the_kit_and_boris_can_add_it(self):
        self.annas.add(self.kit)
        self.annas.awaits_state(self.kit, "mine")
        self.boriss.awaits_state(self.kit, "busy")
        self.annas.remove(self.kit)
        self.annas.awaits("the cart is empty", lambda: self.annas.line(self.kit) is None)
        self.boriss.awaits_state(self.kit, "free")
        self.boriss.add(self.kit)
        self.boriss.awaits_state(self.kit, "mine")
        self.annas.awaits_state(self.kit, "busy")

    def test_an_abandoned_cart_is_swept_by_the_worker_and_shown_free_without_a_reload(self):
        with override_settings(TILL_HOLD=timedelta(seconds=3)):
            self.annas.add(self.kit)
            self.annas.awaits_state(self.kit, "mine")
        self.boriss.awaits_state(self.kit, "busy")
        self.annas.browser.get("about:blank")
        log = Path(os.environ["TILL_SERVER_LOG"])
        await_that(
            "the worker's log line",
            lambda: any(
                "softlock sweep released" in line and f'"{self.kit.resource}"' in line
                for line in log.read_text().splitlines()
            ),
        )
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM softlock.locks WHERE resource = %s", [self.kit.resource])
            self.assertEqual(cursor.rowcount, 0)
        self.boriss.awaits_state(self.kit, "free")
        self.assertTrue(self.boriss.browser.execute_script("return window.notReloaded"))

    def test_when_both_click_the_same_kit_at_once_exactly_one_wins_fifty_times_over(self):
        kits = [ShowcaseKit.objects.create(name=f"Rush {n}", price=1) for n in range(50)]
        for till in self.tills:
            till.awaits_state(kits[-1], "free")
        wins = {"mine/busy": 0, "busy/mine": 0}
        for kit in kits:
            buttons = [till.card(kit).find_element(By.TAG_NAME, "button") for till in self.tills]
            start = threading.Barrier(2)

            def click(button):
                start.wait()
                # A real click scrolls first; this one is as simultaneous as it gets.
                button.parent.execute_script("arguments[0].click()", button)

            threads = [threading.Thread(target=click, args=[button]) for button in buttons]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for till in self.tills:
                till.awaits(f"{kit} is decided", lambda till=till: till.state(kit) in ("mine", "busy"))
            wins["/".join(till.state(kit) for till in self.tills)] += 1  # KeyError: both or none
            self.assertEqual(Reservation.objects.filter(kit=kit).count(), 1)
        self.assertEqual(sum(wins.values()), 50)

    def test_a_checkout_after_the_lock_lapsed_and_another_took_it_fails_clearly_and_sells_nothing(self):
        with override_settings(TILL_HOLD=timedelta(seconds=2)):
            self.annas.add(self.kit)
            self.annas.awaits_state(self.kit, "mine")
        self.annas.add(self.kits[1])
        self.annas.awaits_state(self.kits[1], "mine")
        await_lapse(self.kit)
        self.boriss.awaits_state(self.kit, "free")
        self.boriss.add(self.kit)
        self.boriss.awaits_state(self.kit, "mine")
        self.annas.awaits("the line is lost", lambda: "hold lost" in self.annas.line(self.kit).text)
        self.annas.browser.find_element(By.ID, "checkout").click()
        self.annas.awaits("it says why", lambda: self.annas.message().startswith("Nothing was sold"))
        self.assertIn("“Bouquet 1” (Boris)", self.annas.message())
        self.annas.screenshot("lost")
        self.assertFalse(Sale.objects.exists())
        # Without the lost line the rest can be sold.
        self.annas.remove(self.kit)
        self.annas.awaits("the line is gone", lambda: self.annas.line(self.kit) is None)
        self.annas.browser.find_element(By.ID, "checkout").click()
        self.annas.awaits("it is sold", lambda: self.annas.message() == "Sold.")
        self.boriss.awaits_state(self.kits[1], None)
        self.assertEqual([line.kit for line in Sale.objects.get().lines.all()], [self.kits[1]])

    def test_a_restart_of_the_server_in_mid_cart_loses_no_lock(self):
        self.annas.add(self.kit)
        self.annas.awaits_state(self.kit, "mine")
        before = lock_on(self.kit)
        connections.close_all()
        subprocess.run([os.environ["TILL_RESTART_SERVER"]], check=True, stdout=subprocess.DEVNULL)
        after = lock_on(self.kit)
        self.assertEqual(
            (after.owner, after.session, after.expires_at),
            (before.owner, before.session, before.expires_at),
        )
        self.boriss.awaits("the page is back", lambda: not self.boriss.message())
        self.boriss.awaits_state(self.kit, "busy")
        self.annas.awaits("the page is back", lambda: not self.annas.message())
        self.annas.browser.find_element(By.ID, "checkout").click()
        self.annas.awaits("it is sold", lambda: self.annas.message() == "Sold.")

    def test_the_till_can_be_worked_from_the_keyboard(self):
        keyboard = self.annas.browser.switch_to
        keys = 0
        while keyboard.active_element.get_attribute("data-action") != "add-to-cart":
            keyboard.active_element.send_keys(Keys.TAB)
            keys += 1
            self.assertLess(keys, 30)
        self.assertIn(self.kit.name, keyboard.active_element.accessible_name)
        keyboard.active_element.send_keys(Keys.ENTER)
        self.annas.awaits_state(self.kit, "mine")
        self.annas.browser.find_element(By.ID, "checkout").send_keys(Keys.SPACE)
        self.annas.awaits("it is sold", lambda: self.annas.message() == "Sold.")

    def test_the_page_fits_a_phone(self):
        self.annas.add(self.kit)
        self.annas.awaits_state(self.kit, "mine")
        window = self.boriss.browser.get_window_size()
        self.addCleanup(self.boriss.browser.set_window_size, window["width"], window["height"])
        phone = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
        self.boriss.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        self.addCleanup(self.boriss.browser.execute_cdp_cmd, "Emulation.clearDeviceMetricsOverride", {})
        self.boriss.awaits_state(self.kit, "busy")
        widths = self.boriss.browser.execute_script(
            "return [document.documentElement.scrollWidth, window.innerWidth]"
        )
        self.assertEqual(widths, [360, 360])
        self.boriss.screenshot("phone")

    def test_the_page_loads_nothing_from_elsewhere(self):
        loaded = self.annas.browser.execute_script(
            "return performance.getEntriesByType('resource').map(entry => entry.name)"
        )
        self.assertTrue(loaded)
        for name in loaded:
            self.assertTrue(name.startswith(self.live_server_url), name)

    def test_both_tills_show_who_has_what(self):
        self.annas.add(self.kits[0])
        self.annas.awaits_state(self.kits[0], "mine")
        self.annas.add(self.kits[1])
        self.boriss.add(self.kits[2])
        self.boriss.awaits_state(self.kits[2], "mine")
        self.annas.awaits_state(self.kits[2], "busy")
        self.boriss.awaits_state(self.kits[1], "busy")
        self.assertEqual([len(till.find("#cart .line")) for till in self.tills], [2, 1])
        self.annas.screenshot("anna")
        self.boriss.screenshot("boris")
