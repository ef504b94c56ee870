"""The manager's desk."""

from django.contrib.auth.models import Permission, User

from till.models import ShowcaseKit

from .base import ShopTestCase, lock_on

LOCKS = "/admin/till/activelock/"


class Desk(ShopTestCase):
    def setUp(self):
        super().setUp()
        manager = User.objects.create_user("manager", is_staff=True)
        manager.user_permissions.set(Permission.objects.filter(content_type__app_label="till"))
        self.desk = self.till_of(manager).client
        self.annas.add(self.kit)

    def break_lock(self, client=None, **more):
        action = {"action": "break_locks", "_selected_action": [self.kit.resource], **more}
        return (client or self.desk).post(LOCKS, action, follow=True)

    def test_live_locks_are_listed_with_their_holders(self):
        found = self.desk.get(LOCKS + "?q=" + self.kit.resource)
        self.assertContains(found, "anna")
        self.assertContains(found, self.annas.client.session["cart"])
        self.assertNotContains(self.desk.get(LOCKS + "?q=nobody"), self.kit.resource)

    def test_breaking_asks_for_a_reason_and_breaks_nothing_before(self):
        self.assertContains(self.break_lock(), "Reason")
        self.assertContains(self.break_lock(reason="  "), "Please give a reason.")
        self.assertIsNotNone(lock_on(self.kit))

    def test_a_lock_broken_with_a_reason_is_free_and_the_old_cart_can_not_sell(self):
        answer = self.break_lock(reason="till no. 1 is on fire")
        self.assertContains(answer, f"Broke the lock of anna on {self.kit.resource}.")
        self.assertIsNone(lock_on(self.kit))
        self.assertEqual(self.annas.checkout().status_code, 409)
        self.assertEqual(self.boriss.add(self.kit).status_code, 200)

    def test_staff_without_the_permission_see_the_locks_and_can_not_break_them(self):
        clerk = User.objects.create_user("clerk", is_staff=True)
        clerk.user_permissions.set(Permission.objects.filter(codename="view_activelock"))
        client = self.till_of(clerk).client
        found = client.get(LOCKS + "?q=" + self.kit.resource)
        self.assertContains(found, "anna")
        self.assertNotContains(found, "break_locks")
        self.break_lock(client, reason="I want it")
        self.assertIsNotNone(lock_on(self.kit))

    def test_a_kit_in_a_cart_can_not_be_changed_and_the_manager_is_told_why(self):
        page = f"/admin/till/showcasekit/{self.kit.pk}/change/"
        changed = self.desk.post(page, {"name": "X", "price": "1"}, follow=True)
        self.assertContains(changed, "is held by &quot;anna&quot;")
        self.assertEqual(ShowcaseKit.objects.get(pk=self.kit.pk).name, "Bouquet 1")

    def test_a_free_kit_can_be_changed(self):
        page = f"/admin/till/showcasekit/{self.kits[1].pk}/change/"
        self.desk.post(page, {"name": "New", "price": "1"})
        self.assertEqual(ShowcaseKit.objects.get(pk=self.kits[1].pk).name, "New")
