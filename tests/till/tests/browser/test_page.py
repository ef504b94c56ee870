"""The page itself: languages, keyboard, a phone, and what it loads."""

from selenium.webdriver import Keys
from selenium.webdriver.common.by import By

from .terminal import TwoTills


class Page(TwoTills):
    def test_a_cashier_logs_in_with_name_and_password_and_chooses_the_language(self):
        browser = self.annas.browser
        self.anna.set_password("anna")
        self.anna.save()
        browser.delete_all_cookies()
        browser.get(self.live_server_url)
        browser.find_element(By.ID, "login").click()
        browser.find_element(By.NAME, "username").send_keys("anna")
        browser.find_element(By.NAME, "password").send_keys("anna" + Keys.ENTER)
        self.annas.awaits("Anna is in", lambda: self.annas.find("#cashier"))
        browser.find_element(By.CSS_SELECTOR, "[name=language][value=ru]").click()
        self.annas.awaits("Russian", lambda: "Витрина" in browser.page_source)
        self.annas.awaits("the cards", lambda: self.annas.find("#showcase .card"))
        self.assertEqual(self.annas.card(self.kit).find_element(By.TAG_NAME, "button").text, "Добавить")

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
        self.till_of(self.boris).set_quantity(self.roses, 11)
        self.annas.add(self.kits[0])
        self.annas.awaits_state(self.kits[0], "mine")
        self.annas.add(self.kits[1])
        self.annas.step(self.roses, 1).click()
        self.annas.awaits("a rose", lambda: self.annas.line(self.roses))
        self.annas.step(self.roses, 1).click()
        self.boriss.add(self.kits[2])
        self.boriss.awaits_state(self.kits[2], "mine")
        self.annas.awaits_state(self.kits[2], "busy")
        self.boriss.awaits_state(self.kits[1], "busy")
        for till, left in ((self.annas, "4 of 17 left"), (self.boriss, "осталось 4 из 17")):
            till.awaits(left, lambda till=till, left=left: till.left(self.roses) == left)
        self.assertEqual([len(till.find("#cart .line")) for till in self.tills], [3, 1])
        self.annas.screenshot("anna")
        self.boriss.screenshot("boris")
