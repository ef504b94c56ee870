from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in


class Till(AppConfig):
    name = "till"

    def ready(self) -> None:
        from .login import take_along

        user_logged_in.connect(take_along)
