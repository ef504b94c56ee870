from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from till import views

urlpatterns = [
    path("", views.terminal, name="terminal"),
    path("login/", LoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(next_page="login"), name="logout"),
    path("language/", include("django.conf.urls.i18n")),
    path("admin/", admin.site.urls),
    path("api/showcase-kits/", views.kits, name="kits"),
    path("api/showcase-kits/<int:pk>/add-to-cart/", views.add_to_cart, name="add-to-cart"),
    path(
        "api/showcase-kits/<int:pk>/remove-from-cart/",
        views.remove_from_cart,
        name="remove-from-cart",
    ),
    path("api/stems/<int:pk>/set-quantity/", views.set_quantity, name="set-quantity"),
    path("api/events/", views.follow, name="events"),
    path("api/keep/", views.keep_cart, name="keep"),
    path("api/checkout/", views.checkout, name="checkout"),
]
