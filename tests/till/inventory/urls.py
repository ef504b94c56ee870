from django.urls import path

from . import views

urlpatterns = [
    path("kits/<int:kit_id>/add-to-cart/", views.add_to_cart),
    path("checkout/", views.checkout),
]
