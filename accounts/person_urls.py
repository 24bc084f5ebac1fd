"""What a person sets for themselves; outside /accounts/, which is about accounts at providers."""

from django.urls import path

from . import security_views, views

urlpatterns = [
    path("i18n/language/", views.set_language, name="set_language"),
    path("me/name/", security_views.set_name, name="set_name"),
    path("me/theme/", views.set_theme, name="set_theme"),
]
